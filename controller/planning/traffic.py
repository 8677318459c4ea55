"""What a gateway counted of a version's requests, and what can be said by it.

Latencies come as a histogram, so a percentile is known as the two bounds of a bucket. They lie a
factor of 2 to 5 apart: interpolation between them, as Prometheus does it, would tell 24 ms from
26 as 25 from 50. So nothing is said here that does not hold for all latencies within the buckets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Self

BOUNDS: Final = (5, 10, 25, 50, 100, 250, 500, 1000, 5000)
"""Upper bounds of the buckets, in milliseconds, each included; one more has what is above."""
PERCENTILE: Final = 99

_CERTAIN: Final = 1e-5
"""The chance of a false alarm, of one look. A rollout takes some thousand."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Requests of one version since some moment: as a gateway has them, or of a step alone."""

    requests: int = 0
    errors: int = 0
    """Those of them that ended with a status of 500 or above."""
    buckets: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    """Those of them whose latency was counted, by `BOUNDS`."""

    def __post_init__(self) -> None:
        figures = (self.requests, self.errors, *self.buckets)
        if len(self.buckets) != len(BOUNDS) + 1 or min(figures) < 0:
            raise ValueError(f"{self} are no counters of {len(BOUNDS) + 1} buckets, each 0 or more")

    def __add__(self, other: Counters) -> Counters:
        both = zip(self.buckets, other.buckets, strict=True)
        return Counters(
            self.requests + other.requests,
            self.errors + other.errors,
            tuple(one + another for one, another in both),
        )

    def since(self, former: Counters) -> Counters:
        """What came after `former` was read. Counters that fell began anew from nothing: what came
        between that and `former` nobody knows.
        """
        both = list(zip(self.buckets, former.buckets, strict=True))
        requests, errors = self.requests - former.requests, self.errors - former.errors
        buckets = tuple(now - before for now, before in both)
        if min(requests, errors, *buckets) < 0:
            return self
        return Counters(requests, errors, buckets)

    @classmethod
    def read(cls, document: object) -> Self:
        """Of plain data, as `dataclasses.asdict` makes it.

        Raises:
            ValueError: it is nothing of the kind.
        """
        if not isinstance(document, dict) or document.keys() != {"requests", "errors", "buckets"}:
            raise ValueError(f"{document!r} are no counters")
        buckets = document["buckets"]
        figures = [document["requests"], document["errors"]]
        figures += buckets if isinstance(buckets, list | tuple) else [None]
        if not all(type(figure) is int for figure in figures):
            raise ValueError(f"{document!r} are no counters: each must be a whole number")
        return cls(figures[0], figures[1], tuple(figures[2:]))

    @property
    def error_rate(self) -> float:
        """The share of requests that failed, 0 to 1."""
        return min(self.errors / self.requests, 1.0) if self.requests else 0.0

    @property
    def measured(self) -> int:
        """Requests whose latency is known."""
        return sum(self.buckets)

    def percentile(self) -> tuple[float, float]:
        """The bounds, in milliseconds, between which the 99th percentile lies; the lower excluded.

        Raises:
            ValueError: there are no latencies.
        """
        rank = math.ceil(self.measured * PERCENTILE / 100)
        below = 0
        for count, bounds in zip(self.buckets, _BETWEEN, strict=True):
            below += count
            if below >= rank > 0:
                return bounds
        raise ValueError("no request has a latency yet")

    def slower_than(self, milliseconds: float) -> int:
        """How many requests took longer than this for certain."""
        pairs = zip(self.buckets, _BETWEEN, strict=True)
        return sum(count for count, (above, _) in pairs if above >= milliseconds)


_BETWEEN: Final[tuple[tuple[float, float], ...]] = tuple(
    zip((0, *BOUNDS), (*BOUNDS, math.inf), strict=True)
)


def surely_more(hits: int, total: int, share: float) -> bool:
    """Whether more than `share` of requests are hit in the long run, as far as `total` can tell.

    By Chernoff's bound on the binomial tail: were it not so, these or more hits would have a chance
    of less than 1 in 100,000. Three of three are, and 12 of 200 at a share of 0.01.
    """
    if not total or hits <= share * total:
        return False
    if share <= 0:
        return True
    seen = min(hits / total, 1.0)
    rest = (1 - seen) * math.log((1 - seen) / (1 - share)) if seen < 1 else 0.0
    return total * (seen * math.log(seen / share) + rest) > -math.log(_CERTAIN)


def surely_slower(new: Counters, former: Counters, ratio: float) -> bool:
    """Whether the 99th percentile of `new` is more than `ratio` times that of `former`, whatever
    the latencies within their buckets are. With a ratio of 1.5 that never holds below 1.5, and
    always above 5, of percentiles above 5 ms and up to 500.
    """
    if not former.measured:
        return False
    _, most = former.percentile()
    slow = new.slower_than(ratio * most)
    return surely_more(slow, new.measured, 1 - PERCENTILE / 100)
