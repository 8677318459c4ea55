"""The rollout: from what policy elects and what is observed to the next Serve config.

Each route is decided for itself, by what it has and what it should have:

    elected, not on the cluster      stage it: run it without a route
    staged and ready                 promote it: one config gives it the route, its predecessor
                                     goes on running without one
    on its route, not seen there     wait for the ingress; after the deadline route back
    on its route and seen there      live: its predecessors are retired
    failed before it was ever live   quarantine it; whatever holds the route keeps it
    not elected                      retire it: at once if the operator said so, after its
                                     successors are live if these push it out, within the retire
                                     limit if the sources lost it
    suspended by an operator         nothing changes

Everything here is level-triggered: a plan follows from the present alone, so a daemon that was
killed anywhere observes, plans again and goes on. The journal's records only date things.

What must hold of every plan:
    1. an application that was seen at its route keeps its place in the config until its successor
       was seen there, or until the operator's policy or the sources took the version away;
    2. a failure changes nothing but the failing application;
    3. applications that are not ours are carried verbatim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from controller.model import (
    Condition,
    Phase,
    Plan,
    PlannedApplication,
    Quarantine,
    Transition,
)
from controller.planning import standstill
from controller.planning.changes import admit, assemble, differences, hold_back
from controller.planning.health import Diagnosis, Health, diagnose
from controller.planning.policy import ABSENT, LEAVING, MISSING, PUSHED_OUT, STANDS_IN
from controller.planning.situation import (
    as_it_is,
    foreign_holder,
    phases,
    proven,
    quarantine,
    routed,
    routes_of,
    seen,
    since,
    stand_in,
    was_live,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.model import Answer, Application, Placement, Suspension
    from controller.planning.situation import Route, Situation


@dataclass(frozen=True, slots=True)
class _Step:
    """What one route contributes to the plan."""

    keep: tuple[PlannedApplication, ...] = ()
    stage: Placement | None = None
    transitions: tuple[Transition, ...] = ()
    quarantines: tuple[Quarantine, ...] = ()
    conditions: tuple[Condition, ...] = ()
    wake_at: float | None = None
    settled: bool = False
    """What policy elected is live on this route."""
    urgent: bool = False
    """Do not let this wait for another application's build."""


def plan(situation: Situation) -> Plan:
    """Decide the next config. See the module's docstring for the rules."""
    routes = routes_of(situation)
    still = {
        route.path: why
        for route in routes
        if (why := situation.overrides.suspension_of(route.pipeline)) is not None
    }
    steps = {
        route.path: _standstill(route, still[route.path], situation)
        if route.path in still
        else _decide(route, situation)
        for route in routes
    }
    unsettled = {
        route.elected.release.pipeline
        for route in routes
        if route.elected and not steps[route.path].settled
    }
    held = _beyond_retire_limit(routes, situation)
    for route in routes:
        if route.elected is None and route.path not in still:
            steps[route.path] = _unelected(route, unsettled, held, situation)
    ordered = [steps[path] for path in sorted(steps)]
    staged, queued = admit([step.stage for step in ordered if step.stage], situation)
    kept = [planned for step in ordered for planned in step.keep]
    applications = assemble([*kept, *staged], situation)
    if (all_of_it := situation.overrides.suspension_of("")) is not None:
        applications = standstill.everything(situation, all_of_it)
    changes = differences(applications, situation.applications)
    hold, hold_until = ("", None)
    if changes and not any(step.urgent for step in ordered):
        hold, hold_until = hold_back(situation)
    wakes = [step.wake_at for step in ordered if step.wake_at is not None]
    return Plan(
        applications=applications,
        changes=changes,
        transitions=tuple(t for step in ordered for t in step.transitions),
        quarantines=tuple(q for step in ordered for q in step.quarantines),
        conditions=(
            *(c for step in ordered for c in step.conditions),
            *queued,
            *standstill.conditions(situation),
        ),
        hold=hold,
        wake_at=min([*wakes, *([hold_until] if hold_until else [])], default=None),
    )


# -- one route -----------------------------------------------------------------------------------


def _standstill(route: Route, why: Suspension, situation: Situation) -> _Step:
    """The step of a route that an operator suspended."""
    return _Step(
        keep=standstill.kept(route, why), transitions=standstill.seen_at(route, why, situation)
    )


def _decide(route: Route, situation: Situation) -> _Step:
    """The step of a route for which a release is elected."""
    if route.elected is None:
        return _Step()
    if (conflict := foreign_holder(route, situation)) is not None:
        why = f"application {conflict.name!r}, which is not wheelway's, holds {route.path}"
        condition = Condition(str(route.elected.release), "RouteConflict", why)
        return _Step(
            keep=_as_they_are(route, "the route is somebody else's"), conditions=(condition,)
        )
    if route.wanted is None:
        return _without_wanted(route, situation)
    if route.target is None:
        return _stage(route, route.wanted, situation)
    if route.target is route.holder:
        return _confirm(route, route.wanted, route.target, situation)
    return _staged(route, route.wanted, route.target, situation)


def _without_wanted(route: Route, situation: Situation) -> _Step:
    """Elected, but not prepared yet, or standing in for a bad successor: who serves stays."""
    elected, holder = route.elected, route.holder
    if elected is None or elected.reason != STANDS_IN:
        same = elected is not None and holder is not None and holder.release == elected.release
        return _Step(
            keep=_as_they_are(route, "kept until its successor is prepared"),
            settled=same and holder is not None and was_live(holder, situation.records),
        )
    fit = stand_in(route, situation)
    if fit is None:
        return _Step()
    return _Step(
        keep=(_given(fit, route.path, "keeps its route: its successor is quarantined"),),
        transitions=phases(fit, Phase.LIVE, elected.reason, elected.message),
        settled=True,
        urgent=fit is not holder,
    )


def _stage(route: Route, wanted: Placement, situation: Situation) -> _Step:
    """Ask for a place on the cluster; nothing else on the route changes."""
    leaving = [a for a in situation.applications if a.name == wanted.name]
    if leaving:
        why = f"an application {wanted.name!r} is still being deleted; waiting until it is gone"
        condition = Condition(str(wanted.release), "WaitingForDeletion", why)
        return _Step(keep=_predecessors(route, situation), conditions=(condition,))
    return _Step(keep=_predecessors(route, situation), stage=wanted)


def _staged(route: Route, wanted: Placement, target: Application, situation: Situation) -> _Step:
    """The wanted application runs without a route: is it ready for it?"""
    release = wanted.release
    before = _predecessors(route, situation, without=target)
    waiting = PlannedApplication(routed(wanted, None), "staged: it must become ready first")
    diagnosis = diagnose(target)
    deadline = since(situation, target, "staged_at") + situation.limits.ready_deadline
    if diagnosis.health is Health.READY:
        promoted = PlannedApplication(routed(wanted, route.path), "promoted: it is ready")
        return _Step(
            keep=(*(_unrouted(planned) for planned in before), promoted),
            transitions=phases(target, Phase.READY, "ExamplesPassed", diagnosis.message),
        )
    if diagnosis.health is Health.FAILED:
        return _Step(keep=before, quarantines=(quarantine(release, "stage", diagnosis, situation),))
    if diagnosis.health is Health.SHORT:
        return _Step(
            keep=(*before, waiting),
            transitions=phases(target, Phase.STAGED, diagnosis.reason, diagnosis.message),
            conditions=(Condition(str(release), diagnosis.reason, diagnosis.message),),
        )
    if situation.now >= deadline:
        late = Diagnosis(
            Health.FAILED,
            "StartTimeout",
            f"not ready {situation.limits.ready_deadline:g} s after it was staged "
            f"({diagnosis.message}): load hangs or takes longer than rollout.ready_deadline",
            target.message,
        )
        return _Step(keep=before, quarantines=(quarantine(release, "stage", late, situation),))
    return _Step(
        keep=(*before, waiting),
        transitions=phases(target, Phase.STAGED, diagnosis.reason, diagnosis.message),
        wake_at=deadline,
    )


def _confirm(route: Route, wanted: Placement, target: Application, situation: Situation) -> _Step:
    """The wanted application holds the route: does the ingress lead there?"""
    at_route = PlannedApplication(routed(wanted, route.path), "holds its route")
    live = phases(target, Phase.LIVE, "AnswersAtRoute", route.path)
    if seen(target, situation):
        leaving = (
            transition
            for app in route.others
            for transition in phases(app, Phase.RETIRING, "SuccessorLive", f"{target.name} is live")
        )
        return _Step(keep=(at_route,), transitions=(*live, *leaving), settled=True)
    others = _as_they_are(route, "kept until its successor answers", without=target)
    if was_live(target, situation.records):
        ailments = _ailments(target, situation)
        return _Step(
            keep=(at_route, *others),
            transitions=live,
            conditions=ailments,
            settled=not ailments,
        )
    return _unseen(route, target, (at_route, *others), situation)


def _unseen(
    route: Route,
    target: Application,
    keep: tuple[PlannedApplication, ...],
    situation: Situation,
) -> _Step:
    """Promoted, but the ingress does not lead there yet: wait, or route back."""
    patience = situation.limits.probe_deadline
    deadline = since(situation, target, "routed_at") + patience
    answer = situation.answers.get(route.path)
    diagnosis = diagnose(target)
    unreachable = answer is not None and answer.status is None
    if diagnosis.health is not Health.FAILED:
        waiting = phases(target, Phase.READY, "Promoted", "the ingress does not lead there yet")
        if unreachable and answer is not None:
            why = Condition(str(target.release), "IngressUnreachable", answer.detail)
            return _Step(keep=keep, transitions=waiting, conditions=(why,))
        if situation.now < deadline:
            return _Step(keep=keep, transitions=waiting, wake_at=deadline)
        diagnosis = Diagnosis(
            Health.FAILED,
            "ProbeFailed",
            f"{route.path} did not answer as {target.release} within {patience:g} s of its "
            f"promotion: {_what_was_seen(answer)}",
        )
    failed = (
        (quarantine(target.release, "promote", diagnosis, situation),) if target.release else ()
    )
    before = stand_in(route, situation)
    why_back = "has its route back: its successor failed"
    back = (_given(before, route.path, why_back),) if before else ()
    return _Step(keep=back, quarantines=failed, urgent=True)


def _unelected(
    route: Route, unsettled: set[str], held: Mapping[str, str], situation: Situation
) -> _Step:
    """A route for which nothing is elected: retire what holds it, if and when that is safe."""
    if not route.verdicts:
        return _Step(keep=_as_they_are(route, "nothing is known of its source yet"))
    holder = route.holder
    if any(verdict.reason == MISSING for verdict in route.verdicts):
        return _Step(keep=_as_they_are(route, "kept: missing only since a moment ago"))
    if holder is None or holder.release is None:
        return _Step()
    cause = next((v for v in route.verdicts if v.reason in LEAVING), route.verdicts[0])
    kept_because = ""
    conditions: tuple[Condition, ...] = ()
    if cause.reason not in LEAVING:
        if not proven(holder, situation.records):
            return _Step()
        kept_because = "nothing fitter is elected"
    elif cause.reason in PUSHED_OUT and holder.release.pipeline in unsettled:
        kept_because = "kept until the versions that push it out are live"
    elif route.path in held:
        kept_because = "kept: too many vanished from the sources at once"
        conditions = (Condition(str(holder.release), "RetireLimit", held[route.path]),)
    if not kept_because:
        return _Step(transitions=phases(holder, Phase.RETIRING, cause.reason, cause.message))
    live = was_live(holder, situation.records)
    return _Step(
        keep=(as_it_is(holder, kept_because),),
        transitions=phases(holder, Phase.LIVE, "AnswersAtRoute", route.path) if live else (),
        conditions=conditions,
    )


# -- across routes -------------------------------------------------------------------------------


def _beyond_retire_limit(routes: Sequence[Route], situation: Situation) -> dict[str, str]:
    """Routes whose release vanished from the sources, when these are too many at once."""
    absent = [
        route.path
        for route in routes
        if route.holder
        and any(v.reason in {ABSENT, MISSING} for v in route.verdicts)
        and route.elected is None
    ]
    live = sum(1 for route in routes if route.holder)
    allowed = max(1, int(situation.limits.retire_limit * live))
    if len(absent) <= allowed:
        return {}
    why = (
        f"{len(absent)} of {live} live releases vanished from the sources at once; at most "
        f"{allowed} are retired without a person: bring the wheels back, or set "
        "rollout.retire_limit higher for as long as it takes, or active = false"
    )
    return dict.fromkeys(absent, why)


def _predecessors(
    route: Route, situation: Situation, without: Application | None = None
) -> tuple[PlannedApplication, ...]:
    """The holder, and beside it whatever served before while the holder is not proven.

    What never served and is no longer wanted is dropped here: it was superseded.
    """
    kept = []
    works = route.holder is not None and (
        was_live(route.holder, situation.records) or seen(route.holder, situation)
    )
    for app in route.others:
        known = app.name in situation.records
        superseded = known and not was_live(app, situation.records)
        if app is not without and not works and not superseded:
            kept.append(as_it_is(app, "kept until its successor is proven"))
    if route.holder is not None and route.holder is not without:
        kept.append(as_it_is(route.holder, "keeps its route until its successor is ready"))
    return tuple(kept)


def _as_they_are(
    route: Route, reason: str, without: Application | None = None
) -> tuple[PlannedApplication, ...]:
    apps = [*([route.holder] if route.holder else []), *route.others]
    return tuple(as_it_is(app, reason) for app in apps if app is not without)


def _unrouted(planned: PlannedApplication) -> PlannedApplication:
    document = {**planned.document, "route_prefix": None}
    return replace(planned, document=document, reason="gives its route to its successor")


def _given(app: Application, path: str, reason: str) -> PlannedApplication:
    return PlannedApplication({**(app.document or {}), "route_prefix": path}, reason)


def _ailments(app: Application, situation: Situation) -> tuple[Condition, ...]:
    """What is wrong with a release that was live before; it keeps its place all the same."""
    diagnosis = diagnose(app)
    if diagnosis.health is Health.FAILED:
        return (Condition(str(app.release), diagnosis.reason, diagnosis.message),)
    answer = situation.answers.get(app.route or "")
    if answer is not None:
        return (Condition(str(app.release), "RouteNotAnswering", _what_was_seen(answer)),)
    return ()


def _what_was_seen(answer: Answer | None) -> str:
    if answer is None:
        return "the ingress was not asked"
    if answer.status is None:
        return f"the ingress cannot be reached ({answer.detail})"
    return f"the ingress answered {answer.status} as {answer.header or 'nobody'}"
