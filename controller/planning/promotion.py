"""Whether a promoted application answers in time, and which one gets the route back if not.

The holder of a route has its probe deadline whatever is elected meanwhile: when it answers it is
live, and when it does not it is unfit, though another release may be wanted by then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.model import Condition, Phase
from controller.planning.causes import NOT_ANSWERING
from controller.planning.health import Diagnosis, Health, diagnose
from controller.planning.situation import (
    answers,
    fallback,
    has_served,
    is_working,
    phases,
    refused_weights,
    since,
    was_live,
)
from controller.planning.staging import start_of
from controller.planning.weights import in_document, unnamed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.model import Transition
    from controller.observed import Answer, Application
    from controller.planning.situation import Route, Situation
    from controller.planning.weights import WeightsQuarantine


def answer_due(app: Application, situation: Situation) -> float:
    """When an application that was given its route must have answered there."""
    return since(situation, app, "routed_at") + situation.limits.probe_deadline


def failure_of(app: Application, situation: Situation) -> Diagnosis | None:
    """Why an application that has its route, but was never seen there, must give it back now."""
    diagnosis = start_of(app, situation)
    if diagnosis.health is Health.FAILED:
        return diagnosis
    if diagnosis.health is Health.STARTING:  # again: it cannot answer yet
        return None
    if is_out_of_reach(app, situation) or situation.now < answer_due(app, situation):
        return None
    if answers(app, situation):
        return None
    answer = situation.answers.get(app.route or "")
    return Diagnosis(
        Health.FAILED,
        "ProbeFailed",
        f"{app.route} did not answer as {app.release} within "
        f"{situation.limits.probe_deadline:g} s of its promotion: {_what_was_seen(answer)}",
    )


def _what_was_seen(answer: Answer | None) -> str:
    if answer is None:
        return "the ingress was not asked"
    if answer.status is None:
        return f"no answer came ({answer.detail})"
    return f"the ingress answered {answer.status} as {answer.header or 'nobody'}"


def is_out_of_reach(app: Application, situation: Situation) -> bool:
    """Whether the ingress could not be asked at the route, which is no fault of it."""
    answer = situation.answers.get(app.route or "")
    return answer is not None and not answer.reached


def ailments_of_ingress(situation: Situation) -> tuple[Condition, ...]:
    """The condition that the ingress cannot be asked, once for all routes; not while it has just
    started.
    """
    said = situation.answers.items()
    away = min((item for item in said if not (item[1].reached or item[1].routeless)), default=None)
    if away is None:
        return ()
    message = (
        f"{away[1].detail}. What serves stays as it is, and no time counts against "
        "what was promoted, until it answers; look whether it is at `ray.ingress_url`"
    )
    return (Condition("ray", "IngressUnreachable", message),)


def ailments_of(app: Application, situation: Situation) -> tuple[Condition, ...]:
    """What is wrong with a release that was live before; it stays all the same."""
    diagnosis = diagnose(app)
    if diagnosis.health in {Health.FAILED, Health.SHORT}:
        return (Condition(str(app.release), diagnosis.reason, diagnosis.message),)
    answer = situation.answers.get(app.route or "")
    if answer is not None and answer.reached and not answers(app, situation):
        return (Condition(str(app.release), NOT_ANSWERING, _what_was_seen(answer)),)
    return ()


def refused_by_dying(app: Application, situation: Situation) -> tuple[WeightsQuarantine, ...]:
    """The weights to blame when a release that was live fails since it was told to load them: those
    that end its process leave nobody to say so, and in the end no replica.
    """
    diagnosis = diagnose(app)
    if diagnosis.health is not Health.FAILED or not was_live(app, situation.records):
        return ()
    return refused_weights(app, diagnosis, situation)


def weights_due(route: Route, app: Application, situation: Situation) -> float | None:
    """Until when a promoted application may take to have the weights that the same release serves
    with before it, in every replica; None when that is settled. A replica that cannot take them
    tries again, so it has as long as a start; one that is not heard has as long as a probe.
    """
    uptake = situation.uptake.get(app.name)
    if uptake is None or uptake.is_whole or not _before_with_its_weights(route, app, situation):
        return None
    due = answer_due(app, situation)
    if uptake.errors:
        due = since(situation, app, "routed_at") + situation.limits.ready_deadline
    return due if situation.now < due and not uptake.is_hopeless else None


def holder_works(route: Route, situation: Situation) -> bool:
    """Whether whoever holds a route has shown that it serves there."""
    holder = route.holder
    return holder is not None and (
        was_live(holder, situation.records)
        or (answers(holder, situation) and weights_due(route, holder, situation) is None)
    )


def refused_what_serves(
    route: Route, app: Application, situation: Situation
) -> tuple[Diagnosis, Application] | None:
    """Why a promoted application gives the route back though it answers, and to whom: it cannot
    take the weights that the same release served with before it, so its options are at fault.
    """
    weights, uptake = in_document(app.document), situation.uptake.get(app.name)
    before = _before_with_its_weights(route, app, situation)
    if weights is None or uptake is None or not (uptake.errors and before):
        return None
    if weights_due(route, app, situation) is not None or not answers(app, situation):
        return None
    last = max(before, key=lambda other: (since(situation, other, "live_at"), other.name))
    error = uptake.errors[min(uptake.errors)]
    why = (
        f"{weights} serve with it, but not as it is started now, in {len(uptake.errors)} of "
        f"{uptake.number} replicas: {unnamed(error.message, weights)}"
    )
    return Diagnosis(Health.FAILED, error.reason, why, error.log_tail), last


def _before_with_its_weights(
    route: Route, app: Application, situation: Situation
) -> list[Application]:
    """Applications of the same release that served before one that was never live, and still could,
    with the weights that it should have.
    """
    weights = in_document(app.document)
    if weights is None or was_live(app, situation.records):
        return []
    return [
        other
        for other in route.others
        if other.release == app.release
        and has_served(other, situation.records)
        and (named := in_document(other.document)) is not None
        and named.digest == weights.digest
        and diagnose(other).health is not Health.FAILED
    ]


def rolled_back(route: Route, situation: Situation) -> Route:
    """The route given back to who served before, if its holder failed and is wanted no longer.

    The wanted one may not come soon: not prepared yet, queued, short of resources. A holder that is
    itself wanted is judged, and quarantined, where it is confirmed.
    """
    holder, before = _unproven(route, situation), fallback(route, situation)
    if holder is None or before is None or failure_of(holder, situation) is None:
        return route
    document = {**(before.document or {}), "route_prefix": route.path}
    back = replace(before, route=route.path, document=document)
    return replace(route, holder=back, others=tuple(a for a in route.others if a is not before))


def rollback_due(route: Route, situation: Situation) -> float | None:
    """When a holder that is no longer wanted loses the route, unless it answers before."""
    holder = _unproven(route, situation)
    due = answer_due(holder, situation) if holder else situation.now
    return due if due > situation.now else None


def _unproven(route: Route, situation: Situation) -> Application | None:
    """The holder, if another release is wanted there and nothing shows that it works."""
    holder = route.holder
    if holder is None or holder is route.target or is_working(holder, situation):
        return None
    return holder


def newly_live(routes: Iterable[Route], situation: Situation) -> tuple[Transition, ...]:
    """Holders first seen at their route when another release is wanted there already.

    Such a holder is live: its predecessors go, so it must be known as a fallback.
    """
    return tuple(
        transition
        for route in routes
        if route.holder is not None
        and not was_live(route.holder, situation.records)
        and route.holder is not route.target
        and answers(route.holder, situation)
        and weights_due(route, route.holder, situation) is None
        for transition in phases(route.holder, Phase.LIVE, "AnswersAtRoute", route.path)
    )
