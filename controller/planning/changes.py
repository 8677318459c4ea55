"""From decisions to one config: who may start now, what differs, and whether to send it yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.model import ApplicationStatus, Condition, Phase
from controller.planning import causes
from controller.planning.documents import same_document
from controller.planning.health import Health, diagnose
from controller.planning.plan import Cause, Change, PlannedApplication
from controller.planning.promotion import failed_promotion
from controller.planning.situation import is_working, needs_encoding, routed, since
from controller.planning.turns import in_turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from controller.model import JSON, Application, Placement, Quarantine, Transition
    from controller.planning.situation import Situation

BUILD_RUNNING = "BuildRunning"
"""Why a config waits that would restart a build."""
PROMOTION_WAIT = 10.0
"""Seconds for which a release that is ready waits for somebody else's build at most: several times
what a build takes on a node that is not busy."""


def admit(
    asking: Iterable[Placement], situation: Situation
) -> tuple[list[PlannedApplication], list[Condition]]:
    """Let as many releases start as `max_staging` allows, each in its turn; the others queue. One
    that is not checked lets others go first, and keeps its turn.
    """
    starting = sum(
        1
        for app in situation.applications
        if app.release is not None
        and app.route is None
        and app.status is ApplicationStatus.DEPLOYING
        and diagnose(app).health is Health.STARTING
    )
    free = max(0, situation.limits.max_staging - starting)
    queue = in_turn(asking, situation.waiting_since, situation.now)
    starts = [p for p in queue if p.release not in situation.unchecked][:free]
    staged = [PlannedApplication(routed(placement, None), causes.STAGED) for placement in starts]
    due = {placement.release for placement in (queue if len(starts) < free else queue[:free])}
    why = f"{situation.limits.max_staging} releases are starting (rollout.max_staging)"
    if situation.limits.max_staging == 0:
        why = "nothing is started until Ray's side is known to fit: see the conditions of `ray`"
    busy, starting_now = Cause("Queued", why), {placement.release for placement in starts}
    queued = []
    for release in [p.release for p in queue if p.release not in starting_now]:
        cause = situation.unchecked.get(release, busy)
        if cause == causes.CHECKING_FILES and release not in due:
            cause = busy
        queued.append(Condition(str(release), cause.reason, cause.message))
    return staged, queued


def assemble(
    ours: Iterable[PlannedApplication], situation: Situation
) -> tuple[PlannedApplication, ...]:
    """Ours, the declarative applications of others verbatim, and what ours need beside them. What
    stays as it is has the very document that was observed: whoever compares them has little to do.
    """
    planned = list(ours)
    extra = situation.encoded_routes
    own_name = extra["name"] if extra else None
    planned.extend(
        PlannedApplication(app.document, causes.FOREIGN)
        for app in situation.applications
        if app.release is None and app.document is not None and app.name != own_name
    )
    routes = {item.document.get("route_prefix") for item in planned}
    taken = {app.route for app in situation.applications if app.name != own_name}
    if (
        extra
        and extra["route_prefix"] not in routes | taken
        and any(map(needs_encoding, filter(None, routes)))
    ):
        planned.append(PlannedApplication(extra, causes.ENCODED_ROUTES))
    there = {app.name: app.document for app in situation.applications}
    as_observed = (_as_observed(item, there.get(str(item.document["name"]))) for item in planned)
    return tuple(sorted(as_observed, key=lambda item: str(item.document["name"])))


def _as_observed(
    planned: PlannedApplication, document: Mapping[str, JSON] | None
) -> PlannedApplication:
    if document is None or not same_document(document, planned.document):
        return planned
    return PlannedApplication(document, planned.cause)


def ailments_beside(situation: Situation) -> Iterator[Condition]:
    """What is amiss with what goes into the config beside our releases: why percent-encoded
    spellings of routes are not answered, though they should be; and which applications of others
    hold what only some readers of JSON take.
    """
    name = situation.encoded_routes["name"] if situation.encoded_routes else None
    for app in situation.applications:
        if app.name == name and (diagnosis := diagnose(app)).health is Health.FAILED:
            yield Condition("encoded routes", diagnosis.reason, diagnosis.message)
        if app.oddity:
            yield Condition(
                f"application {app.name}",
                "NotJson",
                f"it is not wheelway's, and was deployed with what no JSON has ({app.oddity}): it "
                "is carried as it is, but others who read the config may not take it; have whoever "
                "deployed it write null, a number or text instead",
            )


def differences(
    planned: Sequence[PlannedApplication],
    observed: Sequence[Application],
    leaving: Mapping[str, Cause],
) -> tuple[Change, ...]:
    """What the plan adds, changes or removes; `leaving` says by name why something goes."""
    there = {
        app.name: app
        for app in observed
        if app.document is not None and app.status is not ApplicationStatus.DELETING
    }
    found = []
    for application in planned:
        name, route = str(application.document["name"]), application.document.get("route_prefix")
        app = there.pop(name, None)
        if app is None:
            found.append(Change("add", name, application.cause, route=route))
        elif not same_document(app.document, application.document):
            same = app.route == route and application.cause is not causes.ENCODED_ROUTES
            cause = causes.SETTINGS if same else application.cause
            found.append(Change("change", name, cause, was=app.route, route=route))
    found += [
        Change("remove", name, leaving.get(name, causes.NO_LONGER_WANTED), was=app.route)
        for name, app in sorted(there.items())
    ]
    return tuple(found)


def removal_reasons(
    situation: Situation, transitions: Iterable[Transition], quarantines: Iterable[Quarantine]
) -> dict[str, Cause]:
    """By name: why an application of ours would leave, as far as something was said of it."""
    retired = {
        t.placement: Cause(t.reason, t.message) for t in transitions if t.phase is Phase.RETIRING
    }
    failed = {q.release: q.reason for q in quarantines}
    unelected = {v.release: Cause(v.reason, v.message) for v in situation.verdicts if not v.elected}
    extra = situation.encoded_routes
    found = {str(extra["name"]): causes.NOTHING_TO_ENCODE} if extra else {}
    for app in situation.applications:
        if app.release is None:
            continue
        if app.name in retired:
            found[app.name] = retired[app.name]
        elif app.release in failed:
            what = f"it failed; `wheelway explain {app.release.pipeline}` has the cause"
            found[app.name] = Cause(failed[app.release], what)
        elif not is_working(app, situation) and app.route and failed_promotion(app, situation):
            found[app.name] = causes.NEVER_SEEN
        elif app.release in unelected:
            found[app.name] = unelected[app.release]
    return found


def hold_back(situation: Situation, *, promoting: bool) -> tuple[Cause | None, float | None]:
    """Why a PUT must wait for a build, which it would cancel and restart; and until when.

    Each build has its time from its own last start. When a release is `promoting`, what is built
    has less: it only starts over, while the other is ready to serve.
    """
    longest = situation.limits.build_deadline
    if promoting:
        longest = min(longest, PROMOTION_WAIT)
    for app in situation.applications:
        if app.release is None or not app.building:
            continue
        until = since(situation, app, "building_since") + longest
        if situation.now < until:
            what = f"{app.name} is being built; a config sent now would restart that"
            return Cause(BUILD_RUNNING, what), until
    return None, None
