"""What comes out of the journal, and how values that are more than columns are written as text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from controller.model import Availability, Condition, Listing, Phase, Refusal, Release, Revision

if TYPE_CHECKING:
    from collections.abc import Mapping


OVER = (Phase.RETIRED, Phase.SUPERSEDED)
"""Phases of releases that only tell of the past."""


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """How far a release has come, and when it got there."""

    release: Release
    phase: Phase
    reason: str
    message: str
    source: str
    """The source that listed it; empty when it was found running."""
    placement: str
    """Its latest Serve application's name; empty before it had one."""
    since: float
    """When it entered the present phase, seconds since the epoch."""
    times: Mapping[Phase, float]
    """When each phase was first reached."""

    @property
    def over(self) -> bool:
        """Whether it only tells of the past."""
        return self.phase in OVER


@dataclass(frozen=True, slots=True)
class AppliedConfig:
    """One Serve config that was sent. Its text: `Reader.config(digest)`."""

    at: float
    digest: str
    cause: str
    kept: bool
    """Whether the text is still there: only those of the last configs are."""
    outcome: str
    """`Applied`; `Sending` while nothing came back, which stays when the daemon was killed then;
    else the reason for which it was refused, or for which nobody knows (a time-out)."""


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The last pass of the last daemon: written after every pass, so its age says who is alive."""

    number: int
    """Of the pass, counted since `started_at`."""
    at: float
    """When the pass ended, seconds since the epoch."""
    sentence: str
    duration: float
    """Seconds."""
    pid: int
    version: str
    started_at: float


def listing_text(listing: Listing) -> str:
    """A listing as JSON; equal listings give equal texts.

    Keys are only ever added; those that earlier versions did not write are left out when empty.
    """
    document: dict[str, Any] = {
        "source": listing.source,
        "revisions": [_revision(revision) for revision in listing.revisions],
        "refused": [_refusal(item) for item in listing.refused],
        "pending": [_refusal(item) for item in listing.pending],
    }
    if listing.unobserved:
        document["unobserved"] = listing.unobserved
    if listing.notes:
        document["notes"] = [_refusal(item) | {"ok": item.ok} for item in listing.notes]
    return json.dumps(document, separators=(",", ":"), sort_keys=True)


def listing_of(text: str) -> Listing:
    """The inverse of `listing_text`."""
    data: dict[str, Any] = json.loads(text)
    return Listing(
        source=data["source"],
        revisions=tuple(map(_revision_of, data["revisions"])),
        refused=tuple(Refusal(**item) for item in data["refused"]),
        pending=tuple(Refusal(**item) for item in data["pending"]),
        unobserved=tuple(data.get("unobserved", ())),
        notes=tuple(Condition(**item) for item in data.get("notes", ())),
    )


def _revision_of(item: dict[str, Any]) -> Revision:
    """The inverse of `_revision`."""
    version, availability = Version(item["version"]), Availability(item["standing"])
    others = {key: value for key, value in item.items() if key != "standing"}
    return Revision(**others | {"version": version, "availability": availability})


def _revision(revision: Revision) -> dict[str, Any]:
    document = {
        "source": revision.source,
        "project": revision.project,
        "version": str(revision.version),
        "filename": revision.filename,
        "locator": revision.locator,
        "sha256": revision.sha256,
        "size": revision.size,
        "standing": revision.availability.value,
    }
    return document | {"note": revision.note} if revision.note else document


def _refusal(refusal: Refusal | Condition) -> dict[str, Any]:
    return {
        "subject": refusal.subject,
        "reason": refusal.reason,
        "message": refusal.message,
    }
