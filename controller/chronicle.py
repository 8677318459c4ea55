"""What the passes saw and decided, written down: dates, phases, quarantines, conditions, events.

Nothing is decided here. Every pass writes in one transaction, so that a journal that was cut off
holds whole passes only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.model import Phase, Transition
from controller.planning.health import Health, diagnose
from controller.planning.phases import phases_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.desired import Desired
    from controller.journal import Journal
    from controller.model import Application, Condition, Event, Listing, PlacementRecord, Plan


class Chronicle:
    """Writes passes into the daemon's journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._noticed: dict[str, float] = {}  # by digest: when it was first seen in a listing

    def notice(self, listings: Iterable[Listing], now: float) -> None:
        """Remember when each wheel was first listed; what it carries is known only later."""
        for listing in listings:
            for revision in listing.revisions:
                self._noticed.setdefault(revision.sha256, now)

    def date(
        self,
        applications: Iterable[Application],
        records: Mapping[str, PlacementRecord],
        now: float,
    ) -> Mapping[str, PlacementRecord]:
        """Date what is seen for the first time, and forget what is gone.

        An application found on its route without any record served before this journal began:
        it is taken for live.
        """
        journal = self._journal
        ours = [app for app in applications if app.release is not None]
        with journal.transaction():
            journal.keep_placements([app.name for app in ours])
            for app in ours:
                record = records.get(app.name)
                if record is None:
                    journal.placement_staged(app.name, now)
                    if app.route is not None:
                        journal.placement_live(app.name, now)
                if app.route is not None and (record is None or record.routed_at is None):
                    journal.placement_routed(app.name, now)
                elif app.route is None and record is not None and record.routed_at is not None:
                    journal.placement_unrouted(app.name)
                if app.route is None and diagnose(app).health is Health.SHORT:
                    journal.placement_gone(app.name)  # its deadline starts when it gets room
                    journal.placement_staged(app.name, now)
        return journal.placements()

    def blind(self, conditions: Iterable[Condition], now: float) -> tuple[Event, ...]:
        """A pass in which Ray could not be observed."""
        return tuple(self._journal.set_conditions(conditions, now))

    def sent(self, text: str, digest: str, cause: str, now: float) -> None:
        """A config was applied."""
        self._journal.applied(text, digest, cause, now)

    def record(
        self,
        applications: Sequence[Application],
        desired: Desired,
        decided: Plan,
        conditions: Sequence[Condition],
        listings: Iterable[Listing],
        now: float,
    ) -> tuple[Event, ...]:
        """One pass, whole. Returns the events that it is worth telling of, for the log."""
        journal = self._journal
        quarantines = {**desired.quarantines, **{q.release: q for q in decided.quarantines}}
        known = {record.release: record for record in journal.releases()}
        present = {app.release for app in applications if app.release is not None}
        # What is being deleted has lost its document: it is known by its name alone.
        names = {app.name for app in applications}
        present |= {record.release for record in known.values() if record.placement in names}
        stay = {planned.document["name"] for planned in decided.applications}
        kept = {app.release for app in applications if app.release and app.name in stay}
        transitions = phases_of(
            decided,
            desired.verdicts,
            placements=desired.placements,
            quarantines=quarantines,
            present=present,
            kept=kept,
            before={release: record.phase for release, record in known.items()},
        )
        story: list[Event | None] = []
        with journal.transaction():
            for listing in listings:
                journal.save_listing(listing, now)
            for quarantine in (*desired.failed, *decided.quarantines):
                journal.add_quarantine(quarantine)
                release = quarantine.release
                failed = Transition(
                    release, Phase.QUARANTINED, quarantine.reason, quarantine.message
                )
                story.append(journal.record(failed, now))
            just_failed = {q.release for q in (*desired.failed, *decided.quarantines)}
            for transition in transitions:
                release = transition.release
                if release in just_failed and transition.phase is not Phase.LIVE:
                    continue
                source = desired.sources.get(release, "")
                if release not in known and release.digest in self._noticed:
                    found = Transition(
                        release, Phase.DISCOVERED, "Listed", f"listed by {source or 'a source'}"
                    )
                    story.append(
                        journal.record(found, self._noticed[release.digest], source=source)
                    )
                    fetched = Transition(release, Phase.FETCHED, "Verified", "fetched and verified")
                    story.append(journal.record(fetched, now, source=source))
                if transition.phase is Phase.LIVE:
                    journal.placement_live(transition.placement, now)
                story.append(journal.record(transition, now, source=source))
            story.extend(journal.set_conditions(conditions, now))
        return tuple(event for event in story if event is not None)
