"""How far each release has come, by the decisions and what is observed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.model import Phase, Transition, named
from controller.planning.causes import EVERYTHING, NO_LONGER_WANTED, SUSPENDED
from controller.planning.plan import Cause, Underway
from controller.planning.policy import UNDECIDED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from controller.model import Condition, Placement, Quarantine, Release, Tracked
    from controller.planning.plan import Plan
    from controller.planning.policy import Verdict

_ON_CLUSTER = {Phase.STAGED, Phase.READY, Phase.LIVE, Phase.RETIRING}
_WHY_GONE = {
    Phase.STAGED: NO_LONGER_WANTED,
    Phase.READY: NO_LONGER_WANTED,
    Phase.LIVE: Cause("Lost", "the cluster has it no more, and it was not taken away from here"),
    Phase.RETIRING: Cause("Drained", "its last requests are done and its replicas have ended"),
}
NOWHERE = Cause("Absent", "no source lists it any more")
_OVER = {Phase.RETIRED, Phase.SUPERSEDED}
FETCHING = ("Fetching", "the wheel is being fetched and looked into")
"""Reason and message of a wheel whose releases are not known yet."""


def phases_of(
    plan: Plan,
    verdicts: Sequence[Verdict],
    *,
    placements: Mapping[Release, Placement],
    quarantines: Mapping[Tracked, Quarantine],
    present: Collection[Tracked],
    kept: Collection[Release],
    before: Mapping[Tracked, Phase],
    is_offered: Callable[[Tracked], bool],
) -> tuple[Transition, ...]:
    """One transition for each release whose phase can be told; most of them are no news.

    `present` are the releases with an application on the cluster, deleting ones included, `kept`
    those of them that stay in the next config; `before` has the phases recorded so far;
    `is_offered` says whether a source lists a release, or may list it.
    """
    told: dict[Tracked, Transition] = {}
    hindrances = _hindrances(plan)
    for transition in plan.transitions:
        known = told.get(transition.subject)
        if known is None or known.phase is Phase.RETIRING:  # an older placement of the same release
            told[transition.subject] = transition
    for verdict in verdicts:
        release = verdict.release
        unknown = verdict.elected and release not in placements
        if release in told or (unknown and release in kept):  # it goes on as it was
            continue
        if verdict.elected:
            told[release] = _prepared(release, placements.get(release), hindrances)
        elif (failed := quarantines.get(release)) is not None:
            told[release] = Transition(release, Phase.QUARANTINED, failed.reason, failed.message)
        else:
            phase = _unelected(release, present, kept, before)
            told[release] = Transition(release, phase, verdict.reason, verdict.message)
    for subject, phase in before.items():
        if subject in told or subject in present or phase in _OVER:
            continue
        if phase in _ON_CLUSTER or not is_offered(subject):
            gone = _WHY_GONE.get(phase, NOWHERE)
            told[subject] = Transition(subject, _end_of(phase), gone.reason, gone.message)
    return tuple(sorted(told.values(), key=lambda one: one.subject.key))


def underway(
    plan: Plan,
    verdicts: Iterable[Verdict],
    *,
    placements: Mapping[Release, Placement],
    serving: Collection[Release],
    unread: Iterable[str],
    conditions: Iterable[Condition],
) -> tuple[Underway, ...]:
    """Releases that are wanted and not live yet, or wait for their name, with what they wait for.

    `serving` are the releases on the cluster that have served; `unread` are the file names of
    wheels that are being fetched.
    """
    why = {condition.subject: condition for condition in conditions if not condition.ok}
    told = {transition.subject: transition for transition in plan.transitions}
    hindrances = _hindrances(plan)
    failed = {quarantine.subject for quarantine in plan.quarantines}
    found = [Underway(name, Phase.DISCOVERED, *FETCHING) for name in unread]
    for verdict in verdicts:
        release = verdict.release
        if verdict.reason == UNDECIDED:
            found.append(Underway(str(release), Phase.FETCHED, UNDECIDED, verdict.message))
        if not verdict.elected or release in serving or release in failed:
            continue
        step = told.get(release) or _prepared(release, placements.get(release), hindrances)
        if step.phase in {Phase.LIVE, Phase.RETIRING}:
            continue
        because = why.get(str(release), step)
        found.append(Underway(str(release), step.phase, because.reason, because.message))
    return tuple(found)


def _prepared(
    release: Release, placement: Placement | None, hindrances: Mapping[str, Condition]
) -> Transition:
    if placement is None:
        return Transition(release, Phase.FETCHED, "Preparing", "its environment is made ready")
    why = "WaitingToStage", "it can be staged"
    for subject in (str(release), release.pipeline, EVERYTHING):
        if (found := hindrances.get(subject)) is not None:
            why = found.reason, found.message
    return Transition(release, Phase.PREPARED, *why, placement.name)


def _hindrances(plan: Plan) -> Mapping[str, Condition]:
    """By subject: what keeps a release, a pipeline's releases, or all from being staged."""
    return {
        found.subject: found
        for found in plan.conditions
        if not found.ok and (found.reason == SUSPENDED or named(found.subject) is not None)
    }


def _unelected(
    release: Release,
    present: Collection[Tracked],
    kept: Collection[Release],
    before: Mapping[Tracked, Phase],
) -> Phase:
    phase = before.get(release, Phase.LIVE if release in present else Phase.FETCHED)
    if release in kept:  # it serves until its successor was seen
        return phase if phase in _ON_CLUSTER else Phase.LIVE
    if release in present and phase in {Phase.LIVE, Phase.RETIRING}:
        return Phase.RETIRING
    if phase in _ON_CLUSTER:
        return _end_of(phase)
    return phase if phase in _OVER else Phase.FETCHED


def _end_of(phase: Phase) -> Phase:
    return Phase.RETIRED if phase in {Phase.LIVE, Phase.RETIRING} else Phase.SUPERSEDED
