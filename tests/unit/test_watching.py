"""`wheelway status --watch`, and what it reads of Ray, from a server that speaks as Ray does."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from packaging.version import Version

from controller.cli.watching import Watch, duration, rate
from controller.config.settings import RayOptions
from controller.errors import Stalled
from controller.journal import DaemonStatus, Journal
from controller.model import Phase, Release, Transition
from controller.serve.dashboard import APPLICATIONS, METRICS_TARGETS, Dashboard
from controller.serve.traffic import HISTOGRAM, Flow, Traffic
from tests.support.canned import canned
from tests.support.head import eventually
from tests.unit.test_weights_choice import weights

pytestmark = pytest.mark.unit

IRIS = Release("iris", Version("1.0"), "ab" * 32)
NAME = "iris-1.0-0a1b2c3d"
BOUNDS = ("1.0", "2.0", "5.0", "10.0", "+Inf")


def page(*replicas):
    """A page of Ray's metrics, as an agent writes it: counts by bound, of each replica."""
    lines = [
        "# HELP ray_serve_num_http_requests_total The number of HTTP requests processed.",
        "# TYPE ray_serve_num_http_requests_total counter",
        'ray_serve_num_http_requests_total{application="",route="/-/healthz"} 90.0',
        f"# HELP {HISTOGRAM} The latency for queries to be processed.",
        f"# TYPE {HISTOGRAM} histogram",
    ]
    for number, counts in enumerate(replicas):
        labels = (
            f'Component="core_worker",WorkerId="{number}",application="{NAME}",deployment="Host",'
            f'replica="r{number}",route="/predict/iris/1.0"'
        )
        below = 0
        for bound, count in zip(BOUNDS, counts, strict=True):
            below += count
            lines.append(f'{HISTOGRAM}_bucket{{{labels},le="{bound}"}} {float(below)}')
        lines += [
            f"{HISTOGRAM}_count{{{labels}}} {float(below)}",
            f"{HISTOGRAM}_sum{{{labels}}} {below * 2.0}",
        ]
    return "\n".join(lines) + "\n"


def applications(*states):
    return {
        "applications": {
            NAME: {
                "name": NAME,
                "status": "RUNNING",
                "route_prefix": "/predict/iris/1.0",
                "message": "",
                "docs_path": None,
                "deployed_app_config": None,
                "deployments": {
                    "Host": {
                        "name": "Host",
                        "status": "HEALTHY",
                        "message": "",
                        "replicas": [
                            {"state": state, "pid": 7, "replica_id": str(number)}
                            for number, state in enumerate(states)
                        ],
                    }
                },
            }
        }
    }


@pytest.fixture
def ray():
    """A dashboard whose metrics are at the same address."""
    with canned() as server:
        target = server.url.removeprefix("http://")
        server.says(
            METRICS_TARGETS, [{"labels": {"job": "ray"}, "targets": [target, "127.0.0.1:9"]}]
        )
        server.says(APPLICATIONS, applications("RUNNING", "STARTING"))
        server.says("/metrics", page((0, 0, 0, 0, 0)))
        yield server


@pytest.fixture
def traffic(ray):
    """Looks at it, with a clock to turn."""
    dashboard = Dashboard.connect(RayOptions(dashboard_url=ray.url))
    now = [100.0]
    looking = Traffic(dashboard, clock=lambda: now[0])
    looking.now = now
    yield looking
    looking.close()
    dashboard.close()


# -- traffic -------------------------------------------------------------------------------------


def test_two_looks_give_requests_a_second_and_their_median(ray, traffic):
    ray.says("/metrics", page((10, 5, 0, 0, 0)))
    assert traffic.poll() == {}
    traffic.now[0] += 20
    ray.says("/metrics", page((10, 5, 60, 20, 20)))
    # Of 100 since, the 50th is the 50th of 60 between 2 and 5 ms.
    assert traffic.poll() == {NAME: Flow(5.0, pytest.approx(0.0045))}


def test_replicas_are_added_up(ray, traffic):
    ray.says("/metrics", page((0, 0, 0, 0, 0), (0, 0, 0, 0, 0)))
    traffic.poll()
    traffic.now[0] += 10
    ray.says("/metrics", page((50, 0, 0, 0, 0), (50, 0, 0, 0, 0)))
    assert traffic.poll() == {NAME: Flow(10.0, pytest.approx(0.0005))}


def test_looks_too_close_together_say_nothing_and_old_ones_are_forgotten(ray, traffic):
    traffic.poll()
    traffic.now[0] += 5
    assert traffic.poll() == {}
    ray.says("/metrics", page((300, 0, 0, 0, 0)))
    traffic.now[0] += 25
    assert traffic.poll()[NAME].requests_per_second == 10.0
    for _ in range(4):
        traffic.now[0] += 10
        flow = traffic.poll()[NAME]
    assert flow == Flow(0.0, None)


def test_slower_than_every_bound_is_the_last_bound(ray, traffic):
    traffic.poll()
    traffic.now[0] += 10
    ray.says("/metrics", page((0, 0, 0, 0, 30)))
    assert traffic.poll() == {NAME: Flow(3.0, 0.01)}


def test_a_replica_that_went_away_makes_no_negative_rate(ray, traffic):
    ray.says("/metrics", page((90, 0, 0, 0, 0)))
    traffic.poll()
    traffic.now[0] += 10
    ray.says("/metrics", page((10, 0, 0, 0, 0)))
    assert traffic.poll() == {NAME: Flow(0.0, None)}


@pytest.mark.parametrize("lost", [METRICS_TARGETS, "/metrics"])
def test_metrics_that_are_not_there_are_no_error_and_are_found_once_they_are(ray, traffic, lost):
    kept = ray.answers.pop(lost)
    assert traffic.poll() == {}
    ray.answers[lost] = kept
    traffic.now[0] += 1
    traffic.poll()
    traffic.now[0] += 10
    assert NAME in traffic.poll()


def test_targets_that_are_none_are_told_as_no_dashboard(ray):
    ray.says(METRICS_TARGETS, {"error": "not a list"})
    dashboard = Dashboard.connect(RayOptions(dashboard_url=ray.url))
    with pytest.raises(Stalled) as caught:
        dashboard.metrics_targets()
    assert caught.value.reason == "DashboardUnexpected"
    dashboard.close()


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path, ray):
    """A configuration, and a journal in which iris 1.0 is live."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "controller.toml").write_text(
        '[[sources]]\ntype = "directory"\npath = "wheels"\n'
        f'[ray]\ndashboard_url = "{ray.url}"\n'
        '[paths]\nstate = "state"\ncache = "cache"\n'
    )
    with Journal.open(tmp_path / "state") as journal:
        step(journal, Phase.LIVE, "AnswersAtRoute", time.time() - 300)
        journal.set_status(DaemonStatus(7, time.time(), "1 live", 0.1, os.getpid(), "0.1.0", 1.0))
        yield tmp_path, journal


def step(journal, phase, reason, at):
    journal.record(Transition(IRIS, phase, reason, "as said", NAME), at, source="shelf")


def command(folder, *arguments):
    return [
        *(sys.executable, "-m", "controller", "--config", str(folder / "controller.toml")),
        *("status", "--watch", *arguments),
    ]


def test_elsewhere_than_on_a_terminal_each_change_is_a_line_of_json(site):
    folder, journal = site
    with subprocess.Popen(command(folder, "--json"), stdout=subprocess.PIPE, text=True) as watching:
        (first,) = json.loads(watching.stdout.readline())["releases"]
        step(journal, Phase.RETIRING, "SuccessorLive", time.time())
        (second,) = json.loads(watching.stdout.readline())["releases"]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 130
    assert first["phase"] == "Live"
    assert first["replicas"] == {"running": 1, "total": 2}
    assert first["requests_per_second"] is None
    assert (second["phase"], second["reason"]) == ("Retiring", "SuccessorLive")


def test_as_text_it_is_the_same_table_with_what_ray_says(site):
    folder, _ = site
    with subprocess.Popen(command(folder), stdout=subprocess.PIPE, text=True) as watching:
        lines = [watching.stdout.readline() for _ in range(6)]
        watching.send_signal(signal.SIGINT)
        watching.wait(60)
    heads = next(line for line in lines if line.startswith("pipeline"))
    assert heads.split() == [
        *("pipeline", "version", "phase", "reason", "since", "replicas", "requests/s", "p50"),
    ]
    row = next(line for line in lines if line.startswith("iris")).split()
    assert row == ["iris", "1.0", "Live", "AnswersAtRoute", "5", "min", "1/2", "-", "-"]
    assert "\x1b" not in "".join(lines)


def test_weights_that_a_release_goes_live_with_are_news_and_a_row_below_it(site):
    folder, journal = site
    with subprocess.Popen(command(folder), stdout=subprocess.PIPE, text=True) as watching:
        while not watching.stdout.readline().startswith("iris"):
            pass
        journal.weights_live(IRIS, weights(), time.time())
        while not (line := watching.stdout.readline()).startswith("iris-weights"):
            assert line
        watching.send_signal(signal.SIGINT)
        watching.wait(60)
    assert line.split()[:4] == ["iris-weights", "2026.1", "Live", "weights"]


def test_without_a_journal_there_is_nothing_to_begin_with(site):
    folder, _ = site
    (folder / "controller.toml").write_text('[paths]\nstate = "elsewhere"\n')
    done = subprocess.run(command(folder), check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 69
    assert "error: " in done.stderr


def test_on_a_terminal_it_stays_up_to_date_until_it_is_interrupted(site):
    folder, journal = site
    screen = Screen(command(folder))
    eventually(lambda: "AnswersAtRoute" in screen.said and "1/2" in screen.said)
    assert "\x1b[?1049h" in screen.raw  # a screen of its own, the scrollback stays clean
    step(journal, Phase.RETIRING, "SuccessorLive", time.time())
    eventually(lambda: "SuccessorLive" in screen.said)
    assert screen.interrupt() == 130
    assert "\x1b[?1049l" in screen.raw


class Screen:
    """A program on a terminal of its own."""

    def __init__(self, arguments):
        main, side = pty.openpty()
        self._main = main
        self.raw = ""
        self._process = subprocess.Popen(
            arguments,
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"},
        )
        os.close(side)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    @property
    def said(self):
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw)

    def interrupt(self):
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(60)
        self._thread.join(60)
        os.close(self._main)
        return code

    def _read(self):
        while True:
            try:
                data = os.read(self._main, 1 << 16)
            except OSError:  # the other side is closed
                return
            self.raw += data.decode(errors="replace")


# -- how Ray's absence shows ---------------------------------------------------------------------


def test_a_dashboard_that_is_away_is_said_and_comes_back(ray, monkeypatch):
    monkeypatch.setattr("controller.cli.watching.BESIDE_INTERVAL", 0.05)
    ray.answers.pop(APPLICATIONS)
    with Watch(RayOptions(dashboard_url=ray.url)) as watch:
        watch.wait()
        assert watch.seen.replicas == {}
        assert "replicas are not known" in watch.seen.note
        ray.says(APPLICATIONS, applications("RUNNING"))
        eventually(lambda: watch.seen.replicas == {NAME: (1, 1)})
        assert watch.seen.note == ""


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(0, "0"), (0.034, "0.034"), (3.14159, "3.1"), (12.3, "12"), (8123.4, "8,123")],
)
def test_rates_have_digits_that_say_something(per_second, text):
    assert rate(per_second) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0004, "0.4 ms"), (0.0123, "12 ms"), (0.23, "230 ms"), (2.14, "2.1 s")]
)
def test_durations_have_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text
