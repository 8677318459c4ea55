"""Writes down what passes saw and decided: dates, phases, quarantines, conditions, events.

Nothing is decided here. A pass's decisions are written in one transaction before they are acted
upon, so that after a kill the next daemon knows what failed and what was seen.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

from controller.model import Phase, Transition, UnsoundWheel
from controller.planning.health import DIGEST_MISMATCH
from controller.planning.phases import phases_of
from controller.planning.weights_telling import REFUSED
from controller.reconcile.upkeep import keep_only
from controller.reconcile.weights import held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from controller.config.settings import JournalOptions
    from controller.journal import Journal, ReleaseRecord
    from controller.model import Condition, Event, PlacementRecord, Quarantine, Tracked
    from controller.observed import Application
    from controller.planning.plan import Plan
    from controller.planning.swaps import Judged
    from controller.planning.weights import WeightsQuarantine
    from controller.planning.weights_election import WeightsElected
    from controller.reconcile.artifacts import Artifacts
    from controller.reconcile.desired import Desired

ABSOLUTIONS = 3
"""Times that a quarantine for damaged files is lifted by itself; then a person must look."""
_ANSWERS = "AnswersAtRoute"
"""The reason of a release that is live, where there is no more to say."""
_LEAVING = {Phase.RETIRING, Phase.RETIRED, Phase.SUPERSEDED}


@dataclass(frozen=True, slots=True)
class _Step:
    """What is to be written down of one release, and when it happened."""

    at: float
    transition: Transition
    source: str


class Recorder:
    """Writes passes into the daemon's journal; `artifacts` says when its jobs were done. What
    happened is dated by the wall clock; what deadlines count from, by the clock of the passes.
    """

    def __init__(
        self, journal: Journal, artifacts: Artifacts, *, wall_clock: Callable[[], float]
    ) -> None:
        self._journal = journal
        self._artifacts = artifacts
        self._wall_clock = wall_clock
        self._told: object = None
        """The inputs of the last pass, if it left nothing to write down."""
        self._weighed: WeightsElected | None = None
        self._absolved: Counter[str] = Counter()  # by digest

    def date(self, records: Mapping[str, PlacementRecord]) -> None:
        """Keep the dates of all that is on the cluster, for a later process."""
        self._journal.date(records)

    def absolve(self, restored: AbstractSet[str]) -> None:
        """Lift the quarantines of releases whose damaged files in the cache are sound again, as the
        damage was no fault of theirs. Not for ever: who damaged them may come back.
        """
        for quarantine in self._journal.quarantines_of(restored):
            subject = quarantine.subject
            if quarantine.reason != DIGEST_MISMATCH:
                continue
            self._absolved[subject.digest] += 1
            if self._absolved[subject.digest] <= ABSOLUTIONS:
                by = "the daemon, which made the damaged files in the cache again"
                at = self._wall_clock()
                self._journal.clear_quarantine(subject.name, subject.version, at=at, by=by)

    def try_weights_again(self, applications: Sequence[Application]) -> None:
        """Have weights elected again whose quarantine was lifted, once no document names them."""
        if lifted := self._journal.lifted_weights():
            waiting = held(lifted, applications)
            over = [one for found in lifted.values() for one in found if one not in waiting]
            if over:
                self._journal.try_weights_again(over)

    def forget_what_is_over(self, options: JournalOptions, counted: float) -> bool:
        """Prune the journal; whether there is more to prune. Ages count by whichever clock is
        behind, the wall's or the passes' own: a step makes nothing old.
        """
        listed = self._artifacts.listed().digests if self._artifacts.complete() else None
        more = self._journal.prune(
            before=min(self._wall_clock(), counted) - options.keep_for,
            releases=options.keep_releases,
            events=options.keep_events,
            listed=listed,
        )
        if listed is not None:
            held = {quarantine.subject.digest for quarantine in self._journal.quarantines()}
            keep_only(listed | held, self._absolved)
        return more

    def conditions(self, conditions: Iterable[Condition]) -> tuple[Event, ...]:
        """Write down all that stands in the way now. Returns the events worth telling of."""
        return tuple(self._journal.set_conditions(conditions, self._wall_clock()))

    def sending(self, text: str, digest: str, cause: str) -> Callable[[str], None]:
        """Note that a config is about to be sent; the returned function takes the outcome."""
        number = self._journal.sending(text, digest, cause, self._wall_clock())
        return partial(self._journal.sent, number)

    def record(
        self,
        applications: Sequence[Application],
        desired: Desired,
        decided: Plan,
        known: Mapping[Tracked, ReleaseRecord],
        counted: float,
    ) -> tuple[Event, ...]:
        """Write down what was decided in a pass begun at `counted`, by the passes' own clock.
        Returns the events worth telling of, for the log.
        """
        journal, now = self._journal, self._wall_clock()
        listings = self._artifacts.listings()
        failures = [replace(q, at=now) for q in (*desired.failed, *decided.quarantines)]
        inputs = (applications, desired, decided, known, listings)
        transitions: tuple[Transition, ...] = ()
        if inputs != self._told:
            transitions = self._transitions(applications, desired, decided, known)
        failed = {quarantine.subject for quarantine in failures}
        held = failed | desired.quarantines.keys()
        live = [step for step in transitions if step.phase is Phase.LIVE]
        ended = self._ended({step.subject for step in live}) - held
        placements = journal.placements()
        steps = self._steps(transitions, failures, desired, known, now)
        with journal.transaction():
            for listing in listings.values():
                journal.save_listing(listing, now)
            journal.keep_refused(self._artifacts.refusals.listed(listings.values()))
            journal.keep_losses(decided.losses)
            journal.keep_owners(desired.owners)
            journal.keep_parts({app.name: app.parts for app in applications if app.parts})
            for quarantine in failures:
                journal.add_quarantine(quarantine)
            for step in live:
                if not _is_dated(placements.get(step.placement)):
                    journal.placement_live(step.placement, counted)
            for subject in ended:
                journal.end_quarantine(subject)
            events = [journal.record(one.transition, one.at, source=one.source) for one in steps]
        self._told = None if steps else inputs
        return tuple(event for event in events if event is not None)

    def weigh(
        self, weighed: WeightsElected, judged: Judged, blamed: Sequence[WeightsQuarantine]
    ) -> tuple[Event, ...]:
        """Write down what became of weights. Returns the events worth telling of."""
        journal, now = self._journal, self._wall_clock()
        refused = [replace(one, at=now) for one in (*judged.refused, *blamed)]
        if weighed is self._weighed and not judged.live and not refused:
            return ()
        self._weighed = weighed
        with journal.transaction():
            journal.keep_weights_owners(weighed.owners)
            journal.keep_judged_weights(weighed.judged)
            journal.keep_known_weights(weighed.known)
            journal.drop_weights(r for r, choice in weighed.choices.items() if not choice.wanted)
            return (
                *(journal.weights_live(release, weights, now) for release, weights in judged.live),
                *map(journal.refuse_weights, refused),
            )

    def _transitions(
        self,
        applications: Sequence[Application],
        desired: Desired,
        decided: Plan,
        known: Mapping[Tracked, ReleaseRecord],
    ) -> tuple[Transition, ...]:
        present: set[Tracked] = {app.release for app in applications if app.release is not None}
        # What is being deleted has lost its document: it is known by its name alone.
        names = {app.name for app in applications}
        present |= {subject for subject, record in known.items() if record.placement in names}
        stay = names if decided.hold else {app.document["name"] for app in decided.applications}
        listed, inputs = self._artifacts.listed(), desired.inputs
        inspected = cache(lambda: {release.digest for release in inputs})  # few ask

        def is_offered(subject: Tracked) -> bool:
            """Of a wheel that nobody has looked into, any release may be; and of a file that cannot
            be read yet, its own.
            """
            if subject in inputs or not self._artifacts.complete():
                return True
            project = desired.owners.get(subject.name, subject.name)
            if {(project, subject.version), (subject.name, subject.version)} & listed.unread:
                return True
            return subject.digest in listed.digests and subject.digest not in inspected()

        return phases_of(
            decided,
            desired.verdicts,
            placements=desired.placements,
            quarantines={**desired.quarantines, **{q.subject: q for q in decided.quarantines}},
            present=present,
            kept={app.release for app in applications if app.release and app.name in stay},
            before={subject: record.phase for subject, record in known.items()},
            is_offered=is_offered,
        )

    def _ended(self, live: AbstractSet[Tracked]) -> set[Tracked]:
        """What is quarantined no more as these are live; no wheel is unsound that they are in."""
        found = self._journal.quarantines_of({subject.digest for subject in live})
        subjects = {quarantine.subject for quarantine in found}
        return {one for one in subjects if one in live or isinstance(one, UnsoundWheel)}

    def _steps(
        self,
        transitions: Iterable[Transition],
        failures: Iterable[Quarantine],
        desired: Desired,
        known: Mapping[Tracked, ReleaseRecord],
        now: float,
    ) -> list[_Step]:
        """New transitions of the releases, in order of time."""
        # By row: an unsound wheel has that of the release of its name that it was before.
        failed = {quarantine.subject.key for quarantine in failures}
        steps: list[_Step] = []
        for transition in transitions:
            subject = transition.subject
            source, before = desired.sources.get(subject, ""), known.get(subject)
            if failed and subject.key in failed and transition.phase is not Phase.LIVE:
                continue
            if before is not None and _says(before, transition, source):
                continue
            arrival = list(self._arrival(subject, source, now)) if before is None else []
            at = now
            if transition.phase is Phase.PREPARED:  # by a job, which ended between two passes
                ended = self._artifacts.prepared_at.get(subject.digest, now)
                if before is None or ended >= before.since:  # not in an earlier life of it
                    at = min(ended, now)
            at = max([at, *(step.at for step in arrival)])  # one release's steps keep their order
            steps += [*arrival, _Step(at, transition, source)]
        for quarantine in failures:
            subject, why = quarantine.subject, (quarantine.reason, quarantine.message)
            source = desired.sources.get(subject, "")
            steps.append(_Step(now, Transition(subject, Phase.QUARANTINED, *why), source))
        # Of what one pass saw at once, what makes room leaves after what takes it.
        return sorted(steps, key=lambda step: (step.at, step.transition.phase in _LEAVING))

    def _arrival(self, release: Tracked, source: str, now: float) -> Iterator[_Step]:
        """The steps of a release before it was inspected."""
        noticed = self._artifacts.first_listed_at.get(release.digest)
        if noticed is None:
            return
        noticed = min(noticed, now)
        listed = Transition(release, Phase.DISCOVERED, "Listed", f"listed by {source}")
        yield _Step(noticed, listed, source)
        fetched = Transition(release, Phase.FETCHED, "Verified", "fetched and verified")
        at = self._artifacts.fetched_at.get(release.digest, now)
        yield _Step(min(max(at, noticed), now), fetched, source)


def _says(record: ReleaseRecord, transition: Transition, source: str) -> bool:
    """Whether the journal has that already, as of most releases in most passes. That a release came
    back to what served before stays until there is more to say than that it answers.
    """
    came_back = record.reason == REFUSED and transition.reason == _ANSWERS
    same = record.reason == transition.reason and record.message == transition.message
    return (
        record.phase is transition.phase
        and (same or came_back)
        and transition.placement in {"", record.placement}
        and source in {"", record.source}
    )


def _is_dated(record: PlacementRecord | None) -> bool:
    """Whether the journal dates since when an application is live on its present route."""
    if record is None or record.live_at is None:
        return False
    return record.routed_at is None or record.live_at >= record.routed_at
