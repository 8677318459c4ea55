"""What the whole run shares: how random its tests are, in which order they come, and the real
Ray heads for those of `ray`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from functools import cache
from itertools import groupby
from pathlib import Path

import httpx
import pytest
from httpx import create_ssl_context
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from controller.rayhead.head import Tuning, start
from controller.rayhead.subreaper import descendants
from tests.support.head import CPUS

# Modules that tests share are imported by their bare name; tests themselves are not a package.
sys.path.insert(0, str(Path(__file__).parent / "support"))

# A shell that starts a run in the background has it ignore SIGINT, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A run is the same every time; new histories are sought by `make explore`, with time to find some.
settings.register_profile("repeatable", max_examples=120, derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=3000, deadline=None, print_blob=True)
settings.load_profile("repeatable")

IMPATIENT = {
    # Serve starts a replica that fails three times before it says so; here once is enough.
    "RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1",
    # So long a retired replica is kept for proxies and clients to forget it; 30 s where it serves.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "8",
    # So long Ray waits for a process to begin, also for one whose interpreter is gone; else 60 s.
    "RAY_worker_register_timeout_seconds": "10",
}

LONG = {
    *("test_authors_guide", "test_author_options", "test_beside_head", "test_broken_streams"),
    *("test_cli", "test_clock_steps", "test_codeartifact_daemon", "test_daemon_edits"),
    *("test_environments", "test_gates", "test_growth", "test_index_servers", "test_killed"),
    *("test_renewed_cache", "test_rollout_histories", "test_supervisor", "test_weights_histories"),
    *("test_weights_in_replicas", "test_weights_passes"),
}
"""Files of unit tests that take longest; most of that they wait."""

SECOND_HEAD = "tests/ray: the second head"
ON_SECOND_HEAD = (
    "test_bad_input",
    "test_batches",
    "test_migrating",
    "test_streams",
    "test_weights",
)
"""How the files begin whose tests share a head beside that of all others: about half of the time.
More heads at once make two cores slower than they make the run quicker.
"""


@cache
def authorities(environment, **how):
    """Those that a client of HTTP trusts, as the environment has it."""
    return create_ssl_context(**how)


def authorities_once(**how):
    """In place of httpx's: to read them takes longer than most exchanges, and a run makes thousands
    of clients.
    """
    if how.get("verify", True) is not True:
        return create_ssl_context(**how)
    return authorities((os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")), **how)


httpx.create_ssl_context = httpx._transports.default.create_ssl_context = authorities_once


class ByHead(LoadScopeScheduling):
    """For xdist: what shares a head or a machine goes to one worker, all else file by file. With
    one head for all tests of `ray`, these would take longer than all others together.
    """

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        if file.startswith("tests/unit/"):
            return file
        second = Path(file).name.startswith(ON_SECOND_HEAD)
        return SECOND_HEAD if second else str(Path(file).parent)


def pytest_addoption(parser):
    parser.addoption("--shuffle", metavar="SEED", help="unit tests in an order that SEED decides")
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden/ anew instead of comparing"
    )


def pytest_report_header(config):
    seed = config.getoption("shuffle")
    return f"unit tests in another order: --shuffle={seed}" if seed else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """First what shares a head or a machine, whose tests build on each other and take longest; then
    the files of unit tests, the long ones first, so that no worker is left with one at the end.
    With a seed, the files of unit tests are in an order of its own, and in each its tests.
    """
    files = [list(tests) for _, tests in groupby(items, key=lambda item: item.path)]
    units = [tests for tests in files if tests[0].get_closest_marker("unit")]
    others = [tests for tests in files if not tests[0].get_closest_marker("unit")]
    if seed := config.getoption("shuffle"):
        order = random.Random(seed)
        order.shuffle(units)
        for tests in units:
            order.shuffle(tests)
    long = [tests for tests in units if tests[0].path.stem in LONG]
    short = [tests for tests in units if tests[0].path.stem not in LONG]
    items[:] = [test for tests in (*others, *long, *short) for test in tests]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return ByHead(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What tests print or log goes from xdist's workers in UTF-8; some of it is not meant to be."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def pytest_terminal_summary(terminalreporter):
    """Say how many of the tests that not every machine permits ran; .ci/run looks for this line."""
    ran = {
        result: sum("system" in getattr(one, "keywords", ()) for one in reports)
        for result, reports in terminalreporter.stats.items()
        if result in {"passed", "failed", "error"}
    }
    if any(ran.values()):
        told = ", ".join(f"{count} {result}" for result, count in ran.items() if count)
        terminalreporter.write_line(f"tests marked system: {told}")


@pytest.fixture(scope="session")
def head():
    """A head of this run's own, HAProxy ingress and all; other heads may run beside it."""
    running = start(Tuning(num_cpus=CPUS, environment=IMPATIENT), isolated=True, deadline=240)
    processes = descendants(running.pid)
    assert processes
    yield running
    processes |= descendants(running.pid)
    running.stop()
    left = {pid for pid in processes if Path(f"/proc/{pid}").exists()}
    assert not left, f"the head left processes behind: {left}"
