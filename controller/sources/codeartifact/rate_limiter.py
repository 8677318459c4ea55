"""How fast requests are sent: at once, until the service refuses some as too many.

From then on at the rate that botocore's adaptive limiter finds, a token bucket whose rate follows
CUBIC. It is put together here with a monotonic clock: botocore's own handler stands still for as
long as the wall clock is set back, and so does whoever closes the source
(docs/adr/0013-the-pace-of-requests.md). Nothing is sent before the time that a refusal asked for.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from botocore.retries.adaptive import ClientRateLimiter, RateClocker
from botocore.retries.bucket import Clock, TokenBucket
from botocore.retries.standard import RetryEventAdapter, ThrottlingErrorDetector
from botocore.retries.throttling import CubicCalculator

if TYPE_CHECKING:
    from collections.abc import Callable

FORGIVEN = 60.0
"""Seconds after the last refusal until requests go at once again."""
SLOWEST = 1.0
"""Requests a second that are sent however many were refused."""
_UNBOUNDED = 1e6


class _Monotonic(Clock):
    current_time = staticmethod(time.monotonic)


class RateLimiter:
    """The pace of all requests of one source. Any method may be called from any thread.

    `clock` is in seconds, monotonic; it counts the waits that an answer asks for.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._refused_at = self._not_before = float("-inf")
        self._begin()

    @property
    def wait(self) -> float:
        """Seconds for which the service asked to be left alone."""
        return max(0.0, self._not_before - self._clock())

    def acquire(self) -> None:
        """Wait until a request may be sent."""
        with self._mutex:
            if self._refused_at > float("-inf") and self._clock() - self._refused_at > FORGIVEN:
                self._refused_at = float("-inf")
                self._begin()
        self._limiter.on_sending_request(None)

    def learn(self, answer: Any, *, refused: bool, retry_after: float | None = None) -> None:
        """Take an answer into account: what botocore's `needs-retry` event has of it, whether it
        was `refused` as one request too many, and the seconds that it asked to wait.
        """
        with self._mutex:
            if refused:
                self._refused_at = self._clock()
                self._not_before = max(self._not_before, self._refused_at + (retry_after or 0.0))
        self._limiter.on_receiving_response(**answer)

    def close(self) -> None:
        """Let go of every request that waits."""
        self._bucket.max_rate = _UNBOUNDED

    def _begin(self) -> None:
        clock = _Monotonic()
        self._bucket = TokenBucket(max_rate=SLOWEST, clock=clock, min_rate=SLOWEST)
        self._limiter = ClientRateLimiter(
            rate_adjustor=CubicCalculator(starting_max_rate=0, start_time=clock.current_time()),
            rate_clocker=RateClocker(clock),
            token_bucket=self._bucket,
            throttling_detector=ThrottlingErrorDetector(retry_event_adapter=RetryEventAdapter()),
            clock=clock,
        )
