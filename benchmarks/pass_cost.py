"""What a pass of the daemon costs, however much is listed, served and over.

    timeout 1800 python benchmarks/pass_cost.py [--pipelines 10 100 1000 5000] [--rounds 5]
        [--only SECTION ...] [--json FILE]

Election, planning, rendering, the check against Ray's schema, the journal (SQLite, on this disk),
metrics and the log's part are the daemon's own, each pass as its loop makes it. Of paper are what
a pass waits for: sources list what they are given, wheels and environments are there without any
bytes, and the head (that of the tests) answers the dashboard's client in the same thread; its own
time is not counted. Each pipeline has ten versions listed, of which policy keeps the newest two.

    quiet      a pass with nothing to do, at each number of pipelines; the passes from nothing to
               everything live, a pipeline; an overview as `status --watch` draws it each second
    release    one new release at 1,000 pipelines: all passes from its listing until nothing is on
               its way any more (staged, promoted, its elder retired: three configs), and the
               dearest of them
    one-wheel  the same when one wheel carries all 1,000 pipelines
    past       a pass with nothing to do at 100 pipelines, beside 20,000 old releases in the journal
               that all failed once
    memory     resident, at 1,000 pipelines after a new release, of a process that has imported all
               that the daemon has; the head is another one, and dashboard and ingress are asked
               over loopback

CPU milliseconds of the whole process, medians of the rounds. The exit code is 0 whatever comes of
it: machines are noisy. `--json` has the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Self

import httpx
from packaging.version import Version
from served_folder import machine

from controller import heap
from controller.account.overview import as_document, from_document, overview
from controller.assembly import Assembly
from controller.cache.base import detect
from controller.config import Config
from controller.jobs import Jobs
from controller.journal import DaemonStatus, Journal
from controller.model import (
    Answer,
    Artifact,
    Environment,
    Listing,
    Phase,
    PipelineEntry,
    Quarantine,
    Release,
    Revision,
    Transition,
)
from controller.parts import Parts
from controller.reconciler import Reconciler
from controller.serve import schema
from controller.serve.application import release_of
from controller.serve.dashboard import Dashboard
from controller.serve.ingress import Ingress
from controller.serve.rendering import Renderer
from controller.supply import Means, Supply
from controller.telemetry import Telemetry
from tests.support.paper_head import PaperHead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from controller.model import JSON
    from controller.report import Report

VERSIONS = 10
SIZES = (10, 100, 1000, 5000)
AT = 1000
"""Pipelines where a limit is set."""
PAST, BESIDE_PAST = 20_000, 100
ROUNDS = 5
WAY = 40
"""Passes at most until nothing is on its way."""
ON_THE_WAY = {Phase.PREPARED, Phase.STAGED, Phase.READY, Phase.RETIRING}


# -- what is of paper ----------------------------------------------------------------------------


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
        self._connect()
        self.journal = self._parts.enter_context(Journal.open(config.paths.state))
        self.jobs = Jobs(0, lambda: None, clock=self.clock)
        self.supply = Supply(
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
            supply=self.supply,
            dashboard=self.dashboard,
            ingress=self.ingress,  # type: ignore[arg-type]  # as much of it as is asked
            renderer=Renderer(None),
            journal=self.journal,
            tags=self.base.tags,
            fingerprint="benchmark",
            clock=self.clock,
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
            self.supply,
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
        self.supply.look_again(self.source.name)
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

    def resident(self) -> float:
        """Mebibytes of this process."""
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * 4096 / 2**20

    def publish(self, number: int) -> None:
        """A newer version of the first project."""
        one = revision("team-0", f"1.{VERSIONS + number}")
        self.source.revisions = [*self.source.revisions, one]


class Apart(Daemon):
    """A daemon whose head is another process."""

    def _connect(self) -> None:
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


# -- what is measured ----------------------------------------------------------------------------


def quiet(folder: Path, sizes: Sequence[int], rounds: int) -> JSON:
    """By the number of pipelines."""
    found = {}
    for size in sizes:
        with Daemon(folder / f"quiet-{size}", size) as daemon:
            first = daemon.settle()
            found[size] = {
                "pass": daemon.quiet(rounds),
                "watch": 1000 * median(_overview(daemon) for _ in range(rounds)),
                "first": 1000 * first / size,
            }
    return found


def _overview(daemon: Daemon) -> float:
    """CPU seconds of what the API and `status --watch` do for each drawing, but for the screen."""
    began = time.process_time()
    seen = overview(daemon.journal, lambda: daemon.config, daemon.clock(), everything=False)
    from_document(json.loads(json.dumps(as_document(seen))))
    return time.process_time() - began


def release(folder: Path, rounds: int, *, wheels: int = AT) -> JSON:
    """At 1,000 pipelines in so many wheels."""
    with Daemon(folder / f"release-{wheels}", AT, wheels=wheels) as daemon:
        daemon.settle()
        idle, took, dearest = daemon.quiet(rounds), [], []
        for number in range(rounds):
            daemon.publish(number)
            took.append(daemon.settle())
            dearest.append(daemon.dearest)
    return {"pass": idle, "release": 1000 * median(took), "dearest": 1000 * median(dearest)}


def past(folder: Path, rounds: int) -> JSON:
    """A pass without and with old releases in the journal."""
    with Daemon(folder / "past", BESIDE_PAST) as daemon:
        daemon.settle()
        without = daemon.quiet(rounds)
        _fill(daemon.journal)
        daemon.telemetry.told = daemon.journal.last_event()
        return {"without": without, "with": daemon.quiet(rounds)}


def _fill(journal: Journal) -> None:
    with journal.transaction():
        for number in range(PAST):
            old = Release(
                f"pipeline-{number % BESIDE_PAST}", Version(f"0.{number}"), f"{number:064x}"
            )
            for phase in (Phase.DISCOVERED, Phase.FETCHED, Phase.LIVE, Phase.RETIRED):
                step = Transition(old, phase, "Past", "it is over", "gone")
                journal.record(step, 1.0, source="paper")
            stage = "inspect" if number % 2 else "stage"
            journal.add_quarantine(
                Quarantine(old, stage, "LoadFailed", "it failed", "", "a line\n" * 30, 1.0)
            )


def memory(folder: Path) -> JSON:
    """Resident mebibytes of a process of its own."""
    command = [sys.executable, __file__, "--resident", str(folder / "memory")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def resident(folder: Path) -> float:
    """Mebibytes after a release at 1,000 pipelines."""
    heap.return_large()
    schema.preload()
    heap.give_back()
    with _head() as Apart.head_url, Apart(folder, AT) as daemon:
        daemon.settle()
        daemon.publish(0)
        daemon.settle()
        return daemon.resident()


@contextmanager
def _head() -> Iterator[str]:
    """The address of a head in a process of its own."""
    command = [sys.executable, __file__, "--head"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as head:
        assert head.stdout is not None
        yield head.stdout.readline().strip()
        head.communicate("")  # its input ends, and so does it


def be_head() -> None:
    with PaperHead() as head:
        print(head.dashboard_url, flush=True)
        sys.stdin.read()


# -- the run -------------------------------------------------------------------------------------

SECTIONS = ("quiet", "release", "one-wheel", "past", "memory")


def measured(folder: Path, sections: Sequence[str], sizes: Sequence[int], rounds: int) -> JSON:
    run = {
        "quiet": lambda: quiet(folder, sizes, rounds),
        "release": lambda: release(folder, rounds),
        "one-wheel": lambda: release(folder, rounds, wheels=1),
        "past": lambda: past(folder, rounds),
        "memory": lambda: memory(folder),
    }
    found = {}
    for section in sections:
        found[section] = run[section]()
        print(f"{section}: {json.dumps(found[section])}", flush=True)
    return found


def table(found: JSON) -> str:
    """Markdown, for docs/benchmarks.md."""
    lines = [
        "| pipelines | a pass ms | ms a pipeline | to live, ms a pipeline | `status --watch` ms |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {size:,} | {one['pass']:,.1f} | {one['pass'] / size:.3f} | {one['first']:.1f} "
        f"| {one['watch']:,.1f} |"
        for size, one in found.get("quiet", {}).items()
    ]
    others = []
    for section in ("release", "one-wheel", "past"):
        figures = [f"{name} {value:,.1f} ms" for name, value in found.get(section, {}).items()]
        others.append(f"- {section}: {', '.join(figures) or 'not measured'}")
    if "memory" in found:
        others.append(f"- memory: {found['memory']:,.0f} MB resident")
    return "\n".join([*lines, "", *others])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a pass of the daemon costs.")
    parser.add_argument("--pipelines", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", nargs="+", default=SECTIONS, choices=SECTIONS)
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    parser.add_argument("--resident", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--head", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.head:
        be_head()
        return
    heap.collect_seldom()  # as the daemon does
    if options.resident is not None:
        import_module("controller.daemon")  # and so all that it imports
        print(resident(options.resident))
        return
    before = machine()
    with tempfile.TemporaryDirectory(prefix="wheelway-pass-cost-") as folder:
        found = measured(Path(folder), options.only, sorted(options.pipelines), options.rounds)
    print(f"\n{before} before, {machine().rpartition(' average ')[2]} after\n")
    print(f"{table(found)}\n")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
