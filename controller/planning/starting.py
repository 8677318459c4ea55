"""How an application without a route does: it starts, waits, is ready, or has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.planning.health import Diagnosis, Health, diagnose
from controller.planning.situation import since, was_live

if TYPE_CHECKING:
    from controller.model import Application
    from controller.planning.situation import Situation

_STOPPING = "STOPPING"
"""What Serve calls a replica that is about to end (ray.serve._private.common.ReplicaState)."""


def start_of(app: Application, situation: Situation) -> Diagnosis:
    """How it does. One that takes too long has failed, and one of which no replica ever ran its
    examples is not ready, whatever Serve says; unless it was live before: then it is known to
    start.
    """
    diagnosis = diagnose(app)
    if was_live(app, situation.records) or app.building:
        return diagnosis
    if diagnosis.health is Health.READY and not _has_replica(app):
        return Diagnosis(
            Health.SHORT,
            "NeverStarted",
            "Serve calls it running, yet scaled it to no replica before one had passed its "
            "examples: give `autoscaling_config` a longer `downscale_delay_s`, or min_replicas = 1",
        )
    if diagnosis.health is not Health.STARTING or situation.now < start_due(app, situation):
        return diagnosis
    return Diagnosis(
        Health.FAILED,
        "StartTimeout",
        f"not ready {situation.limits.ready_deadline:g} s after Serve had built it "
        f"({diagnosis.message}): load hangs or takes longer than rollout.ready_deadline",
        app.message,
    )


def start_due(app: Application, situation: Situation) -> float:
    """When its time to start is over."""
    return since(situation, app, "staged_at") + situation.limits.ready_deadline


def _has_replica(app: Application) -> bool:
    return any(replica.state != _STOPPING for replica in app.replicas)
