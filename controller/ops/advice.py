"""What a person can do about a quarantined release, by its reason; the words of `explain`.

A failure's message says what is wrong in this case; here is what helps with its kind. A reason that
is not listed gets the advice for its stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from controller.model import INSPECT

if TYPE_CHECKING:
    from controller.model import Quarantine

_REBUILD: Final = "Build the wheel anew with its build tool (such as `uv build`) and publish it."
_LIMITS: Final = (
    "Leave out of the wheel what serving does not need, or raise the limit in [inspection]."
)
_REQUIREMENTS: Final = (
    "Change what the wheel requires and publish it, or make the packages available to the index "
    "or the `find_links` of [environments]."
)
_PARTS: Final = (
    'Correct [project.entry-points."wheelway.parts"] in pyproject.toml, build the wheel anew and '
    "publish it."
)
_RUN: Final = "`wheelway check WHEEL` runs the same steps on any machine and shows the traceback."
_WISHES: Final = "Correct `wheelway.toml` in the wheel, or set the option under [[pipelines]]."

_FITS: Final = (
    "Correct `wheelway.toml` in the folder of the weights, which may only say `fits`, such as "
    "fits = '>=1,<2'; build the wheel anew and publish it under another version."
)
_OF_WEIGHTS: Final = {"WishesInvalid", "NotOnlyData", "WeightsMissing"}
"""Reasons for which an inspection refuses a wheel of weights."""

BY_REASON: Final = {
    **dict.fromkeys(
        (
            *("TooLarge", "TooManyFiles", "RatioTooHigh", "PathTooLong"),
            *("TooManyPipelines", "TooManyParts"),
        ),
        _LIMITS,
    ),
    **dict.fromkeys(("PartInvalid", "PartWithoutPipeline"), _PARTS),
    "PartCircular": (
        "Name another class for the part, or have the pipeline call both parts; then build the "
        "wheel anew and publish it."
    ),
    "NotOnlyData": "Publish two wheels: the code with its pipelines, and the weights alone.",
    "WeightsMissing": (
        "Have the build tool pack the data (`python -m zipfile -l WHEEL` lists what it packed), "
        "and publish the wheel anew."
    ),
    **dict.fromkeys(("WishesInvalid", "OptionAboveCap", "OptionsRefused"), _WISHES),
    "MetadataMismatch": "Publish the file under the name its build tool gave it.",
    "TagsIncompatible": (
        "Publish a wheel for the Python and platform that Ray runs on, or a pure one "
        "(py3-none-any)."
    ),
    "WrongBytes": (
        "Find out who changes files between the source and this machine (a proxy, a mirror), or "
        "publish the wheel anew under another version; then clear the quarantine."
    ),
    "RequiresPython": "Publish a wheel that allows the Python version that Ray runs on.",
    "OutOfMemory": (
        "Load less, or raise `max_memory` of the pipeline, or of the part that is named "
        "(wheelway.toml or [[pipelines]])."
    ),
    "ExampleTimeout": (
        "Make the pipeline answer its example sooner, or raise `request_timeout` (wheelway.toml or "
        "[[pipelines]]): what an example may take, a request may."
    ),
    "StartTimeout": (
        "Make `load` faster, ship in the wheel what it downloads, or raise `ready_deadline` in "
        "[rollout] and clear the quarantine."
    ),
    "ProbeFailed": (
        "Look at the ingress: does `curl` at the route reach this cluster? The predecessor has "
        "its route back."
    ),
    "RouteNotAnswering": "Look at the ingress: does `curl` at the route reach this cluster?",
    "ReplicaDied": (
        "Look for os._exit, a crash in native code, or the kernel's out-of-memory killer "
        "(`journalctl -k`)."
    ),
    "DigestMismatch": (
        "The cached files were not those that were published. The daemon made them again and let "
        "the release try three times: find out who writes to the cache, then clear the quarantine."
    ),
}
"""Reason: what helps."""

BY_STAGE: Final = {
    "inspect": _REBUILD,
    "wishes": _REBUILD,
    "prepare": _REQUIREMENTS,
    "stage": f"Correct the pipeline and publish it. {_RUN}",
    "promote": "Look at the ingress and at the replica's log (`wheelway logs NAME VERSION`).",
}
"""Stage: what helps when the reason says no more."""


def remedies(quarantine: Quarantine) -> list[str]:
    """Sentences for a person, the most useful first."""
    subject = quarantine.subject
    clear = f"`wheelway quarantine clear {subject.name} {subject.version}`"
    first = BY_REASON.get(quarantine.reason) or BY_STAGE.get(quarantine.stage, _RUN)
    if quarantine.stage == INSPECT and quarantine.reason in _OF_WEIGHTS:
        first = _FITS if quarantine.reason == "WishesInvalid" else first
        return [first, f"Other bytes are looked into once they are published; these after {clear}."]
    first = first.replace("NAME VERSION", f"{subject.name} {subject.version}")
    again = (
        "It is tried again when its bytes, its options, its settings or the environment change; "
        f"or after {clear}."
    )
    return [first, again]
