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
from random import random
from typing import TYPE_CHECKING, Any

from controller.chronicle import Chronicle
from controller.desired import Desired, Election
from controller.errors import Transient, WheelwayError
from controller.fitness import BLOCKING
from controller.journal import Journal
from controller.model import Condition, Event, Phase, Plan
from controller.planning import backoff
from controller.planning.absence import Absences
from controller.planning.rollout import plan
from controller.planning.situation import Limits, Situation, routes_to_probe, was_live
from controller.planning.standstill import SUSPENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from packaging.tags import Tag

    from controller.config import Config
    from controller.journal import Reader, ReleaseRecord
    from controller.model import (
        JSON,
        Answer,
        Application,
        Overrides,
        PlacementRecord,
        Quarantine,
        Release,
    )
    from controller.serve.dashboard import Dashboard
    from controller.serve.ingress import Ingress
    from controller.serve.rendering import Renderer
    from controller.supply import Supply

EMPTY_FOR = 20.0
"""Seconds for which a cluster must say that it is empty, when it just was not: longer than Serve's
controller takes to come back with the head's storage (16 s measured)."""
PROBE_ALL_EVERY = 30.0
"""Seconds between two looks at every route, needed for the plan or not."""
MOVING = 0.12
"""Seconds until the next pass while something is on its way."""
MOVING_SLOWLY = 0.5
"""The same, when it has been on its way for a while, or has a second of work ahead of it: Serve
builds in a process of its own, and each look takes from the time of the cores it builds on."""


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


_Rendered = tuple[tuple[list[Any], str], tuple[dict[str, Any], str]]
"""What was rendered last (documents, templates' fingerprint), and into what (config, YAML)."""


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
        jitter: Callable[[], float] = random,
    ) -> None:
        self.config = config
        self._supply = supply
        self._dashboard = dashboard
        self._ingress = ingress
        self._renderer = renderer
        self._journal = journal
        self._chronicle = Chronicle(journal, supply) if isinstance(journal, Journal) else None
        self._tags = tags
        self._fingerprint = fingerprint
        self._clock = clock
        self._jitter = jitter
        self._probers = ThreadPoolExecutor(8, "wheelway-probe")
        self._probed_all_at = 0.0
        self._moving_since: float | None = None
        self._refused: tuple[str, WheelwayError, int, float] | None = None
        self._templates = ""
        self._rendered: _Rendered | None = None
        self._held: set[Release] = set()
        self._blind_passes = 0
        self._blind_until = 0.0
        self._blinded: WheelwayError | None = None
        self._empty_since: float | None = None
        self._emptied = False  # by our own last config
        self._answers: dict[str, Answer] = {}
        self._absences = Absences()
        self.notes: tuple[Condition, ...] = ()
        """Conditions that others found: about Ray, the configuration."""
        self.inspected = True
        """Whether Ray's side was looked at since it last could not be; nothing starts before."""

    def close(self) -> None:
        """End the probing threads."""
        self._probers.shutdown(wait=True)

    def resting(self) -> bool:
        """Whether Ray could not be observed and is to be left alone for now."""
        return self._blinded is not None and self._clock() < self._blind_until

    def run_pass(self, *, act: bool = True) -> Report:
        """Observe, plan, act, record.

        With `act=False`, or over a journal that is only read, nothing is sent or recorded.
        """
        now = self._clock()
        self._supply.look()
        chronicle = self._chronicle if act else None
        if self._blinded is not None and now < self._blind_until:
            return self._blind(self._blinded, now, chronicle)
        try:
            applications = self._dashboard.applications()
            self._doubt_emptiness(applications, now)
        except WheelwayError as error:
            self._look_later(error, now)
            return self._blind(error, now, chronicle)
        self._blind_passes, self._blinded = 0, None
        observed = self._observe(applications, now, chronicle)
        quarantines, overrides = self._journal.quarantines(), self._journal.overrides()
        self._retry_what_was_cleared(quarantines)
        grace = self.config.rollout.absence_grace if act else 0.0
        desired = self._election(overrides, grace=grace).desired(
            observed.applications, observed.records, quarantines, now
        )
        known = {record.release: record for record in self._journal.releases()}
        decided = plan(self._situation(observed, desired, overrides, known, now))
        events: tuple[Event, ...] = ()
        if chronicle is not None:  # before acting: what was decided must outlive us
            events = chronicle.record(observed.applications, desired, decided, known, now)
        text, sent, refusal = self._act(decided, chronicle, now)
        conditions = [*self.notes, *desired.conditions, *decided.conditions]
        conditions.extend(self._settings_refused(observed))
        if refusal is not None:
            conditions.append(Condition("serve config", refusal.reason, refusal.message))
        if chronicle is not None:
            events += chronicle.conditions(conditions, now)
            self._tidy(observed, desired)
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

    def _observe(
        self, applications: tuple[Application, ...], now: float, chronicle: Chronicle | None
    ) -> _Observed:
        records: Mapping[str, PlacementRecord] = self._journal.placements()
        if chronicle is not None:
            records = chronicle.date(applications, records, now)
        observed = _Observed(applications, records)
        routes = set(routes_to_probe(applications, records))
        if now - self._probed_all_at >= PROBE_ALL_EVERY:
            self._probed_all_at = now
            routes |= {app.route for app in applications if app.release and app.route}
        answers = self._probers.map(self._ingress.probe, sorted(routes))
        # Of a route that is settled, the last answer stands until it is asked again.
        held = {app.route for app in applications if app.release}
        known = {route: said for route, said in self._answers.items() if route in held}
        self._answers = known | dict(zip(sorted(routes), answers, strict=True))
        observed.answers = self._answers
        return observed

    def _blind(self, error: WheelwayError, now: float, chronicle: Chronicle | None) -> Report:
        """Ray cannot be observed: nothing is decided, serving goes on without us."""
        trouble = Condition("ray", error.reason, error.message)
        conditions = (trouble, *self.notes, *self._supply.conditions())
        events = chronicle.conditions(conditions, now) if chronicle is not None else ()
        wait = max(MOVING, self._blind_until - now)
        return Report(f"waiting for Ray: {error.message}", wait, events, conditions=conditions)

    def _look_later(self, error: WheelwayError, now: float) -> None:
        """Until then no pass asks Ray anything, however many events come."""
        self._blind_passes += 1
        self._blinded = error
        asked = error.retry_after if isinstance(error, Transient) else None
        self._blind_until = now + backoff.delay(
            self._blind_passes,
            jitter=self._jitter(),
            retry_after=asked,
            cap=self.config.rollout.interval,  # whoever waits for Ray wants to see that it is back
        )

    def _doubt_emptiness(self, applications: Sequence[Application], now: float) -> None:
        """Serve says the same, that nothing runs, while its controller cannot be asked (its actor
        is not found, or not restored yet) as when nothing does: ray/dashboard/modules/serve, GET.
        Taking its word would send a config without what serves.

        Raises:
            Transient: `ClusterEmpty`, for as long as that may pass.
        """
        names = {app.name for app in applications}
        records = self._journal.placements().values()
        gone = [r.name for r in records if r.live_at is not None and r.name not in names]
        if names or not gone or self._emptied:
            self._emptied = self._emptied and not names
            self._empty_since = None
            return
        self._empty_since = self._empty_since or now
        if now - self._empty_since < EMPTY_FOR:
            raise Transient(
                "ClusterEmpty",
                f"Ray Serve reports no application at all, though {', '.join(sorted(gone))} served "
                f"a moment ago; believed once it said so for {EMPTY_FOR:g} s",
                retry_after=1.0,
            )

    def _retry_what_was_cleared(self, quarantines: Sequence[Quarantine]) -> None:
        """A person lifted a quarantine: what failed then is done anew, not remembered as failed."""
        held = {quarantine.release for quarantine in quarantines}
        for release in self._held - held:
            self._supply.forgive(release.digest)
        self._held = held

    # -- plan ------------------------------------------------------------------------------------

    def _election(self, overrides: Overrides, *, grace: float) -> Election:
        with suppress(WheelwayError):  # each placement reports it
            self._templates = self._renderer.fingerprint()
        fingerprint = f"{self._fingerprint} {self._templates}"
        return Election(
            self.config,
            self._supply,
            self._renderer,
            tags=self._tags,
            fingerprint=fingerprint,
            absences=self._absences,
            grace=grace,
            overrides=overrides,
        )

    def _encoded_routes(self) -> dict[str, JSON] | None:
        try:
            return self._renderer.encoded_routes(self.config.ray.ingress_url)
        except WheelwayError:
            return None  # the whole config fails by the same templates, and says why

    def _situation(
        self,
        observed: _Observed,
        desired: Desired,
        overrides: Overrides,
        known: Mapping[Release, ReleaseRecord],
        now: float,
    ) -> Situation:
        rollout = self.config.rollout
        unfit = not self.inspected or any(note.reason in BLOCKING for note in self.notes)
        return Situation(
            now=now,
            verdicts=desired.verdicts,
            placements=desired.placements,
            applications=observed.applications,
            answers=observed.answers,
            records=observed.records,
            limits=Limits(
                max_staging=0 if unfit else rollout.max_staging,
                ready_deadline=rollout.ready_deadline,
                probe_deadline=rollout.probe_deadline,
                build_deadline=rollout.build_deadline,
                retire_limit=rollout.retire_limit,
            ),
            inputs=desired.inputs,
            sources={release: record.source for release, record in known.items()},
            encoded_routes=self._encoded_routes(),
            overrides=overrides,
        )

    def _render(self, decided: Plan) -> tuple[dict[str, JSON], str, WheelwayError | None]:
        """The planned config, as it is and as YAML. Most passes plan what the one before planned,
        and rendering costs more than all the rest of them.
        """
        documents = [planned.document for planned in decided.applications]
        try:
            source = (documents, self._renderer.fingerprint())
            if self._rendered is None or self._rendered[0] != source:
                config = self._renderer.config(
                    documents, self.config.serve, self.config.ray.ingress_url
                )
                self._rendered = source, (config, self._renderer.to_yaml(config))
        except WheelwayError as error:
            return {}, "", error
        return *self._rendered[1], None

    # -- act -------------------------------------------------------------------------------------

    def _act(
        self, decided: Plan, chronicle: Chronicle | None, now: float
    ) -> tuple[str, bool, WheelwayError | None]:
        """The planned config as YAML, whether it was sent, and what stood in its way. One that was
        refused is not sent again before its backoff has passed.
        """
        config, text, refusal = self._render(decided)
        if chronicle is None or refusal is not None or decided.hold or not decided.changes:
            return text, False, refusal
        digest = hashlib.sha256(text.encode()).hexdigest()
        failures = 0
        if self._refused is not None and self._refused[0] == digest:
            _, refusal, failures, retry_at = self._refused
            if now < retry_at:
                return text, False, refusal
        outcome = chronicle.sending(text, digest, "; ".join(decided.changes), now)
        try:
            self._renderer.validate(config)
            self._dashboard.put(config)
        except WheelwayError as error:
            outcome(error.reason)
            asked = error.retry_after if isinstance(error, Transient) else None
            wait = backoff.delay(failures + 1, jitter=self._jitter(), retry_after=asked)
            self._refused = (digest, error, failures + 1, now + wait)
            return text, False, error
        outcome("Applied")
        self._refused, self._emptied = None, not decided.applications
        return text, True, None

    def _tidy(self, observed: _Observed, desired: Desired) -> None:
        present = [app for app in observed.applications if app.release is not None]
        documents = [app.document or {} for app in present]
        documents.extend(placement.document for placement in desired.placements.values())
        self._supply.tidy(
            [app.release.digest for app in present if app.release],
            [str(document.get("args", {}).get("environment", "")) for document in documents],
        )

    def _settings_refused(self, observed: _Observed) -> list[Condition]:
        return [
            Condition(answer.header or route, "SettingsRefused", answer.settings_error)
            for route, answer in sorted(observed.answers.items())
            if answer.settings_error
        ]

    def _next_in(self, decided: Plan, now: float, *, sent: bool) -> float:
        on_the_way = {
            (transition.phase, transition.reason)
            for transition in decided.transitions
            if transition.phase in {Phase.READY, Phase.STAGED, Phase.RETIRING}
            and transition.reason not in {"InsufficientResources", SUSPENDED}
        }
        if sent or decided.hold or on_the_way:
            self._moving_since = self._moving_since or now
            building = on_the_way <= {(Phase.STAGED, "Building")}
            slowly = building or now - self._moving_since >= 20
            return MOVING_SLOWLY if slowly else MOVING
        self._moving_since = None
        waits = [self.config.rollout.interval, max(0.05, self._supply.next_look())]
        if decided.wake_at is not None:
            waits.append(max(MOVING, decided.wake_at - now))
        return min(waits)


def _sentence(observed: _Observed, desired: Desired, decided: Plan, *, sent: bool) -> str:
    """The pass in one sentence for a person."""
    live = {t.placement for t in decided.transitions if t.phase is Phase.LIVE}
    live |= {a.name for a in observed.applications if a.route and was_live(a, observed.records)}
    parts = [f"{len(live)} live"]
    starting = [t for t in decided.transitions if t.phase in {Phase.STAGED, Phase.READY}]
    if starting:
        parts.append(f"{len(starting)} starting")
    if desired.quarantines:
        parts.append(f"{len(desired.quarantines)} quarantined")
    if any(c.reason == SUSPENDED and c.subject == "serve config" for c in decided.conditions):
        parts.append("suspended")
    if decided.hold:
        parts.append(f"holding the next config: {decided.hold}")
    elif sent:
        parts.append(f"sent a config: {'; '.join(decided.changes)}")
    elif decided.changes:
        parts.append(f"{len(decided.changes)} changes not sent")
    return ", ".join(parts)
