"""How fast requests are sent: at once, until the service refuses some as too many.

From then on at the rate that botocore's adaptive limiter finds, a token bucket whose rate follows
CUBIC. It is put together here with a monotonic clock: botocore's own handler stands still for as
long as the wall clock is set back (docs/adr/0013-the-pace-of-requests.md). Nothing is sent before
the time that a refusal asked for. No request waits longer than `LONGEST_WAIT`, nor after the source
was closed.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from botocore.exceptions import CapacityNotAvailableError
from botocore.retries.adaptive import ClientRateLimiter, RateClocker
from botocore.retries.bucket import Clock, TokenBucket
from botocore.retries.throttling import CubicCalculator

if TYPE_CHECKING:
    from collections.abc import Callable

FORGIVEN = 60.0
"""Seconds after the last refusal until requests go at once again."""
SLOWEST = 1.0
"""Requests a second that are sent however many were refused."""
LONGEST_WAIT = 10.0
"""Most seconds that a request waits for its turn; one that would wait longer is given up."""
_STEP = 0.02
"""Seconds between two attempts at a token by the request whose turn it is."""


class _Monotonic(Clock):
    current_time = staticmethod(time.monotonic)


class _Told:
    """The detector of refusals: `learn` is told of them."""

    @staticmethod
    def is_throttling_error(*, refused: bool) -> bool:
        return refused


class RateLimiter:
    """The pace of all requests of one source. Any method may be called from any thread.

    Args:
        closing: set when the source ends; no request waits any more then.
        clock: monotonic seconds, by which the time is kept that a refusal asked for.
    """

    def __init__(
        self, closing: threading.Event, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._closing = closing
        self._clock = clock
        self._mutex = threading.Lock()
        self._turn = threading.Lock()  # held by the one request that is next
        self._refused_at = self._not_before = float("-inf")
        self._begin()

    @property
    def wait(self) -> float:
        """Seconds for which the service asked to be left alone."""
        return max(0.0, self._not_before - self._clock())

    def acquire(self) -> bool:
        """Wait until a request may be sent.

        False when it may not: its turn does not come within `LONGEST_WAIT`, or the source ended.
        """
        deadline = time.monotonic() + LONGEST_WAIT
        if self.wait > LONGEST_WAIT or not self._turn.acquire(timeout=LONGEST_WAIT):
            return False
        try:
            waited_for = float("-inf")
            while (remaining := deadline - time.monotonic()) > self.wait:
                if self._not_before > waited_for:
                    waited_for, pause = self._not_before, self.wait
                elif self._take_token():
                    return True
                else:
                    pause = min(remaining, _STEP)
                if self._closing.wait(pause):
                    break
            return False
        finally:
            self._turn.release()

    def learn(self, *, refused: bool, retry_after: float | None = None) -> None:
        """Take an answer into account: whether its request was `refused` as one too many, and the
        seconds that it asked to wait.
        """
        with self._mutex:
            if refused:
                self._refused_at = self._clock()
                self._not_before = max(self._not_before, self._refused_at + (retry_after or 0.0))
            self._limiter.on_receiving_response(refused=refused)

    def _take_token(self) -> bool:
        """Whether a request may be sent by the rate; it counts as sent then."""
        with self._mutex:
            if self._refused_at == float("-inf"):
                return True
            if self._clock() - self._refused_at > FORGIVEN:
                self._refused_at = float("-inf")
                self._begin()
                return True
            try:
                self._bucket.acquire(block=False)
            except CapacityNotAvailableError:
                return False
            return True

    def _begin(self) -> None:
        clock = _Monotonic()
        self._bucket = TokenBucket(max_rate=SLOWEST, clock=clock, min_rate=SLOWEST)
        self._limiter = ClientRateLimiter(
            rate_adjustor=CubicCalculator(starting_max_rate=0, start_time=clock.current_time()),
            rate_clocker=RateClocker(clock),
            token_bucket=self._bucket,
            throttling_detector=_Told(),
            clock=clock,
        )
