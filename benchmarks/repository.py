"""The stand-in of CodeArtifact in a process of its own, so that its work is not measured as ours.

    python benchmarks/repository.py

reads a request from each line of stdin and answers each with a line of JSON; ends with stdin.
`Repository` is the other side. A wheel is a few bytes without meaning here: nobody downloads one.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from tests.support.codeartifact import Address, Shelf, StandIn
from tests.support.queues import events_queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.codeartifact import Version

VERSIONS = 50
"""Of each package."""


def names(packages: int) -> list[str]:
    """What the first so many packages are called."""
    return [f"acme-{number:04}" for number in range(packages)]


def fill(shelf: Shelf, packages: int) -> None:
    """Put so many packages there, each with its versions; those that are there already stay."""
    for name in names(packages):
        for number in range(VERSIONS):
            publish(shelf, name, f"1.{number}")


def publish(shelf: Shelf, name: str, version: str) -> Version:
    filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return shelf.store(filename, filename.encode())


def versions(packages: int) -> Iterator[Version]:
    """What `fill` puts there, as anybody can know without asking."""
    shelf = Shelf(Address(), time.time)
    fill(shelf, packages)
    for package in shelf.packages():
        yield from package.versions.values()


class Repository:
    """The process. A context manager that ends it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        told = self._line()
        self.url: str = told["url"]
        self.queue_url: str = told["queue_url"]
        os.environ |= told["environment"] | {"NO_PROXY": "127.0.0.1"}  # where boto3 looks first

    def fill(self, packages: int) -> None:
        """See the function."""
        self._ask("fill", packages)

    def served(self) -> dict[str, float]:
        """`calls` answered so far, `bytes` of their bodies, seconds of `cpu`."""
        return self._ask("served")

    def publish(self, name: str, version: str) -> float:
        """Publish a version; when it was there, in seconds since the epoch."""
        return float(self._ask("publish", name, version)["at"])

    def _ask(self, *request: object) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the stand-in's process has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)


def answer(standin: StandIn, told: dict[str, float], what: str, *rest: Any) -> dict[str, float]:
    """Do what was asked. Calls that were counted are forgotten: there will be many."""
    if what == "fill":
        fill(standin.shelf, *rest)
    elif what == "publish":
        # An event is sent by whoever publishes, here: the clock starts before it.
        at = time.time()
        publish(standin.shelf, *rest)
        return {"at": at}
    calls, standin.calls = standin.calls, []
    told["calls"] += len(calls)
    told["bytes"] += sum(call.size for call in calls)
    return told | {"cpu": time.process_time()}


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # moto's, a line for each request
    with ExitStack() as stack:
        standin = stack.enter_context(StandIn())
        queue = stack.enter_context(events_queue(standin))
        standin.shelf.listeners, push = [], standin.shelf.listeners
        told = {"calls": 0.0, "bytes": 0.0}
        say({"url": standin.url, "queue_url": queue, "environment": standin.environment})
        for line in sys.stdin:
            request = json.loads(line)
            # Filling tells nobody: so many events would only keep the queue busy.
            standin.shelf.listeners = push if request[0] == "publish" else []
            say(answer(standin, told, *request))


def say(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    main()
