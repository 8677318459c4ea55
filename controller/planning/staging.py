"""Which releases may start now, whose turn it is, and how a start goes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from controller.model import Condition
from controller.observed import ApplicationStatus
from controller.planning import causes
from controller.planning.health import Diagnosis, Health, diagnose, failed_start
from controller.planning.plan import Cause, PlannedApplication
from controller.planning.remembered import Remembered
from controller.planning.situation import routed, since, was_live
from wheelway.failure import EXAMPLE_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.model import Placement, Release
    from controller.observed import Application
    from controller.planning.situation import Situation

_STOPPING = "STOPPING"
"""The state of a replica that is about to end (ray.serve._private.common.ReplicaState)."""


class Turns:
    """Since when each release waits for a place on the cluster: memory between passes."""

    def __init__(self) -> None:
        self._since: dict[Release, float] = {}
        self._missing = Remembered(_missing)

    def waiting(
        self,
        elected: Iterable[Release],
        placements: Mapping[Release, Placement],
        applications: Sequence[Application],
        now: float,
    ) -> Mapping[Release, float]:
        """Since when each placed release waits to be on the cluster. An elected release whose
        environment is made again has no placement meanwhile, and keeps its turn. Call it every
        pass.
        """
        absent = self._since.keys() - placements.keys() if self._since else ()
        kept = set(absent).intersection(elected) if absent else ()
        missing = self._missing.of(None, (placements, applications))
        self._since = {release: self._since.get(release, now) for release in (*kept, *missing)}
        return self._since


def _missing(
    seen: tuple[Mapping[Release, Placement], Sequence[Application]],
) -> list[Release]:
    placements, applications = seen
    there = {app.name for app in applications}
    return [release for release, placed in placements.items() if placed.name not in there]


def in_turn(
    asking: Iterable[Placement], since: Mapping[Release, float], now: float
) -> list[Placement]:
    """Releases by how long they wait. Of those that came together, each pipeline's newest version
    comes first, then each one's next, so that no pipeline waits for all of another's.
    """
    versions: dict[str, list[Placement]] = defaultdict(list)
    for placement in asking:
        versions[placement.release.pipeline].append(placement)
    ranked = []
    for of_one in versions.values():
        of_one.sort(key=lambda p: (p.release.version, p.name), reverse=True)
        ranked += [(since.get(p.release, now), rank, p.name, p) for rank, p in enumerate(of_one)]
    return [placement for *_, placement in sorted(ranked, key=lambda one: one[:3])]


def admit(
    asking: Iterable[Placement], situation: Situation
) -> tuple[list[PlannedApplication], list[Condition]]:
    """Let as many releases start as `max_staging` allows, each in its turn; the others queue. A
    release whose files are not checked yet lets others go first, and keeps its turn.
    """
    starting = [
        app
        for app in situation.applications
        if app.release is not None
        and app.route is None
        and app.status is ApplicationStatus.DEPLOYING
        and diagnose(app).health is Health.STARTING
    ]
    free = max(0, situation.limits.max_staging - len(starting))
    queue = in_turn(asking, situation.waiting_since, situation.now)
    starts = [p for p in queue if p.release not in situation.unchecked][:free]
    due = {placement.release for placement in (queue if len(starts) < free else queue[:free])}
    why = f"{situation.limits.max_staging} releases are starting (rollout.max_staging)"
    if situation.limits.max_staging == 0:
        why = "nothing is started until Ray's side is known to fit: see the conditions of `ray`"
    queued, admitted = [], {placement.release for placement in starts}
    for release in (p.release for p in queue if p.release not in admitted):
        cause = situation.unchecked.get(release)
        if cause is None or (cause == causes.CHECKING_FILES and release not in due):
            cause = Cause("Queued", why)
        queued.append(Condition(str(release), cause.reason, cause.message))
    return [PlannedApplication(routed(p, None), causes.STAGED) for p in starts], queued


def start_of(app: Application, situation: Situation) -> Diagnosis:
    """How a start goes. A start that takes too long has failed, and one whose example took too long
    at once: Serve's further tries would take as long each. A release of which no replica ever
    ran the examples is not ready, whatever Serve says; one that was live before is known to start.
    """
    diagnosis = diagnose(app)
    if was_live(app, situation.records) or app.building:
        return diagnosis
    if diagnosis.health is Health.READY and (idle := _idle(app)) is not None:
        return Diagnosis(
            Health.SHORT,
            "NeverStarted",
            f"Serve calls it running, yet scaled {idle} to no replica before one had passed its "
            "examples: give `autoscaling_config` a longer `downscale_delay_s`, or min_replicas = 1",
        )
    if diagnosis.health is not Health.STARTING:
        return diagnosis
    in_time = situation.now < start_due(app, situation)
    failed = failed_start(app)
    if failed is not None and not (in_time and failed.reason != EXAMPLE_TIMEOUT):
        return failed
    if in_time:
        return diagnosis
    return Diagnosis(
        Health.FAILED,
        "StartTimeout",
        f"not ready {situation.limits.ready_deadline:g} s after Serve had built it "
        f"({diagnosis.message}): load hangs or takes longer than rollout.ready_deadline; the "
        "replica's log says what it was at",
        app.message,
    )


def _idle(app: Application) -> str | None:
    """What of it has no replica."""
    if all(replica.state == _STOPPING for replica in app.replicas):
        return "it"
    parts = (p.name for p in app.parts if not p.inline and p.wanted == 0 and not p.running)
    return next((f"the part {name!r}" for name in parts), None)


def start_due(app: Application, situation: Situation) -> float:
    """When the time to start is over."""
    return since(situation, app, "staged_at") + situation.limits.ready_deadline
