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
from controller.planning.subjects import EVERYTHING, RETIRE_LIMIT

if TYPE_CHECKING:
    from controller.model import DaemonMark
    from controller.planning.plan import Cause, Plan
    from controller.planning.situation import Situation


@dataclass(frozen=True, slots=True)
class Restraint:
    """Nothing is sent before `until`, but a config that says by a mark whose the applications are,
    and one that gives a route back from what failed there.

    `until` is by the clock of the passes. One that is over is still told of.
    """

    cause: Cause
    until: float
    mark: DaemonMark | None = None
    """What all of ours are to bear; then this, and nothing else, is sent."""
    contested: frozenset[str] | None = None
    """Names of those whose route somebody else changed: whatever else gets its route back does not
    wait. None: everything does, for the applications may be another's."""


def restrained(decided: Plan, situation: Situation, restraint: Restraint | None) -> Plan:
    """The plan, held back or reduced to marks; and the condition that says why."""
    if restraint is None:
        return decided
    cause = restraint.cause
    told = Condition(EVERYTHING, cause.reason, cause.message)
    holds = restraint.mark is not None or situation.now < restraint.until
    others = holds and restraint.contested is None  # then what may be retired is not ours to say
    found = (c for c in decided.conditions if not (others and c.reason == RETIRE_LIMIT))
    decided = replace(decided, conditions=(*found, told))
    if not holds or not (decided.changes or restraint.mark) or _cannot_wait(decided, restraint):
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


def _cannot_wait(decided: Plan, restraint: Restraint) -> bool:
    """Whether a route is to go back that nobody else changed: then who else changes what cannot
    have it sent again and again.
    """
    return restraint.contested is not None and bool(decided.urgent - restraint.contested)


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
