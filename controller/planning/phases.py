"""How far each release has come, told from the decisions and what is observed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.model import Phase, Transition

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from controller.model import Placement, Plan, Quarantine, Release
    from controller.planning.policy import Verdict

_ON_CLUSTER = {Phase.STAGED, Phase.READY, Phase.LIVE, Phase.RETIRING}
_WHY_GONE = {
    Phase.STAGED: ("NoLongerWanted", "other bytes or the policy took its place before it was live"),
    Phase.READY: ("NoLongerWanted", "other bytes or the policy took its place before it was live"),
    Phase.LIVE: ("Lost", "it is no longer on the cluster"),
    Phase.RETIRING: ("Drained", "its last requests are done and its replicas have ended"),
}
_OVER = {Phase.RETIRED, Phase.SUPERSEDED}


def phases_of(
    plan: Plan,
    verdicts: Sequence[Verdict],
    *,
    placements: Mapping[Release, Placement],
    quarantines: Mapping[Release, Quarantine],
    present: Collection[Release],
    before: Mapping[Release, Phase],
) -> tuple[Transition, ...]:
    """One transition for each release whose phase can be told; most of them are no news.

    Args:
        plan: what was decided in this pass.
        verdicts: what policy said in this pass.
        placements: the prepared releases.
        quarantines: those that hold with the releases' present inputs.
        present: releases that have an application on the cluster, deleting ones included.
        before: the phases recorded so far.
    """
    told: dict[Release, Transition] = {}
    for transition in plan.transitions:
        known = told.get(transition.release)
        if known is None or known.phase is Phase.RETIRING:  # an older placement of the same release
            told[transition.release] = transition
    for verdict in verdicts:
        told.setdefault(
            verdict.release, _of_verdict(verdict, placements, quarantines, present, before)
        )
    for release, phase in before.items():
        if release not in told and release not in present and phase in _ON_CLUSTER:
            told[release] = _ended(release, phase, *_WHY_GONE[phase])
    return tuple(told[release] for release in sorted(told))


def _of_verdict(
    verdict: Verdict,
    placements: Mapping[Release, Placement],
    quarantines: Mapping[Release, Quarantine],
    present: Collection[Release],
    before: Mapping[Release, Phase],
) -> Transition:
    release, reason, message = verdict.release, verdict.reason, verdict.message
    if (failed := quarantines.get(release)) is not None and not verdict.elected:
        return Transition(release, Phase.QUARANTINED, failed.reason, failed.message)
    if verdict.elected:
        placement = placements.get(release)
        if placement is None:
            return Transition(release, Phase.FETCHED, "Preparing", "its environment is made ready")
        return Transition(
            release, Phase.PREPARED, "WaitingToStage", "it can be staged", placement.name
        )
    if release in present:
        return Transition(release, Phase.RETIRING, reason, message)
    phase = before.get(release, Phase.FETCHED)
    if phase in _ON_CLUSTER:
        return _ended(release, phase, reason, message)
    if phase in _OVER:
        return Transition(release, phase, reason, message)
    return Transition(release, Phase.FETCHED, reason, message)


def _ended(release: Release, phase: Phase, reason: str, message: str) -> Transition:
    served = phase in {Phase.LIVE, Phase.RETIRING}
    return Transition(release, Phase.RETIRED if served else Phase.SUPERSEDED, reason, message)
