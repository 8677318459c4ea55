"""How many requests each application gets and how quickly it answers, by Ray's metrics.

It comes from one histogram of the replicas, `ray_serve_deployment_processing_latency_ms`
(docs.ray.io, "Serve metrics"), at the addresses that the dashboard names. A rate takes two samples.
Ray counts up every ten seconds, so a window is longer than that.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from controller.errors import WheelwayError
from controller.exchange import answer, own_client

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from controller.serve.dashboard import Dashboard

HISTOGRAM: Final = "ray_serve_deployment_processing_latency_ms"
WINDOW: Final = 30.0
"""Seconds between the two samples; fewer while there are none that far apart."""
SHORTEST: Final = 10.0
"""Seconds between Ray's own counts, by its default (RAY_metrics_report_interval_ms)."""
TIMEOUT: Final = 3.0
_LIMIT: Final = 64 * 2**20
"""Bytes of one page; each replica adds some ten thousand."""
FRESH: Final = 60.0
"""Seconds until the addresses are asked for again."""

_LINE = re.compile(rf"^{HISTOGRAM}_bucket\{{.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Flow:
    """What one application did lately."""

    requests_per_second: float
    p50: float | None
    """Seconds; None when there was no request."""


class _Sample(NamedTuple):
    at: float
    """On the monotonic clock."""
    applications: Mapping[str, Mapping[float, float]]
    """By application: how many requests took at most so many milliseconds, since its replicas
    began; infinity for all."""


class Traffic:
    """The traffic of one cluster, for one thread. Never raises: what cannot be read is absent."""

    def __init__(
        self, dashboard: Dashboard, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._dashboard = dashboard
        self._clock = clock
        self._client = own_client()
        self._targets: tuple[str, ...] = ()
        self._targets_at = float("-inf")
        self._samples: deque[_Sample] = deque()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def poll(self, parts: Collection[tuple[str, str]] = ()) -> Mapping[str, Flow]:
        """What happened since an earlier call, by application. Nothing at the first.

        `parts` names deployments whose calls are no requests, each by application and name.
        """
        at = self._clock()
        urls = [f"http://{target}/metrics" for target in self._discovered(at)]
        pages = [answer(self._client, url, seconds=TIMEOUT, limit=_LIMIT) for url in urls]
        texts = [page.text for page in pages if page is not None and page.is_success]
        if not any(HISTOGRAM in text for text in texts):
            self._samples.clear()
            self._targets_at = float("-inf")
            return {}
        self._samples.append(_Sample(at, _counts(texts, parts)))
        while len(self._samples) > 1 and at - self._samples[1].at >= WINDOW:
            self._samples.popleft()
        first, last = self._samples[0], self._samples[-1]
        if last.at - first.at < SHORTEST:
            return {}
        return {
            name: _flow(first.applications.get(name, {}), buckets, last.at - first.at)
            for name, buckets in last.applications.items()
        }

    def _discovered(self, at: float) -> tuple[str, ...]:
        if at - self._targets_at >= FRESH:
            try:
                self._targets = self._dashboard.metrics_targets()
            except WheelwayError:  # `watching` tells that the dashboard is away
                self._targets = ()
            self._targets_at = at
        return self._targets


def _counts(
    texts: Iterable[str], parts: Collection[tuple[str, str]]
) -> dict[str, dict[float, float]]:
    """The histogram's buckets, summed over the replicas. A page has thousands of other lines."""
    found: dict[str, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for text in texts:
        page = "\n".join([f"# TYPE {HISTOGRAM} histogram", *_LINE.findall(text), ""])
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                application = sample.labels.get("application", "")
                if (application, sample.labels.get("deployment", "")) in parts:
                    continue
                found[application][float(sample.labels["le"])] += sample.value
    return found


def _flow(before: Mapping[float, float], after: Mapping[float, float], seconds: float) -> Flow:
    # A replica that is gone took its counts along: then there is less than before.
    lately = {bound: max(0.0, count - before.get(bound, 0.0)) for bound, count in after.items()}
    total = lately.get(float("inf"), 0.0)
    return Flow(total / seconds, _median(lately, total))


def _median(lately: Mapping[float, float], total: float) -> float | None:
    """In seconds, between the bounds of its bucket as Prometheus's histogram_quantile does it."""
    if total <= 0:
        return None
    low, below = 0.0, 0.0
    for bound, count in sorted(lately.items()):
        if count >= total / 2:
            if bound == float("inf"):
                return low / 1000
            share = (total / 2 - below) / (count - below) if count > below else 1.0
            return (low + (bound - low) * share) / 1000
        low, below = bound, count
    return None
