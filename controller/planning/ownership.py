"""Whose a pipeline's name is: the first project that carries it has it, until an operator moves it.

A version number is anybody's to choose, so a higher one must not take over a name that another
project serves. What counts first is the operator's word, then what the journal recorded, then what
serves, then who came first: as long as a wheel that came no later is not looked into, nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from controller.model import Application, PlacementRecord, Release, Revision
    from controller.planning.policy import Candidate

PATIENCE = 60.0
"""Seconds for which a wheel that cannot be had is waited for before others may have its names."""
_NAMED = 3
_NEVER = float("inf")


def owners_of(
    offers: Mapping[str, Sequence[Candidate]],
    *,
    ordered: Callable[[str], str | None],
    recorded: Mapping[str, str],
    there: Callable[[str, str], bool],
    serving: Mapping[str, str],
    first_seen: Callable[[str], float],
    unread: Collection[Revision] = (),
    present: Collection[str] = (),
) -> dict[str, str]:
    """By pipeline: the project that owns its name.

    Args:
        offers: by pipeline, what the sources offer, in order of preference.
        ordered: the project that the operator's rule for a pipeline names.
        recorded: the owners so far.
        there: whether anything of a project is listed, or serves that pipeline; a name whose owner
            has nothing left is free again.
        serving: by pipeline, the project whose release has served longest.
        first_seen: when the wheel of a digest was first seen, in seconds.
        unread: wheels that may turn out to carry any pipeline. One that came no later than the
            first that is known leaves a name without an owner, unless it is among the `present`.
        present: pipelines that are on the cluster.
    """
    owners = {name: owner for name, owner in recorded.items() if there(name, owner)}
    # Of a project that is known in part, the rest is taken to carry the same.
    known = {c.project for offer in offers.values() for c in offer} if unread else set()
    came: dict[str, float] = {}
    for revision in unread:
        at = first_seen(revision.sha256)
        came[revision.project] = min(at, came.get(revision.project, at))
    strangers = min((at for project, at in came.items() if project not in known), default=_NEVER)
    for name in {*offers, *serving}:
        if (word := ordered(name)) is not None:
            owners[name] = word
        elif name not in owners and serving.get(name):
            owners[name] = serving[name]
        elif name not in owners and offers.get(name):
            first = min(offers[name], key=lambda one: first_seen(one.release.digest))
            others = {one.project for one in offers[name]} - {first.project}
            before = min([strangers, *(came.get(project, _NEVER) for project in others)])
            if name in present or before > first_seen(first.release.digest):
                owners[name] = first.project
    return owners


def of_others(candidates: Sequence[Candidate], owner: str) -> Collection[Candidate]:
    """Those of projects that do not own the name; an empty owner owns it together with all."""
    return [c for c in candidates if c.project != owner] if owner else ()


def served_longest(
    ours: Iterable[Application], records: Mapping[str, PlacementRecord]
) -> dict[str, str]:
    """By pipeline: the project whose release has served longest of what is on the cluster."""
    serving: dict[str, tuple[float, str]] = {}
    for app in ours:
        record = records.get(app.name)
        if app.release is not None and record is not None and record.live_at is not None:
            since = (record.live_at, project_of(app))
            name = app.release.pipeline
            serving[name] = min(serving.get(name, since), since)
    return {name: project for name, (_, project) in serving.items()}


def project_of(app: Application) -> str:
    """The distribution that a running release came from, by its own arguments."""
    arguments = (app.document or {}).get("args") or {}
    return str(arguments.get("release", {}).get("project", ""))


def is_offered(release: Release, offered: Sequence[Candidate], owner: str) -> bool:
    """Whether a source offers the release itself, or its name's owner that version."""
    return any(
        candidate.release.version == release.version
        and (not owner or candidate.project == owner or candidate.release == release)
        for candidate in offered
    )


class Unread:
    """The wheels that nobody could look into yet: memory between passes, told the time."""

    def __init__(self) -> None:
        self._failing_since: dict[str, float] = {}
        self.told = ""
        """Some of their file names."""

    def waited_for(
        self, awaited: Iterable[Revision], failing: Iterable[Revision], now: float
    ) -> list[Revision]:
        """Those on their way, and those that fail, but not for long yet. Call it every pass."""
        found, failing = list(awaited), list(failing)
        there = {revision.sha256 for revision in (*found, *failing)}
        since = {d: at for d, at in self._failing_since.items() if d in there}
        found += [r for r in failing if now - since.setdefault(r.sha256, now) < PATIENCE]
        self._failing_since = since
        names = sorted({revision.filename for revision in found})
        self.told = ", ".join(names[:_NAMED])
        if len(names) > _NAMED:
            self.told += f" and {len(names) - _NAMED} more"
        return found
