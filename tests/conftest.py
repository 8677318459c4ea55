"""What the whole run shares: one real Ray head, for the tests marked `ray`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from controller.serve.head import Tuning, start
from controller.serve.subreaper import descendants

# Modules that tests share are imported by their bare name; tests themselves are not a package.
sys.path.insert(0, str(Path(__file__).parent / "support"))


IMPATIENT = {"RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1"}
"""Serve starts a replica that fails three times before it says so; here once is enough."""


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
