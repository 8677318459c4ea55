"""Everything before the cluster: what the sources list, fetched, verified and made ready to run.

All of it happens in background jobs, so that a slow index or a large wheel never delays a pass.
Every answer here is what is known now; asking for something starts the work that it lacks.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from controller.errors import NoRelease, Rejected, Transient
from controller.model import Condition
from controller.planning.catalogue import Listed, completed
from controller.refusals import Refusals
from controller.survivors import Survivors
from controller.upkeep import Upkeep, keep_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from controller.errors import WheelwayError
    from controller.jobs import Jobs
    from controller.model import Application, Artifact, Environment, Listing, Revision
    from controller.sources import Source

log = logging.getLogger(__name__)

TIDY_EVERY = 3600.0
"""Seconds between two looks at what the cache can do without."""
_TIDY = ("tidy",)
MISMATCHES = 3
"""Fetches with wrong bytes in a row after which the wheel is bad, not the way to it."""


class Supply:
    """The sources and the jobs on what they list.

    `receive` turns a source's revision into an inspected artifact, `prepare` an artifact into the
    environment that it runs in, `is_sound` says by a quick look whether both are as they were made,
    `renew` makes again what is damaged of either and says whether anything was, `prune` removes all
    but the given wheels and environments from the cache, unless they were needed lately; all raise
    WheelwayError, but for `is_sound`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        jobs: Jobs,
        *,
        receive: Callable[[Source, Revision], Artifact],
        prepare: Callable[[Artifact], Environment],
        is_sound: Callable[[Artifact], bool],
        renew: Callable[[Artifact, bool], bool],
        prune: Callable[[AbstractSet[str], AbstractSet[str]], None],
        remembered: Mapping[str, Listing],
        refusals: Refusals | None = None,
        survivors: Survivors | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.sources = {source.name: source for source in sources}
        self._jobs = jobs
        self._receive = receive
        self._prepare = prepare
        self._is_sound = is_sound
        self._renew = renew
        self._prune = prune
        self._upkeep = Upkeep(jobs, self._is_as_made, self._mend, clock=clock)
        self._received_from: dict[str, tuple[Source, Revision, Artifact]] = {}  # by digest
        self._survivors = survivors or Survivors(lambda *_: (None, False))
        self._tidied_at = float("-inf")
        self._listings = {name: remembered[name] for name in self.sources if name in remembered}
        self._listed_at: dict[str, float] = {}
        self._due = set(self.sources)
        self._lock = threading.Lock()
        self._clock = clock
        self._wall_clock = wall_clock
        self.noticed_at: dict[str, float] = {}
        """By digest: when a wheel was first listed, seconds since the epoch."""
        self.published_at: dict[str, float] = {}
        """By digest: when the wheel was published, where its source knows."""
        self._notice(self._listings.values())
        self.refusals = refusals or Refusals()
        """The wheels that no release comes of."""
        self._listed = Listed()
        self._mismatches: dict[str, int] = {}  # by digest: wrong bytes in a row
        self.fetched_at: dict[str, float] = {}
        """By digest: when the wheel was verified."""
        self.prepared_at: dict[str, float] = {}
        """By digest: when its environment was ready."""

    def look_again(self, *sources: str) -> None:
        """Have sources listed at the next look, whatever their intervals say."""
        with self._lock:
            self._due.update(sources)

    def look_now(self) -> None:
        """The same for all sources because a person asks: one that failed is not waited for, unless
        it said itself when to come back.
        """
        for name in self.sources:
            self._jobs.hasten(("list", name))
        self.look_again(*self.sources)

    def first_seen(self, digest: str) -> float:
        """When a wheel was published, as far as its source knows, or first listed; seconds since
        the epoch.
        """
        listed = self.noticed_at.get(digest, float("inf"))
        return self.published_at.get(digest, listed)

    def looking(self) -> bool:
        """Whether a source is to be listed, or is being listed, so that more may be known soon."""
        with self._lock:
            return bool(self._due) or any(self._jobs.running(("list", n)) for n in self.sources)

    def busy(self) -> bool:
        """Whether anything that was asked for is still under way."""
        return self.looking() or self._jobs.busy()

    def look(self) -> None:
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
            elif not self._jobs.again(key, work) and asked:
                self.look_again(name)  # it must wait after a failure: what is due stays due

    def _lister(self, source: Source) -> Callable[[], Listing]:
        def work() -> Listing:
            with self._lock:  # what was asked for until now is answered by this
                self._due.discard(source.name)
            listing = source.list()
            self._notice([listing])
            with self._lock:
                before = self._listings.get(source.name)
                listing = completed(listing, before)
                if listing == before:  # the same object: then nobody looks through it again
                    listing = before
                self._listings[source.name] = listing
            return listing

        return work

    def _notice(self, listings: Iterable[Listing]) -> None:
        now = self._wall_clock()
        for listing in listings:
            for revision in listing.revisions:
                self.noticed_at.setdefault(revision.sha256, now)
                if revision.published_at is not None:
                    self.published_at.setdefault(revision.sha256, revision.published_at)

    def listings(self) -> dict[str, Listing]:
        """The last good listing of each source, of this run or an earlier one."""
        with self._lock:
            return {name: self._listings[name] for name in self.sources if name in self._listings}

    def complete(self) -> bool:
        """Whether every source has been listed: only then can a release be called absent."""
        return len(self.listings()) == len(self.sources)

    @property
    def fetches(self) -> int:
        """As long as this stays the same, so does what is `known` of each wheel."""
        return self._jobs.changes("fetch")

    def known(self, revision: Revision) -> Artifact | None:
        """The inspected wheel, if it was fetched in this run."""
        outcome = self._jobs.outcome(_fetching(revision))
        return outcome.value if outcome is not None and outcome.error is None else None

    def artifact(self, revision: Revision) -> Artifact | WheelwayError | None:
        """The inspected wheel; an error that stands in its way; None while it is being fetched."""
        if (refused := self.refusals.error(revision, self._revisions_of)) is not None:
            return refused
        source = self.sources[revision.source]

        def work() -> Artifact:
            try:
                artifact = self._received(source, revision)
            except NoRelease as error:
                self.refusals.add(revision, error, self._wall_clock())
                raise
            self.refusals.carries(revision)
            self.fetched_at[artifact.digest] = self._wall_clock()
            self._received_from[artifact.digest] = source, revision, artifact
            self._upkeep.vouch(artifact.digest)
            # Whoever asks for the wheel is about to ask for its environment.
            self._jobs.follow(("prepare", artifact.digest), self._preparer(artifact))
            return artifact

        outcome = self._jobs.ensure(_fetching(revision), work)
        return None if outcome is None else outcome.error or outcome.value

    def listed(self) -> Listed:
        """All that the last good listings have; the same object as long as they are the same."""
        self._listed = self._listed.of(self.listings().values())
        return self._listed

    def _revisions_of(self, project: str) -> Sequence[Revision]:
        return self.listed().projects.get(project, ())

    def _received(self, source: Source, revision: Revision) -> Artifact:
        """The wheel; Rejected when its bytes were wrong too often in a row to be an accident."""
        digest = revision.sha256
        try:
            artifact = self._receive(source, revision)
        except Transient as error:
            if error.reason != "DigestMismatch":
                raise
            self._mismatches[digest] = self._mismatches.get(digest, 0) + 1
            if self._mismatches[digest] < MISMATCHES:
                raise
            raise Rejected(
                "WrongBytes",
                f"{revision.filename} was fetched {MISMATCHES} times and never was what "
                f"{source.name} lists; publish it again under another version, and find out who "
                f"changes it on its way: {error.message}",
            ) from error
        self._mismatches.pop(digest, None)
        return artifact

    def environment(
        self, artifact: Artifact, *, runs: bool = True
    ) -> Environment | WheelwayError | None:
        """Where the artifact runs; an error that stands in its way; None while it is built, or
        looked at once more before it is put on the cluster (`runs`: it is there already).
        """
        outcome = self._jobs.ensure(("prepare", artifact.digest), self._preparer(artifact))
        if outcome is None:
            return None
        if outcome.error is None and not runs and not self._upkeep.vouches_for(artifact.digest):
            return self._upkeep.faults().get(artifact.digest)
        return outcome.error or outcome.value

    def _preparer(self, artifact: Artifact) -> Callable[[], Environment]:
        def work() -> Environment:
            environment = self._prepare(artifact)
            self.prepared_at[artifact.digest] = self._wall_clock()
            return environment

        return work

    def keep_sound(
        self, running: Sequence[Application], placed: Iterable[str], doubted: Iterable[str]
    ) -> None:
        """Have the files of artifacts looked at in turns, and made again where they are damaged.

        Args:
            running: what is on the cluster, whoever offers it.
            placed: digests of what is about to be.
            doubted: those whose replicas found other files than were published.
        """
        in_use = {app.release.digest for app in running if app.release}.union(placed)
        received = self._received_from.keys()
        known = received | self._survivors.see(running, received)
        self._upkeep.look(known & in_use, known & set(doubted))

    def is_check_due(self) -> bool:
        """Whether `keep_sound` would look at anything that nobody doubts."""
        return self._upkeep.is_due()

    def restored(self) -> set[str]:
        """Digests of what was found damaged and is sound again, since this was last asked."""
        return self._upkeep.take_restored()

    def _is_as_made(self, digest: str) -> bool:
        received = self._received_from.get(digest)
        artifact = received[2] if received else self._survivors.artifact(digest)
        return artifact is not None and self._is_sound(artifact)

    def _mend(self, digest: str, doubted: bool) -> bool:  # noqa: FBT001 - see Upkeep
        received = self._received_from.get(digest)
        if received is None:
            return self._survivors.mend(digest, doubted)
        source, revision, artifact = received
        try:
            mended = self._renew(artifact, doubted)
        except Transient as error:
            if error.reason != "WheelMissing":
                raise
            self._received(source, revision)
            self._renew(artifact, doubted)
            mended = True
        if mended:
            log.warning(
                "the files of %s in the cache, or its environment, had been altered or removed; "
                "they were made again: find out who writes there",
                artifact.filename,
            )
            # Its requirements may have been resolved anew.
            self._jobs.forget(lambda key: key == ("prepare", digest))
        return mended

    def forgive(self, digest: str) -> None:
        """Fetch and prepare a wheel anew if that failed: a person lifted its quarantine."""
        self._mismatches.pop(digest, None)
        self._upkeep.distrust(digest)
        self._jobs.forgive(lambda key: key[:2] in {("fetch", digest), ("prepare", digest)})

    def is_untidy(self) -> bool:
        """Whether it is time to `tidy`."""
        return self.complete() and self._clock() - self._tidied_at >= TIDY_EVERY

    def tidy(self, wheels: Iterable[str], environments: Iterable[str]) -> None:
        """Now and then, free the cache of what is neither listed nor named here.

        Args:
            wheels: digests of what is on the cluster.
            environments: lock digests of what is on the cluster or about to be.
        """
        if not self.is_untidy():
            return
        self._tidied_at = self._clock()
        listed = (
            revision.sha256
            for listing in self.listings().values()
            for revision in listing.revisions
            if self.refusals.of(revision) is None
        )
        kept = {*wheels, *listed}
        # What may go is no longer known: who wants it again looks whether it is there.
        self._jobs.forget(lambda key: key[0] in {"fetch", "prepare"} and key[1] not in kept)
        keep_only(kept, self._received_from)
        known = kept | self.listed().digests
        times = (self.noticed_at, self.published_at, self.fetched_at, self.prepared_at)
        keep_only(known, *times, self._mismatches)
        self.refusals.keep_carriers(known)
        self._jobs.again(_TIDY, partial(self._prune, kept, set(environments)))

    def conditions(self) -> list[Condition]:
        """What keeps sources from being read, and files from being taken."""
        found = []
        tidied = self._jobs.outcome(_TIDY)
        if tidied is not None and tidied.error is not None:
            found.append(Condition("cache", tidied.error.reason, tidied.error.message))
        for digest, fault in self._upkeep.faults().items():
            received = self._received_from.get(digest)
            subject = received[1].filename if received else self._survivors.release(digest)
            if subject:
                found.append(Condition(subject, fault.reason, fault.message))
        for name in self.sources:
            outcome = self._jobs.outcome(("list", name))
            if outcome is not None and outcome.error is not None:
                found.append(Condition(name, outcome.error.reason, outcome.error.message))
            if note := self.sources[name].watch_note:
                found.append(Condition(name, "PollingOnly", note, ok=True))
            listing = self.listings().get(name)
            if listing is not None:
                found.extend(
                    Condition(item.subject, item.reason, item.message, ok=item in listing.pending)
                    for item in (*listing.refused, *listing.pending)
                )
                found.extend(listing.notes)
                found.extend(self.refusals.conditions(listing))
        return found

    def next_look(self) -> float:
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


def _fetching(revision: Revision) -> tuple[str, ...]:
    """A job's key. The name belongs to it: the same bytes may lie there under a wrong one too."""
    return ("fetch", revision.sha256, revision.filename)
