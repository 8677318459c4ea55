"""Whose a pipeline's name is: the first project that carries it has it, until an operator moves it.

Anybody can choose a higher version number, so that alone must not take over a name that another
project serves. The operator's rule counts first, then what the journal recorded, then what serves,
then who came first. Who came first may not be known yet: a new name waits for that, for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from controller.model import PlacementRecord, Release, Revision
    from controller.observed import Application
    from controller.planning.policy import Candidate

LONGEST_WAIT = 15.0
"""Seconds that a new name waits at most, and that anything is waited for: by then a wheel of
ordinary size is read, and a passing error was retried three times."""
RECHECK = 1.0
"""Seconds between two passes while a name waits."""
_NAMED = 3
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Unknown:
    """Wheels and sources that may turn out to carry any pipeline."""

    wheels: Collection[Revision] = ()
    """Wheels that are listed and not inspected."""
    unlisted: Collection[str] = ()
    """Sources, and projects of sources, of which nothing was ever listed; for a person."""

    def __str__(self) -> str:
        wheels = sorted({revision.filename for revision in self.wheels})
        parts = [("not looked into yet", wheels), ("not listed yet", sorted(self.unlisted))]
        return "; ".join(f"{what}: {_some_of(names)}" for what, names in parts if names)


NOTHING_UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True)
class Facts:
    """What the ownership of names depends on, beside the time."""

    offers: Mapping[str, Sequence[Candidate]]
    """By pipeline: what the sources offer, in order of preference."""
    ordered: Callable[[str], str | None]
    """The project that the operator's rule for a pipeline names."""
    recorded: Mapping[str, str]
    """The owners so far."""
    there: Callable[[str, str], bool]
    """Whether anything of a project may be listed, or is on the cluster for that pipeline. A name
    whose owner has nothing left is free again."""
    serving: Mapping[str, str]
    """By pipeline: the project whose release has served longest."""
    present: Collection[str]
    """Pipelines that are on the cluster, whose names never wait."""
    first_seen: Callable[[str], float]
    """When the wheel of a digest was first seen, in seconds."""


def owners_of(
    facts: Facts, unknown: Unknown = NOTHING_UNKNOWN, overdue: Collection[str] = ()
) -> dict[str, str]:
    """By pipeline: the project that owns its name.

    Args:
        facts: what is known.
        unknown: what is waited for. A wheel that came no later than the first that is known leaves
            a name without an owner, and so does what was never listed.
        overdue: pipelines that waited long enough.
    """
    offers, first_seen = facts.offers, facts.first_seen
    owners = {name: owner for name, owner in facts.recorded.items() if facts.there(name, owner)}
    # A project's wheels that were not inspected are taken to carry what its others carry.
    known = {c.project for offer in offers.values() for c in offer} if unknown.wheels else set()
    came: dict[str, float] = {}
    for revision in unknown.wheels:
        at = first_seen(revision.sha256)
        came[revision.project] = min(at, came.get(revision.project, at))
    strangers = min((at for project, at in came.items() if project not in known), default=_NEVER)
    if unknown.unlisted:
        strangers = -_NEVER
    for name in {*offers, *facts.serving}:
        if (word := facts.ordered(name)) is not None:
            owners[name] = word
        elif name not in owners and facts.serving.get(name):
            owners[name] = facts.serving[name]
        elif name not in owners and offers.get(name):
            first = min(offers[name], key=lambda one: first_seen(one.release.digest))
            others = {one.project for one in offers[name]} - {first.project}
            before = min([strangers, *(came.get(project, _NEVER) for project in others)])
            waits = name not in facts.present and name not in overdue
            if not waits or before > first_seen(first.release.digest):
                owners[name] = first.project
    return owners


def of_others(candidates: Sequence[Candidate], owner: str) -> Collection[Candidate]:
    """The candidates of projects that do not own the name; without an owner there are none."""
    return [c for c in candidates if c.project != owner] if owner else ()


def served_longest(
    ours: Iterable[Application], records: Mapping[str, PlacementRecord]
) -> dict[str, str]:
    """By pipeline: the project whose release has served longest of what is on the cluster."""
    serving: dict[str, tuple[float, str]] = {}
    for app in ours:
        record = records.get(app.name)
        if app.release is not None and record is not None and record.live_at is not None:
            since = (record.live_at, app.project)
            name = app.release.pipeline
            serving[name] = min(serving.get(name, since), since)
    return {name: project for name, (_, project) in serving.items()}


class Names:
    """Owners of names, and since when names without one wait: memory between passes, with the time
    as a parameter.
    """

    def __init__(self) -> None:
        self._things: dict[str, float] = {}
        self._names: dict[str, float] = {}
        self.unknown = NOTHING_UNKNOWN
        """What is waited for."""

    @property
    def are_waited_for(self) -> bool:
        """Whether any name waits, or was decided by time just now."""
        return bool(self._things or self._names)

    def owners_of(self, facts: Facts, unknown: Unknown, now: float) -> dict[str, str]:
        """As `owners_of`, but no name waits longer than `LONGEST_WAIT`, nor for one wheel: that may
        be queued, or fail again and again. Call it every pass.
        """
        self.unknown = self._still_waited_for(unknown, now)
        overdue = {name for name, since in self._names.items() if now - since >= LONGEST_WAIT}
        owners = owners_of(facts, self.unknown, overdue)
        # A name that was decided counts as waiting until that is recorded.
        new = facts.offers.keys() - facts.recorded.keys()
        self._names = {name: self._names.get(name, now) for name in new}
        return owners

    def _still_waited_for(self, unknown: Unknown, now: float) -> Unknown:
        things = [*(revision.sha256 for revision in unknown.wheels), *unknown.unlisted]
        self._things = {thing: self._things.get(thing, now) for thing in things}
        recent = {thing for thing, since in self._things.items() if now - since < LONGEST_WAIT}
        return Unknown(
            [revision for revision in unknown.wheels if revision.sha256 in recent],
            [name for name in unknown.unlisted if name in recent],
        )


def _some_of(names: Sequence[str]) -> str:
    """The first names, without a count: a message that changes each pass is written each pass."""
    return ", ".join(names[:_NAMED]) + (" and others" if len(names) > _NAMED else "")


def is_offered(release: Release, offered: Sequence[Candidate], owner: str) -> bool:
    """Whether a source offers the release itself, or its name's owner that version."""
    return any(
        candidate.release.version == release.version
        and (not owner or candidate.project == owner or candidate.release == release)
        for candidate in offered
    )
