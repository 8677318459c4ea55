"""The values of the journal as JSON, the same in every `--json`.

Keys are only ever added. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.cli.output import iso

if TYPE_CHECKING:
    from controller.journal import ReleaseRecord
    from controller.model import JSON, Condition, Event, Quarantine


def release_document(record: ReleaseRecord, quarantine: Quarantine | None) -> JSON:
    """A release as JSON: pipeline, version, digest, phase, reason, message, since, route (where
    it answers once it is Live), placement and source ("" when not known), times (phase: when it
    was first reached), quarantine (null, or stage, reason, message, log_tail, at).
    """
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
        "quarantine": quarantine and quarantine_document(quarantine),
    }


def quarantine_document(quarantine: Quarantine) -> JSON:
    """A quarantine as JSON: stage, reason, message, log_tail, at."""
    return {
        "stage": quarantine.stage,
        "reason": quarantine.reason,
        "message": quarantine.message,
        "log_tail": quarantine.log_tail,
        "at": iso(quarantine.at),
    }


def condition_document(condition: Condition, since: float) -> JSON:
    """A condition as JSON: subject, reason, message, ok, since."""
    return {
        "subject": condition.subject,
        "reason": condition.reason,
        "message": condition.message,
        "ok": condition.ok,
        "since": iso(since),
    }


def event_document(event: Event) -> JSON:
    """An event as JSON: at, subject, reason, message, fields."""
    return {
        "at": iso(event.at),
        "subject": event.subject,
        "reason": event.reason,
        "message": event.message,
        "fields": dict(event.fields),
    }
