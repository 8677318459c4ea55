"""Wheels before they are on the cluster: listed, fetched, verified and made ready to run.

All work is done in background jobs, so that a slow index or a large wheel never delays a pass.
Answers say what is known now; asking for something starts the work that it lacks.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from controller.errors import NoRelease, Rejected, Transient, WheelwayError
from controller.model import Availability, Condition
from controller.planning.weights import weights_named
from controller.reconcile.listings import Listings
from controller.reconcile.mismatches import MISMATCH, Mismatches, is_of_the_bytes
from controller.reconcile.refusals import Refusals
from controller.reconcile.survivors import Survivors
from controller.reconcile.upkeep import Upkeep, keep_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from controller.model import Artifact, Environment, Listing, Revision
    from controller.observed import Application
    from controller.planning.weights import Weights
    from controller.reconcile.jobs import Jobs
    from controller.sources import Source

log = logging.getLogger(__name__)

TIDY_EVERY = 3600.0
"""Seconds between two times that the cache is pruned."""
TIDY: Final = "tidy"
"""The kind of the job that prunes the cache."""
_TIDY = (TIDY,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """How wheels are made ready and kept so. All but `is_sound` raise WheelwayError."""

    receive: Callable[[Source, Revision], Artifact]
    """Turns a source's revision into an inspected artifact."""
    prepare: Callable[[Artifact], Environment]
    """Turns an artifact into the environment that it runs in."""
    is_sound: Callable[[Artifact], bool]
    """Says by a quick look whether both are as they were made."""
    mend: Callable[[Artifact, bool], bool]
    """Makes again what is damaged of either, and says whether anything was; see `Upkeep`."""
    prune: Callable[[AbstractSet[str], AbstractSet[str]], None]
    """Removes all but these wheels and environments from the cache, unless needed lately."""
    has: Callable[[Weights], bool] = lambda _: True
    """Whether the files of weights are there, or can be made again."""
    survivors: Survivors = field(default_factory=lambda: Survivors(lambda *_: (None, False)))
    """Wheels that run but were not received in this run."""


class Artifacts(Listings):
    """What the sources list, those preferred first, and the jobs on it; `remembered` is what they
    listed last in an earlier run. `clock` is monotonic, `wall_clock` since the epoch, in seconds.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        jobs: Jobs,
        means: Means,
        *,
        remembered: Mapping[str, Listing],
        refusals: Refusals | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(jobs, clock=clock, wall_clock=wall_clock)
        self._means = means
        self.upkeep = Upkeep(jobs, self._is_as_made, self._mend, clock=clock)
        self._received_as: dict[str, tuple[Revision, Artifact]] = {}  # by digest
        self._tidied_at = float("-inf")
        self.refusals = refusals or Refusals()
        """The wheels that no release comes of."""
        self._mismatches = Mismatches()
        self.fetched_at: dict[str, float] = {}
        """By digest: when the wheel was verified."""
        self.prepared_at: dict[str, float] = {}
        """By digest: when its environment was ready."""
        self.list_from(sources, remembered)

    def renew(
        self,
        sources: Sequence[Source],
        means: Means,
        *,
        remembered: Mapping[str, Listing],
        refusals: Refusals,
    ) -> None:
        """Go on with these sources and means, some of which may be the same as before. What the
        others listed and made no longer counts; all else stays.
        """
        self.refusals = refusals
        gone = self.list_from(sources, remembered)
        wheels = set(map(_fetching, gone))
        # What was verified stays so, whoever brought it; failures of those before do not count.
        self._jobs.disown(wheels.__contains__)
        self._jobs.clear_failures(wheels.__contains__)
        for revision in gone:
            self._mismatches.over(revision)
        with self._lock:
            before, self._means = self._means, means
            others = {
                "fetch": means.receive != before.receive,
                "prepare": means.prepare != before.prepare,
                "tidy": means.prune != before.prune,
            }
            if others["fetch"]:
                self._received_as.clear()
        if others["tidy"]:
            self._tidied_at = float("-inf")
        if means.is_sound != before.is_sound:
            self.upkeep.distrust_all()
        self._jobs.drop(lambda key: others.get(key[0], False))

    def busy(self) -> bool:
        """Whether anything that was asked for is still under way."""
        return self.polling() or self._jobs.busy()

    @property
    def fetches(self) -> int:
        """A number that stays the same as long as what is `known` of each wheel."""
        return self._jobs.changes("fetch")

    @property
    def preparations(self) -> int:
        """A number that stays the same as long as what is known of each `environment`."""
        return self._jobs.changes("prepare")

    def known(self, revision: Revision) -> Artifact | None:
        """The inspected wheel, if it was fetched in this run, from whichever source."""
        outcome = self._jobs.outcome(_fetching(revision))
        artifact: Artifact | None = outcome.value if outcome else None
        return artifact or self._brought(revision)

    def artifact(self, revision: Revision) -> Artifact | WheelwayError | None:
        """The inspected wheel; an error that stands in its way; None while it is being fetched.
        Where one source fails, the next one that lists the same file is asked.
        """
        if (refused := self.refusals.error(revision, self._revisions_of)) is not None:
            return refused
        errors = []
        for offer in self._offers(revision):
            result = self._asked(offer)
            if not isinstance(result, WheelwayError) or is_of_the_bytes(result):
                return result
            errors.append(result)
        return min(errors, key=lambda error: isinstance(error, Rejected))

    def _asked(self, revision: Revision) -> Artifact | WheelwayError | None:
        """The same, of the revision's own source."""
        source, means, refusals = self.sources[revision.source], self._means, self.refusals

        def work() -> Artifact:
            try:
                artifact = self._received(means, source, revision)
            except NoRelease as error:
                refusals.add(revision, error, self._wall_clock())
                raise
            refusals.carries(revision)
            with self._lock:
                if self._means.receive != means.receive:
                    return artifact  # nobody wants it: wheels are judged otherwise by now
                self._received_as[artifact.digest] = revision, artifact
            self.fetched_at[artifact.digest] = self._wall_clock()
            self.upkeep.vouch(artifact.digest)
            if artifact.pipelines:  # whoever asks for it is about to ask for its environment
                self._jobs.run_inline(("prepare", artifact.digest), self._preparer(artifact))
            return artifact

        outcome = self._jobs.ensure(_fetching(revision), work)
        return self._brought(revision) if outcome is None else outcome.error or outcome.value

    def _brought(self, revision: Revision) -> Artifact | None:
        """The inspected wheel, if a job brought it, or has and makes its environment."""
        brought, artifact = self._received_as.get(revision.sha256, (None, None))
        if brought is None or brought.filename != revision.filename:
            return None
        outcome = self._jobs.outcome(_fetching(brought))
        there = outcome.error is None if outcome else self._jobs.running(_fetching(brought))
        return artifact if there else None

    def _offers(self, revision: Revision) -> list[Revision]:
        """The same file as the sources list it now, the preferred one's first; if none does, the
        revision.
        """
        same = [
            other
            for other in self._revisions_of(revision.project)
            if (other.sha256, other.filename) == (revision.sha256, revision.filename)
            and other.availability is not Availability.GONE
            and other.source in self.sources
        ]
        return same or [revision]

    def _received(self, means: Means, source: Source, revision: Revision) -> Artifact:
        """The wheel; Rejected when its bytes were wrong too often in a row to be an accident."""
        try:
            artifact = means.receive(source, revision)
        except Transient as error:
            if error.reason != MISMATCH:
                raise
            raise self._mismatches.note(revision, error) from error
        self._mismatches.over(revision)
        return artifact

    def environment(self, artifact: Artifact) -> Environment | WheelwayError | None:
        """Where the artifact runs; an error that stands in its way; None while it is built."""
        outcome = self._jobs.ensure(("prepare", artifact.digest), self._preparer(artifact))
        return None if outcome is None else outcome.error or outcome.value

    def unchecked(self, digests: Iterable[str]) -> dict[str, WheelwayError | None]:
        """Artifacts not known to be still sound, with what stands in the way of mending them. They
        are checked, and mended, next.
        """
        found = [d for d in dict.fromkeys(digests) if not self.upkeep.vouches_for(d)]
        faults = self.upkeep.faults() if found else {}
        return {digest: faults.get(digest) for digest in found}

    def _preparer(self, artifact: Artifact) -> Callable[[], Environment]:
        def work() -> Environment:
            environment = self._means.prepare(artifact)
            self.prepared_at[artifact.digest] = self._wall_clock()
            return environment

        return work

    def keep_sound(
        self, running: Sequence[Application], placed: Iterable[str], doubted: Iterable[str]
    ) -> None:
        """Have the files of artifacts checked in turns, and made again where they are damaged.

        Args:
            running: what is on the cluster, whoever offers it.
            placed: digests of what is about to be.
            doubted: those whose replicas found other files than were published.
        """
        ours = [app for app in running if app.release]
        in_use = {app.release.digest for app in ours if app.release}.union(placed)
        in_use.update(one.digest for app in ours for one in weights_named(app.document))
        received = self._received_as.keys()
        known = received | self._means.survivors.see(running, received)
        self.upkeep.poll(known & in_use, known & set(doubted))

    def _is_as_made(self, digest: str) -> bool:
        means, received = self._means, self._received_as.get(digest)
        artifact = received[1] if received else means.survivors.artifact(digest)
        return artifact is not None and means.is_sound(artifact)

    def _mend(self, digest: str, doubted: bool) -> bool:  # noqa: FBT001 - see Upkeep
        means = self._means
        try:
            return self._mended(means, digest, doubted=doubted)
        except WheelwayError:
            if means is self._means:
                raise
            return self._mend(digest, doubted)  # what it failed by may have been closed

    def _mended(self, means: Means, digest: str, *, doubted: bool) -> bool:
        received = self._received_as.get(digest)
        if received is None:
            return means.survivors.mend(digest, doubted)
        revision, artifact = received
        try:
            mended = means.mend(artifact, doubted)
        except Transient as error:
            if error.reason != "WheelMissing" or not self._received_again(means, revision):
                raise
            means.mend(artifact, doubted)
            mended = True
        if mended:
            log.warning(
                "the files of %s in the cache, or its environment, had been altered or removed; "
                "they were made again: find out who writes there",
                artifact.filename,
            )
            # Its requirements may have been resolved anew.
            self._jobs.drop(lambda key: key == ("prepare", digest))
        return mended

    def _received_again(self, means: Means, revision: Revision) -> bool:
        """Whether there is a source that has the wheel, which is in the cache again then."""
        sources, failed = self.sources, None  # an edit may set others meanwhile
        for offer in self._offers(revision):
            try:
                if offer.source in sources:
                    self._received(means, sources[offer.source], offer)
                    return True
            except WheelwayError as error:
                failed = error
        if failed is not None:
            raise failed
        return False

    def has(self, weights: Weights) -> bool:
        """Whether the files of weights are in the cache, or can be made again of what is."""
        return self._means.has(weights)

    def clear_failures(self, digest: str) -> None:
        """Fetch and prepare a wheel anew if that failed: a person lifted its quarantine."""
        self._mismatches.drop(digest.__eq__)
        self.upkeep.distrust(digest)
        self._jobs.clear_failures(lambda key: key[:2] in {("fetch", digest), ("prepare", digest)})

    def is_untidy(self) -> bool:
        """Whether it is time to `tidy`."""
        return self.complete() and self._clock() - self._tidied_at >= TIDY_EVERY

    def tidy(self, wheels: Iterable[str], environments: Iterable[str]) -> None:
        """Remove from the cache what is neither listed nor named here. Of weights, which may come
        every night, being listed keeps only the newest.

        Args:
            wheels: digests of what is on the cluster, and of weights that an election goes by.
            environments: lock digests of what is on the cluster or about to be.
        """
        self._tidied_at = self._clock()
        surplus = self._former_weights()
        listed = (
            revision.sha256
            for listing in self.listings().values()
            for revision in listing.revisions
            if self.refusals.of(revision) is None and revision.sha256 not in surplus
        )
        kept = {*wheels, *listed}
        # What may be removed is no longer known: it is looked up when it is needed again.
        self._jobs.drop(lambda key: key[0] in {"fetch", "prepare"} and key[1] not in kept)
        keep_only(kept, self._received_as)
        known = kept | self.listed().digests
        times = (self.first_listed_at, self.published_at, self.fetched_at, self.prepared_at)
        keep_only(known, *times)
        self._mismatches.drop(lambda digest: digest not in known)
        self.refusals.keep_carriers(known)
        self._jobs.rerun(_TIDY, partial(self._means.prune, kept, set(environments)))

    def _former_weights(self) -> set[str]:
        """Digests of all but the newest wheels of projects that publish weights alone, as far as
        is known. The newest of every project is looked into in any case (`policy.unfetched`).
        """
        found: set[str] = set()
        for revisions in self.listed().projects.values():
            inside = [
                self._received_as[r.sha256][1] for r in revisions if r.sha256 in self._received_as
            ]
            if not inside or any(one.pipelines or not one.weights for one in inside):
                continue
            selectable = [r for r in revisions if r.availability is Availability.SELECTABLE]
            finals = [r for r in selectable if not r.version.is_prerelease] or selectable
            newest = max((r.version for r in finals), default=None)
            found.update(r.sha256 for r in revisions if r.version != newest)
        return found

    def conditions(self) -> list[Condition]:
        """Why sources cannot be read, and files are not taken."""
        found = []
        for subject, key in [("cache", _TIDY), *((name, ("list", name)) for name in self.sources)]:
            outcome = self._jobs.outcome(key)
            if outcome is not None and outcome.error is not None:
                found.append(Condition(subject, outcome.error.reason, outcome.error.message))
        for digest, fault in self.upkeep.faults().items():
            received = self._received_as.get(digest)
            subject = received[0].filename if received else self._means.survivors.release(digest)
            if subject:
                found.append(Condition(subject, fault.reason, fault.message))
        listings = self.listings()
        for name in self.sources:
            if note := self.sources[name].watch_note:
                found.append(Condition(name, "PollingOnly", note, ok=True))
            if (listing := listings.get(name)) is not None:
                found.extend(
                    Condition(item.subject, item.reason, item.message, ok=item in listing.pending)
                    for item in (*listing.refused, *listing.pending)
                )
                found.extend(listing.notes)
                found.extend(self.refusals.conditions(listing))
        found.extend(self._mismatches.conditions(self._brought_by))
        return found

    def _brought_by(self, revision: Revision) -> str | None:
        """The name of the source that brought a file which is still listed as it was."""
        brought = self._received_as.get(revision.sha256)
        return brought[0].source if brought and revision in self._offers(revision) else None


def _fetching(revision: Revision) -> tuple[str, str, str, str]:
    """A job's key. The name belongs to it: the same bytes may lie there under a wrong one too."""
    return ("fetch", revision.sha256, revision.filename, revision.source)
