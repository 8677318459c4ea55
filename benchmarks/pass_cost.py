"""What a pass of the daemon costs, however much is listed, served and over.

    timeout 1800 python benchmarks/pass_cost.py [--pipelines 10 100 1000 5000] [--rounds 5]
        [--only SECTION ...] [--json FILE]

The daemon is real, but for what its passes wait for (`tests/support/paper_daemon.py`); Ray's schema
is asked in the same process, so that the time of it is counted. Each pipeline has ten versions
listed, of which policy keeps the newest two.

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
               over loopback. Beside it: the process that has Ray's schema, which is there while
               something new is on its way

CPU milliseconds of the whole process, medians of the rounds. The exit code is 0 whatever comes of
it: machines are noisy. `--json` has the figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from packaging.version import Version
from served_folder import machine

from controller.daemon import heap
from controller.model import Phase, Quarantine, Release, Transition
from controller.ops.status import tell
from tests.support.paper_daemon import Apart, Daemon
from tests.support.paper_head import PaperHead

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from controller.journal import Journal
    from controller.model import JSON

SIZES = (10, 100, 1000, 5000)
AT = 1000
"""Pipelines where a limit is set."""
PAST, BESIDE_PAST = 20_000, 100
ROUNDS = 5


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
    seen = tell(daemon.journal, lambda: daemon.config, daemon.clock(), everything=False)
    json.loads(json.dumps(seen))
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
    """Resident mebibytes of processes of their own: the daemon's, and that of Ray's schema."""
    command = [sys.executable, __file__, "--resident", str(folder / "memory")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    daemon, beside = done.stdout.split()[-2:]
    return {"daemon": float(daemon), "beside": float(beside)}


def resident(folder: Path) -> tuple[float, float]:
    """Mebibytes after a release at 1,000 pipelines."""
    heap.return_large()
    with _head() as Apart.head_url, Apart(folder, AT) as daemon:
        daemon.settle()
        daemon.schema.expect()
        daemon.publish(0)
        daemon.settle()
        return mebibytes("self"), mebibytes(daemon.asker.pid)


def mebibytes(process: object) -> float:
    """Resident, of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


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
    for section, unit in (("release", "ms"), ("one-wheel", "ms"), ("past", "ms"), ("memory", "MB")):
        figures = [f"{name} {value:,.1f} {unit}" for name, value in found.get(section, {}).items()]
        others.append(f"- {section}: {', '.join(figures) or 'not measured'}")
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
        import_module("controller.daemon.loop")  # and so all that it imports
        print(*resident(options.resident))
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
