"""What Prometheus may read of the daemon: counted pass by pass, and read from the journal when it
is asked for.

Names and units follow https://prometheus.io/docs/practices/naming/. Of labels whose values come
from outside there is one, `pipeline`, and what is gone is dropped; all others have a fixed
vocabulary or are names out of the configuration. `observability/` has a dashboard and alert rules
made of these names: a name is changed there as well, and in docs/operating.md.
"""

from __future__ import annotations

import platform
import shutil
import threading
import time
from collections import Counter as Tally
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controller.cache.usage import usage
from controller.errors import Rejected, WheelwayError, class_of
from controller.model import Phase, named
from controller.planning.policy import UNDECIDED
from controller.reconcile.assembly import MEASURE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from controller.journal import Reader, ReleaseRecord
    from controller.model import Event
    from controller.reconcile.assembly import Assembly
    from controller.reconcile.report import Report

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
"""Of what `Metrics.render` returns."""

MEASURE_FIRST: Final = 60.0
MEASURE_EVERY: Final = 900.0
"""Seconds until the cache's size is taken, and between two times: every file is looked at."""

STEPS: Final = ("noticed", "fetched", "prepared", "staged", "promoted")
"""From published to live, each named for what had happened at its end."""

_PASS_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_RELEASE_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 30, 60, 120, 300, 900)
_OVER: Final = {Phase.RETIRED, Phase.SUPERSEDED}
_PARKED: Final = {"Verified", "Preparing", UNDECIDED}
"""Reasons of a fetched release that goes on; by any other, policy left it where it was."""


class Metrics:
    """One daemon's metrics. `observe` is for the thread that makes passes, `render` for any."""

    def __init__(
        self,
        journal: Reader,
        *,
        version: str,
        cache: Path,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`journal` says what there is, whenever it is asked for; `version` is wheelway's, `cache`
        the cache's folder at first.
        """
        # One series more for each counter, with the time of its first increment: nobody reads them.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # as the library has it
        self.registry = registry or CollectorRegistry()
        self._journal = journal
        self._clock = clock
        self._monotonic = monotonic
        self._began = clock()
        self._counted = _Counted(self.registry)
        self._waits = _Waits(self.registry)
        self._counted.free.set(_free(cache))
        self._counted.recorded.set(1)
        self._measure_at = monotonic() + MEASURE_FIRST
        self._measured: object = None
        self._seen: Tally[tuple[object, ...]] = Tally()
        self._pipelines: set[str] = set()
        self._rendering = threading.Lock()
        Info("wheelway_build", "The daemon that runs.", registry=self.registry).info(
            {"version": version, "python_version": platform.python_version()}
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(_Present(journal))

    def observe(
        self,
        report: Report,
        assembly: Assembly,
        *,
        duration: float,
        notifications: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        """Count a pass.

        Args:
            report: what it found.
            assembly: the parts that made it.
            duration: seconds that it took.
            notifications: sent and dropped so far, by name and result.

        Raises:
            WheelwayError: the journal cannot be read.
        """
        counted = self._counted
        counted.passes.labels(_result(report)).inc()
        counted.duration.observe(duration)
        counted.last.set(self._clock())
        if not report.failed:
            counted.reachable.set(report.plan is not None)
        if report.tried:
            result = "refused" if isinstance(report.error, Rejected) else "failed"
            counted.puts.labels("applied" if report.error is None else result).inc()
        work = "put" if report.tried else "observe"
        if report.error is not None:
            counted.errors.labels(work, class_of(report.error)).inc()
        if report.retried:
            counted.retries.labels(work).inc()
        self._follow(assembly, notifications or {})
        self._measure(assembly)
        for event in report.events:
            if event.fields.get("phase") == Phase.LIVE:
                self._went_live(event, assembly)

    def recorded(self, *, well: bool) -> None:
        """Whether the last pass could be written down."""
        self._counted.recorded.set(well)

    def render(self) -> bytes:
        """All metrics in Prometheus's text format, to be sent as `CONTENT_TYPE`."""
        try:
            present = {pipeline for pipeline, _ in _current(self._journal)}
        except WheelwayError:  # then it is not known what is gone
            present = self._pipelines
        with self._rendering:
            for gone in self._pipelines - present:
                self._waits.to_live.remove(gone)
                self._pipelines.discard(gone)
        return generate_latest(self.registry)

    # -- the parts -------------------------------------------------------------------------------

    def _follow(self, assembly: Assembly, notifications: Mapping[tuple[str, str], int]) -> None:
        """Add what others counted since the pass before: each of them begins at zero."""
        jobs, sources, counted = assembly.jobs, assembly.artifacts.sources, self._counted
        present = {"notifications", jobs, *sources.values()}
        self._seen = Tally({key: count for key, count in self._seen.items() if key[0] in present})
        counts = jobs.counts()
        for (work, kind), count in counts.errors.items():
            counted.errors.labels(work, kind).inc(self._new(count, jobs, "errors", work, kind))
        for work, count in counts.retries.items():
            counted.retries.labels(work).inc(self._new(count, jobs, "retries", work))
        for name, source in sources.items():
            for call, count in source.calls.items():
                counted.calls.labels(name, call).inc(self._new(count, source, call))
        for (name, result), count in notifications.items():
            new = self._new(count, "notifications", name, result)
            counted.notifications.labels(name, result).inc(new)

    def _new(self, count: int, *key: object) -> int:
        before, self._seen[key] = self._seen[key], count
        return max(0, count - before)

    def _measure(self, assembly: Assembly) -> None:
        """The cache's size, taken by a job now and then."""
        root = assembly.reconciler.config.paths.cache
        self._counted.free.set(_free(root))
        if self._monotonic() >= self._measure_at:
            self._measure_at = self._monotonic() + MEASURE_EVERY
            assembly.jobs.rerun((MEASURE,), partial(usage, root))
        outcome = assembly.jobs.outcome((MEASURE,))
        if outcome is None or outcome.value is self._measured or outcome.value is None:
            return
        self._measured = outcome.value
        self._counted.cache.clear()
        for part, size in outcome.value.items():
            self._counted.cache.labels(part).set(size)

    def _went_live(self, event: Event, assembly: Assembly) -> None:
        """The seconds of a release that is live for the first time."""
        about = named(event.subject)
        if about is None or event.fields.get("before") == Phase.LIVE:
            return
        pipeline, _ = about
        records = self._journal.releases(pipeline)
        record = next((found for found in records if str(found.subject) == event.subject), None)
        if record is None or not self._came_straight(record, event):
            return
        published = assembly.artifacts.published_at.get(record.subject.digest)
        if published is not None and published < self._began:  # nobody was there to notice it
            published = None
        for step, seconds in steps(record.times, published):
            self._waits.step.labels(step).observe(seconds)
        begin = record.times[Phase.DISCOVERED] if published is None else published
        self._waits.to_live.labels(pipeline).observe(max(0.0, event.at - begin))
        self._pipelines.add(pipeline)

    def _came_straight(self, record: ReleaseRecord, event: Event) -> bool:
        """Whether nobody but the daemon was waited for: not one found running, mended by a person,
        or left aside by the policy for a while.
        """
        times = record.times
        if times.get(Phase.LIVE) != event.at or not {Phase.DISCOVERED, Phase.STAGED} <= set(times):
            return False
        about = record.subject
        story = self._journal.events(subject=str(about), pipeline=about.name)
        phases = {(told.fields.get("phase"), told.reason) for told in story}
        return all(
            phase != Phase.QUARANTINED and (phase != Phase.FETCHED or reason in _PARKED)
            for phase, reason in phases
        )


class _Counted:
    """What is counted pass by pass."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"wheelway_{name}", meaning, labels, registry=registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(f"wheelway_{name}", meaning, labels, registry=registry)

        self.passes = counter(
            "passes", "Passes by result: applied, unchanged, blind (no Ray), failed.", "result"
        )
        self.duration = Histogram(
            "wheelway_pass_duration_seconds",
            "Time that a pass took.",
            buckets=_PASS_BUCKETS,
            registry=registry,
        )
        self.last = gauge("last_pass_timestamp_seconds", "When the last pass ended.")
        self.reachable = gauge("ray_reachable", "Whether the last pass could observe Ray (1, 0).")
        self.puts = counter(
            "config_puts", "Serve configs sent, by result: applied, refused, failed.", "result"
        )
        self.errors = counter(
            "errors",
            "Errors by the work that failed and by class: Transient, Waiting, Stalled, Rejected, "
            "Bug.",
            *("work", "class"),
        )
        self.retries = counter("retries", "What was tried again after an error, by work.", "work")
        self.calls = counter(
            "source_calls",
            "Calls of a source over the network, by what they were or how they ended.",
            *("source", "call"),
        )
        self.notifications = counter(
            "notifications", "Notifications by result: sent, dropped.", "notification", "result"
        )
        self.cache = gauge("cache_bytes", "Room that the cache takes, by its folders.", "part")
        self.free = gauge("cache_free_bytes", "Room that is left on the cache's file system.")
        self.recorded = gauge(
            "journal_writable", "Whether the last pass could be written into the journal (1, 0)."
        )


class _Waits:
    """How long releases took until they were live the first time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.to_live = Histogram(
            "wheelway_publish_to_live_seconds",
            "From a wheel's publication (where the source dates it; else from when it was noticed) "
            "until its pipeline answered at its route, the first time.",
            ["pipeline"],
            buckets=_RELEASE_BUCKETS,
            registry=registry,
        )
        self.step = Histogram(
            "wheelway_publish_to_live_step_seconds",
            f"The same in steps, each named for its end: {', '.join(STEPS)}.",
            ["step"],
            buckets=_RELEASE_BUCKETS,
            registry=registry,
        )


class _Present(Collector):
    """What there is, read from the journal when it is asked for; nothing when that cannot be."""

    def __init__(self, journal: Reader) -> None:
        self._journal = journal

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The names alone."""
        yield GaugeMetricFamily(
            "wheelway_releases",
            "Releases of the pipelines that are not over, by phase.",
            labels=["pipeline", "phase"],
        )
        yield GaugeMetricFamily(
            "wheelway_conditions",
            "What stands in the way, by reason; the pipeline is empty where it is about none.",
            labels=["pipeline", "reason"],
        )

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The names with their values."""
        releases, conditions = self.describe()
        try:
            phases, present = _current(self._journal), self._journal.conditions()
        except WheelwayError:  # the daemon itself tells of it; a scrape must not fail for it
            return
        for (pipeline, phase), count in sorted(phases.items()):
            releases.add_metric([pipeline, phase.value], count)
        pipelines = {pipeline for pipeline, _ in phases}
        reasons = Tally(
            (_pipeline_of(condition.subject, pipelines), condition.reason)
            for condition, _ in present
            if not condition.ok
        )
        for (pipeline, reason), count in sorted(reasons.items()):
            conditions.add_metric([pipeline, reason], count)
        yield releases
        yield conditions


def _pipeline_of(subject: str, pipelines: Collection[str]) -> str:
    """Which pipeline a condition is about, by itself or by a release; empty for none."""
    release = named(subject)
    if release is not None:
        return release[0]
    return subject if subject in pipelines else ""


def steps(times: Mapping[Phase, float], published: float | None) -> Iterator[tuple[str, float]]:
    """The seconds of each of `STEPS` that is dated at both its ends.

    Args:
        times: when a live release first reached its phases.
        published: when it was published, if that is known.
    """
    ends = {
        "noticed": times.get(Phase.DISCOVERED),
        "fetched": times.get(Phase.FETCHED),
        "prepared": times.get(Phase.PREPARED),
        "staged": times.get(Phase.READY),
        "promoted": times.get(Phase.LIVE),
    }
    before = published
    for step in STEPS:
        end = ends[step]
        if end is not None:
            if before is not None:
                yield step, max(0.0, end - before)
            before = end


def _free(root: Path) -> int:
    """Bytes that are left where a folder is, or will be."""
    for folder in (root, *root.parents):
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return 0


def _result(report: Report) -> str:
    if report.failed:
        return "failed"
    if report.plan is None:
        return "blind"
    return "applied" if report.sent else "unchanged"


def _current(journal: Reader) -> dict[tuple[str, Phase], int]:
    """How many releases are in which phase, of every pipeline of which something is there or on its
    way.
    """
    counted = journal.counted()
    present = {pipeline for pipeline, phase in counted if phase not in _OVER}
    return {key: count for key, count in counted.items() if key[0] in present}
