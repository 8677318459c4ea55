"""The values that the rooms exchange: frozen, without I/O, importing nothing of the other rooms.

The words are those of docs/architecture.md. All times are seconds since the epoch (`time.time()`)
unless a name says otherwise; all digests are lower-case hex SHA-256 of a whole file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from packaging.version import Version

JSON = Any
"""A value of JSON: None, bool, int, float, str, list or dict of these."""


# -- what sources list ---------------------------------------------------------------------------


class Availability(StrEnum):
    """What a source says may be done with a revision."""

    SELECTABLE = "selectable"
    """May be elected."""
    RETAINED = "retained"
    """Keeps running where it runs, is never newly elected (yanked, unlisted)."""
    GONE = "gone"
    """Its bytes can no longer be had: treated as not listed, but a person can be told why."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One wheel as a source lists it; not yet fetched."""

    source: str
    """The source's name, unique in the configuration."""
    project: str
    """The distribution's name, normalised (PEP 503)."""
    version: Version
    filename: str
    """As published, PEP 427."""
    locator: str
    """Where the source finds the bytes again; opaque to everyone else."""
    sha256: str
    size: int | None
    """Bytes; None if the source does not know: then only the digest shows that a file is whole."""
    availability: Availability = Availability.SELECTABLE
    note: str = ""
    """What the source says of its availability, for a person; empty when it is an ordinary one."""
    published_at: float | None = field(default=None, compare=False)
    """When it was published, if the source knows; for a person only."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that a source or a gate refused, and why; it concerns nothing else."""

    subject: str
    """A file's name, `project==version` where there is no file yet, or a release; for a person."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything that one source lists, at one moment."""

    source: str
    revisions: tuple[Revision, ...]
    refused: tuple[Refusal, ...] = ()
    pending: tuple[Refusal, ...] = ()
    """Seen but not ready: still being copied, wheel not uploaded yet."""
    unobserved: tuple[str, ...] = ()
    """Projects that may have more than was listed: nothing of them is known to be absent."""
    notes: tuple[Condition, ...] = ()
    """What a person should know of it; nothing is refused for it."""


# -- artifacts -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PartEntry:
    """A part of a pipeline: an entry point in the group `wheelway.parts`."""

    name: str
    """As written; the name of its deployment."""
    target: str
    """`module:attribute`, as a pipeline's."""
    options: Mapping[str, JSON] = field(default_factory=dict)
    """Those that its author wrote, as a pipeline's."""


@dataclass(frozen=True, slots=True)
class PipelineEntry:
    """One pipeline of a wheel: an entry point in the group `wheelway.pipelines`."""

    name: str
    """Normalised (PEP 503); the pipeline's name and a segment of its route."""
    target: str
    """`module:attribute`, PEP 621 entry point syntax without extras."""
    options: Mapping[str, JSON]
    """The options that its author wrote (`wheelway.toml`), validated, only those that are set."""
    settings: Mapping[str, JSON]
    refusal: Refusal | None = None
    """Why this one pipeline cannot be served, though its wheel is sound."""
    parts: tuple[PartEntry, ...] = ()
    """Sorted by name."""


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """Weights for one pipeline: an entry point in the group `wheelway.weights`."""

    pipeline: str
    """Whose they are; normalised (PEP 503)."""
    package: str
    """The package whose folder holds the files; dotted when it is inside another."""
    fits: str = ""
    """Which versions of the pipeline can take them (PEP 440); empty for all."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A fetched wheel that passed inspection."""

    digest: str
    project: str
    version: Version
    filename: str
    size: int
    wheel: Path
    """The verified file in the content-addressed store."""
    tree: Path
    """The same wheel unpacked, to be put on `sys.path`."""
    record_digest: str
    """SHA-256 of the wheel's RECORD file: with it a replica verifies the tree."""
    requires: tuple[str, ...]
    """`Requires-Dist` as written (PEP 508)."""
    pipelines: tuple[PipelineEntry, ...]
    notes: tuple[str, ...] = ()
    """What of it has no effect when it is served, for a person."""
    weights: tuple[WeightsEntry, ...] = ()
    """Sorted by pipeline. A wheel that has any holds only data, and no pipelines."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where an artifact's requirements are installed."""

    lock_digest: str
    """SHA-256 of the locked requirements; empty when the base satisfies them all."""
    python: str | None
    """The replica's `py_executable`; None for the base interpreter itself."""


# -- releases ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """A pipeline at a version with these bytes: immutable."""

    pipeline: str
    version: Version
    digest: str
    _hash: int = field(init=False, repr=False, compare=False)
    _version: str = field(init=False, repr=False, compare=False)
    """Both are needed many thousand times a pass."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.pipeline, self.version, self.digest)))
        object.__setattr__(self, "_version", str(self.version))

    def __hash__(self) -> int:
        return self._hash

    @property
    def name(self) -> str:
        """The name that the journal has it under."""
        return self.pipeline

    @property
    def key(self) -> tuple[str, Version, str]:
        """Its row in the journal, and what releases are sorted by."""
        return self.pipeline, self.version, self.digest

    @property
    def route(self) -> str:
        """The path under which the release wants to be reached, as typed (not percent-encoded)."""
        return f"/predict/{self.pipeline}/{self._version}"

    @property
    def header(self) -> str:
        """The value of `x-wheelway-release` in every answer of this release."""
        return f"{self.pipeline}@{self._version}+{self.digest[:8]}"

    def __str__(self) -> str:
        return self.header


@dataclass(frozen=True, slots=True)
class UnsoundWheel:
    """A wheel that failed inspection: no release, as nobody knows what pipelines it has."""

    project: str
    version: Version
    digest: str

    @property
    def name(self) -> str:
        """The name that the journal has it under."""
        return self.project

    @property
    def key(self) -> tuple[str, Version, str]:
        """Its row in the journal; that of the release of this name if the wheel passes later."""
        return self.project, self.version, self.digest

    def __str__(self) -> str:
        return f"{self.project}@{self.version}+{self.digest[:8]}"


Tracked = Release | UnsoundWheel
"""What is followed through its phases, and may be quarantined."""

INSPECT: Final = "inspect"
"""The stage at which a wheel is quarantined; at all others a release is."""


def tracked(name: str, version: Version, digest: str, stage: str) -> Tracked:
    """What failed at a stage."""
    return (UnsoundWheel if stage == INSPECT else Release)(name, version, digest)


_HEADER = re.compile(r"(?P<pipeline>[a-z0-9-]+)@(?P<version>.+)\+(?P<digest8>[0-9a-f]{8})")


def named(subject: str) -> tuple[str, str] | None:
    """The pipeline and the version of a subject that is a release; None when it is none."""
    match = _HEADER.fullmatch(subject)
    return (match["pipeline"], match["version"]) if match else None


class Phase(StrEnum):
    """How far a release has come."""

    DISCOVERED = "Discovered"
    FETCHED = "Fetched"
    PREPARED = "Prepared"
    STAGED = "Staged"
    READY = "Ready"
    LIVE = "Live"
    RETIRING = "Retiring"
    RETIRED = "Retired"
    SUPERSEDED = "Superseded"
    QUARANTINED = "Quarantined"


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What failed. `inputs` names what it failed with: other inputs are a new attempt."""

    subject: Tracked
    stage: str
    """inspect, wishes, prepare, stage, promote."""
    reason: str
    message: str
    inputs: str
    log_tail: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Placement:
    """One Serve application of one release: what would be applied, its route left open."""

    name: str
    """With a digest over all whose change restarts replicas: it always means the same code."""
    release: Release
    document: Mapping[str, JSON]
    """The application as Serve's schema has it, with `route_prefix` None."""


# -- observed ------------------------------------------------------------------------------------


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
    replicas: tuple[Replica, ...] = ()
    """Without those of parts."""
    parts: tuple[Part, ...] = ()
    """Sorted by name."""
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


@dataclass(frozen=True, slots=True)
class PlacementRecord:
    """What the journal remembers of a placement, for deadlines and for telling the story."""

    name: str
    staged_at: float | None = None
    """When the time for its start began to count: it was built, and there was room for it."""
    routed_at: float | None = None
    """When the time for answering at its route began to count."""
    live_at: float | None = None
    building_since: float | None = None
    """When Serve began the build that is under way; None while there is none."""


@dataclass(frozen=True, slots=True)
class Loss:
    """How many of a source's live releases were missing at once."""

    vanished: int
    live: int


# -- decisions -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """A lasting fact about a subject: a release, a source, `ray`, `config`."""

    subject: str
    reason: str
    """PascalCase."""
    message: str
    ok: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """A release enters a phase, or a wheel that failed inspection does."""

    subject: Tracked
    phase: Phase
    reason: str
    message: str
    placement: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal's story."""

    at: float
    subject: str
    reason: str
    message: str
    fields: Mapping[str, JSON] = field(default_factory=dict)
