"""How far apart requests are: not at all until the service says that there are too many.

Each refusal doubles the gap between two requests, each success takes a twentieth off it. No request
is sent earlier than a refused one was told to come again. Pure but for the clock; who asks sleeps.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST = 0.05
"""Seconds of the first gap; one that shrank below half of it is none."""
LONGEST = 5.0
"""Seconds of the longest gap."""
RELIEF = 0.95
"""What a success leaves of the gap: after 14 of them half."""
ONE_EVENT = 1.0
"""Seconds within which further refusals are of requests sent before the first one came back."""


class RateLimiter:
    """The pace of all requests of one source. Any method may be called from any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._gap = 0.0
        self._next = float("-inf")
        self._widened = float("-inf")

    @property
    def gap(self) -> float:
        """Seconds between two requests now."""
        return self._gap

    def take(self, longest: float) -> tuple[float, bool]:
        """Ask to send a request: seconds to wait before it, and whether that is granted.

        A wait beyond `longest` is not granted and takes no place in the row.
        """
        with self._mutex:
            now = self._clock()
            at = max(now, self._next)
            if at - now > longest:
                return at - now, False
            if self._gap:
                self._next = at + self._gap
            return at - now, True

    def refused(self, retry_after: float | None = None) -> None:
        """The service refused a request as one too many; `retry_after` is in seconds."""
        with self._mutex:
            now = self._clock()
            if now - self._widened >= max(ONE_EVENT, self._gap):
                self._gap = min(LONGEST, max(FIRST, self._gap * 2))
                self._widened = now
            self._next = max(self._next, now + max(self._gap, retry_after or 0.0))

    def served(self) -> None:
        """The service took a request."""
        with self._mutex:
            self._gap = self._gap * RELIEF if self._gap > FIRST / 2 else 0.0
