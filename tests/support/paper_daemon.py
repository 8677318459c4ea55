"""A daemon whose sources, wheels and head are of paper: for what its passes cost.

Election, planning, rendering, the check against Ray's schema, the journal (SQLite, on this disk),
metrics and the log's part are the daemon's own, each pass as its loop makes it. Of paper are what
a pass waits for: sources list what they are given, wheels and environments are there without any
bytes, and the head answers the dashboard's client in the same thread; its own time is not counted.
Each pipeline has ten versions listed, of which policy keeps the newest two.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Self

import httpx
from packaging.version import Version

from controller.cache.environments.base import detect
from controller.config.settings import Config
from controller.journal import DaemonStatus, Journal
from controller.model import Artifact, Environment, Listing, Phase, PipelineEntry, Revision
from controller.observed import Answer
from controller.planning.daemons import DaemonMark
from controller.reconcile.artifacts import Artifacts, Means
from controller.reconcile.assembly import Assembly
from controller.reconcile.jobs import Jobs
from controller.reconcile.parts import Parts
from controller.reconcile.reconciler import Reconciler
from controller.serve.application import release_of
from controller.serve.dashboard import Dashboard
from controller.serve.ingress import Ingress
from controller.serve.outline import Schema
from controller.serve.rendering import Renderer
from controller.serve.schema_process import SchemaProcess
from controller.telemetry.observer import Telemetry
from tests.support.paper_head import PaperHead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from controller.reconcile.report import Report

VERSIONS = 10
MARK = DaemonMark("paper", 1.0, "here")
"""Whose the applications are, as each daemon that is not a preview says."""
WAY = 40
"""Passes at most until nothing is on its way."""
ON_THE_WAY = {Phase.PREPARED, Phase.STAGED, Phase.READY, Phase.RETIRING}


class Clock:
    """The wall's and the monotonic one: five seconds lie between two passes."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Listed:
    """A source that lists what it is given."""

    name = "paper"
    poll_interval = 30.0
    watch_note = ""
    calls: dict[str, int] = {}  # noqa: RUF012 - nobody writes to it

    def __init__(self) -> None:
        self.revisions: list[Revision] = []

    def list(self) -> Listing:
        return Listing(self.name, tuple(self.revisions))

    def fetch(self, revision: Revision) -> Iterator[bytes]:
        raise NotImplementedError(revision.filename)

    def watch(self, wake: Callable[[], None]) -> None:
        del wake

    def close(self) -> None:
        pass


class InProcess(httpx.BaseTransport):
    """The paper head without a wire. What it takes to answer is `spent`, and nobody's cost."""

    def __init__(self, head: PaperHead) -> None:
        self._head = head
        self.spent = 0.0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        began = time.process_time()
        url = request.url
        reply = self._head.answer(request.method, url.path, url.query.decode(), request.read())
        assert reply is not None
        status, headers, text = reply
        response = httpx.Response(status, headers=headers, content=text.encode())
        self.spent += time.process_time() - began
        return response


class Probed:
    """The ingress: whoever is configured at a route answers there."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}

    def probe(self, route: str) -> Answer:
        return self.answers.get(route, Answer(None, 404))

    def vouched(self, answers: dict[str, Answer], applications: object) -> dict[str, Answer]:
        del applications
        return answers

    def took(self, config: dict[str, Any]) -> None:
        """A config was sent: its routes lead where it says."""
        self.answers = {
            document["route_prefix"]: Answer(release.header, 200, document["name"])
            for document in config["applications"]
            if document["route_prefix"] and (release := release_of(document))
        }


def revision(project: str, version: str) -> Revision:
    name = project.replace("-", "_")
    digest = hashlib.sha256(f"{project} {version}".encode()).hexdigest()
    filename = f"{name}-{version}-py3-none-any.whl"
    return Revision("paper", project, Version(version), filename, filename, digest, 10_000)


def artifact(one: Revision, pipelines: Sequence[str]) -> Artifact:
    target = f"{one.project.replace('-', '_')}.pipeline:Pipeline"
    return Artifact(
        digest=one.sha256,
        project=one.project,
        version=one.version,
        filename=one.filename,
        size=10_000,
        wheel=Path("/var/cache/wheelway/wheels") / one.sha256 / one.filename,
        tree=Path("/var/cache/wheelway/trees") / one.sha256,
        record_digest=one.sha256[::-1],
        requires=("numpy>=1",),
        pipelines=tuple(PipelineEntry(n, target, {"num_replicas": 1}, {"n": 1}) for n in pipelines),
    )


# -- one daemon ----------------------------------------------------------------------------------


class Daemon:
    """The parts of a daemon, as `assembly` puts them together; use it as a context."""

    head_url = "http://127.0.0.1:1"

    def __init__(self, folder: Path, pipelines: int, *, wheels: int | None = None) -> None:
        """`wheels`: how many projects the pipelines are spread over; default: one each."""
        self.pipelines, self.wheels = pipelines, wheels or pipelines
        self.folder, self.clock, self.source = folder, Clock(), Listed()
        self.received = self.prepared = 0
        self._parts, self._number = ExitStack(), 0
        self.dearest = 0.0
        """CPU seconds of the dearest pass of the last `settle`."""
        self._sent = 0

    def __enter__(self) -> Self:
        config = Config(
            ray={"dashboard_url": self.head_url, "ingress_url": self.head_url},
            paths={"cache": self.folder / "cache", "state": self.folder / "state"},
            rollout={"max_staging": 1_000_000},
        )
        config.paths.cache.mkdir(parents=True)
        self.base = detect(None)
        self.config = config
        self.schema = Schema()
        self._connect()
        self.journal = self._parts.enter_context(Journal.open(config.paths.state))
        self.jobs = Jobs(0, lambda: None, clock=self.clock)
        self.artifacts = Artifacts(
            [self.source],
            self.jobs,
            Means(
                receive=self._receive,
                prepare=self._prepare,
                is_sound=lambda _: True,
                mend=lambda *_: False,
                prune=lambda *_: None,
            ),
            remembered={},
            clock=self.clock,
            wall_clock=self.clock,
        )
        self.reconciler = self._reconciler()
        self.telemetry = self._parts.enter_context(
            Telemetry(config, self.journal, version="benchmark")
        )
        for project in range(self.wheels):
            for number in range(VERSIONS):
                self.source.revisions.append(revision(f"team-{project}", f"1.{number}"))
        return self

    def __exit__(self, *_: object) -> None:
        self.reconciler.close()
        self._parts.close()

    def _connect(self) -> None:
        """To a head of paper in this process."""
        self.head = PaperHead()
        self.ingress: Probed | Ingress = Probed()
        self.wire = InProcess(self.head)
        client = httpx.Client(base_url=self.head_url, transport=self.wire)
        self.dashboard = Dashboard(client)
        self._parts.callback(self.dashboard.close)

    def _spent(self) -> float:
        """CPU seconds that went into what is of paper."""
        return self.wire.spent

    def _seen(self) -> None:
        """A pass is over: the ingress leads where its config says."""
        if len(self.head.puts) != self._sent and isinstance(self.ingress, Probed):
            self.ingress.took(self.head.puts[-1])
            del self.head.puts[:-1]
            self._sent = len(self.head.puts)

    def _reconciler(self) -> Reconciler:
        return Reconciler(
            self.config,
            artifacts=self.artifacts,
            dashboard=self.dashboard,
            ingress=self.ingress,  # type: ignore[arg-type]  # as much of it as is asked
            renderer=Renderer(self.folder / "templates", schema=self.schema, mark=MARK),
            journal=self.journal,
            tags=self.base.tags,
            fingerprint="benchmark",
            clock=self.clock,
            mark=MARK,
        )

    def _receive(self, source: object, one: Revision) -> Artifact:
        del source
        self.received += 1
        each = self.pipelines // self.wheels
        first = int(one.project.removeprefix("team-")) * each
        return artifact(one, [f"pipeline-{number}" for number in range(first, first + each)])

    def _prepare(self, one: Artifact) -> Environment:
        del one
        self.prepared += 1
        return Environment("", None)

    def pass_(self) -> tuple[float, Report]:
        """One pass as the daemon's loop makes it; CPU seconds, less those of what is of paper."""
        self.clock.now += 5.0
        self._number += 1
        began, spent = time.process_time(), self._spent()
        report = self.reconciler.run_pass()
        assembly = Assembly(
            self.reconciler,
            self.artifacts,
            self.jobs,
            self.dashboard,
            self.base,
            (self.source,),
            Parts(),
        )
        self.telemetry.observe(report, assembly, duration=0.1)
        status = DaemonStatus(self._number, self.clock(), report.sentence, 0.1, 1, "benchmark", 0)
        self.journal.set_status(status, told=self.telemetry.told)
        took = time.process_time() - began - (self._spent() - spent)
        if report.error is not None or report.failed:
            raise SystemExit(f"the benchmark is broken: {report.sentence} {report.error}")
        self._seen()
        return took, report

    def settle(self) -> float:
        """Passes until nothing is on its way; their CPU seconds."""
        self.artifacts.request_poll(self.source.name)
        total = self.dearest = 0.0
        for _ in range(WAY):
            took, report = self.pass_()
            total += took
            self.dearest = max(self.dearest, took)
            if _rests(report):
                return total
        raise SystemExit(f"the benchmark is broken: never at rest: {report.sentence}")

    def quiet(self, rounds: int) -> float:
        """Milliseconds of a pass with nothing to do."""
        for _ in range(2):  # what is taken once in a while
            self.pass_()
        return 1000 * median(self.pass_()[0] for _ in range(rounds))

    def publish(self, number: int) -> None:
        """A newer version of the first project."""
        one = revision("team-0", f"1.{VERSIONS + number}")
        self.source.revisions = [*self.source.revisions, one]


class Apart(Daemon):
    """A daemon whose head is another process, as Ray's schema is, where it is with a real one."""

    def _connect(self) -> None:
        self.asker = SchemaProcess()
        self._parts.callback(self.asker.close)
        self.schema = Schema(self.asker)
        self.dashboard = Dashboard.connect(self.config.ray)
        self._parts.callback(self.dashboard.close)
        self.ingress = ingress = Ingress.connect(self.config.ray)
        self._parts.callback(ingress.close)

    def _spent(self) -> float:
        return 0.0

    def _seen(self) -> None:
        """Its ingress sees to itself."""


def _rests(report: Report) -> bool:
    if report.plan is None or report.plan.changes or report.sent:
        return False
    return not {transition.phase for transition in report.plan.transitions} & ON_THE_WAY
