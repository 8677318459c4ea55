"""What is seen on the cluster: Serve's applications by the dashboard, answers by the ingress.

Values as those of model.py, frozen and without I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.model import JSON, Release


class ApplicationStatus(StrEnum):
    """As Serve reports it (ray.serve.schema.ApplicationStatus)."""

    NOT_STARTED = "NOT_STARTED"
    DEPLOYING = "DEPLOYING"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    RUNNING = "RUNNING"
    UNHEALTHY = "UNHEALTHY"
    DELETING = "DELETING"

    @classmethod
    def _missing_(cls, value: object) -> ApplicationStatus | None:
        """A status of a later Serve is neither ready nor failed: what is there stays as it is."""
        return cls.NOT_STARTED if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica of a release's pipeline, or of another's application."""

    state: str
    pid: int | None
    """None until it has started: one that waits for CPUs and one that loads look the same."""
    id: str = ""
    """Serve's unique id."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a release that is on the cluster, as Serve reports its deployment."""

    name: str
    inline: bool = False
    """It runs in its pipeline's replicas, and has no deployment."""
    state: str = ""
    """As Serve reports it (ray.serve.schema.DeploymentStatus); empty while it has no deployment."""
    running: int = 0
    """Replicas that have passed its examples."""
    wanted: int | None = None
    """Replicas that there should be; None while Serve does not say."""
    message: str = ""
    """The cause of its state, as `Application.message`."""


@dataclass(frozen=True, slots=True)
class Application:
    """A Serve application as the dashboard reports it."""

    name: str
    status: ApplicationStatus
    route: str | None
    """Of the config last applied, so it is never older than our own last PUT."""
    document: Mapping[str, JSON] | None
    """`deployed_app_config` verbatim; None for an imperative application (`serve.run`)."""
    release: Release | None
    """Read from the document's own arguments; None when the application is not ours."""
    building: bool = False
    """A build task is running: a PUT would cancel and restart it."""
    message: str = ""
    """The cause of a failure, dug out of the deployments' messages."""
    failed_start: str = ""
    """Why a replica failed to start, while Serve tries again and none of its deployment has
    started; as `message`, of which it is a part. Serve forgets it 30 s after the next one began."""
    replicas: tuple[Replica, ...] = ()
    """Without those of parts."""
    parts: tuple[Part, ...] = ()
    """Sorted by name."""
    part_replicas: tuple[tuple[str, str], ...] = ()
    """Part and Serve's unique id of each replica of a part, but of those that stop."""
    oddity: str = ""
    """What in another's document cannot be written as strict JSON."""
    project: str = field(init=False, compare=False)
    """The distribution of the release, by the document too; empty when it is not ours."""

    def __post_init__(self) -> None:
        arguments = (self.document or {}).get("args") or {} if self.release is not None else {}
        project = arguments.get("release", {}).get("project", "")
        object.__setattr__(self, "project", str(project))


@dataclass(frozen=True, slots=True)
class WeightsError:
    """What a replica says of weights that it could not take."""

    digest: str
    """Empty: it cannot do without any."""
    reason: str
    message: str
    log_tail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from the ingress at one route."""

    header: str | None
    """The `x-wheelway-release` header; None when there was none."""
    status: int | None
    """The HTTP status; None when no answer came."""
    application: str = ""
    """The name of the Serve application that answered, as it says itself."""
    detail: str = ""
    settings_error: str = ""
    """What the release says about settings that it could not take."""
    failing: str = ""
    """What a replica says when most of its requests fail."""
    weights: str = ""
    """The `x-wheelway-weights` header: the weights in force there."""
    weights_error: WeightsError | None = None
    replica: str = field(default="", compare=False)
    """Serve's id of the replica that answered."""
    reached: bool = True
    """False when the ingress itself could not be asked: then no route is at fault."""
    routeless: bool = False
    """Not reached, for Serve's ingress has no route at all: the head has just started."""
