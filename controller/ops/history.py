"""What `history` tells: what happened, and every Serve config that was sent, with its cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from typing_extensions import TypedDict

from controller.ops.documents import EventDocument, documented, event_document
from controller.ops.names import require_pipeline
from controller.ops.times import iso

if TYPE_CHECKING:
    from controller.journal import Reader


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


def tell(reader: Reader, name: str | None, limit: int) -> HistoryDocument:
    """The last events, of all or of one pipeline, and the last configs that changed it.

    Raises:
        WheelwayError: the name is that of a project of weights ("NameUnknown").
    """
    with reader.snapshot():
        since = reader.knows_since()
        if name is None:
            events, configs = reader.events(limit=limit), reader.configs(limit)
        else:
            require_pipeline(reader, name, "wheelway history NAME")
            pipeline = canonicalize_name(name)
            events = reader.events(pipeline=pipeline, limit=limit)
            placements = {str(event.fields.get("placement", "")) for event in events}
            placements |= {record.placement for record in reader.releases(pipeline)}
            placements.discard("")
            # Many configs are about others; look through enough of them.
            found = reader.configs(limit=20 * limit)
            about = [c for c in found if any(placement in c.cause for placement in placements)]
            configs = about[-limit:]
    return {
        "events": [event_document(event) for event in events],
        "configs": [
            {
                "at": iso(applied.at),
                "digest": applied.digest,
                "cause": applied.cause,
                "outcome": applied.outcome,
                "kept": applied.kept,
            }
            for applied in configs
        ],
        "since": None if since is None else iso(since),
    }
