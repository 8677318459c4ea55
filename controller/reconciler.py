"""One pass: observe, plan, act, record.

A pass looks at the sources and at Ray, asks `planning` what to do, does at most one PUT, and writes
down what was seen and decided. It never waits for slow work; that is done by the supply's jobs. It
can be cut off anywhere: the next pass, of this process or another, observes again.
"""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.desired import Desired, Election
from controller.errors import Stalled, WheelwayError
from controller.journal import Journal
from controller.model import Condition, Event, Phase, Plan, Transition
from controller.planning import backoff
from controller.planning.health import Health, diagnose
from controller.planning.phases import phases_of
from controller.planning.rollout import plan
from controller.planning.situation import Limits, Situation, routes_to_probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from packaging.tags import Tag

    from controller.config import Config
    from controller.journal import Reader
    from controller.model import JSON, Answer, Application, PlacementRecord, Quarantine
    from controller.serve.dashboard import Dashboard
    from controller.serve.ingress import Ingress
    from controller.serve.rendering import Renderer
    from controller.supply import Supply

PROBE_ALL_EVERY = 30.0
"""Seconds between two looks at every route, needed for the plan or not."""
MOVING = 0.12
"""Seconds until the next pass while something is on its way."""
MOVING_SLOWLY = 0.5
"""The same, when it has been on its way for a while."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a pass found, for the daemon, the terminal and the log."""

    sentence: str
    next_in: float
    """Seconds until the next pass is due, if nothing wakes it before."""
    events: tuple[Event, ...] = ()
    plan: Plan | None = None
    """None when Ray could not be observed."""
    conditions: tuple[Condition, ...] = ()
    """Everything that stands in the way of something, wherever it was found."""
    quarantines: tuple[Quarantine, ...] = ()
    """Those that hold, new ones included."""
    config: str = ""
    """The planned Serve config as YAML."""
    sent: bool = False


@dataclass(slots=True)
class _Observed:
    applications: tuple[Application, ...]
    records: Mapping[str, PlacementRecord]
    answers: dict[str, Answer] = field(default_factory=dict)


class Reconciler:
    """Makes passes. `tags` and `fingerprint` describe the interpreter that replicas run on."""

    def __init__(
        self,
        config: Config,
        *,
        supply: Supply,
        dashboard: Dashboard,
        ingress: Ingress,
        renderer: Renderer,
        journal: Reader,
        tags: Sequence[Tag],
        fingerprint: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self._supply = supply
        self._dashboard = dashboard
        self._ingress = ingress
        self._renderer = renderer
        self._journal = journal
        self._tags = tags
        self._fingerprint = fingerprint
        self._clock = clock
        self._probers = ThreadPoolExecutor(8, "wheelway-probe")
        self._probed_all_at = 0.0
        self._moving_since: float | None = None
        self._refused: tuple[str, WheelwayError, int, float] | None = None
        self._templates = ""
        self._held: set[str] = set()
        self._noticed: dict[str, float] = {}
        self.notes: tuple[Condition, ...] = ()
        """Conditions that others found: about Ray, the configuration."""

    @property
    def _writer(self) -> Journal:
        """The journal of passes that act."""
        if not isinstance(self._journal, Journal):
            raise Stalled(
                "JournalReadOnly", "this command only looks; a pass that acts needs the daemon"
            )
        return self._journal

    def close(self) -> None:
        """End the probing threads."""
        self._probers.shutdown(wait=True)

    def run_pass(self, *, act: bool = True) -> Report:
        """Observe, plan, act, record. With `act=False` nothing is sent and nothing recorded."""
        now = self._clock()
        self._supply.look()
        self._notice(now)
        try:
            observed = self._observe(now, record=act)
        except WheelwayError as error:
            return self._blind(error, now, record=act)
        quarantines = self._journal.quarantines()
        self._retry_what_was_cleared(quarantines)
        desired = self._election().desired(
            observed.applications, observed.records, quarantines, now
        )
        decided = plan(self._situation(observed, desired, now))
        config, text, refusal = self._render(decided)
        sent = False
        if act and decided.changes and not decided.hold and refusal is None:
            refusal = self._send(config, text, decided, now)
            sent = refusal is None
        conditions = [*self.notes, *desired.conditions, *decided.conditions]
        conditions.extend(self._settings_refused(observed))
        if refusal is not None:
            conditions.append(Condition("serve config", refusal.reason, refusal.message))
        events: tuple[Event, ...] = ()
        if act:
            events = self._record(observed, desired, decided, conditions, now)
        sentence = _sentence(observed, desired, decided, sent=sent)
        wait = self._next_in(decided, now, sent=sent)
        return Report(
            sentence,
            wait,
            events,
            decided,
            tuple(conditions),
            (*desired.quarantines.values(), *decided.quarantines),
            text,
            sent,
        )

    # -- observe ---------------------------------------------------------------------------------

    def _notice(self, now: float) -> None:
        for listing in self._supply.listings().values():
            for revision in listing.revisions:
                self._noticed.setdefault(revision.sha256, now)

    def _observe(self, now: float, *, record: bool) -> _Observed:
        applications = self._dashboard.applications()
        records: Mapping[str, PlacementRecord] = self._journal.placements()
        if record:
            records = self._date(applications, records, now)
        observed = _Observed(applications, records)
        routes = set(routes_to_probe(applications, records))
        if now - self._probed_all_at >= PROBE_ALL_EVERY:
            self._probed_all_at = now
            routes |= {app.route for app in applications if app.release and app.route}
        answers = self._probers.map(self._ingress.probe, sorted(routes))
        observed.answers = dict(zip(sorted(routes), answers, strict=True))
        return observed

    def _date(
        self,
        applications: Iterable[Application],
        records: Mapping[str, PlacementRecord],
        now: float,
    ) -> Mapping[str, PlacementRecord]:
        """Date what is seen for the first time, and forget what is gone.

        An application found on its route without any record served before this journal began:
        it is taken for live.
        """
        journal = self._writer
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

    def _blind(self, error: WheelwayError, now: float, *, record: bool) -> Report:
        """Ray cannot be observed: nothing is decided, serving goes on without us."""
        events: tuple[Event, ...] = ()
        trouble = Condition("ray", error.reason, error.message)
        conditions = (trouble, *self.notes, *self._supply.conditions())
        if record:
            events = tuple(self._writer.set_conditions(conditions, now))
        wait = min(2.0, self.config.rollout.interval)
        return Report(f"waiting for Ray: {error.message}", wait, events, conditions=conditions)

    def _retry_what_was_cleared(self, quarantines: Sequence[Quarantine]) -> None:
        """A person lifted a quarantine: what failed then is done anew, not remembered as failed."""
        held = {quarantine.release.digest for quarantine in quarantines}
        for digest in self._held - held:
            self._supply.forget(digest)
        self._held = held

    # -- plan ------------------------------------------------------------------------------------

    def _election(self) -> Election:
        with suppress(WheelwayError):  # each placement reports it
            self._templates = self._renderer.fingerprint()
        fingerprint = f"{self._fingerprint} {self._templates}"
        return Election(
            self.config, self._supply, self._renderer, tags=self._tags, fingerprint=fingerprint
        )

    def _encoded_routes(self) -> dict[str, JSON] | None:
        try:
            return self._renderer.encoded_routes(self.config.ray.ingress_url)
        except WheelwayError:
            return None  # the whole config fails by the same templates, and says why

    def _situation(self, observed: _Observed, desired: Desired, now: float) -> Situation:
        rollout = self.config.rollout
        return Situation(
            now=now,
            verdicts=desired.verdicts,
            placements=desired.placements,
            applications=observed.applications,
            answers=observed.answers,
            records=observed.records,
            limits=Limits(
                max_staging=rollout.max_staging,
                ready_deadline=rollout.ready_deadline,
                probe_deadline=rollout.probe_deadline,
                build_deadline=rollout.build_deadline,
                retire_limit=rollout.retire_limit,
            ),
            inputs=desired.inputs,
            encoded_routes=self._encoded_routes(),
        )

    def _render(self, decided: Plan) -> tuple[dict[str, JSON], str, WheelwayError | None]:
        documents = [planned.document for planned in decided.applications]
        try:
            config = self._renderer.config(
                documents, self.config.serve, self.config.ray.ingress_url
            )
            return config, self._renderer.to_yaml(config), None
        except WheelwayError as error:
            return {}, "", error

    # -- act -------------------------------------------------------------------------------------

    def _send(
        self, config: Mapping[str, JSON], text: str, decided: Plan, now: float
    ) -> WheelwayError | None:
        """PUT the config. One that was refused is not sent again before its backoff has passed."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        failures = 0
        if self._refused is not None and self._refused[0] == digest:
            _, error, failures, retry_at = self._refused
            if now < retry_at:
                return error
        try:
            self._renderer.validate(config)
            self._dashboard.put(config)
        except WheelwayError as error:
            wait = backoff.delay(failures + 1, jitter=0.5)
            self._refused = (digest, error, failures + 1, now + wait)
            return error
        self._refused = None
        self._writer.applied(text, digest, "; ".join(decided.changes), now)
        return None

    # -- record ----------------------------------------------------------------------------------

    def _record(
        self,
        observed: _Observed,
        desired: Desired,
        decided: Plan,
        conditions: Sequence[Condition],
        now: float,
    ) -> tuple[Event, ...]:
        journal = self._writer
        quarantines = {**desired.quarantines, **{q.release: q for q in decided.quarantines}}
        present = {app.release for app in observed.applications if app.release is not None}
        known = {record.release: record for record in journal.releases()}
        transitions = phases_of(
            decided,
            desired.verdicts,
            placements=desired.placements,
            quarantines=quarantines,
            present=present,
            before={release: record.phase for release, record in known.items()},
        )
        story: list[Event | None] = []
        with journal.transaction():
            for listing in self._supply.listings().values():
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

    def _settings_refused(self, observed: _Observed) -> list[Condition]:
        return [
            Condition(answer.header or route, "SettingsRefused", answer.settings_error)
            for route, answer in sorted(observed.answers.items())
            if answer.settings_error
        ]

    def _next_in(self, decided: Plan, now: float, *, sent: bool) -> float:
        moving = (
            sent
            or bool(decided.hold)
            or any(
                transition.phase in {Phase.READY, Phase.STAGED, Phase.RETIRING}
                and transition.reason != "InsufficientResources"
                for transition in decided.transitions
            )
        )
        if moving:
            self._moving_since = self._moving_since or now
            return MOVING if now - self._moving_since < 20 else MOVING_SLOWLY
        self._moving_since = None
        waits = [self.config.rollout.interval, max(0.05, self._supply.next_look())]
        if decided.wake_at is not None:
            waits.append(max(MOVING, decided.wake_at - now))
        return min(waits)


def _sentence(observed: _Observed, desired: Desired, decided: Plan, *, sent: bool) -> str:
    """The pass in one sentence for a person."""
    live = sum(1 for app in observed.applications if app.release is not None and app.route)
    parts = [f"{live} live"]
    starting = [t for t in decided.transitions if t.phase in {Phase.STAGED, Phase.READY}]
    if starting:
        parts.append(f"{len(starting)} starting")
    if desired.quarantines:
        parts.append(f"{len(desired.quarantines)} quarantined")
    if decided.hold:
        parts.append(f"holding the next config: {decided.hold}")
    elif sent:
        parts.append(f"sent a config: {'; '.join(decided.changes)}")
    elif decided.changes:
        parts.append(f"{len(decided.changes)} changes not sent")
    return ", ".join(parts)
