"""The reconciler's part around election and planning, played for tests of planning: what it gathers
for them as values, and what the journal and the process remember between two passes.
"""

from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

from controller.model import Phase
from controller.planning.contest import Contest, restrained
from controller.planning.disappearance import Absences
from controller.planning.election import Election, Offered, Present
from controller.planning.overrides import Overrides
from controller.planning.policy import STANDS_IN
from controller.planning.situation import Limits, Situation
from controller.planning.staging import Turns
from controller.planning.swaps import Judged, Swaps, with_news
from controller.planning.weights import weights_named
from controller.planning.weights_election import WeightsElection, WeightsOffered, WeightsRecorded
from controller.reconcile.observer import Probes
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
    """All that is listed of them, looked into or not."""
    weights_rules: dict = field(default_factory=dict)
    weights_pins: dict = field(default_factory=dict)
    restart: frozenset = frozenset()
    """Pipelines whose weights are an argument of their applications."""
    parts: frozenset = frozenset()
    """Those that have a part with a deployment of its own."""
    replicas: dict = field(default_factory=dict)
    """How many each pipeline has, if not one."""

    def place(self, release, weights):
        pipeline = release.pipeline
        return place(
            release,
            self.options[pipeline],
            weights,
            restart=pipeline in self.restart,
            parts=pipeline in self.parts,
            replicas=self.replicas.get(pipeline, 1),
        )


class InTurn(Executor):
    """Asks one question after the other, so that a history is the same each time."""

    map = staticmethod(map)


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
    def __init__(self, cluster):
        self.cluster = cluster
        self.fetched, self.wanted = set(), set()
        """Digests of the wheels of weights in the cache, and of those to be fetched."""
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
        self.probes = Probes(
            self.cluster,
            probe_deadline=Limits().probe_deadline,
            monotonic=lambda: 0.0,
            threads=InTurn(),
        )
        self.contest = Contest(None, wait=0.0)
        self.turns = Turns()
        self.swaps, self.weighing = Swaps(), WeightsElection()
        self.weighed = None
        self.told = []

    def interrupted(self, now):
        """A pass could not look."""
        self.records = self.probes.interrupted(self.records, now)
        self.swaps.interrupted()

    def poll(self, wishes, now):
        """What a pass would plan from. Dates what is seen for the first time."""
        apps = self.cluster.applications
        answers, judged = self._ask(apps, now)
        candidates = wishes.candidates if wishes.listed else ()
        self.sources |= {candidate.release: candidate.source for candidate in candidates}
        weighing = self._weigh(apps, wishes, now)
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
        weighed = self.weighed = weighing.end([v.release for v in verdicts if v.elected])
        self.told = [*judged.conditions, *weighed.conditions]
        present = {app.release for app in ours}
        placements = {
            verdict.release: wishes.place(verdict.release, weighing.of(verdict.release))
            for verdict in verdicts
            if verdict.elected
            and verdict.reason != STANDS_IN
            and verdict.release.digest not in wishes.unprepared
            and (verdict.release not in weighed.waiting or verdict.release in present)
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

    def _ask(self, apps, now):
        """What replicas say of their weights is known, and recorded, before the election."""
        swaps = self.swaps.under_way(apps, self.weights.proven)
        asked = self.probes.ask(
            *(apps, self.records, now),
            progressed=lambda: None,
            more=self.swaps.questions(swaps),
        )
        judged = self.swaps.judge(
            *(swaps, apps, asked.answers, asked.heard), now=now, deadline=Limits().ready_deadline
        )
        judged.leave_out(self.weights.refused)
        self.uptake = judged.uptake
        self.records, self.weights = asked.records, with_news(self.weights, judged, now)
        return asked.answers, judged

    def _weigh(self, apps, wishes, now):
        offered = self._looked_into(wishes.weights, apps)
        if not wishes.listed:
            offered = WeightsOffered(complete=False)
        self.weights = replace(self.weights, pins=wishes.weights_pins)
        running = running_weights([app for app in apps if app.release is not None], self.records)
        return self.weighing.judge(offered, self.weights, running, wishes.weights_rules.get, now)

    def _looked_into(self, listed, apps):
        """What is offered of what is listed: that of wheels which were fetched."""
        named = {weights.digest for app in apps for weights in weights_named(app.document)}
        digests = {revision.sha256 for revision in listed.catalogue.revisions}
        wanted = {revision.sha256 for revision in self.weighed.inspect} if self.weighed else set()
        for revisions in listed.catalogue.projects.values():
            if self.fetched.isdisjoint(revision.sha256 for revision in revisions):
                wanted.add(max(revisions, key=lambda revision: revision.version).sha256)
        self.wanted = digests & (wanted | named)
        if self.weighed:
            self.fetched &= digests | named | self.weighed.needed | self.weighed.digests
        offers = {
            pipeline: tuple(o for o in group if o.weights.digest in self.fetched)
            for pipeline, group in listed.offers.items()
        }
        return replace(
            listed,
            offers={pipeline: group for pipeline, group in offers.items() if group},
            is_there=lambda weights: weights.digest in self.fetched,
        )

    def fetch(self):
        """What the last pass found wanting is there for the next one."""
        self.fetched |= self.wanted

    def restrained(self, situation, decided):
        """The plan as far as it is sent now."""
        restraint = self.contest.judge(situation.applications, situation.overrides, situation.now)
        return restrained(decided, situation, restraint)

    def record(self, situation, decided):
        """Write down what was decided, as is done before it is acted upon."""
        bare = {release for release, choice in self.weighed.choices.items() if not choice.wanted}
        proven = {r: known for r, known in self.weights.proven.items() if r not in bare}
        self.weights = replace(self.weights, owners=self.weighed.owners, proven=proven)
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
