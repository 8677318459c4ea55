"""What `history` tells: what happened, and every Serve config that was sent, with its cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from typing_extensions import TypedDict

from controller.journal import AppliedConfig
from controller.ops.documents import EventDocument, documented, event_document, event_of
from controller.ops.times import iso, seconds

if TYPE_CHECKING:
    from controller.journal import Reader
    from controller.model import Event


@dataclass(frozen=True, slots=True)
class History:
    """What happened, oldest first."""

    events: tuple[Event, ...]
    configs: tuple[AppliedConfig, ...]
    since: float | None = None
    """From when on it is known; None: from the beginning."""


def tell(reader: Reader, name: str | None, limit: int) -> History:
    """The last events, of all or of one pipeline, and the last configs that changed it."""
    if name is None:
        with reader.snapshot():
            events, configs = reader.events(limit=limit), reader.configs(limit)
            return History(tuple(events), tuple(configs), reader.knows_since())
    pipeline = canonicalize_name(name)
    with reader.snapshot():
        events = reader.events(pipeline=pipeline, limit=limit)
        placements = {str(event.fields.get("placement", "")) for event in events}
        placements |= {record.placement for record in reader.releases(pipeline)}
        # Many configs are about others; look through enough of them.
        configs, since = reader.configs(limit=20 * limit), reader.knows_since()
    placements.discard("")
    about = [c for c in configs if any(placement in c.cause for placement in placements)]
    return History(tuple(events), tuple(about[-limit:]), since)


# -- as a document -------------------------------------------------------------------------------


@documented
class AppliedConfigDocument(TypedDict):
    """A Serve config that was sent."""

    at: str
    digest: str
    cause: str
    outcome: str
    """Applied, Sending, or the reason for which it was refused."""
    kept: bool
    """Whether its text is still there."""


@documented
class HistoryDocument(TypedDict):
    """What happened, oldest first."""

    events: list[EventDocument]
    configs: list[AppliedConfigDocument]
    since: str | None
    """From when on it is known, what was before being forgotten; null: from the beginning."""


def as_document(told: History) -> HistoryDocument:
    """The history as JSON."""
    return {
        "events": [event_document(event) for event in told.events],
        "configs": [
            {
                "at": iso(applied.at),
                "digest": applied.digest,
                "cause": applied.cause,
                "outcome": applied.outcome,
                "kept": applied.kept,
            }
            for applied in told.configs
        ],
        "since": iso(told.since) if told.since is not None else None,
    }


def from_document(document: HistoryDocument) -> History:
    """The inverse of `as_document`."""
    return History(
        tuple(event_of(item) for item in document["events"]),
        tuple(
            AppliedConfig(
                seconds(item["at"]), item["digest"], item["cause"], item["kept"], item["outcome"]
            )
            for item in document["configs"]
        ),
        seconds(since) if (since := document.get("since")) is not None else None,
    )
