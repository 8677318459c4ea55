"""Waiting for a real head to show what a test wants, with a deadline instead of a sleep."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.observed import Application
    from controller.serve.dashboard import Dashboard

T = TypeVar("T")

CPUS = 4
"""Logical ones of the run's head, whatever the machine has: replicas of tests take a twentieth, and
Ray starts a process for each CPU beforehand."""


def eventually(look: Callable[[], T], deadline: float = 90.0) -> T:
    """What `look` returns, once that is true; AssertionError after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not (seen := look()):
        assert time.monotonic() < end, f"not within {deadline:g} s; last seen: {seen!r}"
        time.sleep(0.05)
    return seen


def application(dashboard: Dashboard, name: str) -> Application | None:
    """The application of that name, if the cluster has it."""
    return next((app for app in dashboard.applications() if app.name == name), None)
