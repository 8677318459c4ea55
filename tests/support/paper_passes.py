"""The reconciler's part around election and planning, played for tests of planning: what it gathers
for them as values, and what the journal and the process remember between two passes.
"""

from dataclasses import dataclass, field, replace

from controller.model import Phase
from controller.planning.contest import Contest, restrained
from controller.planning.dates import dated, excused, restarted, unwatched
from controller.planning.disappearance import Absences
from controller.planning.election import Election, Offered, Present
from controller.planning.overrides import Overrides
from controller.planning.policy import STANDS_IN
from controller.planning.probing import routes_to_probe
from controller.planning.situation import Limits, Situation
from controller.planning.staging import Turns
from controller.planning.swaps import Judged, Swaps, with_news
from controller.planning.weights_election import (
    RunningWeights,
    WeightsElection,
    WeightsOffered,
    WeightsRecorded,
)
from controller.reconcile.weights import running_weights
from tests.support.cluster import place

GRACE = 30.0
"""Seconds that a version must be missing before it counts as absent."""


@dataclass(frozen=True)
class Wishes:
    """What the sources offer and the operator wants, at one moment."""

    candidates: tuple
    rules: dict
    overrides: Overrides
    options: dict
    unprepared: set
    """Digests of what has no environment yet."""
    listed: bool
    """False before the first listing after a restart: nothing is offered, nothing is missed."""
    weights: WeightsOffered = field(default_factory=WeightsOffered)
    weights_rules: dict = field(default_factory=dict)
    weights_pins: dict = field(default_factory=dict)
    restart: frozenset = frozenset()
    """Pipelines whose weights are an argument of their applications."""


def offered(candidates, *, complete):
    """What the sources offer when every wheel was looked into."""
    by_pipeline = {}
    for one in candidates:
        by_pipeline.setdefault(one.release.pipeline, []).append(one)
    return Offered(
        {name: tuple(group) for name, group in by_pipeline.items()},
        {one.release.digest for one in candidates},
        complete=complete,
    )


class Daemon:
    def __init__(self):
        self.lose_the_journal()
        self.restart()

    def lose_the_journal(self):
        self.records = {}
        self.quarantined = {}
        self.sources = {}
        self.losses = {}
        self.owners = {}
        self.weights = WeightsRecorded()

    def restart(self):
        self.election = Election(Absences())
        self.answers = {}
        self.blind_at = None
        self.contest = Contest(None, wait=0.0)
        self.turns = Turns()
        self.asked_at = self.sent_at = None
        self.swaps, self.weighing = Swaps(), WeightsElection()

    def interrupted(self, now):
        """A pass could not look."""
        since = self.asked_at if self.blind_at is None else self.blind_at
        self.records = unwatched(self.records, since=since, now=now)
        self.blind_at = now

    def poll(self, cluster, wishes, now):
        """What a pass would plan from. Dates what is seen for the first time."""
        apps = cluster.applications
        self.records = dated(apps, self.records, now)
        if self.sent_at is not None:
            self.records = restarted(self.records, self.sent_at)
            self.sent_at = None
        if self.blind_at is not None:
            self.records = unwatched(self.records, since=self.blind_at, now=now)
            self.answers, self.asked_at = {}, None
        self.blind_at = None
        answers = self._ask(cluster, apps, now)
        candidates = wishes.candidates if wishes.listed else ()
        self.sources |= {candidate.release: candidate.source for candidate in candidates}
        weighing = self._weigh(cluster, apps, wishes, now)
        taken = {c.release: weighing.of(c.release).wanted for c in candidates}
        inputs = {r: f"{w} option {wishes.options[r.pipeline]}" for r, w in taken.items()}
        held = {r: q for r, q in self.quarantined.items() if q.inputs == inputs.get(r)}
        ours = [app for app in apps if app.release is not None]
        elected = self.election.judge(
            offered(candidates, complete=wishes.listed),
            Present(ours, self.records, held, wishes.overrides.pins, self.owners),
            wishes.rules.__getitem__,
            now,
            grace=GRACE,
        )
        verdicts, self.owners = elected.verdicts, elected.owners
        weighed = weighing.end([v.release for v in verdicts if v.elected])
        self.weights = replace(self.weights, owners=weighed.owners)
        placements = {
            verdict.release: place(
                verdict.release,
                wishes.options[verdict.release.pipeline],
                weighing.of(verdict.release),
                restart=verdict.release.pipeline in wishes.restart,
            )
            for verdict in verdicts
            if verdict.elected
            and verdict.reason != STANDS_IN
            and verdict.release.digest not in wishes.unprepared
        }
        return Situation(
            now=now,
            verdicts=verdicts,
            placements=placements,
            applications=apps,
            answers=answers,
            records=dict(self.records),
            sources=dict(self.sources),
            limits=Limits(),
            losses=dict(self.losses),
            waiting_since=self.turns.waiting(
                [v.release for v in verdicts if v.elected], placements, apps, now
            ),
            inputs=inputs,
            overrides=wishes.overrides,
            suspects=weighed.suspects,
            uptake=self.uptake,
        )

    def _weigh(self, cluster, apps, wishes, now):
        """What replicas say of their weights is known, and recorded, before the election."""
        swaps = self.swaps.under_way(apps, self.weights.proven)
        heard = {route: [cluster.answer(route)] for route in self.swaps.questions(swaps)}
        judged = self.swaps.judge(
            swaps, apps, self.answers, heard, now=now, deadline=Limits().ready_deadline
        )
        judged.leave_out(self.weights.refused)
        self.uptake = judged.uptake
        self.weights = replace(with_news(self.weights, judged, now), pins=wishes.weights_pins)
        offered = wishes.weights if wishes.listed else WeightsOffered(complete=False)
        ours = [app for app in apps if app.release is not None]
        running = running_weights(ours, self.records) if offered.offers else RunningWeights()
        return self.weighing.judge(offered, self.weights, running, wishes.weights_rules.get, now)

    def _ask(self, cluster, apps, now):
        answers = {r: cluster.answer(r) for r in routes_to_probe(apps, self.records)}
        self.records = excused(
            self.records,
            answers,
            self.answers,
            {app.name: app.route for app in apps if app.release and app.route},
            since=self.asked_at,
            now=now,
            probe_deadline=Limits().probe_deadline,
        )
        self.answers, self.asked_at = answers, now
        return answers

    def restrained(self, situation, decided):
        """The plan as far as it is sent now."""
        restraint = self.contest.judge(situation.applications, situation.overrides, situation.now)
        return restrained(decided, situation, restraint)

    def record(self, situation, decided):
        """Write down what was decided, as is done before it is acted upon."""
        for transition in decided.transitions:
            known = self.records.get(transition.placement)
            if transition.phase is Phase.LIVE and (known.live_at or 0) < (known.routed_at or 1):
                self.records[known.name] = replace(known, live_at=situation.now)
        self.losses = dict(decided.losses)
        failed = {failure.subject: failure for failure in decided.quarantines}
        for transition in decided.transitions:
            release = transition.subject
            held = self.quarantined.get(release)
            lifted = held is not None and held.inputs != situation.inputs.get(release)
            if transition.phase is Phase.LIVE and lifted:
                del self.quarantined[release]
        self.quarantined |= failed
        if decided.refused_weights:
            self.weights = with_news(
                self.weights, Judged(refused=[*decided.refused_weights]), situation.now
            )
