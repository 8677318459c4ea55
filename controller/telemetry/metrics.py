"""The daemon's metrics for Prometheus: counted pass by pass, or read from the journal when they are
asked for.

Names and units follow https://prometheus.io/docs/practices/naming/. Only the label `pipeline` has
values from outside, which are dropped when they are gone; all others have a fixed vocabulary or
names of the configuration. The dashboard and alert rules in `observability/`, and
docs/operating.md, use these names: change them together.
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
from controller.planning.swaps import LOADING
from controller.reconcile.assembly import MEASURE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from controller.journal import Reader, ReleaseRecord
    from controller.model import Event
    from controller.reconcile.assembly import Assembly
    from controller.reconcile.report import Report

MEASURE_FIRST: Final = 60.0
MEASURE_EVERY: Final = 900.0
"""Seconds until the cache is measured, and between two times, for every file is looked at."""

STEPS: Final = {
    "noticed": Phase.DISCOVERED,
    "fetched": Phase.FETCHED,
    "prepared": Phase.PREPARED,
    "staged": Phase.READY,
    "promoted": Phase.LIVE,
}
"""From published to live, each named for what had happened at its end: the phase that began."""

_PASS_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_RELEASE_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 30, 60, 120, 300, 900)
_OVER: Final = {Phase.RETIRED, Phase.SUPERSEDED}
_PARKED: Final = {"Verified", "Preparing", UNDECIDED}
"""Reasons of a fetched release that goes on; with any other, policy left it where it was."""


_COUNTERS: Final = {
    "passes": ("Passes by result: applied, unchanged, blind (no Ray), failed.", "result"),
    "config_puts": ("Serve configs sent, by result: applied, refused, failed.", "result"),
    "errors": (
        "Errors by the work that failed and by class: Transient, Waiting, Stalled, Rejected, Bug.",
        *("work", "class"),
    ),
    "retries": ("What was tried again after an error, by work.", "work"),
    "source_calls": (
        "Calls of a source over the network, by what they were or how they ended.",
        *("source", "call"),
    ),
    "notifications": ("Notifications by result: sent, dropped.", "notification", "result"),
}
_GAUGES: Final = {
    "last_pass_timestamp_seconds": ("When the last pass ended.",),
    "ray_reachable": ("Whether the last pass could observe Ray (1, 0).",),
    "cache_bytes": ("Room that the cache takes, by its folders.", "part"),
    "cache_free_bytes": ("Room that is left on the cache's file system.",),
    "journal_writable": ("Whether the last pass could be written into the journal (1, 0).",),
}
_HISTOGRAMS: Final = {
    "pass_duration_seconds": (_PASS_BUCKETS, ["Time that a pass took."]),
    "publish_to_live_seconds": (
        _RELEASE_BUCKETS,
        [
            (
                "From a wheel's publication (where the source dates it; else from when it was "
                "noticed) until its pipeline answered at its route, the first time."
            ),
            "pipeline",
        ],
    ),
    "publish_to_live_step_seconds": (
        _RELEASE_BUCKETS,
        [f"The same in steps, each named for its end: {', '.join(STEPS)}.", "step"],
    ),
}
"""By name without `wheelway_`: what it means, and its labels."""


class Metrics:
    """One daemon's metrics. `observe` is for the thread that makes passes, `render` for any."""

    def __init__(
        self,
        journal: Reader,
        *,
        version: str,
        cache: Path,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`journal` is read for each `render`; `version` is wheelway's, `cache` the cache's folder
        at first.
        """
        # Without the additional series of each counter with the time of its first increment.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # as the library has it
        self.registry = CollectorRegistry()
        self._counters = {
            name: Counter(f"wheelway_{name}", meaning, labels, registry=self.registry)
            for name, (meaning, *labels) in _COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(f"wheelway_{name}", meaning, labels, registry=self.registry)
            for name, (meaning, *labels) in _GAUGES.items()
        }
        self._histograms = {
            name: Histogram(
                f"wheelway_{name}", meaning, labels, buckets=buckets, registry=self.registry
            )
            for name, (buckets, (meaning, *labels)) in _HISTOGRAMS.items()
        }
        self._journal = journal
        self._clock = clock
        self._monotonic = monotonic
        self._began = clock()
        self._gauges["cache_free_bytes"].set(_free(cache))
        self._gauges["journal_writable"].set(1)
        self._measure_at = monotonic() + MEASURE_FIRST
        self._measured: object = None
        self._seen: dict[tuple[object, ...], int] = {}
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
        """Count a pass by its report, the parts that made it and the seconds that it took;
        `notifications` says how many were sent and dropped so far, by name and result. Raises
        WheelwayError when the journal cannot be read.
        """
        self._count("passes", _result(report))
        self._histograms["pass_duration_seconds"].observe(duration)
        self._gauges["last_pass_timestamp_seconds"].set(self._clock())
        if not report.failed:
            self._gauges["ray_reachable"].set(report.plan is not None)
        if report.tried:
            result = "refused" if isinstance(report.error, Rejected) else "failed"
            self._count("config_puts", "applied" if report.error is None else result)
        work = "put" if report.tried else "observe"
        if report.error is not None:
            self._count("errors", work, class_of(report.error))
        if report.retried:
            self._count("retries", work)
        before, self._seen = self._seen, {}
        for name, labels, counter, count in _counted_elsewhere(assembly, notifications or {}):
            key = (name, counter, *labels)
            self._seen[key] = count
            self._count(name, *labels, by=max(0, count - before.get(key, 0)))
        self._measure(assembly)
        for event in report.events:
            if event.fields.get("phase") == Phase.LIVE:
                self._went_live(event, assembly)

    def _count(self, name: str, *labels: str, by: int = 1) -> None:
        self._counters[name].labels(*labels).inc(by)

    def recorded(self, *, well: bool) -> None:
        """Note whether the last pass could be recorded."""
        self._gauges["journal_writable"].set(well)

    def render(self) -> bytes:
        """All metrics in Prometheus's text format, as `CONTENT_TYPE_LATEST`."""
        try:
            present = {pipeline for pipeline, _ in _current(self._journal)}
        except WheelwayError:  # then it is not known what is gone
            present = self._pipelines
        with self._rendering:
            for gone in self._pipelines - present:
                self._histograms["publish_to_live_seconds"].remove(gone)
                self._pipelines.discard(gone)
        return generate_latest(self.registry)

    def _measure(self, assembly: Assembly) -> None:
        """Measure the cache by a job, now and then."""
        root = assembly.reconciler.config.paths.cache
        self._gauges["cache_free_bytes"].set(_free(root))
        if self._monotonic() >= self._measure_at:
            self._measure_at = self._monotonic() + MEASURE_EVERY
            assembly.jobs.rerun((MEASURE,), partial(usage, root))
        outcome = assembly.jobs.outcome((MEASURE,))
        if outcome is None or outcome.value is self._measured or outcome.value is None:
            return
        self._measured = outcome.value
        self._gauges["cache_bytes"].clear()
        for part, size in outcome.value.items():
            self._gauges["cache_bytes"].labels(part).set(size)

    def _went_live(self, event: Event, assembly: Assembly) -> None:
        """Count how long a release took that is live for the first time."""
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
            self._histograms["publish_to_live_step_seconds"].labels(step).observe(seconds)
        begin = record.times[Phase.DISCOVERED] if published is None else published
        to_live = self._histograms["publish_to_live_seconds"].labels(pipeline)
        to_live.observe(max(0.0, event.at - begin))
        self._pipelines.add(pipeline)

    def _came_straight(self, record: ReleaseRecord, event: Event) -> bool:
        """Whether only the daemon's work took time: the release was not found running, freed by a
        person, or held back by policy for a while.
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


def _counted_elsewhere(
    assembly: Assembly, notifications: Mapping[tuple[str, str], int]
) -> Iterator[tuple[str, tuple[str, ...], object, int]]:
    """What others count: the counter's name and labels, whose count it is, which began at zero with
    that, and how far it has come.
    """
    jobs = assembly.jobs
    counts = jobs.counts()
    for failed, count in counts.errors.items():
        yield "errors", failed, jobs, count
    for work, count in counts.retries.items():
        yield "retries", (work,), jobs, count
    for name, source in assembly.artifacts.sources.items():
        for call, count in source.calls.items():
            yield "source_calls", (name, call), source, count
    for told, count in notifications.items():
        yield "notifications", told, None, count


class _Present(Collector):
    """Gauges read from the journal when they are asked for; none when it cannot be read."""

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
        yield GaugeMetricFamily(
            "wheelway_weights_loading",
            "Releases whose replicas have been loading other weights for more than 5 s.",
            labels=["pipeline"],
        )
        for name, which in (("", "that run"), ("_wanted", "that there should be")):
            yield GaugeMetricFamily(
                f"wheelway_part_replicas{name}",
                f"Replicas of a part of a release {which}; none of those that run inline.",
                labels=["pipeline", "version", "part"],
            )

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The names with their values."""
        releases, conditions, loading, running, wanted = self.describe()
        try:
            phases, present = _current(self._journal), self._journal.conditions()
            parts = _parts(self._journal)
        except WheelwayError:  # the daemon itself tells of it; a scrape must not fail for it
            return
        for (pipeline, phase), count in sorted(phases.items()):
            releases.add_metric([pipeline, phase.value], count)
        pipelines = {pipeline for pipeline, _ in phases}
        reasons = Tally(
            (_pipeline_of(c.subject, pipelines), c.reason) for c, _ in present if not c.ok
        )
        for (pipeline, reason), count in sorted(reasons.items()):
            conditions.add_metric([pipeline, reason], count)
        swaps = Tally(_pipeline_of(c.subject, pipelines) for c, _ in present if c.reason == LOADING)
        for pipeline, count in sorted(swaps.items()):
            loading.add_metric([pipeline], count)
        for family, replicas in zip((running, wanted), parts, strict=True):
            for labels, count in sorted(replicas.items()):
                family.add_metric(list(labels), count)
        yield from (releases, conditions, loading, running, wanted)


def _parts(journal: Reader) -> tuple[Tally[tuple[str, ...]], Tally[tuple[str, ...]]]:
    """How many replicas of each part run and are wanted, by pipeline, version and part. While other
    bytes take a version's place, those of both count.
    """
    running, wanted = Tally[tuple[str, ...]](), Tally[tuple[str, ...]]()
    if parts := journal.parts():
        for record in journal.records().values():
            for part in parts.get(record.placement, ()):
                labels = (record.subject.name, str(record.subject.version), part.name)
                if not part.inline:
                    running[labels] += part.running
                    wanted[labels] += part.wanted or 0
    return running, wanted


def _pipeline_of(subject: str, pipelines: Collection[str]) -> str:
    """The pipeline that a condition is about, itself or by a release; empty for none."""
    if (release := named(subject)) is not None:
        return release[0]
    return subject if subject in pipelines else ""


def steps(times: Mapping[Phase, float], published: float | None) -> Iterator[tuple[str, float]]:
    """The seconds of each of `STEPS` that is dated at both its ends, of a release that first
    reached its phases at these times and was published then, if that is known.
    """
    before = published
    for step, phase in STEPS.items():
        if (end := times.get(phase)) is not None:
            if before is not None:
                yield step, max(0.0, end - before)
            before = end


def _free(root: Path) -> int:
    """Free bytes of the file system where a folder is, or will be."""
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
    """How many releases are in each phase, of pipelines that have something there or under way."""
    counted = journal.counted()
    present = {pipeline for pipeline, phase in counted if phase not in _OVER}
    return {key: count for key, count in counted.items() if key[0] in present}
