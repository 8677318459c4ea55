"""What the sources list, and when they are polled again.

A listing is a job with a thread of its own. Until it is done, and when it fails, the last good
listing holds, of this run or an earlier one.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from controller.planning.catalogue import Listed, completed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from controller.model import Listing, Revision
    from controller.reconcile.jobs import Jobs
    from controller.sources import Source


class Listings:
    """The sources, by name, those preferred first; `jobs` list them. `clock` is monotonic,
    `wall_clock` since the epoch, in seconds.
    """

    def __init__(
        self,
        jobs: Jobs,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.sources: Mapping[str, Source] = {}
        self._jobs = jobs
        self._lock = threading.Lock()
        self._clock = clock
        self._wall_clock = wall_clock
        self._listings: dict[str, Listing] = {}
        self._listed_at: dict[str, float] = {}
        self._due: set[str] = set()
        self._listed = Listed()
        self.first_listed_at: dict[str, float] = {}
        """By digest: when a wheel was first listed, seconds since the epoch."""
        self.published_at: dict[str, float] = {}
        """By digest: when the wheel was published, where its source knows."""

    def list_from(
        self, sources: Sequence[Source], remembered: Mapping[str, Listing]
    ) -> list[Revision]:
        """List these from now on, those preferred first; returns what all others listed, which no
        longer counts. `remembered` is what is known of new ones.
        """
        now = {source.name: source for source in sources}
        names = now.keys() | self.sources.keys()
        others = {name for name in names if now.get(name) is not self.sources.get(name)}
        with self._lock:
            gone = [self._listings.pop(name) for name in others & self._listings.keys()]
            for name in others:
                self._listed_at.pop(name, None)
            new = others & now.keys()
            self._listings |= {name: remembered[name] for name in new & remembered.keys()}
            self._due = (self._due - others) | new
            self.sources = now
        self._notice(self.listings().values())
        self._jobs.drop(lambda key: key[0] == "list" and key[1] in others)
        return [revision for listing in gone for revision in listing.revisions]

    def request_poll(self, *sources: str) -> None:
        """Have sources listed at the next `poll`, whatever their intervals say."""
        with self._lock:
            self._due.update(self.sources.keys() & set(sources))

    def poll_now(self) -> None:
        """Poll all sources because a person asks. One that failed is not waited for, unless it said
        when to come back.
        """
        for name in self.sources:
            self._jobs.hasten(("list", name))
        self.request_poll(*self.sources)

    def first_seen(self, digest: str) -> float:
        """When a wheel was published, if its source knows, or first listed; seconds since the
        epoch.
        """
        listed = self.first_listed_at.get(digest, float("inf"))
        return self.published_at.get(digest, listed)

    def polling(self) -> bool:
        """Whether a source is due or being listed, so that more may be known soon."""
        with self._lock:
            return bool(self._due) or any(self._jobs.running(("list", n)) for n in self.sources)

    def poll(self) -> None:
        """Start listing the sources whose time has come, and take in what was listed."""
        now = self._clock()
        for name, source in self.sources.items():
            key, work = ("list", name), self._lister(source)
            if self._jobs.running(key):
                continue  # it may have looked before what it is to look at: what is due stays due
            late = now - self._listed_at.get(name, float("-inf")) >= source.poll_interval
            with self._lock:
                asked = name in self._due
                self._due.discard(name)
            if late:  # a look in between does not put off the next regular one
                self._listed_at[name] = now
            if not (asked or late):
                self._jobs.ensure(key, work)
            elif not self._jobs.rerun(key, work) and asked:
                self.request_poll(name)  # it must wait after a failure: what is due stays due

    def _lister(self, source: Source) -> Callable[[], Listing]:
        def work() -> Listing:
            with self._lock:
                if self._is_listed(source):  # what was asked for until now is answered by this
                    self._due.discard(source.name)
            listing = source.list()
            self._notice([listing])
            with self._lock:
                if not self._is_listed(source):
                    return listing  # nobody wants to know
                before = self._listings.get(source.name)
                listing = completed(listing, before)
                if before is not None and listing == before:
                    return before  # the same object: then nobody goes through it again
                self._listings[source.name] = listing
            return listing

        return work

    def _is_listed(self, source: Source) -> bool:
        """Whether the source was not replaced, or removed, meanwhile; the lock is held."""
        return self.sources.get(source.name) is source

    def _notice(self, listings: Iterable[Listing]) -> None:
        now = self._wall_clock()
        for listing in listings:
            for revision in listing.revisions:
                self.first_listed_at.setdefault(revision.sha256, now)
                if revision.published_at is not None:
                    self.published_at.setdefault(revision.sha256, revision.published_at)

    def listings(self) -> dict[str, Listing]:
        """The last good listing of each source, of this run or an earlier one."""
        with self._lock:
            return {name: self._listings[name] for name in self.sources if name in self._listings}

    def complete(self) -> bool:
        """Whether every source has been listed: only then can a release be called absent."""
        return len(self.listings()) == len(self.sources)

    def unlisted(self) -> frozenset[str]:
        """Sources, and projects of sources, of which nothing was ever listed."""
        listed = self.listed()
        never = listed.unobserved - listed.projects.keys()
        return never.union(self.sources.keys() - self.listings().keys())

    def listed(self) -> Listed:
        """All that the last good listings have; the same object as long as they are the same."""
        self._listed = self._listed.of(self.listings().values())
        return self._listed

    def _revisions_of(self, project: str) -> Sequence[Revision]:
        return self.listed().projects.get(project, ())

    def next_poll(self) -> float:
        """Seconds until a source is to be listed again."""
        now = self._clock()
        waits = []
        for name, source in self.sources.items():
            if self._jobs.running(("list", name)):
                continue  # its end wakes the daemon
            waits.append(source.poll_interval - (now - self._listed_at.get(name, now)))
            outcome = self._jobs.outcome(("list", name))
            if outcome is not None and outcome.error is not None and outcome.retry_at > now:
                waits.append(outcome.retry_at - now)
        return max(0.0, min(waits, default=60.0))
