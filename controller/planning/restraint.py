"""Why a planned config is not sent for now, though nothing is wrong with it: nobody fights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from controller.model import ApplicationStatus, Condition, Phase
from controller.planning import causes
from controller.planning.changes import differences, hold_back
from controller.planning.daemons import marked
from controller.planning.plan import PlannedApplication
from controller.planning.situation import as_it_is

if TYPE_CHECKING:
    from controller.model import DaemonMark
    from controller.planning.plan import Cause, Plan
    from controller.planning.situation import Situation


@dataclass(frozen=True, slots=True)
class Restraint:
    """Nothing is sent before `until`, but a config that says by a mark whose the applications are.

    `until` is by the clock of the passes. One that is over is still told of.
    """

    cause: Cause
    until: float
    mark: DaemonMark | None = None
    """What all of ours are to bear; then this, and nothing else, is sent."""


def restrained(decided: Plan, situation: Situation, restraint: Restraint | None) -> Plan:
    """The plan, held back or reduced to marks; and the condition that says why."""
    if restraint is None:
        return decided
    cause = restraint.cause
    told = Condition("serve config", cause.reason, cause.message)
    decided = replace(decided, conditions=(*decided.conditions, told))
    holds = restraint.mark is not None or situation.now < restraint.until
    if not holds or not (decided.changes or restraint.mark):
        return decided
    staying = tuple(t for t in decided.transitions if t.phase is not Phase.RETIRING)
    if restraint.mark is not None:
        bearing = _bearing(restraint.mark, cause, situation)
        changes = differences(bearing, situation.applications, {})
        hold, until = hold_back(situation, promoting=False)
        return replace(
            decided,
            applications=bearing,
            changes=changes,
            transitions=staying,
            hold=hold,
            wake_at=until,
        )
    wakes = [at for at in (decided.wake_at, restraint.until) if at is not None]
    return replace(decided, hold=cause, transitions=staying, wake_at=min(wakes))


def _bearing(
    mark: DaemonMark, cause: Cause, situation: Situation
) -> tuple[PlannedApplication, ...]:
    """The config that is in force, with this mark on what is ours and not suspended."""
    return tuple(
        PlannedApplication(marked(app.document, mark), cause)
        if app.release is not None
        and situation.overrides.suspension_of(app.release.pipeline) is None
        else as_it_is(app, cause if app.release is not None else causes.FOREIGN)
        for app in sorted(situation.applications, key=lambda app: app.name)
        if app.document is not None and app.status is not ApplicationStatus.DELETING
    )
