"""Suspension: what an operator suspended stays as it is on the cluster.

Phases and conditions are still told, so that the record says what serves, and what waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.model import Condition, Phase
from controller.planning.causes import EVERYTHING, SUSPENDED
from controller.planning.health import Health, diagnose
from controller.planning.plan import Cause
from controller.planning.situation import answers, as_it_is, in_force, phases, was_live

if TYPE_CHECKING:
    from controller.model import Transition
    from controller.planning.overrides import Suspension
    from controller.planning.plan import PlannedApplication
    from controller.planning.situation import Route, Situation


def cause(route: Route, situation: Situation) -> Suspension | None:
    """What keeps a route as it is, if anything does."""
    ordered = situation.overrides
    return ordered.suspension_of(route.pipeline) if ordered.suspensions else None


def kept(route: Route, situation: Situation) -> tuple[PlannedApplication, ...]:
    """A suspended route's applications."""
    why = Cause(SUSPENDED, str(cause(route, situation)))
    return tuple(as_it_is(app, why) for app in route.ours)


def everything(situation: Situation) -> tuple[PlannedApplication, ...]:
    """The config that is in force, ours and others', when all of it is suspended."""
    why = Cause(SUSPENDED, str(situation.overrides.suspension_of("")))
    return tuple(as_it_is(app, why) for app in in_force(situation))


def seen_at(route: Route, situation: Situation) -> tuple[Transition, ...]:
    """The phases of a suspended route's applications."""
    why = str(cause(route, situation))
    told: list[Transition] = []
    holder = route.holder
    if holder is not None:
        if answers(holder, situation) or was_live(holder, situation.records):
            told += phases(holder, Phase.LIVE, "AnswersAtRoute", route.path)
        else:
            told += phases(holder, Phase.READY, SUSPENDED, f"not seen at its route; {why}")
    elected = route.elected.release if route.elected is not None else None
    for app in route.others:
        waits = app.release == elected or not was_live(app, situation.records)
        if waits and app.release != (holder.release if holder else None):
            phase = Phase.READY if diagnose(app).health is Health.READY else Phase.STAGED
            told += phases(app, phase, SUSPENDED, why)
    return tuple(told)


def conditions(situation: Situation) -> tuple[Condition, ...]:
    """The conditions that something is suspended."""
    found = []
    for pipeline, why in sorted(situation.overrides.suspensions.items()):
        command = f"wheelway resume {pipeline}".rstrip()
        message = f"{why}: nothing changes, what serves goes on; `{command}` ends it"
        found.append(Condition(pipeline or EVERYTHING, SUSPENDED, message))
    return tuple(found)
