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


@dataclass(frozen=True, slots=True)
class Loss:
    """How many of a source's live releases were missing at once."""

    vanished: int
    live: int


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
    def version_text(self) -> str:
        """`str(version)`, which takes long to make."""
        return self._version

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


# -- where requests go ---------------------------------------------------------------------------

DEFAULT_CLUSTER: Final = "ray"
"""The name of the cluster that `[ray]` describes."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a release runs or would run: what its health, phase and records are known by."""

    cluster: str
    application: str
    member: str | None = None
    """Its process in a pool; None when the whole application is its own."""


@dataclass(frozen=True, slots=True)
class Target:
    """A slot behind a public path."""

    slot: Slot
    weight: int = 1
    """Its share of the requests is this, divided by the sum over all targets."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A public path and who answers there: a result of planning, never computed of a release."""

    path: str
    """As typed, not percent-encoded."""
    targets: tuple[Target, ...]


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
