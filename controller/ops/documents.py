"""The values of the journal as JSON, the same in every `--json` and in the API, and back.

Keys are only ever added. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Any, TypeVar

from packaging.version import Version
from typing_extensions import TypedDict

from controller.journal import ReleaseRecord
from controller.model import Condition, Event, Phase, Quarantine, Release
from controller.ops.times import iso, seconds
from controller.planning.overrides import Overrides, Pin, Suspension

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
    """inspect, wishes, prepare, stage, promote."""
    reason: str
    message: str
    log_tail: str
    """What it said last; may be empty."""
    at: str


@documented
class QuarantinedDocument(QuarantineDocument):
    """A release that was set aside, and why."""

    pipeline: str
    """For a wheel that could not be inspected, its project's name."""
    version: str
    digest: str


@documented
class ReleaseDocument(TypedDict):
    """A release, and how far it has come."""

    pipeline: str
    version: str
    digest: str
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


def release_document(record: ReleaseRecord, quarantine: Quarantine | None) -> ReleaseDocument:
    """A release as JSON."""
    release = record.release
    return {
        "pipeline": release.pipeline,
        "version": str(release.version),
        "digest": release.digest,
        "phase": record.phase.value,
        "reason": record.reason,
        "message": record.message,
        "since": iso(record.since),
        "route": release.route,
        "placement": record.placement,
        "source": record.source,
        "times": {phase.value: iso(at) for phase, at in record.times.items()},
        "quarantine": quarantine_document(quarantine) if quarantine else None,
    }


def release_of(document: ReleaseDocument) -> tuple[ReleaseRecord, Quarantine | None]:
    """The inverse of `release_document`."""
    release = Release(document["pipeline"], Version(document["version"]), document["digest"])
    record = ReleaseRecord(
        release=release,
        phase=Phase(document["phase"]),
        reason=document["reason"],
        message=document["message"],
        source=document["source"],
        placement=document["placement"],
        since=seconds(document["since"]),
        times={Phase(phase): seconds(at) for phase, at in document["times"].items()},
    )
    failed = document["quarantine"]
    return record, _quarantine_of(release, failed) if failed else None


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
    release = quarantine.release
    return {
        "pipeline": release.pipeline,
        "version": str(release.version),
        "digest": release.digest,
        **quarantine_document(quarantine),
    }


def quarantined_of(document: QuarantinedDocument) -> Quarantine:
    """The inverse of `quarantined_document`, but for the inputs, which stay in the journal."""
    version = Version(document["version"])
    return _quarantine_of(Release(document["pipeline"], version, document["digest"]), document)


def _quarantine_of(release: Release, document: QuarantineDocument) -> Quarantine:
    return Quarantine(
        release,
        document["stage"],
        document["reason"],
        document["message"],
        inputs="",
        log_tail=document["log_tail"],
        at=seconds(document["at"]),
    )


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


def condition_of(document: ConditionDocument) -> tuple[Condition, float]:
    """The inverse of `condition_document`."""
    about, why, said = document["subject"], document["reason"], document["message"]
    return Condition(about, why, said, ok=document["ok"]), seconds(document["since"])


def event_document(event: Event) -> EventDocument:
    """An event as JSON."""
    return {
        "at": iso(event.at),
        "subject": event.subject,
        "reason": event.reason,
        "message": event.message,
        "fields": dict(event.fields),
    }


def event_of(document: EventDocument) -> Event:
    """The inverse of `event_document`."""
    return Event(
        seconds(document["at"]),
        document["subject"],
        document["reason"],
        document["message"],
        document["fields"],
    )


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
    }


def pin_of(document: PinDocument) -> Pin:
    """The inverse of `pin_document`."""
    versions = tuple(Version(text) for text in document["versions"])
    at = seconds(document["at"])
    return Pin(document["pipeline"], versions, document["by"], document["note"], at)


def overrides_of(document: OverridesDocument) -> Overrides:
    """The inverse of `overrides_document`."""
    suspensions = (
        Suspension(item["pipeline"], item["by"], item["note"], seconds(item["at"]))
        for item in document["suspensions"]
    )
    return Overrides(
        {item["pipeline"]: pin_of(item) for item in document["pins"]},
        {order.pipeline: order for order in suspensions},
    )
