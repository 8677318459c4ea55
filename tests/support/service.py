"""The API over a real journal on a real Unix socket, with passes that a test makes up."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from packaging.version import Version

from controller.api import Api, ApiContext
from controller.config.settings import Config
from controller.daemon.passes import Passes
from controller.journal import DaemonStatus, Journal
from controller.model import (
    Listing,
    Phase,
    Quarantine,
    Release,
    Revision,
    Transition,
)
from controller.planning.plan import Cause, Change, Plan, PlannedApplication
from controller.reconcile.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME, ROUTE = "iris-1.4-0123abcd", "/predict/iris/1.4"
READY = Cause("ExamplesPassed", "it is ready")
PLAN = Plan(
    (PlannedApplication({"name": NAME, "route_prefix": ROUTE}, READY),),
    (Change("add", NAME, READY, route=ROUTE),),
)


def release(version: str, pipeline: str = "iris") -> Release:
    """A release whose digest follows from its version."""
    return Release(pipeline, Version(version), version.replace(".", "").ljust(64, "0"))


def revision(version: str, pipeline: str = "iris") -> Revision:
    """The listed wheel of `release`."""
    of = release(version, pipeline)
    filename = f"{pipeline}-{version}-py3-none-any.whl"
    return Revision("shelf", pipeline, of.version, filename, filename, of.digest, 10)


def fill(journal: Journal) -> None:
    """iris 1.3 and 1.4 are live, 1.2 was; 1.5 failed, 1.1 was live and is listed no more."""
    now = time.time()
    for version, phase in (("1.1", Phase.RETIRED), ("1.2", Phase.RETIRED)):
        reach(journal, version, Phase.LIVE, now - 500)
        reach(journal, version, phase, now - 400)
    for version in ("1.3", "1.4"):
        reach(journal, version, Phase.LIVE, now - 300)
    failed = Quarantine(
        release("1.5"), "stage", "LoadFailed", "no model.bin", "i", "secret\n", now - 200
    )
    journal.add_quarantine(failed)
    journal.record(
        Transition(release("1.5"), Phase.QUARANTINED, "LoadFailed", "no model.bin"), now - 200
    )
    listed = tuple(revision(version) for version in ("1.5", "1.4", "1.3", "1.2"))
    journal.save_listing(Listing("shelf", listed), now)
    journal.sent(journal.sending("applications: []\n", "ab12" * 16, "add iris-1.4-x: staged", now))
    journal.set_status(DaemonStatus(7, now, "2 live", 0.1, 1, "0.1.0", now - 900))


def reach(journal: Journal, version: str, phase: Phase, at: float) -> None:
    """A release of iris enters a phase."""
    moved = Transition(release(version), phase, "AsPlanned", "as said", f"iris-{version}-x")
    journal.record(moved, at, source="shelf")


class Service:
    """A daemon's outside without its inside: each wake-up is a pass that finds `report`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.report = Report("2 live", 5.0, plan=PLAN)
        self.passes = Passes(self._make_a_pass, lambda: 60.0, reload=self._take_up)
        self.config = Config()
        self.made = 0

    def _take_up(self) -> None:
        self.passes.reloaded(self.passes.reloads(), None)

    def _make_a_pass(self) -> None:
        self.passes.wanted()
        self.made += 1
        self.passes.ended(self.made, self.report, complete=True)

    @contextmanager
    def inside(self) -> Iterator[ApiContext]:
        """What the application works with, over this folder's journal."""
        with Journal.read(self.folder) as reader, Journal.amend(self.folder) as writer:
            yield ApiContext(reader, writer, self.passes, lambda: self.config)

    @contextmanager
    def serving(self) -> Iterator[httpx.Client]:
        """The API as the configuration has it, and a client on its Unix socket."""
        with self.inside() as inside:
            api = Api(inside, state=self.folder)
            try:
                assert api.apply(self.config.api) == ()
                with on_socket(self.config.api.path(self.folder)) as client:
                    yield client
            finally:
                self.passes.over()
                api.close()


def on_socket(path: Path) -> httpx.Client:
    """A client whose every connection is the Unix socket."""
    transport = httpx.HTTPTransport(uds=str(path))
    return httpx.Client(transport=transport, base_url="http://wheelway", timeout=30)


def problem(answer: httpx.Response) -> tuple[int, str]:
    """The status and the reason of an error, which is told as RFC 9457 has it."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["title"]
    assert document["detail"]
    return answer.status_code, document["reason"]
