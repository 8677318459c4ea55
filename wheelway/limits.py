"""What a release takes upon itself; may change while it serves."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Limits:
    """What a release takes upon itself; may change while it serves."""

    max_request_bytes: int = 16 * 1024**2
    """Bytes of a request's body; beyond it 413."""
    request_timeout: float = 60.0
    """Seconds from the request's headers to its result; beyond it 504."""
    max_ongoing_requests: int = 100
    """Requests in the pipeline at the same time."""
    max_queued_requests: int = 200
    """Requests waiting beyond these; one more is answered 503."""

    @property
    def capacity(self) -> int:
        """Requests that may be in flight at all."""
        return self.max_ongoing_requests + self.max_queued_requests


def limits_of(user_config: Mapping[str, Any]) -> Limits:
    """`user_config["limits"]`; what it does not name keeps its default."""
    given = user_config.get("limits") or {}
    return Limits(
        **{f.name: given[f.name] for f in fields(Limits) if given.get(f.name) is not None}
    )
