"""What a release takes upon itself, and whether most of what it takes fails."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Limits:
    """What a release takes upon itself; may change while it serves."""

    max_request_bytes: int = 16 * 1024**2
    """Bytes of a request's body; beyond it 413."""
    request_timeout: float = 60.0
    """Seconds from the request's headers to its result, of a stream to its first item; beyond it
    504."""
    stream_timeout: float = 60.0
    """Seconds between two items of a stream, or for a client to take one."""
    max_ongoing_requests: int = 100
    """Requests in the pipeline at the same time."""
    max_queued_requests: int = 200
    """Requests waiting beyond these; one more is answered 503."""
    max_batch_size: int = 32
    """Requests that `infer_batch` is given at once. Most of what a model gains by batches it has
    gained by then, a batch's failure hurts no more than these, and of 100 that run two more such
    batches can wait."""
    batch_wait_timeout: float = 0.0
    """Seconds that a request may wait for others to come into its batch."""
    parts: Mapping[str, Limits] = field(default_factory=dict)
    """Those of its parts that run inline, by name: of their batches, as calls are not counted."""

    @property
    def capacity(self) -> int:
        """Requests that may be in flight at all."""
        return self.max_ongoing_requests + self.max_queued_requests


def limits_of(user_config: Mapping[str, Any]) -> Limits:
    """`user_config["limits"]`; what it does not name keeps its default."""
    given = user_config.get("limits") or {}
    said = {f.name: given[f.name] for f in fields(Limits) if given.get(f.name) is not None}
    parts = {name: limits_of({"limits": one}) for name, one in said.get("parts", {}).items()}
    return Limits(**{**said, "parts": parts})


_LAST = 10
"""Requests that are remembered: no clock, so that a release that is rarely asked is judged too."""
_BEGINS, _ENDS = 5, 2
"""Failures among them from which on it fails, and down to which it does not any more."""
_ALL = (1 << _LAST) - 1


class Outcomes:
    """Whether most requests of a replica fail, at next to no cost for those that do not.

    Only requests that reached the pipeline count, not those that it was right to refuse.
    """

    def __init__(self) -> None:
        self.failing = ""
        """For a person: that most of the latest failed, and how they began to; empty when not.
        Stays the same for as long as it lasts."""
        self.recent = 0
        """A bit for each, the latest lowest, set where it failed."""

    def succeeded(self) -> None:
        """Count a request that was answered; need not be called while `recent` is 0."""
        self.recent = self.recent << 1 & _ALL
        if self.failing and self.recent.bit_count() <= _ENDS:
            self.failing = ""

    def failed(self, reason: str) -> None:
        """Count a request that failed; `reason` is that of its answer."""
        self.recent = (self.recent << 1 | 1) & _ALL
        if not self.failing and self.recent.bit_count() >= _BEGINS:
            self.failing = f"half of its last {_LAST} requests failed, or more; last as {reason}"
