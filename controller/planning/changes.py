"""From decisions to one config: what goes into it, what differs, and whether to send it yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.model import Condition, Phase
from controller.planning import causes
from controller.planning.documents import same_document
from controller.planning.health import Health, diagnose
from controller.planning.plan import Cause, Change, PlannedApplication
from controller.planning.promotion import failure_of
from controller.planning.situation import in_force, is_working, needs_encoding, since
from controller.planning.weights import former_in_document, in_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from controller.model import Quarantine, Tracked, Transition
    from controller.observed import Application
    from controller.planning.situation import Situation
    from controller.planning.weights import Weights, WeightsQuarantine

BUILD_RUNNING = "BuildRunning"
"""The reason of a config that waits, as it would restart a build."""
PROMOTION_WAIT = 10.0
"""Seconds that a ready release waits for another's build at most: several builds on an idle
node."""


def assemble(
    ours: Iterable[PlannedApplication], situation: Situation
) -> tuple[PlannedApplication, ...]:
    """Our applications, the declarative ones of others verbatim, and what ours need beside them. An
    unchanged application keeps the observed document itself, which makes comparing cheap.
    """
    planned = list(ours)
    extra = situation.encoded_routes
    own_name = extra["name"] if extra else None
    others = [app for app in situation.applications if app.name != own_name]
    planned.extend(
        PlannedApplication(app.document, causes.FOREIGN)
        for app in others
        if app.release is None and app.document is not None
    )
    routes = {item.document.get("route_prefix") for item in planned}
    free = extra and extra["route_prefix"] not in routes.union(app.route for app in others)
    if extra and free and any(map(needs_encoding, filter(None, routes))):
        planned.append(PlannedApplication(extra, causes.ENCODED_ROUTES))
    there = {app.name: app.document for app in situation.applications}
    found = []
    for item in sorted(planned, key=lambda item: str(item.document["name"])):
        document = there.get(str(item.document["name"]))
        same = document is not None and same_document(document, item.document)
        found.append(PlannedApplication(document, item.cause) if document and same else item)
    return tuple(found)


def ailments_beside(situation: Situation) -> Iterator[Condition]:
    """What is wrong beside our releases: why percent-encoded spellings of routes are not answered,
    and which applications of others hold values that are no strict JSON.
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
    planned: Sequence[PlannedApplication], situation: Situation, leaving: Mapping[str, Cause]
) -> tuple[Change, ...]:
    """What the plan adds, changes or removes; `leaving` says by name why something goes."""
    there = {app.name: app for app in in_force(situation)}
    found = []
    for application in planned:
        name, route = str(application.document["name"]), application.document.get("route_prefix")
        app = there.pop(name, None)
        if app is None:
            found.append(Change("add", name, application.cause, route=route))
        elif not same_document(app.document, application.document):
            same = app.route == route and application.cause is not causes.ENCODED_ROUTES
            cause = _lightweight(app, application) if same else application.cause
            found.append(Change("change", name, cause, was=app.route, route=route))
    for name, app in there.items():
        cause = leaving.get(name, causes.NO_LONGER_WANTED)
        found.append(Change("remove", name, cause, was=app.route))
    return tuple(found)


def _lightweight(app: Application, planned: PlannedApplication) -> Cause:
    """Why an application that keeps its route is applied otherwise."""
    before, after = in_document(app.document), in_document(planned.document)
    if after is not None and (before is None or before.digest != after.digest):
        back = before is not None and _is_before(after, before, former_in_document(app.document))
        cause = causes.WEIGHTS_ROLLED_BACK if back else causes.NEW_WEIGHTS
        told = f"{before or 'none'} -> {after}"
    elif before is not None and after is None:
        cause, told = causes.NO_WEIGHTS, f"{before} -> none"
    else:
        return causes.SETTINGS
    return Cause(cause.reason, f"{cause.message} ({told})")


def _is_before(after: Weights, before: Weights, former: Weights | None) -> bool:
    """Whether weights are of an older version than those in force, or of the same and its former
    bytes. What is newer is no way back, even where a release was live with it before.
    """
    if after.version != before.version:
        return after.version < before.version
    return former is not None and former.digest == after.digest


def removal_reasons(
    situation: Situation,
    transitions: Iterable[Transition],
    quarantines: Iterable[Quarantine],
    refused: Iterable[WeightsQuarantine] = (),
) -> dict[str, Cause]:
    """By name: why an application of ours would leave, where that is known."""
    retired = {
        t.placement: Cause(t.reason, t.message) for t in transitions if t.phase is Phase.RETIRING
    }
    failed: dict[Tracked, str] = {q.subject: q.reason for q in quarantines}
    failed |= {one.release: one.reason for one in refused}
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
        elif not is_working(app, situation) and app.route and failure_of(app, situation):
            found[app.name] = causes.NEVER_SEEN
        elif app.release in unelected:
            found[app.name] = unelected[app.release]
    return found


def hold_back(situation: Situation, *, promoting: bool) -> tuple[Cause | None, float | None]:
    """Why a PUT must wait for a build, which it would cancel and restart; and until when.

    Each build has `build_deadline` from its last start, and less when a release is `promoting`: a
    build merely starts over, while that release is ready to serve.
    """
    longest = situation.limits.build_deadline
    if promoting:
        longest = min(longest, PROMOTION_WAIT)
    for app in situation.applications:
        if app.release is not None and app.building:
            until = since(situation, app, "building_since") + longest
            if situation.now < until:
                what = f"{app.name} is being built; a config sent now would restart that"
                return Cause(BUILD_RUNNING, what), until
    return None, None
