"""The `codeartifact` source: wheels in a repository of AWS CodeArtifact, by boto3.

A round asks about every package: one ListPackageVersions each, which also tells of retractions.
The answer is compared with what is remembered, and only what differs has its files asked for.
Between two rounds an event has single packages asked about. The last listing is remembered across a
restart, so that only what changed meanwhile has its files asked for.

Reference: https://docs.aws.amazon.com/codeartifact/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from random import random
from typing import TYPE_CHECKING

from controller.errors import Transient, WheelwayError
from controller.model import Availability
from controller.sources.codeartifact.connection import Connection
from controller.sources.codeartifact.events import QueueWatch
from controller.sources.codeartifact.package_failures import PackageFailures
from controller.sources.codeartifact.packages import (
    Known,
    Package,
    known,
    listing_of,
    package_of,
)
from controller.sources.codeartifact.repository import Repository
from controller.sources.codeartifact.upstreams import Upstreams
from controller.sources.codeartifact.versions import (
    AVAILABILITY,
    Listed,
    Locator,
    Ranking,
    remembered,
    trusted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from packaging.tags import Tag

    from controller.config.sources import CodeArtifactSource as Options
    from controller.model import Listing, Revision
    from controller.sources.codeartifact.versions import Files

_SIGNS = "*?["


class CodeArtifactSource:
    """Packages of one repository.

    Args:
        options: its section of the configuration.
        tags: the wheels that replicas can use, best first.
        before: what an earlier run listed last.
        clock: monotonic seconds.
        jitter: uniform in [0, 1).
    """

    def __init__(
        self,
        options: Options,
        tags: Sequence[Tag],
        *,
        before: Listing | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random,
    ) -> None:
        self.name = options.name
        self.poll_interval = options.poll_interval
        self._options = options
        self._clock = clock
        self._jitter = jitter
        repository = (options.domain, options.domain_owner, options.repository, options.region)
        self._ranking = Ranking(tags, f"{repository} {options.endpoint_url}")
        # By package and version, of packages that were not polled wholly (yet).
        self._recalled: dict[str, dict[str, Files]] = remembered(before, self._ranking)
        self._names = frozenset(one for one in options.packages if not set(one) & set(_SIGNS))
        self._globs = tuple(one for one in options.packages if one not in self._names)
        self._closing = threading.Event()
        self._connection = Connection(options, self._closing, clock=clock)
        self._repository = Repository(options, self._connection, self._closing)
        self._askers = ThreadPoolExecutor(options.concurrency, f"wheelway-{options.name}")
        self._listing = threading.Lock()  # held by one; it guards what is remembered
        self._packages: dict[str, Package] = {}
        self._failures = PackageFailures()
        self._upstreams = Upstreams(options, self._repository.upstream, clock, jitter)
        self._due: set[str] = set()
        self._round_at = float("-inf")
        self._hints: set[str] = set()
        self._hinting = threading.Lock()
        self._events = (
            QueueWatch(options, self._connection, self._closing, self._hint, jitter=jitter)
            if options.events_queue_url
            else None
        )

    # -- the seam --------------------------------------------------------------------------------

    @property
    def calls(self) -> Mapping[str, int]:
        """Requests sent to AWS so far, by operation."""
        return self._connection.calls

    @property
    def watch_note(self) -> str:
        """Why no events come; empty while they do, or none are configured."""
        return self._events.note if self._events else ""

    def watch(self, wake: Callable[[], None]) -> None:
        """Take events from the queue, if one is configured."""
        if self._events is not None and not self._closing.is_set():
            self._events.start(wake)

    def close(self) -> None:
        """End downloads, requests that wait for their turn, the events' thread, connections."""
        self._closing.set()
        self._connection.interrupt()
        self._askers.shutdown(wait=True)
        if self._events is not None:
            self._events.join()
        self._connection.close()

    def list(self) -> Listing:
        """Every package as it is now; when only events ask, the packages that these name.

        A package that could not be polled is as it was last seen; it has a note, and is in
        `unobserved`.

        Raises:
            Transient, Waiting, Stalled: as `failures` says, when it is the trouble of the whole
                source (see `package_failures`). The next call begins with what was left then.
        """
        with self._listing:
            self._begin()
            self._poll_packages()
            self._due.clear()
            selectable = [name for name, found in self._packages.items() if found.selectable]
            notes = [*self._upstreams.notes(selectable), *self._failures.notes()]
            return listing_of(self.name, self._packages, notes, self._failures.packages)

    def fetch(self, revision: Revision) -> Iterator[bytes]:
        """The bytes of the revision that was listed; raises as `Repository.read`."""
        return self._repository.read(Locator.of(revision.locator), revision.size)

    # -- what to poll ----------------------------------------------------------------------------

    def _hint(self, package: str) -> bool:
        if not self._wanted(package):
            return False
        with self._hinting:
            self._hints.add(package)
        return True

    def _wanted(self, package: str) -> bool:
        return package in self._names or any(fnmatchcase(package, one) for one in self._globs)

    def _begin(self) -> None:
        """Decide what is due: packages that events hint at, the rest of a round that was cut short,
        or, without a hint, everything.
        """
        with self._hinting:
            hinted, self._hints = self._hints, set()
        expired = self._clock() - self._round_at >= self.poll_interval
        if expired or not (hinted or self._due):
            began = self._clock()
            self._due = self._discovered()
            self._failures.begin_round(self._due)
            self._round_at = began
        self._due |= hinted

    def _discovered(self) -> set[str]:
        """The packages: those named, those that a glob matches, and those that had versions or may
        have had, for a listing of packages may miss one while it changes.
        """
        found: dict[str, str] = {}
        for prefix in prefixes(self._globs):
            found |= self._repository.packages(prefix)
        found = {name: upstream for name, upstream in found.items() if self._wanted(name)}
        self._upstreams.tell(found, self._names)
        held = {name for name, package in self._packages.items() if package.versions}
        self._packages = {
            name: package
            for name, package in self._packages.items()
            if name in held or name in self._names
        }
        return {*self._names, *found, *held, *self._failures.packages}

    def _poll_packages(self) -> None:
        """Ask about all that is due, several at a time, until there is trouble of all packages.

        Raises:
            WheelwayError: that trouble.
        """

        def ask(name: str) -> None:
            if self._failures.ended or self._closing.is_set():
                return
            try:
                found = self._asked(name)
            except WheelwayError as error:
                self._failures.failed(name, error)
            else:
                self._remember(name, found)

        due = self._failures.begin_poll(self._due)
        try:
            # One is asked in this thread: others would only be slower.
            list(self._askers.map(ask, due) if len(due) > 1 else map(ask, due))
        except RuntimeError:  # the threads have ended just now
            if not self._closing.is_set():
                raise
        if self._closing.is_set():
            raise Transient("SourceClosed", f"source {self.name} was closed")
        if (error := self._failures.verdict(self._packages)) is not None:
            raise error

    def _remember(self, name: str, package: Package | None) -> None:
        self._due.discard(name)
        self._recalled.pop(name, None)
        if package is None:
            self._packages.pop(name, None)
        else:
            self._packages[name] = package
        self._failures.well(name)

    # -- one package -----------------------------------------------------------------------------

    def _asked(self, name: str) -> Package | None:
        """A package as it is now; None when it is gone and only a glob wanted it."""
        before = self._packages.get(name)
        listed, pages = self._repository.versions(name)
        if pages > 1 and (before is None or before.versions.keys() - listed.keys()):
            # Pages are no snapshot: a version that moved from one to another while they were read
            # was missed, and would be retired.
            listed = self._repository.versions(name)[0] | listed
        now = self._clock()
        named = name in self._names
        package: Package | None = None
        if before is not None and before.stands(listed, now):
            package = before
        elif listed or named:
            held = before.versions if before else {}
            versions = {
                key: self._version(name, one, held.get(key), now) for key, one in listed.items()
            }
            package = package_of(name, versions, self._options, named=named)
        if package is not None and package.selectable:
            self._upstreams.ask(name)
        else:
            self._upstreams.forget(name)
        return package

    def _version(self, name: str, listed: Listed, before: Known | None, now: float) -> Known:
        if before is not None and before.stands(listed, now):
            return before
        if before is not None:
            files, due = before.files, now >= before.retry_at
            same = before.listed.revision == listed.revision
        else:
            files, due = self._recalled.get(name, {}).get(listed.version), False
            same = files is not None and files.revision == listed.revision
        availability = AVAILABILITY.get(listed.status)
        kept = availability in {Availability.SELECTABLE, Availability.RETAINED}
        wanted = kept and not trusted(listed, self._options)
        if wanted and (files is None or due or not same):
            files = self._repository.files(name, listed)
            if files is not None:  # should another version fail, this one need not be asked again
                self._recalled.setdefault(name, {})[listed.version] = files
        return known(
            name,
            listed,
            files,
            before,
            options=self._options,
            ranking=self._ranking,
            now=now,
            jitter=self._jitter(),
        )


def prefixes(globs: Sequence[str]) -> tuple[str, ...]:
    """The fewest literal prefixes by which everything that the globs match can be listed."""
    starts = sorted({_literal(one) for one in globs})
    return tuple(
        one for one in starts if not any(one != other and one.startswith(other) for other in starts)
    )


def _literal(glob: str) -> str:
    return glob[: min(glob.find(sign) for sign in _SIGNS if sign in glob)]
