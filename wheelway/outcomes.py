"""Whether most requests of a replica fail, at next to no cost for those that do not."""

from __future__ import annotations

LAST = 10
"""Requests that are remembered: no clock, so that a release that is rarely asked is judged too."""
BEGINS, ENDS = 5, 2
"""Failures among them from which on it fails, and down to which it does not any more."""
_ALL = (1 << LAST) - 1


class Outcomes:
    """Of the requests that reached the pipeline; those that it was right to refuse do not count."""

    def __init__(self) -> None:
        self.failing = ""
        """For a person: that most of the latest failed, and how they began to; empty when not.
        Stays the same for as long as it lasts."""
        self.recent = 0
        """A bit for each, the latest lowest, set where it failed."""

    def succeeded(self) -> None:
        """Need not be called while `recent` is 0."""
        self.recent = self.recent << 1 & _ALL
        if self.failing and self.recent.bit_count() <= ENDS:
            self.failing = ""

    def failed(self, reason: str) -> None:
        """`reason` is that of the answer."""
        self.recent = (self.recent << 1 | 1) & _ALL
        if not self.failing and self.recent.bit_count() >= BEGINS:
            self.failing = f"half of its last {LAST} requests failed, or more; last as {reason}"
