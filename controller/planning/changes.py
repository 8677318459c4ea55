"""From decisions to one config: who may start now, what differs, and whether to send it yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.model import ApplicationStatus, Condition, PlannedApplication
from controller.planning.health import Health, diagnose
from controller.planning.situation import needs_encoding, routed, since

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from controller.model import Application, Placement
    from controller.planning.situation import Situation


def admit(
    asking: Iterable[Placement], situation: Situation
) -> tuple[list[PlannedApplication], list[Condition]]:
    """Let as many new releases start as `max_staging` allows, newest first; the others queue."""
    starting = sum(
        1
        for app in situation.applications
        if app.release is not None
        and app.route is None
        and app.status is ApplicationStatus.DEPLOYING
        and diagnose(app).health is Health.STARTING
    )
    free = max(0, situation.limits.max_staging - starting)
    newest_first = sorted(asking, key=lambda p: (p.release.version, p.name), reverse=True)
    staged = [
        PlannedApplication(routed(placement, None), "staged: it must become ready first")
        for placement in newest_first[:free]
    ]
    why = f"{situation.limits.max_staging} releases are starting (rollout.max_staging)"
    if situation.limits.max_staging == 0:
        why = "every start would fail until what does not fit on Ray's side is mended"
    queued = [Condition(str(p.release), "Queued", why) for p in newest_first[free:]]
    return staged, queued


def assemble(
    ours: Iterable[PlannedApplication], situation: Situation
) -> tuple[PlannedApplication, ...]:
    """Ours, the declarative applications of others verbatim, and what ours need beside them."""
    planned = list(ours)
    extra = situation.encoded_routes
    own_name = extra["name"] if extra else None
    planned.extend(
        PlannedApplication(app.document, "not ours: carried as it is")
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
        reason = "clients may percent-encode the routes of local versions and epochs"
        planned.append(PlannedApplication(extra, reason))
    return tuple(sorted(planned, key=lambda item: str(item.document["name"])))


def ailments_of_encoded_routes(situation: Situation) -> tuple[Condition, ...]:
    """Why percent-encoded spellings of routes are not answered, though they should be."""
    name = situation.encoded_routes["name"] if situation.encoded_routes else None
    for app in situation.applications:
        diagnosis = diagnose(app)
        if app.name == name and diagnosis.health is Health.FAILED:
            return (Condition("encoded routes", diagnosis.reason, diagnosis.message),)
    return ()


def differences(
    planned: Sequence[PlannedApplication], observed: Sequence[Application]
) -> tuple[str, ...]:
    """One sentence for each application that the plan adds, changes or removes."""
    there = {
        app.name: app
        for app in observed
        if app.document is not None and app.status is not ApplicationStatus.DELETING
    }
    sentences = []
    for application in planned:
        name = str(application.document["name"])
        app = there.pop(name, None)
        if app is None:
            sentences.append(f"add {name}: {application.reason}")
        elif app.document != application.document:
            was, now = app.route, application.document.get("route_prefix")
            what = f"{was or 'no route'} -> {now or 'no route'}" if was != now else "settings"
            sentences.append(f"change {name} ({what}): {application.reason}")
    sentences.extend(f"remove {name}: no longer wanted, or failed" for name in sorted(there))
    return tuple(sentences)


def hold_back(situation: Situation) -> tuple[str, float | None]:
    """Whether a PUT must wait for a build, which it would cancel and restart; and until when."""
    for app in situation.applications:
        if app.release is None or not app.building:
            continue
        until = since(situation, app, "staged_at") + situation.limits.build_deadline
        if situation.now < until:
            return f"{app.name} is being built; a config sent now would restart that", until
    return "", None
