"""The rollout: from what policy elects and what is observed to the next Serve config.

Each route is decided for itself, by what it has and what it should have:

    elected, not on the cluster      stage it: run it without a route
    staged and ready                 promote it: one config gives it the route, its predecessor
                                     goes on running without one
    on its route, not seen there     wait for the ingress; after the deadline route back, whatever
                                     is elected by then
    on its route and seen there      live: its predecessors are retired
    failed before it was ever live   quarantine it; whatever holds the route keeps it
    not elected                      retire it: at once if the operator said so, after its
                                     successors are live if these push it out, within the retire
                                     limit if the sources lost it
    suspended by an operator         nothing changes

Everything here is level-triggered: a plan follows from the present alone, so a daemon that was
killed anywhere observes, plans again and goes on. The journal's records only date things, and
remember how much vanished at once.

What must hold of every plan:
    1. an application that was seen at its route keeps its place in the config until its successor
       was seen there, or until the operator's policy or the sources took the version away;
    2. a failure changes nothing but the failing application;
    3. applications that are not ours are carried verbatim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from controller.model import Condition, Phase, Quarantine, Transition
from controller.planning import bindings, causes, changes, promotion, suspension
from controller.planning.disappearance import beyond_retire_limit
from controller.planning.health import Health
from controller.planning.plan import Cause, Plan, PlannedApplication
from controller.planning.policy import LEAVING, MISSING, PUSHED_OUT, STANDS_IN
from controller.planning.situation import (
    answers,
    as_it_is,
    fallback,
    given,
    is_working,
    other_weights,
    phases,
    quarantine,
    refused_weights,
    routed,
    routes_of,
    was_live,
)
from controller.planning.staging import admit, start_due, start_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from controller.model import Placement
    from controller.observed import Application
    from controller.planning.policy import Verdict
    from controller.planning.situation import Route, Situation
    from controller.planning.weights import WeightsQuarantine


@dataclass(frozen=True, slots=True)
class _Step:
    """What one route contributes to the plan."""

    keep: tuple[PlannedApplication, ...] = ()
    stage: Placement | None = None
    transitions: tuple[Transition, ...] = ()
    quarantines: tuple[Quarantine, ...] = ()
    refused_weights: tuple[WeightsQuarantine, ...] = ()
    conditions: tuple[Condition, ...] = ()
    wake_at: float | None = None
    settled: bool = False
    """What policy elected is live on this route."""
    urgent: bool = False
    """What failed at the route holds it: do not let what is kept wait for others."""


def plan(situation: Situation) -> Plan:
    """Decide the next config. See the module's docstring for the rules."""
    found = routes_of(situation)
    suspended = {route.path: route for route in found if suspension.cause(route, situation)}
    moving = [route for route in found if route.path not in suspended]
    routes = [promotion.rolled_back(route, situation) for route in moving]
    returned = {
        route.holder.name
        for route, before in zip(routes, moving, strict=True)
        if route.holder and route is not before
    }
    held, losses = beyond_retire_limit(found, situation)
    steps = _steps(routes, suspended.values(), held, situation)
    staged, queued = admit([step.stage for step in steps if step.stage], situation)
    kept = [_explained(planned, returned) for step in steps for planned in step.keep]
    applications = changes.assemble([*kept, *staged], situation)
    if "" in situation.overrides.suspensions:
        applications = suspension.everything(situation)
    stay = {planned.document["name"] for planned in applications}
    transitions = (
        *promotion.newly_live(routes, situation),
        *(t for step in steps for t in step.transitions),
        *(t for route in routes for t in _succeeded(route, stay, situation)),
    )
    quarantines = tuple(q for step in steps for q in step.quarantines)
    refused = tuple(q for step in steps for q in step.refused_weights)
    leaving = changes.removal_reasons(situation, transitions, quarantines, refused)
    differences = changes.differences(applications, situation, leaving)
    urgent = returned.union(
        planned.document["name"] for step in steps if step.urgent for planned in step.keep
    )
    hold, hold_until = None, None
    if differences and not urgent:
        promoting = any(planned.cause is causes.PROMOTED for planned in applications)
        hold, hold_until = changes.hold_back(situation, promoting=promoting)
    bound = bindings.of_versions((*routes, *suspended.values()), stay, situation)
    if hold:  # so does whatever would go with it
        bound = bindings.as_they_are(situation)
        transitions = tuple(t for t in transitions if t.phase is not Phase.RETIRING)
    wakes = [*(s.wake_at for s in steps), *(promotion.rollback_due(r, situation) for r in routes)]
    return Plan(
        applications=applications,
        changes=differences,
        bindings=bound,
        transitions=transitions,
        quarantines=quarantines,
        refused_weights=refused,
        conditions=(
            *(c for step in steps for c in step.conditions),
            *queued,
            *promotion.ailments_of_ingress(situation),
            *changes.ailments_beside(situation),
            *suspension.conditions(situation),
        ),
        hold=hold,
        urgent=frozenset(urgent),
        losses=losses,
        wake_at=min((at for at in [*wakes, hold_until] if at is not None), default=None),
    )


def _steps(
    moving: Sequence[Route],
    suspended: Iterable[Route],
    held: Mapping[str, str],
    situation: Situation,
) -> list[_Step]:
    """What each route contributes, in order of their paths; `held` says by path why what is not
    elected any more may not be retired.
    """
    steps = {r.path: _decide(r, r.elected, situation) for r in moving if r.elected}
    unsettled = {
        route.elected.release.pipeline
        for route in moving
        if route.elected and not steps[route.path].settled
    }
    for route in moving:
        if route.elected is None:
            steps[route.path] = _unelected(route, unsettled, held, situation)
    for route in suspended:
        kept, seen = suspension.kept(route, situation), suspension.seen_at(route, situation)
        steps[route.path] = _Step(keep=kept, transitions=seen)
    return [steps[path] for path in sorted(steps)]


# -- one route -----------------------------------------------------------------------------------


def _decide(route: Route, elected: Verdict, situation: Situation) -> _Step:
    """The step of a route for which a release is elected."""
    if (conflict := route.foreign) is not None:
        why = f"application {conflict.name!r}, which is not wheelway's, holds {route.path}"
        condition = Condition(str(elected.release), "RouteConflict", why)
        return _Step(keep=_as_they_are(route, causes.ROUTE_TAKEN), conditions=(condition,))
    if route.wanted is None:
        return _without_wanted(route, elected, situation)
    target = route.target
    if target is None:
        return _stage(route, route.wanted, situation)
    if target is route.holder:
        return _confirm(route, route.wanted, target, situation)
    return _staged(route, route.wanted, target, situation)


def _without_wanted(route: Route, elected: Verdict, situation: Situation) -> _Step:
    """Elected, but not prepared yet, or standing in for a bad successor: who serves stays."""
    holder = route.holder
    if elected.reason != STANDS_IN:
        settled = (
            holder is not None
            and holder.release == elected.release
            and was_live(holder, situation.records)
        )
        return _Step(keep=_as_they_are(route, causes.AWAITS_PREPARATION), settled=settled)
    fit = fallback(route, situation)
    if fit is None:
        return _Step()
    return _Step(
        keep=(given(fit, route.path, causes.KEEPS_ROUTE),),
        transitions=phases(fit, Phase.LIVE, elected.reason, elected.message),
        settled=True,
        urgent=fit is not holder,
    )


def _stage(route: Route, wanted: Placement, situation: Situation) -> _Step:
    """Ask for a place on the cluster; nothing else on the route changes."""
    before = _predecessors(route, situation)
    if route.namesake is None:
        return _Step(keep=before, stage=wanted)
    why = f"an application {wanted.name!r} is still being deleted; waiting until it is gone"
    condition = Condition(str(wanted.release), "WaitingForDeletion", why)
    return _Step(keep=before, conditions=(condition,))


def _staged(route: Route, wanted: Placement, target: Application, situation: Situation) -> _Step:
    """The wanted application runs without a route: is it ready for it?"""
    release = wanted.release
    before = _predecessors(route, situation, without=target)
    diagnosis = start_of(target, situation)
    if diagnosis.health is Health.READY:
        if aside := _aside(route, wanted, before, situation):
            return aside
        promoted = PlannedApplication(routed(wanted, route.path), causes.PROMOTED)
        return _Step(
            keep=(*(_unrouted(planned) for planned in before), promoted),
            transitions=phases(target, Phase.READY, causes.PROMOTED.reason, diagnosis.message),
        )
    failed = diagnosis.health is Health.FAILED
    # What was live before is not dropped for being ill while nothing else is known to work.
    falls_back = was_live(target, situation.records) and not promotion.holder_works(
        route, situation
    )
    if failed and not falls_back:
        stays = _predecessors(route, situation, causes.KEEPS_ROUTE, without=target)
        if refused := refused_weights(target, diagnosis, situation):
            goes_on = promotion.goes_on(route, refused, situation)
            return _Step(stays, refused_weights=refused, transitions=goes_on)
        if other_weights(target, wanted):  # it failed before it could be told of these
            return _Step(stays)
        return _Step(keep=stays, quarantines=(quarantine(release, "stage", diagnosis, situation),))
    why = Condition(str(release), diagnosis.reason, diagnosis.message)
    starting, due = diagnosis.health is Health.STARTING, start_due(target, situation)
    return _Step(
        keep=(*before, PlannedApplication(routed(wanted, None), causes.STAGED)),
        transitions=phases(target, Phase.STAGED, diagnosis.reason, diagnosis.message),
        conditions=() if starting else (why,),
        wake_at=due if starting and due > situation.now else None,
    )


def _aside(
    route: Route, wanted: Placement, others: Sequence[PlannedApplication], situation: Situation
) -> _Step | None:
    """Have what could not take weights that serve run without a route, beside the `others`, until
    it is tried again; None if it may have its route.
    """
    target = route.target
    awaits = promotion.awaits_weights(route, target, situation) if target is not None else None
    if target is None or awaits is None:
        return None
    why, serving = awaits
    return _Step(
        keep=(*others, PlannedApplication(routed(wanted, None), causes.AWAITS_WEIGHTS)),
        transitions=phases(serving, Phase.LIVE, why.reason, why.message),
        conditions=(why,),
        wake_at=situation.uptake[target.name].again_at,
    )


def _confirm(route: Route, wanted: Placement, target: Application, situation: Situation) -> _Step:
    """The wanted application holds the route: does the ingress lead there?"""
    at_route = PlannedApplication(routed(wanted, route.path), causes.HOLDS_ROUTE)
    live = phases(target, Phase.LIVE, "AnswersAtRoute", route.path)
    if refused := promotion.refused_by_dying(target, situation):
        ailments = promotion.ailments_of(target, situation)
        stays = _as_they_are(route, causes.HOLDS_ROUTE)
        return _Step(stays, refused_weights=refused, transitions=live, conditions=ailments)
    unfit = promotion.refused_what_serves(route, target, situation)
    weights_due = promotion.weights_due(route, target, situation)
    if unfit is None and weights_due is None and answers(target, situation):
        ailments = promotion.ailments_of(target, situation)
        return _Step(keep=(at_route,), transitions=live, conditions=ailments, settled=True)
    keep = (at_route, *_as_they_are(route, causes.AWAITS_ANSWER, without=target))
    unreachable = promotion.is_out_of_reach(target, situation)
    if was_live(target, situation.records):
        ailments = promotion.ailments_of(target, situation)
        for ailment in ailments:
            live = phases(target, Phase.LIVE, ailment.reason, ailment.message)
        settled = not ailments and not unreachable
        return _Step(keep=keep, transitions=live, conditions=ailments, settled=settled)
    # Promoted, but the ingress does not lead there yet: wait, or route back.
    failure, before = unfit or (
        promotion.failure_of(target, situation),
        fallback(route, situation),
    )
    if failure is None:
        why = "it has its route; the ingress does not lead there yet"
        due = promotion.answer_due(target, situation)
        if weights_due is not None and answers(target, situation):
            why, due = "it has its route; not all replicas have its weights yet", weights_due
        waiting = phases(target, Phase.READY, "Promoted", why)
        return _Step(keep=keep, transitions=waiting, wake_at=None if unreachable else due)
    back = (given(before, route.path, causes.HAS_ROUTE_BACK),) if before else ()
    if unfit and (aside := _aside(route, wanted, back, situation)):
        step = aside
    elif refused := refused_weights(target, failure, situation):
        step = _Step(back, refused_weights=refused)
    else:
        step = _Step(back, quarantines=(quarantine(wanted.release, "promote", failure, situation),))
    return replace(step, urgent=True)


def _unelected(
    route: Route, unsettled: set[str], held: Mapping[str, str], situation: Situation
) -> _Step:
    """A route for which nothing is elected: retire what holds it, if and when that is safe."""
    if not route.verdicts:
        return _Step(keep=_as_they_are(route, causes.SOURCE_UNKNOWN))
    holder = route.holder
    if any(verdict.reason == MISSING for verdict in route.verdicts):
        return _Step(keep=_as_they_are(route, causes.LATELY_MISSING))
    if holder is None or holder.release is None:
        return _Step()
    cause = next((v for v in route.verdicts if v.reason in LEAVING), route.verdicts[0])
    kept_because: Cause | None = None
    conditions: tuple[Condition, ...] = ()
    if cause.reason not in LEAVING:
        if not is_working(holder, situation) and promotion.failure_of(holder, situation):
            return _Step()
        kept_because = causes.NOTHING_FITTER
    elif cause.reason in PUSHED_OUT and holder.release.pipeline in unsettled:
        kept_because = causes.AWAITS_REPLACEMENT
    elif route.path in held:
        kept_because = Cause(causes.RETIRE_LIMIT, held[route.path])
        conditions = (Condition(str(holder.release), kept_because.reason, held[route.path]),)
    if kept_because is None:
        return _Step(transitions=phases(holder, Phase.RETIRING, cause.reason, cause.message))
    live = was_live(holder, situation.records)
    return _Step(
        keep=_predecessors(route, situation, kept_because),
        transitions=phases(holder, Phase.LIVE, "AnswersAtRoute", route.path) if live else (),
        conditions=conditions,
    )


def _predecessors(
    route: Route,
    situation: Situation,
    cause: Cause = causes.AWAITS_READINESS,
    without: Application | None = None,
) -> tuple[PlannedApplication, ...]:
    """The holder, and beside it whatever served before while the holder is not proven.

    What never served and is no longer wanted is dropped here: it was superseded.
    """
    kept = []
    if not promotion.holder_works(route, situation):
        for app in route.others:
            superseded = app.name in situation.records and not was_live(app, situation.records)
            if app is not without and not superseded:
                kept.append(as_it_is(app, causes.AWAITS_PROOF))
    if route.holder is not None and route.holder is not without:
        kept.append(as_it_is(route.holder, cause))
    return tuple(kept)


def _succeeded(route: Route, stay: Collection[str], situation: Situation) -> tuple[Transition, ...]:
    """Who served before the holder, which works now: nobody will fall back on it any more."""
    if route.holder is None or not promotion.holder_works(route, situation):
        return ()
    return tuple(
        transition
        for app in route.others
        if app.name not in stay and was_live(app, situation.records)
        for transition in phases(
            app, Phase.RETIRING, "SuccessorLive", f"{route.holder.name} serves in its place"
        )
    )


def _as_they_are(
    route: Route, cause: Cause, without: Application | None = None
) -> tuple[PlannedApplication, ...]:
    return tuple(as_it_is(app, cause) for app in route.ours if app is not without)


def _unrouted(planned: PlannedApplication) -> PlannedApplication:
    document = {**planned.document, "route_prefix": None}
    return replace(planned, document=document, cause=causes.GIVES_ROUTE)


def _explained(planned: PlannedApplication, returned: set[str]) -> PlannedApplication:
    if planned.document["name"] not in returned or planned.document["route_prefix"] is None:
        return planned
    return replace(planned, cause=causes.HAS_ROUTE_BACK)
