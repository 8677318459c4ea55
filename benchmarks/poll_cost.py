"""What a steady poll of CodeArtifact costs, and how long a published version goes unnoticed.

    timeout 900 python benchmarks/poll_cost.py [--packages 10 100 1000] [--rounds 5] [--json FILE]

The source is the daemon's own, over boto3's real wire; the repository is the stand-in of the tests,
in a process of its own. Every package is named in the configuration and has 50 versions, known from
a run before. Nothing changes between two polls, so of each only the versions are listed.

For each number of packages, a poll's calls, the bytes of their answers, its CPU milliseconds (of
the whole process, threads included) and seconds: in each round all of them in turns, each as often
as it takes to ask about as many packages as the largest has; medians of the rounds. For noticing,
the seconds from the version's being there to its being in the daemon's listing, by polling every
2 seconds and by an event through SQS (moto's).

To reach: CPU for a package flat within 20 % from the fewest packages to the most; by an event
noticed within a second. The exit code is 0 whatever comes of it: machines are noisy. `--json` has
the figures.
"""

from __future__ import annotations

import argparse
import json
import random
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NoReturn

from packaging.tags import sys_tags
from packaging.version import Version
from repository import VERSIONS, Repository, names, versions
from served_folder import machine, until

from controller.config.sources import CodeArtifactSource as Options
from controller.model import Listing, Revision
from controller.reconcile.artifacts import Artifacts, Means
from controller.reconcile.jobs import Jobs
from controller.sources.codeartifact import CodeArtifactSource
from controller.sources.codeartifact.versions import Locator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROUNDS = 5
INTERVAL = 2.0
"""Seconds between two polls where polling is what notices."""
TRIALS = 5
WATCHED = 100
"""Packages of the source that is to notice."""
FLAT = 1.20
SOON = 1.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one poll."""

    packages: int
    calls: float
    kilobytes: float
    cpu: float
    """Milliseconds."""
    seconds: float

    @property
    def each(self) -> float:
        """CPU milliseconds for a package."""
        return self.cpu / self.packages


def opened(
    repository: Repository, packages: list[str], before: Listing | None = None, **more: object
) -> CodeArtifactSource:
    options = Options.model_validate(
        {
            "type": "codeartifact",
            "domain": "acme",
            "repository": "pipelines",
            "packages": packages,
            "endpoint_url": repository.url,
            **more,
        }
    )
    return CodeArtifactSource(options, list(sys_tags()), before=before)


def known(repository: Repository, packages: int) -> Listing:
    """The listing that an earlier run would have left, without its 50,000 requests."""
    with closing(opened(repository, names(1))) as source:
        [*revisions] = source.list().revisions
    choice = Locator.of(revisions[0].locator).choice
    revisions = []
    for one in versions(packages):
        [asset] = one.assets
        where = Locator(one.package, one.version, one.revision, asset.name, choice)
        revisions.append(
            Revision(
                source="codeartifact",
                project=one.package,
                version=Version(one.version),
                filename=asset.name,
                locator=str(where),
                sha256=asset.hashes["SHA-256"],
                size=len(asset.content),
            )
        )
    return Listing("codeartifact", tuple(revisions))


# -- what a poll costs ---------------------------------------------------------------------------


def costs(repository: Repository, sizes: Sequence[int], rounds: int) -> list[Cost]:
    """For each number of packages, the medians of the rounds."""
    before = known(repository, max(sizes))
    found: dict[int, list[Cost]] = {size: [] for size in sizes}
    with ExitStack() as stack:
        sources = {}
        for size in sizes:
            named = names(size)
            mine = replace(before, revisions=before.revisions[: size * VERSIONS])
            source = stack.enter_context(closing(opened(repository, named, mine)))
            # The first poll asks for more: it is not counted, but must find everything as known.
            assert len(source.list().revisions) == size * VERSIONS
            assert "ListPackageVersionAssets" not in source.calls
            sources[size] = source
        for _ in range(rounds):
            for size, source in sources.items():
                found[size].append(polled(repository, source, size, max(sizes) // size))
    return [_median(found[size]) for size in sizes]


def polled(repository: Repository, source: CodeArtifactSource, packages: int, times: int) -> Cost:
    """What so many polls took, for one."""
    served, cpu, began = repository.served(), time.process_time(), time.monotonic()
    for _ in range(times):
        source.list()
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    after = repository.served()
    calls, answered = (after[what] - served[what] for what in ("calls", "bytes"))
    return Cost(packages, calls / times, answered / times / 1000, cpu * 1000 / times, took / times)


def _median(found: list[Cost]) -> Cost:
    return Cost(*(median(column) for column in zip(*map(astuple, found), strict=True)))


# -- how long until it is noticed ----------------------------------------------------------------


@contextmanager
def watching(source: CodeArtifactSource) -> Iterator[Artifacts]:
    """The daemon's artifacts over a source, looked at when the daemon would."""
    woken, ending = threading.Event(), threading.Event()
    jobs = Jobs(1, woken.set)

    def hint() -> None:
        artifacts.request_poll(source.name)
        woken.set()

    def passes() -> None:
        while not ending.is_set():
            woken.clear()
            artifacts.poll()
            woken.wait(max(0.05, artifacts.next_poll()))

    artifacts = Artifacts(
        [source],
        jobs,
        Means(
            receive=_nothing_is_fetched,
            prepare=_nothing_is_fetched,
            is_sound=_nothing_is_fetched,
            mend=_nothing_is_fetched,
            prune=_nothing_is_fetched,
        ),
        remembered={},
    )
    thread = threading.Thread(target=passes, name="passes")
    thread.start()
    try:
        until(artifacts.complete)
        source.watch(hint)
        yield artifacts
    finally:
        ending.set()
        woken.set()
        thread.join()
        source.close()
        jobs.close()


def _nothing_is_fetched(*_: object) -> NoReturn:
    raise NotImplementedError("a poll fetches nothing")


def noticing(repository: Repository, *, push: bool) -> list[float]:
    """Seconds of each trial."""
    how: dict[str, object] = {"poll_interval": INTERVAL}
    if push:
        how = {"poll_interval": 3600, "events_queue_url": repository.queue_url}
    found = []
    before = known(repository, WATCHED)
    with watching(opened(repository, names(WATCHED), before, **how)) as artifacts:
        for trial in range(TRIALS):
            time.sleep(random.uniform(0, INTERVAL))  # at no certain time of a poll
            found.append(noticed(repository, artifacts, names(WATCHED)[trial], f"{2 + push}.0"))
    return found


def noticed(repository: Repository, artifacts: Artifacts, name: str, version: str) -> float:
    """Publish a version; seconds until the artifacts knew of it."""
    seen = set(artifacts.first_listed_at)
    at = repository.publish(name, version)
    until(lambda: len(artifacts.first_listed_at) > len(seen))
    [digest] = artifacts.first_listed_at.keys() - seen
    return artifacts.first_listed_at[digest] - at


# -- the run -------------------------------------------------------------------------------------


def table(found: list[Cost], noticed: dict[str, list[float]]) -> str:
    """Markdown, for docs/benchmarks.md."""
    lines = [
        "| packages | calls | kB | kB a package | CPU ms | CPU ms a package | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.packages:,.0f} | {one.calls:,.0f} | {one.kilobytes:,.0f} "
        f"| {one.kilobytes / one.packages:.2f} | {one.cpu:,.0f} | {one.each:.2f} "
        f"| {one.seconds:.2f} |"
        for one in found
    ]
    lines += ["", "| noticed by | trials | median s | least | most |", "|---|---|---|---|---|"]
    lines += [
        f"| {how} | {len(took)} | {median(took):.2f} | {min(took):.2f} | {max(took):.2f} |"
        for how, took in noticed.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a poll of CodeArtifact costs.")
    parser.add_argument("--packages", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    before, sizes = machine(), sorted(options.packages)
    with Repository() as repository:
        repository.fill(max(*sizes, WATCHED))
        found = costs(repository, sizes, options.rounds)
        times = {
            f"polling every {INTERVAL:g} s": noticing(repository, push=False),
            "an event": noticing(repository, push=True),
        }
    print(f"{before} before, {machine().rpartition(' average ')[2]} after\n")
    print(f"{table(found, times)}\n")
    each = [one.each for one in found]
    spread = max(each) / min(each)
    slowest = max(times["an event"])
    print(f"CPU a package, most / least: {spread:.2f} (to reach: <= {FLAT})")
    print(f"noticed by an event, slowest: {slowest:.2f} s (to reach: <= {SOON:g})")
    if options.json:
        figures = {"costs": [asdict(one) for one in found], "noticed": times, "spread": spread}
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
