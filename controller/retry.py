"""How long to wait before trying again: capped, exponential, with full jitter.

The shape is "full jitter" of https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from controller.errors import without_frames

if TYPE_CHECKING:
    from controller.errors import WheelwayError

BASE = 1.0
CAP = 300.0
ASKED_CAP = 3600.0
"""Most seconds that another side may ask for; some say years, or a broken clock's date."""


def delay(
    attempt: int,
    *,
    jitter: float,
    retry_after: float | None = None,
    base: float = BASE,
    cap: float = CAP,
) -> float:
    """Seconds to wait after the `attempt`-th failure in a row (1 is the first).

    `jitter` is uniform in [0, 1). What the other side asked for (`retry_after`, seconds) is the
    least that is waited, up to `ASKED_CAP`; at most `cap` is added to it. Half of the exponential
    part is fixed, so that a failure never becomes a busy loop.
    """
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    ceiling = min(cap, base * 2.0 ** min(attempt - 1, 32))
    return min(retry_after or 0.0, ASKED_CAP) + ceiling * (0.5 + jitter / 2)


@dataclass(frozen=True, slots=True)
class Failure:
    """What failed last, and when it may be tried again."""

    error: WheelwayError
    count: int
    """Failures in a row."""
    retry_at: float
    """By the clock of whoever tries."""


def failed(
    error: WheelwayError, before: Failure | None, *, now: float, jitter: float, cap: float = CAP
) -> Failure:
    """The record of one more failure in a row; its wait is that of `delay`."""
    count = before.count + 1 if before else 1
    wait = delay(count, jitter=jitter, retry_after=error.retry_after, cap=cap)
    return Failure(without_frames(error), count, now + wait)


def asked_for(retry_after: str, *, now: float, most: float = ASKED_CAP) -> float | None:
    """Seconds that a `Retry-After` header (RFC 9110, 10.2.3) asks for, in either form, at `most`.

    `now` is in seconds since the epoch. None when the header says nothing that can be understood.
    """
    said = retry_after.strip()
    if said.isascii() and said.isdigit():
        return min(float(said), most)
    try:
        return min(max(0.0, parsedate_to_datetime(said).timestamp() - now), most)
    except (ValueError, OverflowError):
        return None
