"""The parts of a wheel's pipelines: entry points in the group `wheelway.parts`.

    [wheelway.parts]
    scorecard.risk = scorecard.models:Risk

A part is a deployment of its own in each release of its pipeline. What is wrong with one refuses
its pipeline alone; one that names no pipeline of the wheel may be any of theirs, and refuses all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from controller.cache.wheels.entry_points import PARTS, EntryPointError, target_of
from controller.config.serve import PART_NAME
from controller.errors import Rejected
from controller.model import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME = re.compile(PART_NAME)
_SHOWN = 80  # characters of what a wheel says, in a message


@dataclass(slots=True)
class Parts:
    """Those of one pipeline."""

    targets: dict[str, str] = field(default_factory=dict)
    """`module:attribute` by the part's name."""
    refusal: Refusal | None = None
    """What is wrong with one of them."""


def read(
    groups: Mapping[str, Sequence[tuple[str, str]]],
    pipelines: Mapping[str, str],
    wheel: str,
    version: object,
    most: int,
) -> dict[str, Parts]:
    """The parts by pipeline.

    Args:
        groups: all entry points of the wheel.
        pipelines: its pipelines and what they name.
        wheel: its file name.
        version: its version.
        most: parts of one pipeline.

    Raises:
        Rejected: `PartWithoutPipeline`.
    """
    found: dict[str, Parts] = {}
    for written, value in groups.get(PARTS, ()):
        owner, _, name = written.rpartition(".")
        pipeline = canonicalize_name(owner)
        if pipeline not in pipelines:
            raise _without_pipeline(wheel, written, pipelines)
        parts = found.setdefault(pipeline, Parts())
        if parts.refusal is None and (wrong := _fault(parts, name, value, pipelines[pipeline])):
            reason, what = wrong
            subject, where = f"{pipeline} {version}", f"group `{PARTS}`: {written[:_SHOWN]!r}"
            parts.refusal = Refusal(
                subject, reason, f"{wheel}: entry_points.txt, {where} {what}; rebuild the wheel"
            )
        if parts.refusal is None and len(parts.targets) > most:
            parts.refusal = Refusal(
                f"{pipeline} {version}",
                "TooManyParts",
                f"{wheel}: {pipeline} has more than {most} parts; each is a deployment with "
                "replicas of its own. Make fewer, or raise `inspection.max_parts`",
            )
    return found


def _fault(parts: Parts, name: str, value: str, pipeline: str) -> tuple[str, str] | None:
    """Take in one part of a pipeline that names this class; or what is wrong with it."""
    if not _NAME.fullmatch(name):
        return "PartInvalid", (
            f"calls a part {name[:_SHOWN]!r}: a part's name has up to 63 lower-case letters, "
            "digits, `-` and `_`, and begins with a letter; give it another"
        )
    if name in parts.targets:
        return "PartInvalid", "is there twice; keep one"
    try:
        target = target_of(name, value, PARTS)
    except EntryPointError:
        return "PartInvalid", f"= {value[:_SHOWN]!r} is not of the form `module:Class`; name one"
    if target == pipeline:
        return "PartCircular", (
            f"names {target}, the class of the pipeline itself, which would need itself to start; "
            "name another class"
        )
    parts.targets[name] = target
    return None


def _without_pipeline(wheel: str, written: str, pipelines: Mapping[str, str]) -> Rejected:
    has = f"has only {', '.join(sorted(pipelines)[:5])}" if pipelines else "has none"
    return Rejected(
        "PartWithoutPipeline",
        f"{wheel}: entry_points.txt, group `{PARTS}`: {written[:_SHOWN]!r} is a part of no "
        f"pipeline of this wheel, which {has}; call it `<pipeline>.<part>`, beside its pipeline, "
        "and rebuild the wheel",
    )
