"""What the whole run shares: how random its tests are, and one real Ray head for those of `ray`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import settings

from controller.serve.head import Tuning, start
from controller.serve.subreaper import descendants

# Modules that tests share are imported by their bare name; tests themselves are not a package.
sys.path.insert(0, str(Path(__file__).parent / "support"))

# A run is the same every time; new histories are sought by `make explore`, with time to find some.
settings.register_profile("repeatable", max_examples=120, derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=3000, deadline=None, print_blob=True)
settings.load_profile("repeatable")

IMPATIENT = {"RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1"}
"""Serve starts a replica that fails three times before it says so; here once is enough."""


@pytest.hookimpl(tryfirst=True)  # xdist looks at the groups in a hook of its own
def pytest_collection_modifyitems(items):
    """Tests that share something go to one worker, in their order."""
    for item in items:
        for shared in ("ray", "system"):
            if item.get_closest_marker(shared):
                item.add_marker(pytest.mark.xdist_group(shared))


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
    """A head of this run's own, HAProxy ingress and all; other heads may run beside it.

    It has 16 logical CPUs whatever the machine has, so that no test waits for another's replicas.
    """
    running = start(Tuning(num_cpus=16, environment=IMPATIENT), isolated=True, deadline=240)
    processes = descendants(running.pid)
    assert processes
    yield running
    processes |= descendants(running.pid)
    running.stop()
    left = {pid for pid in processes if Path(f"/proc/{pid}").exists()}
    assert not left, f"the head left processes behind: {left}"
