"""What Prometheus may read: of a real assembly whose Ray is down, and of passes as reported."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import Counter
from contextlib import closing

import pytest
from packaging.version import Version
from prometheus_client.parser import text_string_to_metric_families

from controller.cache.usage import usage
from controller.config.loading import load
from controller.errors import Rejected, Stalled, Transient
from controller.journal import Journal
from controller.model import Condition, Phase, Release, Transition
from controller.planning.plan import Plan
from controller.reconcile.artifacts import TIDY
from controller.reconcile.assembly import APART, MEASURE, assemble
from controller.reconcile.jobs import Jobs
from controller.reconcile.report import Report
from controller.telemetry.metrics import MEASURE_EVERY, MEASURE_FIRST, STEPS, Metrics, steps
from tests.support.head import eventually

pytestmark = pytest.mark.unit

IRIS = Release("iris", Version("1.4"), "ab" * 32)
PLAN = Plan((), ())
NOW = 1_000_000.0
LABELS = (
    *("pipeline", "phase", "reason", "work", "class", "source", "call", "result", "step"),
    "part",
)
"""In the order in which `samples` gives their values."""


class Site:
    """A daemon's parts over an empty folder, its metrics, and a clock to turn."""

    def __init__(self, folder):
        (folder / "wheels").mkdir()
        path = folder / "controller.toml"
        path.write_text(
            '[[sources]]\ntype = "directory"\npath = "wheels"\n'
            '[ray]\ndashboard_url = "http://127.0.0.1:9"\n'
            '[paths]\nstate = "state"\ncache = "cache"\n'
        )
        self.config = load(path)
        self.own = Journal.open(self.config.paths.state)
        self.assembly = assemble(self.config, self.own, wake=threading.Event().set)

    def begin(self, state):
        """New metrics over an empty journal."""
        self.now = NOW
        self.journal = Journal.open(state)
        self.metrics = Metrics(
            self.journal,
            version="9.9",
            cache=state / "not made yet",
            clock=lambda: self.now,
            monotonic=lambda: self.now,
        )

    def close(self):
        self.assembly.close()
        self.own.close()

    def observe(self, report, **more):
        self.metrics.observe(report, self.assembly, duration=more.pop("duration", 0.02), **more)

    def release(self, phases, release=IRIS, reasons=None):
        """Record the phases with their times; returns the events."""
        return tuple(
            self.journal.record(
                Transition(release, phase, (reasons or {}).get(phase, "Because"), "so"), at
            )
            for phase, at in phases.items()
        )

    def value(self, name, **labels):
        """The sample's value; None when there is no such sample."""
        for family in text_string_to_metric_families(self.metrics.render().decode()):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None

    def samples(self, name):
        return {
            tuple(sample.labels[label] for label in LABELS if label in sample.labels): sample.value
            for family in text_string_to_metric_families(self.metrics.render().decode())
            for sample in family.samples
            if sample.name == name
        }


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Putting the parts together asks the interpreter what it is: once is enough."""
    site = Site(tmp_path_factory.mktemp("metrics"))
    yield site
    site.close()


@pytest.fixture
def site(parts, tmp_path):
    """The same parts with an empty journal, new metrics, and jobs that counted nothing yet."""
    parts.assembly.artifacts.published_at.clear()
    parts.assembly.jobs = Jobs(1, threading.Event().set)
    parts.begin(tmp_path / "state")
    yield parts
    parts.assembly.jobs.close()
    parts.journal.close()


LIVE = {
    Phase.DISCOVERED: NOW + 1,
    Phase.FETCHED: NOW + 1.5,
    Phase.PREPARED: NOW + 2,
    Phase.STAGED: NOW + 2.1,
    Phase.READY: NOW + 5,
    Phase.LIVE: NOW + 5.2,
}
STRAIGHT = {Phase.FETCHED: "Verified"}


def test_a_pass_without_ray_is_counted_as_blind_with_its_error(site):
    report = site.assembly.reconciler.run_pass()
    site.observe(report, duration=0.25)
    assert site.value("wheelway_passes_total", result="blind") == 1
    assert site.value("wheelway_ray_reachable") == 0
    assert site.value("wheelway_errors_total", **{"work": "observe", "class": "Waiting"}) == 1
    assert site.value("wheelway_pass_duration_seconds_sum") == 0.25
    assert site.value("wheelway_last_pass_timestamp_seconds") == NOW


def test_results_of_passes_and_of_what_was_sent_are_told_apart(site):
    refused = Rejected("ConfigRefused", "no")
    down = Transient("DashboardFailed", "later")
    site.observe(Report("", 1.0, plan=PLAN))
    site.observe(Report("", 1.0, plan=PLAN, sent=True, tried=True, retried=True))
    site.observe(Report("", 1.0, plan=PLAN, tried=True, error=refused))
    site.observe(Report("", 1.0, plan=PLAN, tried=True, error=down))
    site.observe(Report("cut short", 1.0, failed=True))
    assert site.samples("wheelway_passes_total") == {
        ("unchanged",): 3,
        ("applied",): 1,
        ("failed",): 1,
    }
    assert site.samples("wheelway_config_puts_total") == {
        ("applied",): 1,
        ("refused",): 1,
        ("failed",): 1,
    }
    assert site.samples("wheelway_errors_total") == {
        ("put", "Rejected"): 1,
        ("put", "Transient"): 1,
    }
    assert site.samples("wheelway_retries_total") == {("put",): 1}
    assert site.value("wheelway_ray_reachable") == 1


def test_what_jobs_and_sources_count_is_added_once(site, monkeypatch):
    def fail():
        raise Stalled("Broken", "it is")

    source = site.assembly.artifacts.sources["directory"]
    monkeypatch.setattr(type(source), "calls", {"ok": 3}, raising=False)
    jobs = site.assembly.jobs
    jobs.ensure(("fetch", "a" * 64), fail)
    eventually(lambda: jobs.counts().errors == {("fetch", "Stalled"): 1})
    for _ in range(3):
        site.observe(Report("", 1.0, plan=PLAN), notifications={("ops", "sent"): 2})
    monkeypatch.setattr(type(source), "calls", {"ok": 5, "failed": 1}, raising=False)
    site.observe(Report("", 1.0, plan=PLAN), notifications={("ops", "sent"): 2})
    assert site.samples("wheelway_source_calls_total") == {
        ("directory", "ok"): 5,
        ("directory", "failed"): 1,
    }
    assert site.value("wheelway_errors_total", **{"work": "fetch", "class": "Stalled"}) == 1
    assert site.value("wheelway_notifications_total", notification="ops", result="sent") == 2


def test_a_source_that_was_made_anew_counts_from_zero_and_the_jobs_go_on(site, monkeypatch):
    class Source:
        def __init__(self, calls):
            self.calls = {"ok": calls}

    def fail():
        raise Stalled("Broken", "it is")

    jobs, artifacts = site.assembly.jobs, site.assembly.artifacts
    jobs.ensure(("fetch", "a" * 64), fail)
    eventually(lambda: jobs.counts().errors)
    beside = Source(2)
    for calls in (7, 3):
        monkeypatch.setattr(artifacts, "sources", {"edited": Source(calls), "beside": beside})
        for _ in range(2):
            site.observe(Report("", 1.0, plan=PLAN))
    assert site.samples("wheelway_source_calls_total") == {
        ("edited", "ok"): 10,
        ("beside", "ok"): 2,
    }
    assert site.value("wheelway_errors_total", **{"work": "fetch", "class": "Stalled"}) == 1


def test_releases_and_conditions_are_those_of_the_journal_when_asked(site):
    other = Release("iris", Version("1.5"), "cd" * 32)
    site.release({Phase.LIVE: NOW})
    site.release({Phase.STAGED: NOW}, other)
    site.release({Phase.RETIRED: NOW}, Release("gone", Version("1"), "ef" * 32))
    site.journal.set_conditions(
        [
            Condition(str(IRIS), "Unhealthy", "it dies"),
            Condition("ray", "SlowIngress", "no HAProxy"),
            Condition("a.whl", "StillCopying", "wait", ok=True),
        ],
        NOW,
    )
    assert site.samples("wheelway_releases") == {("iris", "Live"): 1, ("iris", "Staged"): 1}
    assert site.samples("wheelway_conditions") == {("iris", "Unhealthy"): 1, ("", "SlowIngress"): 1}
    site.journal.set_conditions([], NOW)
    assert site.samples("wheelway_conditions") == {}


def test_a_journal_that_cannot_be_read_fails_no_scrape(site):
    site.observe(Report("", 1.0, plan=PLAN))
    with closing(sqlite3.connect(site.journal.path)) as other, other:
        other.execute("ALTER TABLE releases RENAME TO elsewhere")
    text = site.metrics.render().decode()
    assert "wheelway_passes_total" in text
    assert "wheelway_releases{" not in text


# -- from published to live ----------------------------------------------------------------------


def test_a_release_that_went_live_is_observed_once_and_split_into_its_steps(site):
    site.assembly.artifacts.published_at[IRIS.digest] = NOW + 0.25
    events = site.release(LIVE, reasons=STRAIGHT)
    for passed in (events, events[-1:], ()):
        site.observe(Report("", 1.0, passed, PLAN))
    again = site.release({Phase.LIVE: NOW + 9}, reasons={Phase.LIVE: "RouteNotAnswering"})
    site.observe(Report("", 1.0, again, PLAN))
    # The report of the same pass twice counts twice: a pass is observed once.
    assert site.value("wheelway_publish_to_live_seconds_count", pipeline="iris") == 2
    assert site.value("wheelway_publish_to_live_seconds_sum", pipeline="iris") == pytest.approx(9.9)
    sums = site.samples("wheelway_publish_to_live_step_seconds_sum")
    assert {step[0]: pytest.approx(value / 2) for step, value in sums.items()} == {
        "noticed": 0.75,
        "fetched": 0.5,
        "prepared": 0.5,
        "staged": 3.0,
        "promoted": 0.2,
    }


def test_what_was_published_before_the_daemon_began_counts_from_when_it_was_noticed(site):
    site.assembly.artifacts.published_at[IRIS.digest] = NOW - 86_400
    site.observe(Report("", 1.0, site.release(LIVE, reasons=STRAIGHT), PLAN))
    assert site.value("wheelway_publish_to_live_seconds_sum", pipeline="iris") == pytest.approx(4.2)
    assert ("noticed",) not in site.samples("wheelway_publish_to_live_step_seconds_sum")


@pytest.mark.parametrize(
    "story",
    [
        pytest.param(({Phase.LIVE: NOW},), id="found running"),
        pytest.param(
            (
                {Phase.DISCOVERED: NOW, Phase.FETCHED: NOW, Phase.QUARANTINED: NOW + 1},
                {Phase.STAGED: NOW + 900, Phase.LIVE: NOW + 903},
            ),
            id="mended",
        ),
        pytest.param((LIVE, {Phase.RETIRED: NOW + 50, Phase.LIVE: NOW + 60}), id="live again"),
    ],
)
def test_what_waited_for_a_person_is_not_observed(site, story):
    events = [event for phases in story for event in site.release(phases, reasons=STRAIGHT)]
    site.observe(Report("", 1.0, (events[-1],), PLAN))
    assert site.samples("wheelway_publish_to_live_seconds_count") == {}


def test_what_the_policy_left_aside_for_a_while_is_not_observed(site):
    parked = site.release(LIVE, reasons={Phase.FETCHED: "NotAmongNewest"})
    site.observe(Report("", 1.0, parked, PLAN))
    assert site.samples("wheelway_publish_to_live_seconds_count") == {}


def test_what_waited_for_its_name_is_observed(site):
    waited = site.release(LIVE, reasons={**STRAIGHT, Phase.FETCHED: "NameUndecided"})
    site.observe(Report("", 1.0, waited, PLAN))
    assert site.value("wheelway_publish_to_live_seconds_count", pipeline="iris") == 1


def test_a_pipeline_that_is_gone_leaves_no_series(site):
    site.observe(Report("", 1.0, site.release(LIVE, reasons=STRAIGHT), PLAN))
    assert "iris" in site.metrics.render().decode()
    site.release({Phase.RETIRED: NOW + 100})
    assert "iris" not in site.metrics.render().decode()
    site.release({Phase.STAGED: NOW + 200})
    assert site.samples("wheelway_releases") == {("iris", "Staged"): 1}


def test_a_step_without_a_date_is_left_out_and_its_time_goes_to_the_next():
    times = {Phase.DISCOVERED: 10.0, Phase.FETCHED: 11.0, Phase.READY: 14.0, Phase.LIVE: 15.0}
    assert dict(steps(times, None)) == {"fetched": 1.0, "staged": 3.0, "promoted": 1.0}
    assert list(dict(steps({**times, Phase.PREPARED: 12.0}, 9.0))) == list(STEPS)
    assert dict(steps({Phase.LIVE: 5.0}, 6.0)) == {"promoted": 0.0}


# -- the cache -----------------------------------------------------------------------------------


def test_the_caches_size_is_taken_now_and_then_by_a_job(site):
    wheels = site.config.paths.cache / "wheels"
    wheels.mkdir(exist_ok=True)
    (wheels / "one").write_bytes(b"x" * 100_000)
    assert site.value("wheelway_cache_free_bytes") > 0, "which costs nothing to know"
    site.observe(Report("", 1.0, plan=PLAN))
    assert site.samples("wheelway_cache_bytes") == {}
    site.now += MEASURE_FIRST + 1
    site.observe(Report("", 1.0, plan=PLAN))

    def measured():
        site.observe(Report("", 1.0, plan=PLAN))
        return site.samples("wheelway_cache_bytes").get(("wheels",), 0)

    first = eventually(measured)
    assert first >= 100_000
    assert site.value("wheelway_cache_free_bytes") > 0
    (wheels / "two").write_bytes(b"x" * 100_000)
    site.now += MEASURE_EVERY + 1
    eventually(lambda: measured() >= first + 100_000)


def test_the_caches_size_and_what_makes_room_in_it_wait_for_no_build():
    built, done = threading.Event(), threading.Semaphore(0)
    jobs = Jobs(1, lambda: None, apart=APART)
    try:
        jobs.ensure(("prepare", "slow"), lambda: built.wait(120))
        for kind in (MEASURE, TIDY):
            jobs.ensure((kind,), done.release)
        assert done.acquire(timeout=60)
        assert done.acquire(timeout=60)
    finally:
        built.set()
        jobs.close()


def test_what_folders_share_counts_once(tmp_path):
    for name in ("environments", "uv"):
        (tmp_path / name / "deep").mkdir(parents=True)
    (tmp_path / "uv/deep/file").write_bytes(b"x" * 50_000)
    alone = usage(tmp_path)
    (tmp_path / "environments/deep/same").hardlink_to(tmp_path / "uv/deep/file")
    (tmp_path / "environments/loop").symlink_to(tmp_path)
    shared = usage(tmp_path)
    assert set(shared) == {"environments", "uv"}
    assert shared["environments"] >= 50_000
    assert abs(sum(shared.values()) - sum(alone.values())) < 5_000
    assert usage(tmp_path / "nothing") == {}


# -- form ----------------------------------------------------------------------------------------


def test_names_follow_prometheus_and_every_one_is_described(site):
    site.observe(Report("", 1.0, site.release(LIVE, reasons=STRAIGHT), PLAN, tried=True, sent=True))
    families = list(text_string_to_metric_families(site.metrics.render().decode()))
    ours = [family for family in families if not family.name.startswith("process_")]
    assert len(ours) > 12
    for family in ours:
        assert re.fullmatch(r"wheelway_[a-z0-9_]+", family.name)
        assert family.documentation.endswith("."), family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
    assert max(Counter(family.name for family in families).values()) == 1
    assert "_created" not in site.metrics.render().decode()


def test_the_only_label_from_outside_is_the_pipeline(site):
    site.observe(Report("", 1.0, site.release(LIVE, reasons=STRAIGHT), PLAN))
    labels = {
        label
        for family in text_string_to_metric_families(site.metrics.render().decode())
        for sample in family.samples
        for label in sample.labels
    }
    fixed = {"result", "work", "class", "phase", "reason", "step", "part", "le", "outcome"}
    assert labels - fixed - {"version", "python_version", "source", "notification"} == {"pipeline"}
