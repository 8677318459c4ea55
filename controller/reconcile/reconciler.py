"""One pass: observe, plan, act, record.

A pass polls the sources and Ray, asks `planning` what to do, does at most one PUT, and writes down
what was seen and decided. It never waits for slow work, which jobs do. It can be cut off anywhere:
the next pass, of this process or another, observes again.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from random import random
from typing import TYPE_CHECKING

from controller.errors import Rejected, WheelwayError, without_frames
from controller.journal import Journal
from controller.model import Condition
from controller.planning.causes import CHECKING_FILES
from controller.planning.contest import Contest, restrained, to_claim_back
from controller.planning.daemons import keeping_marks
from controller.planning.deaths import Deaths
from controller.planning.disappearance import Absences
from controller.planning.health import doubts_its_files
from controller.planning.plan import Cause
from controller.planning.planner import MOVING, Pace, Planner
from controller.planning.probing import Complaints
from controller.planning.situation import Limits, Situation
from controller.planning.staging import Turns, in_turn
from controller.planning.swaps import Judged, Swaps, with_news
from controller.planning.weights import weights_named
from controller.reconcile.applier import Applier
from controller.reconcile.desired import Desired, Gatherer
from controller.reconcile.holdover import Holdover
from controller.reconcile.observer import Observer, Probes
from controller.reconcile.preflight import BLOCKING
from controller.reconcile.recorder import Recorder
from controller.reconcile.report import Report, Reports
from controller.reconcile.weights import weights_recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from packaging.tags import Tag

    from controller.config.settings import Config
    from controller.journal import Reader, ReleaseRecord
    from controller.model import JSON, Event, PlacementRecord, Release, Tracked
    from controller.observed import Answer, Application
    from controller.planning.daemons import DaemonMark
    from controller.planning.overrides import Overrides
    from controller.planning.plan import Plan
    from controller.planning.weights_election import WeightsRecorded
    from controller.reconcile.applier import Sent
    from controller.reconcile.artifacts import Artifacts
    from controller.serve.dashboard import Dashboard
    from controller.serve.ingress import Ingress
    from controller.serve.rendering import Renderer


FORGET_EVERY = 3600.0
"""Seconds between two times that the journal is pruned."""


@dataclass(frozen=True, slots=True)
class _Observed:
    """What a pass observed, beside what the sources list."""

    at: float
    """By the clock of the passes."""
    applications: tuple[Application, ...]
    records: Mapping[str, PlacementRecord]
    answers: Mapping[str, Answer]
    overrides: Overrides
    weights: WeightsRecorded
    """What was recorded of weights, and what the answers add to it."""
    judged: Judged
    """What the answers say of weights."""


class Reconciler:
    """Makes passes. `tags` and `fingerprint` describe the interpreter that replicas run on, `clock`
    is what everything waits by (`journal/clock.py`); `wall_clock` only says when things happened;
    `mark` is what this daemon is told from others by; a preview away from it has none.
    """

    def __init__(
        self,
        config: Config,
        *,
        artifacts: Artifacts,
        dashboard: Dashboard,
        ingress: Ingress,
        renderer: Renderer,
        journal: Reader,
        tags: Sequence[Tag],
        fingerprint: str,
        clock: Callable[[], float],
        mark: DaemonMark | None = None,
        wall_clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random,
    ) -> None:
        self.config = config
        self._artifacts = artifacts
        self._observer = Observer(dashboard, journal, cap=config.rollout.interval, jitter=jitter)
        self._applier = Applier(config, dashboard=dashboard, renderer=renderer, jitter=jitter)
        self._renderer = renderer
        self._journal = journal
        self._recorder: Recorder | None = None
        if isinstance(journal, Journal):
            self._recorder = Recorder(journal, artifacts, wall_clock=wall_clock)
        self._holdover = Holdover(journal)
        self._fingerprint = fingerprint
        self._clock = clock
        self._complaints = Complaints()
        self._deaths = Deaths()
        self._probes = Probes(ingress, probe_deadline=config.rollout.probe_deadline)
        self._planner = Planner()
        self._swaps = Swaps()
        self._reports = Reports()
        self._mark = mark
        self._contest = Contest(mark, wait=to_claim_back(config.rollout.interval))
        self._forget_at = float("-inf")
        self._pace = Pace(config.rollout.interval)
        self._templates = ""
        self._turns = Turns()
        self._held: set[Tracked] = set()
        self._gatherer = Gatherer(config, artifacts, renderer, tags=tags, absences=Absences())
        self.notes: tuple[Condition, ...] = ()
        """Conditions that others found: about Ray, the configuration."""
        self.inspected = True
        """Whether Ray's side was inspected since it last could not be; nothing starts before."""
        self.unknown: Condition | None = None
        """Why it could not be inspected although the cluster can be observed."""
        self.progressed: Callable[[], None] = lambda: None
        """Called after each part of a pass; each has a deadline of its own."""

    def close(self) -> None:
        """End the probing threads."""
        self._probes.close()

    def renew(self, config: Config) -> None:
        """Use another configuration, of the same cluster, templates, sources and cache, from now
        on. What is remembered, waited for or backed off from stays so.
        """
        self.config = config
        self._observer.cap = self._pace.interval = config.rollout.interval
        self._probes.deadline = config.rollout.probe_deadline
        self._contest.wait_for(to_claim_back(config.rollout.interval))
        self._applier.config = config
        self._gatherer.renew(config)

    def backing_off(self) -> bool:
        """Whether Ray could not be observed and is to be left alone for now."""
        return self._observer.wait(self._clock()) > 0

    def run_pass(self, *, act: bool = True) -> Report:
        """Observe, plan, act, record.

        With `act=False`, or over a journal that is only read, nothing is sent or recorded.
        """
        now = self._clock()
        recorder = self._recorder if act else None
        self._holdover.begin(busy=self._artifacts.busy())
        self._artifacts.poll()
        asks = self._observer.wait(now) == 0
        try:
            applications = self._observer.applications(now)
        except WheelwayError as error:
            return self._unobservable(error, now, recorder, asked=asks)
        self.progressed()
        observed = self._observe(applications, now, recorder)
        desired = self._elect(observed, grace=self.config.rollout.absence_grace if act else 0.0)
        known = self._journal.records(desired.concerned)
        situation = self._situation(observed, desired, known)
        self._keep_sound(observed, desired)
        decided = self._decide(situation, observed)
        events: tuple[Event, ...] = ()
        if recorder is not None:  # before acting: what was decided must outlive us
            events = recorder.record(applications, desired, decided, known, now)
            events += recorder.weigh(desired.weights, observed.judged, decided.refused_weights)
        self.progressed()
        done = self._send(decided, now, recorder)
        conditions = self._conditions(observed, desired, decided, done)
        if recorder is not None:
            events += recorder.conditions(conditions)
            self._forget_what_is_over(observed, desired, recorder)
        recheck = min(self._artifacts.next_poll(), desired.recheck_in)
        return self._reports.on(
            *(desired, decided, done),
            applications=applications,
            records=observed.records,
            conditions=conditions,
            events=events,
            next_in=self._pace.next_in(
                decided, now, sent=done.sent, next_poll=recheck, swapping=observed.judged.hurries
            ),
        )

    def _observe(
        self, applications: tuple[Application, ...], now: float, recorder: Recorder | None
    ) -> _Observed:
        journal, overrides = self._journal, self._journal.overrides()
        if recorder is not None:
            recorder.try_weights_again(applications)
        recorded = weights_recorded(journal, overrides, applications)
        swaps = self._swaps.under_way(applications, recorded.proven)
        asked = self._probes.ask(
            *(applications, journal.placements(), now),
            progressed=self.progressed,
            more=self._swaps.questions(swaps),
        )
        judged = self._swaps.judge(
            *(swaps, applications, asked.answers, asked.heard),
            now=now,
            deadline=self.config.rollout.ready_deadline,
        )
        judged.leave_out(recorded.refused)
        if recorder is not None:
            recorder.date(asked.records)
            recorder.absolve(self._artifacts.upkeep.take_restored())
        return _Observed(
            *(now, applications, asked.records, asked.answers, overrides),
            weights=with_news(recorded, judged, now),
            judged=judged,
        )

    def _unobservable(
        self, error: WheelwayError, now: float, recorder: Recorder | None, *, asked: bool
    ) -> Report:
        """The report of a pass that could not observe Ray: nothing is decided, serving goes on."""
        without_frames(error)  # it is remembered, and raised again in the passes that ask nothing
        dates = self._probes.interrupted(self._journal.placements(), now)
        self._swaps.interrupted()
        if recorder is not None:
            recorder.date(dates)
        trouble = Condition("ray", error.reason, error.message)
        found = [trouble, *self.notes, *self._artifacts.conditions()]
        # Conditions of releases, pins and files stay: whether they are over is not known now.
        observed = {"api", "cache", "config", "ray", *self._artifacts.sources}
        found += self._holdover.held(found, observed)
        conditions = (*found, *self._holdover.besides(found))
        events = recorder.conditions(conditions) if recorder is not None else ()
        return Report(
            f"waiting for Ray: {error.message}",
            max(MOVING, self._observer.wait(now)),
            events,
            conditions=conditions,
            retried=asked and self._observer.failures > 1,
            error=error if asked else None,
        )

    def _elect(self, observed: _Observed, *, grace: float) -> Desired:
        """What should run; `grace` is in seconds (see `Gatherer.desired`)."""
        present = {app.release.digest for app in observed.applications if app.release is not None}
        quarantines = self._journal.quarantines_of(self._artifacts.listed().digests, present)
        held = {quarantine.subject for quarantine in quarantines}
        for subject in self._held - held:
            # A person lifted the quarantine: what failed is done anew.
            self._artifacts.clear_failures(subject.digest)
        self._held = held
        desired = self._gatherer.desired(
            *(observed.applications, observed.records, quarantines, observed.at),
            fingerprint=self._fingerprint_now(),
            overrides=observed.overrides,
            grace=grace,
            owners=self._journal.owners(),
            weights=observed.weights,
        )
        self.progressed()
        return desired

    def _fingerprint_now(self) -> str:
        """That of the interpreter, and of the templates as they are or could last be read."""
        with suppress(WheelwayError):  # each placement reports it
            self._templates = self._renderer.fingerprint()
        return f"{self._fingerprint} {self._templates}"

    def _keep_sound(self, observed: _Observed, desired: Desired) -> None:
        applications = observed.applications
        told = [app for app in applications if app.message and doubts_its_files(app)]
        doubted = [app.release.digest for app in told if app.release]
        doubted += observed.judged.damaged
        # Else a pass need not even count what there is.
        if doubted or self._artifacts.upkeep.is_due():
            placed = {release.digest for release in desired.placements}
            placed |= desired.weights.digests
            self._artifacts.keep_sound(applications, placed, doubted)

    def _decide(self, situation: Situation, observed: _Observed) -> Plan:
        restraint = self._contest.judge(observed.applications, observed.overrides, observed.at)
        return restrained(self._planner.plan(situation), situation, restraint)

    def _situation(
        self, observed: _Observed, desired: Desired, known: Mapping[Tracked, ReleaseRecord]
    ) -> Situation:
        rollout = self.config.rollout
        placements = desired.placements
        if self._mark is None:
            placements = keeping_marks(placements, observed.applications)
        unfit = not self.inspected or any(note.reason in BLOCKING for note in self.notes)
        elected = (verdict.release for verdict in desired.verdicts if verdict.elected)
        waiting_since = self._turns.waiting(
            elected, desired.placements, observed.applications, observed.at
        )
        return Situation(
            now=observed.at,
            verdicts=desired.verdicts,
            placements=placements,
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
            sources={subject: record.source for subject, record in known.items()},
            losses=self._journal.losses(),
            waiting_since=waiting_since,
            unchecked=self._unchecked(observed, desired, waiting_since),
            encoded_routes=self._encoded_routes(),
            overrides=observed.overrides,
            suspects=desired.weights.suspects,
            uptake=observed.judged.uptake,
            cluster=self._journal.cluster,
        )

    def _unchecked(
        self, observed: _Observed, desired: Desired, since: Mapping[Release, float]
    ) -> dict[Release, Cause]:
        """Prepared releases that cannot start before their files are checked. Those whose turn is
        next are checked first, for a pass has no time for all.
        """
        if not since:
            return {}
        there = {app.release for app in observed.applications}
        placements = desired.placements
        asking = [placements[r] for r in since if r in placements and r not in there]
        queue = [placement.release for placement in in_turn(asking, since, observed.at)]
        faults = self._artifacts.unchecked(release.digest for release in queue)
        causes = {
            digest: Cause(fault.reason, fault.message) if fault else CHECKING_FILES
            for digest, fault in faults.items()
        }
        return {release: causes[release.digest] for release in queue if release.digest in causes}

    def _encoded_routes(self) -> dict[str, JSON] | None:
        try:
            return self._renderer.encoded_routes(self.config.ray)
        except WheelwayError:
            return None  # the whole config fails by the same templates, and says why

    def _send(self, decided: Plan, now: float, recorder: Recorder | None) -> Sent:
        done = self._applier.send(decided, recorder.sending if recorder else None, now)
        self.progressed()
        if done.sent:
            self._observer.applied(decided.applications)
            self._contest.sent(decided.applications, now)
        if done.tried and not isinstance(done.refusal, Rejected):  # it may have been taken
            self._probes.restarted(now)
            if not done.sent:
                self._contest.unknown()
        return done

    def _conditions(
        self, observed: _Observed, desired: Desired, decided: Plan, done: Sent
    ) -> tuple[Condition, ...]:
        """All conditions, whoever found them."""
        said = self._complaints.conditions(observed.answers, observed.applications)
        notes = self.notes if self.unknown is None else (*self.notes, self.unknown)
        found = [*notes, *desired.conditions, *decided.conditions, *said]
        found += self._deaths.conditions(observed.applications, observed.at)
        found += observed.judged.conditions
        if done.refusal is not None:
            found.append(Condition("serve config", done.refusal.reason, done.refusal.message))
        return *found, *self._holdover.besides(found)

    def _forget_what_is_over(
        self, observed: _Observed, desired: Desired, recorder: Recorder
    ) -> None:
        """Now and then, prune the cache and the journal."""
        if self._artifacts.is_untidy():
            present = [app for app in observed.applications if app.release is not None]
            documents = [app.document or {} for app in present]
            documents.extend(placement.document for placement in desired.placements.values())
            self._artifacts.tidy(
                [
                    *(app.release.digest for app in present if app.release),
                    *(one.digest for document in documents for one in weights_named(document)),
                    *desired.weights.needed,
                ],
                [str(document.get("args", {}).get("environment", "")) for document in documents],
            )
        if observed.at >= self._forget_at:
            more = recorder.forget_what_is_over(self.config.journal, observed.at)
            self._forget_at = observed.at if more else observed.at + FORGET_EVERY
