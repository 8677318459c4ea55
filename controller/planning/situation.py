"""What a plan depends on, and the few questions that every decision asks of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

from controller.model import DEFAULT_CLUSTER, Quarantine, Transition
from controller.observed import ApplicationStatus
from controller.planning.overrides import NOTHING_ORDERED
from controller.planning.paths import path_of
from controller.planning.plan import PlannedApplication
from controller.planning.policy import STANDS_IN
from controller.planning.weights import WeightsQuarantine, blamed, in_document, unnamed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.model import JSON, Loss, Phase, Placement, PlacementRecord, Release, Tracked
    from controller.observed import Answer, Application
    from controller.planning.doubts import Uptake
    from controller.planning.health import Diagnosis
    from controller.planning.overrides import Overrides
    from controller.planning.plan import Cause
    from controller.planning.policy import Verdict
    from controller.planning.weights import Weights

_PLAIN = re.compile(r"[A-Za-z0-9_.~/-]*")
"""Characters that percent-encoding leaves as they are (RFC 3986)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Pace and deadlines (`[rollout]`); durations in seconds."""

    max_staging: int = 4
    ready_deadline: float = 300.0
    probe_deadline: float = 30.0
    build_deadline: float = 60.0
    retire_limit: float = 0.5


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a plan depends on."""

    now: float
    verdicts: Sequence[Verdict]
    """Of every pipeline that has candidates or holds a route; a release without one is unknown
    (its source was never listed) and stays as it is."""
    placements: Mapping[Release, Placement]
    """For each elected release that is prepared: what should run."""
    applications: Sequence[Application]
    """Every Serve application, ours or not."""
    answers: Mapping[str, Answer]
    """By route: what the ingress answered there, for those of `probing.routes_to_probe`."""
    records: Mapping[str, PlacementRecord]
    """By application name."""
    limits: Limits
    inputs: Mapping[Release, str]
    """What each release's quarantine would be tied to."""
    sources: Mapping[Tracked, str] = field(default_factory=dict)
    """Which source listed each release, as far as that is known."""
    losses: Mapping[str, Loss] = field(default_factory=dict)
    """What earlier plans remembered of vanished releases (`Plan.losses`)."""
    waiting_since: Mapping[Release, float] = field(default_factory=dict)
    """Of each release whose placement is not on the cluster: since when it waits for its turn."""
    unchecked: Mapping[Release, Cause] = field(default_factory=dict)
    """Those of them whose files must be checked before they can start."""
    encoded_routes: Mapping[str, JSON] | None = None
    """The application that answers percent-encoded spellings of routes, for when it is needed."""
    overrides: Overrides = NOTHING_ORDERED
    """What operators ordered; pins are in the verdicts already."""
    suspects: Mapping[Release, Weights] = field(default_factory=dict)
    """By release: weights that a start which fails is blamed on, for they are what is new."""
    uptake: Mapping[str, Uptake] = field(default_factory=dict)
    """By name, of applications that are to replace others with the same weights, and of those."""
    cluster: str = DEFAULT_CLUSTER
    """The name of the one that was observed, and is planned for."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route: what should be there and what is."""

    path: str
    verdicts: tuple[Verdict, ...]
    elected: Verdict | None
    wanted: Placement | None
    holder: Application | None
    others: tuple[Application, ...]
    foreign: Application | None = None
    """The application that is not ours and holds the route. One that is being deleted holds
    nothing: Serve gives its route to whoever asks. It may have been ours, which shows no longer, as
    Serve has forgotten its document."""
    namesake: Application | None = None
    """The application that has the wanted placement's name, whatever it is."""

    @property
    def target(self) -> Application | None:
        """The wanted placement's application, if it is on the cluster."""
        if self.wanted is not None:
            for app in self.ours:
                if app.name == self.wanted.name:
                    return app
        return None

    @property
    def ours(self) -> tuple[Application, ...]:
        """Whatever of ours is there, the holder first."""
        return self.others if self.holder is None else (self.holder, *self.others)

    @property
    def pipeline(self) -> str:
        """The pipeline whose route it is."""
        releases = [verdict.release for verdict in self.verdicts]
        releases += [app.release for app in self.ours if app.release is not None]
        return releases[0].pipeline


def routes_of(situation: Situation) -> list[Route]:
    """Every route that one of ours has or wants, sorted."""
    ours: dict[str, list[Application]] = {}
    foreign: dict[str, Application] = {}
    for app in situation.applications:
        if app.status is ApplicationStatus.DELETING:
            continue
        if app.release is not None:
            ours.setdefault(path_of(app.release), []).append(app)
        elif app.route is not None:
            foreign.setdefault(app.route, app)
    verdicts: dict[str, list[Verdict]] = {}
    for verdict in situation.verdicts:
        verdicts.setdefault(path_of(verdict.release), []).append(verdict)
    names = {app.name: app for app in situation.applications}
    routes = []
    for path in sorted({*ours, *verdicts}):
        apps = sorted(ours.get(path, ()), key=attrgetter("name"))
        said = tuple(verdicts.get(path, ()))
        elected = next((v for v in said if v.elected), None)
        wanted = None
        if elected is not None and elected.reason != STANDS_IN:
            wanted = situation.placements.get(elected.release)
        holder = next((app for app in apps if app.route == path), None)
        others = tuple(app for app in apps if app is not holder)
        namesake = names.get(wanted.name) if wanted is not None else None
        routes.append(
            Route(path, said, elected, wanted, holder, others, foreign.get(path), namesake)
        )
    return routes


def in_force(situation: Situation) -> list[Application]:
    """The declarative applications, ours and others', that are not being deleted, by name."""
    there = [
        app
        for app in situation.applications
        if app.document is not None and app.status is not ApplicationStatus.DELETING
    ]
    return sorted(there, key=attrgetter("name"))


def was_live(app: Application, records: Mapping[str, PlacementRecord]) -> bool:
    """Whether the application was ever seen at its route."""
    record = records.get(app.name)
    return record is not None and record.live_at is not None


def has_served(app: Application, records: Mapping[str, PlacementRecord]) -> bool:
    """Whether the application may be taken for one that works: it was seen at its route, or it
    holds one and has no record, because a journal was lost.
    """
    return was_live(app, records) or (app.route is not None and app.name not in records)


def serving(
    applications: Sequence[Application], records: Mapping[str, PlacementRecord]
) -> frozenset[Release]:
    """The releases that serve, or would again if their unproven successor failed."""
    return frozenset(
        app.release
        for app in applications
        if app.release is not None
        and app.status is not ApplicationStatus.DELETING
        and has_served(app, records)
    )


def fallback(route: Route, situation: Situation) -> Application | None:
    """The application that should hold the route when the elected one is unfit: the last holder."""
    if route.holder is not None and is_working(route.holder, situation):
        return route.holder
    before = [app for app in route.others if has_served(app, situation.records)]
    return max(before, key=lambda app: (since(situation, app, "live_at"), app.name), default=None)


def answers(app: Application, situation: Situation) -> bool:
    """Whether this application answers at its route."""
    if app.release is None or app.route is None:
        return False
    answer = situation.answers.get(app.route)
    return (
        answer is not None
        and answer.header == app.release.header
        and answer.application == app.name
    )


def is_working(app: Application, situation: Situation) -> bool:
    """Whether the application may be taken for one that works: it has served, or answers now."""
    return has_served(app, situation.records) or answers(app, situation)


def since(situation: Situation, app: Application, what: str) -> float:
    """When something of an application was first recorded; now, if it was not."""
    at: float | None = getattr(situation.records.get(app.name), what, None)
    return situation.now if at is None else at


def as_it_is(app: Application, cause: Cause) -> PlannedApplication:
    """Keep an application exactly as it was applied."""
    return PlannedApplication(app.document or {}, cause)


def given(app: Application, path: str, cause: Cause) -> PlannedApplication:
    """Have an application hold this route."""
    return PlannedApplication({**(app.document or {}), "route_prefix": path}, cause)


def routed(placement: Placement, path: str | None) -> dict[str, JSON]:
    """The placement's document with its route, or without one."""
    return {**placement.document, "name": placement.name, "route_prefix": path}


def phases(app: Application, phase: Phase, reason: str, message: str) -> tuple[Transition, ...]:
    """The phase that an application of ours is seen in."""
    if app.release is None:
        return ()
    return (Transition(app.release, phase, reason, message, app.name),)


def quarantine(
    release: Release, stage: str, diagnosis: Diagnosis, situation: Situation
) -> Quarantine:
    """A failed release, tied to the inputs it failed with."""
    return Quarantine(
        subject=release,
        stage=stage,
        reason=diagnosis.reason,
        message=diagnosis.message,
        inputs=situation.inputs.get(release, ""),
        log_tail=diagnosis.log_tail,
        at=situation.now,
    )


def refused_weights(
    app: Application, diagnosis: Diagnosis, situation: Situation
) -> tuple[WeightsQuarantine, ...]:
    """The weights that are to blame for an application's failed start, if any are."""
    suspect = situation.suspects.get(app.release) if app.release is not None else None
    reason, message = diagnosis.reason, diagnosis.message
    if app.release is None or suspect is None:
        return ()
    if not blamed(suspect, app.document, reason, message):
        return ()
    said = reason, unnamed(message, suspect), diagnosis.log_tail
    return (WeightsQuarantine(app.release, suspect, *said, situation.now),)


def other_weights(app: Application, wanted: Placement) -> bool:
    """Whether an application is to have other weights than it has now."""
    now, then = in_document(app.document), in_document(wanted.document)
    return (now and now.digest) != (then and then.digest)


def needs_encoding(path: str) -> bool:
    """Whether some clients would percent-encode this route (`+` of a local version, `!`)."""
    return _PLAIN.fullmatch(path) is None
