"""Constant load on a route while something happens to it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Load:
    """What came of the requests: answers by release, and each failure in words."""

    answered: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    worst: float = 0.0
    """Seconds of the slowest request."""

    def note(self, outcome: httpx.Response | Exception, took: float) -> None:
        self.worst = max(self.worst, took)
        if isinstance(outcome, httpx.Response) and outcome.status_code == 200:
            release = outcome.headers["x-wheelway-release"]
            self.answered[release] = self.answered.get(release, 0) + 1
        elif isinstance(outcome, httpx.Response):
            self.failures.append(f"{outcome.status_code}: {outcome.text[:200]}")
        else:
            self.failures.append(repr(outcome))


@contextmanager
def load_on(url: str, clients: int = 4, *, pause: float = 0.0) -> Iterator[Load]:
    """POST to `url` from some clients with kept-alive connections, until the block ends.

    Each waits `pause` seconds between two requests: what is watched for long should leave the
    machine to what is tested.
    """
    load, ending, lock = Load(), threading.Event(), threading.Lock()

    def client() -> None:
        with httpx.Client(timeout=20) as http:
            while not ending.is_set():
                began = time.monotonic()
                try:
                    outcome: httpx.Response | Exception = http.post(url, json={"n": 1})
                except httpx.HTTPError as error:
                    outcome = error
                with lock:
                    load.note(outcome, time.monotonic() - began)
                ending.wait(pause)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        ending.set()
        for thread in threads:
            thread.join()
