"""The documents of the API, which `--json` prints as well: the types say what JSON they are.

A document is its JSON: what is made here is written, read and drawn as it is, and the API's
reference is made of the same types. Keys are only ever added. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import TypedDict

from controller.model import Release
from controller.ops.times import iso
from controller.planning.health import briefly
from controller.planning.paths import version_path
from controller.planning.weights import NOT_SINCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.journal import Reader, ReleaseRecord
    from controller.model import Condition, Event, Quarantine, Tracked
    from controller.observed import Part
    from controller.planning.overrides import Overrides, Pin, Suspension
    from controller.planning.weights import Proven, WeightsQuarantine

_T = TypeVar("_T", bound=type)


def documented(kind: _T) -> _T:
    """Have the docstrings of a document's keys told in the API's reference.

    It says so to pydantic without importing it: commands that never ask for the reference start
    sooner. https://docs.pydantic.dev/latest/api/config/#pydantic.config.with_config
    """
    kind.__pydantic_config__ = {"use_attribute_docstrings": True}  # type: ignore[attr-defined]
    return kind


# -- releases ------------------------------------------------------------------------------------


@documented
class QuarantineDocument(TypedDict):
    """Why a release was set aside."""

    stage: str
    """inspect, wishes, prepare, stage, promote; weights."""
    reason: str
    message: str
    log_tail: str
    """What it said last; may be empty."""
    at: str


class _Named(TypedDict):
    pipeline: str
    version: str
    digest: str


class QuarantinedDocument(_Named, QuarantineDocument):
    """A release that was set aside, and why; the pipeline of a wheel that could not be inspected is
    its project's name.
    """

    weights: str | None
    """Those that failed with the release, which goes on without them; null: it failed itself."""


@documented
class PartDocument(TypedDict):
    """A part of a release, as it was last seen on the cluster."""

    name: str
    inline: bool
    """Whether it runs in its pipeline's replicas, without a deployment of its own."""
    state: str
    """Serve's word for its deployment, such as HEALTHY; empty where it has none."""
    running: int
    """Replicas that passed its examples."""
    wanted: int | None
    """Replicas that there should be; null where Serve does not say."""
    message: str
    """Why it is as it is, in a line; may be empty."""


@documented
class ReleaseDocument(_Named):
    """A release, and how far it has come."""

    phase: str
    reason: str
    message: str
    since: str
    """When it entered the phase."""
    route: str
    """Where it answers once it is Live."""
    placement: str
    """Its latest Serve application; empty before it had one."""
    source: str
    """Empty when it was found running."""
    times: dict[str, str]
    """By phase: when it was first reached."""
    quarantine: QuarantineDocument | None
    parts: list[PartDocument]
    """Of its latest Serve application, while that is on the cluster; by name."""
    weights: str | None
    """Those that it was last seen live with; null: none."""
    weights_since: str | None
    """Since when; null: none, or not since the Ray head that it was live on ended."""
    wanted_weights: str | None
    """Those that it is to have, or has already; null: none."""
    refused_weights: list[QuarantinedDocument]
    """Those that failed with it, while it went on with others."""


@dataclass(frozen=True, slots=True)
class WeightsOfAll:
    """What is known of the weights of all releases."""

    proven: Mapping[Release, Sequence[Proven]]
    """Those that each was live with, the last ones first."""
    refused: Mapping[Release, Sequence[WeightsQuarantine]]
    """Those that failed with it."""
    wanted: Mapping[tuple[str, str], str]
    """By pipeline and version: those that it is to have."""

    @classmethod
    def of(cls, reader: Reader) -> WeightsOfAll:
        """As the journal has it now."""
        judged = reader.judged_weights()
        wanted = {(one.pipeline, taker): one.mark for one in judged for taker in one.takers}
        return cls(reader.proven_weights(), reader.refused_weights(), wanted)


def release_document(
    record: ReleaseRecord,
    quarantine: Quarantine | None,
    parts: Mapping[str, Iterable[Part]],
    weights: WeightsOfAll,
) -> ReleaseDocument:
    """A release as JSON; `parts` are those of each placement."""
    subject = record.subject
    served: Sequence[Proven] = ()
    refused: Sequence[WeightsQuarantine] = ()
    if isinstance(subject, Release):
        served, refused = weights.proven.get(subject, ()), weights.refused.get(subject, ())
    return {
        **_named(record.subject),
        "phase": record.phase.value,
        "reason": record.reason,
        "message": record.message,
        "since": iso(record.since),
        "route": version_path(subject.name, subject.version),
        "placement": record.placement,
        "source": record.source,
        "times": {phase.value: iso(at) for phase, at in record.times.items()},
        "quarantine": quarantine_document(quarantine) if quarantine else None,
        "parts": [part_document(part) for part in parts.get(record.placement, ())],
        "weights": str(served[0].weights) if served else None,
        "weights_since": iso(served[0].at) if served and served[0].at != NOT_SINCE else None,
        "wanted_weights": None
        if record.over
        else weights.wanted.get((subject.name, str(subject.version))),
        "refused_weights": [refused_weights_document(one) for one in refused],
    }


def part_document(part: Part) -> PartDocument:
    """A part as JSON."""
    return {
        "name": part.name,
        "inline": part.inline,
        "state": part.state,
        "running": part.running,
        "wanted": part.wanted,
        "message": briefly(part.message),
    }


def quarantine_document(quarantine: Quarantine) -> QuarantineDocument:
    """Why a release was set aside, as JSON."""
    return {
        "stage": quarantine.stage,
        "reason": quarantine.reason,
        "message": quarantine.message,
        "log_tail": quarantine.log_tail,
        "at": iso(quarantine.at),
    }


def quarantined_document(quarantine: Quarantine) -> QuarantinedDocument:
    """Which release was set aside and why, as JSON."""
    return {**_named(quarantine.subject), **quarantine_document(quarantine), "weights": None}


def refused_weights_document(refused: WeightsQuarantine) -> QuarantinedDocument:
    """Which weights failed with which release and why, as JSON."""
    return {
        **_named(refused.release),
        "stage": "weights",
        "reason": refused.reason,
        "message": refused.message,
        "log_tail": refused.log_tail,
        "at": iso(refused.at),
        "weights": str(refused.weights),
    }


def _named(subject: Tracked) -> _Named:
    return {
        "pipeline": subject.name,
        "version": str(subject.version),
        "digest": subject.digest,
    }


# -- conditions and events -----------------------------------------------------------------------


@documented
class ConditionDocument(TypedDict):
    """Something that stands in the way of something, or is worth knowing (`ok`)."""

    subject: str
    """A release, a pipeline, a source, a file, `ray`, `config`, `serve config`, `api`."""
    reason: str
    message: str
    ok: bool
    since: str


@documented
class EventDocument(TypedDict):
    """Something that happened."""

    at: str
    subject: str
    reason: str
    message: str
    fields: dict[str, Any]
    """What else is known, such as `phase`, `digest`, `placement`, `by`."""


def condition_document(condition: Condition, since: float) -> ConditionDocument:
    """A condition as JSON."""
    return {
        "subject": condition.subject,
        "reason": condition.reason,
        "message": condition.message,
        "ok": condition.ok,
        "since": iso(since),
    }


def event_document(event: Event) -> EventDocument:
    """An event as JSON."""
    return {
        "at": iso(event.at),
        "subject": event.subject,
        "reason": event.reason,
        "message": event.message,
        "fields": dict(event.fields),
    }


# -- what operators ordered ----------------------------------------------------------------------


@documented
class SuspensionDocument(TypedDict):
    """Nothing changes on the cluster for a pipeline, or at all."""

    pipeline: str
    """Empty: everything."""
    by: str
    note: str
    at: str


@documented
class PinDocument(SuspensionDocument):
    """Exactly these versions of a pipeline are served, whatever the configuration says."""

    versions: list[str]


@documented
class OverridesDocument(TypedDict):
    """What operators ordered by command and nobody lifted since."""

    pins: list[PinDocument]
    suspensions: list[SuspensionDocument]
    weights: list[PinDocument]
    """Pins of weights: the versions are theirs."""


def suspension_document(order: Pin | Suspension) -> SuspensionDocument:
    """A suspension as JSON."""
    return {"pipeline": order.pipeline, "by": order.by, "note": order.note, "at": iso(order.at)}


def pin_document(pin: Pin) -> PinDocument:
    """A pin as JSON."""
    return {**suspension_document(pin), "versions": [str(version) for version in pin.versions]}


def overrides_document(overrides: Overrides) -> OverridesDocument:
    """Everything that was ordered, as JSON."""
    return {
        "pins": [pin_document(pin) for pin in overrides.pins.values()],
        "suspensions": [suspension_document(order) for order in overrides.suspensions.values()],
        "weights": [pin_document(pin) for pin in overrides.weights.values()],
    }
