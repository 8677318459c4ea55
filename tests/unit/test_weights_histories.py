"""Random histories with weights: whatever weights arrive, fail, vanish, are pinned or tried again,
no live release loses its route, and what failed with a release is never put into its config again.

All that happens in `test_rollout_histories` happens here as well, and is judged by the same rules.
"""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from packaging.version import Version

from controller.model import Revision
from controller.observed import ApplicationStatus
from controller.planning.catalogue import Catalogue
from controller.planning.overrides import Pin
from controller.planning.policy import Candidate
from controller.planning.weights import MOST_TRIED, Weights, WeightsOffer, in_document
from controller.planning.weights_election import WeightsOffered
from controller.planning.weights_telling import REFUSED
from tests.support import laws, world
from tests.support.mishaps import MOVES, NUMBERS
from tests.unit.test_rollout_histories import PIPELINES, ROUTES, Histories

pytestmark = [pytest.mark.unit, pytest.mark.timeout(900)]

NIGHTS = st.integers(1, 4)


class WeightsHistories(Histories):
    def __init__(self):
        super().__init__()
        self.offers = {}  # by pipeline and version: an offer of weights
        self.weights_pins = {}
        self.restart = frozenset()
        self.made = Counter()
        self.situation = None

    # -- what happens to the world -----------------------------------------------------------

    @initialize(restart=st.sets(PIPELINES))
    def some_pipelines_change_weights_by_restart(self, restart):
        self.restart = frozenset(restart)

    @rule(
        pipeline=PIPELINES,
        night=NIGHTS,
        good=st.sampled_from([True, True, False]),
        fits=st.sampled_from(["", "", ">=2", "<2"]),
        rounds=st.integers(0, 5),
    )
    def publish_weights(self, pipeline, night, good, fits, rounds):
        self.made["weights"] += 1
        digest, project = f"{self.made['weights']:08x}".ljust(64, "f"), f"{pipeline}-weights"
        own = Weights(project, Version(str(night)), digest, "/tree", "r" * 64, "data")
        listed = Revision("wheels", project, own.version, digest, digest, digest, 1)
        candidate = Candidate(own.as_release(pipeline), project, "wheels")
        self.offers[pipeline, night] = WeightsOffer(listed, candidate, own, fits)
        if not good:
            self.cluster.failing.weights.add(digest)
        self.time_passes(rounds)

    @rule(pipeline=PIPELINES, night=NIGHTS)
    def withdraw_weights(self, pipeline, night):
        self.offers.pop((pipeline, night), None)

    @rule(pipeline=PIPELINES, night=st.sampled_from([None, 1, 2, 3]), rounds=st.integers(0, 5))
    def pin_or_unpin_weights(self, pipeline, night, rounds):
        self.weights_pins.pop(pipeline, None)
        if night is not None:
            versions = (Version(str(night)),)
            self.weights_pins[pipeline] = Pin(pipeline, versions, "somebody", "", self.now)
        self.time_passes(rounds)

    @rule(pipeline=PIPELINES, night=NIGHTS, moves=MOVES)
    def weights_do_not_load_for_a_while(self, pipeline, night, moves):
        if (offer := self.offers.get((pipeline, night))) is not None:
            self.cluster.failing.passing[offer.weights.digest] = moves

    @rule(node=NUMBERS, moves=MOVES)
    def no_weights_load_on_a_node_for_a_while(self, node, moves):
        self.cluster.failing.nodes[node] = moves

    @rule(
        route=ROUTES,
        numbers=st.sets(NUMBERS, min_size=1),
        moves=st.integers(1, 3),
        former_load=st.booleans(),
    )
    def replicas_start_while_weights_do_not_load(self, route, numbers, moves, former_load):
        """A service that these need, or all, is silent just then."""
        holder = self.cluster.holder(route)
        wanted = in_document(holder.app.document) if holder is not None else None
        if former_load and wanted is not None:
            self.cluster.failing.passing[wanted.digest] = moves
        elif not former_load:
            self.cluster.failing.nodes |= dict.fromkeys(numbers, moves)
        self.replicas_end(route, numbers, moves)

    @rule()
    def the_cache_is_lost(self):
        self.daemon.fetched.clear()
        self.unprepared.update(candidate.release.digest for candidate in self.listed.values())

    @rule()
    def somebody_has_refused_weights_tried_again(self):
        self.daemon.weights = replace(self.daemon.weights, refused={})

    def _weights_wished(self):
        by_pipeline = {}
        for (pipeline, _), offer in sorted(self.offers.items()):
            by_pipeline.setdefault(pipeline, []).append(offer)
        revisions = tuple(offer.revision for offer in self.offers.values())
        projects = {
            f"{name}-weights": tuple(offer.revision for offer in group)
            for name, group in by_pipeline.items()
        }
        return {
            "weights": WeightsOffered(
                {name: tuple(group) for name, group in by_pipeline.items()},
                {"iris", "rag"},
                Catalogue(revisions, projects=projects),
            ),
            "weights_rules": dict.fromkeys(["iris", "rag"], world.rule(keep=1)),
            "weights_pins": dict(self.weights_pins),
            "restart": self.restart,
        }

    def _look(self):
        self.situation = super()._look()
        return self.situation

    # -- what must hold ----------------------------------------------------------------------

    def _quarantined(self, release):
        failure = self.daemon.quarantined.get(release)
        return failure is not None and failure.inputs == self.situation.inputs.get(release)

    def _may_fail(self, failure, option, started):
        """Also with weights that are bad, and served elsewhere, or after a few others."""
        return "-weights@" in failure.inputs or super()._may_fail(failure, option, started)

    def _judge(self, situation, decided):
        super()._judge(situation, decided)
        self._what_failed_is_not_served_again(decided)
        self._what_serves_is_never_bad()
        self._what_served_is_not_taken_away(decided)

    def _what_failed_is_not_served_again(self, decided):
        there = {running.app.name: running.app for running in self.cluster.ours}
        for name, document in laws.documents(decided).items():
            wanted = in_document(document)
            if wanted is None or (name in there and in_document(there[name].document) == wanted):
                continue
            release = next(r for r, p in self.situation.placements.items() if p.name == name)
            refused = self.daemon.weights.refused.get(release, ())
            assert wanted.digest not in {one.weights.digest for one in refused}, name

    def _what_serves_is_never_bad(self):
        """Nobody is told live with weights that it does not serve with."""
        for proven in self.daemon.weights.proven.values():
            assert self.cluster.failing.weights.isdisjoint(one.weights.digest for one in proven)

    def _is_told_why(self, release):
        """The newest weights that it could have, it has; or it is said why not."""
        suiting = [
            offer.weights
            for (pipeline, _), offer in self.offers.items()
            if pipeline == release.pipeline and offer.suits(release.version)
        ]
        newest = max(suiting, key=lambda weights: weights.version, default=None)
        refused = {q.weights.digest for q in self.daemon.weights.refused.get(release, ())}
        if newest is not None and newest.digest in refused:
            told = {(c.subject, c.reason) for c in self.daemon.told}
            assert (str(release), REFUSED) in told, f"{newest} failed and nobody says so"

    def _what_served_is_not_taken_away(self, decided):
        """Not for a failure that passes; and nothing that serves with weights is left with none."""
        proven, refused = self.daemon.weights.proven, self.daemon.weights.refused
        for release, known in proven.items():
            out = {one.weights.digest for one in refused.get(release, ())}
            assert out.isdisjoint(one.weights.digest for one in known), "it had served with them"
        after = laws.documents(decided)
        for running in self.cluster.ours:
            name = running.app.name
            had = in_document(running.app.document) is not None and proven.get(running.release)
            if had and name in after:
                assert in_document(after[name]) is not None, f"{name} is left with no weights"

    def _everything_is_where_it_belongs(self):
        super()._everything_is_where_it_belongs()
        for running in self.cluster.ours:
            if running.app.status is not ApplicationStatus.RUNNING or not running.app.route:
                continue
            release = running.release
            placed = self.situation.placements.get(release)
            if placed is None or placed.name != running.app.name:
                continue  # what stands in goes on as it is
            serves = in_document(running.app.document)
            for replica in running.replicas:
                assert replica.serves == serves, "it serves what it is told"
                assert replica.refused == "", "nobody is told what it cannot take"
            if release.pipeline in self.weights_pins:
                continue
            self._is_told_why(release)
            refused = {q.weights.digest for q in self.daemon.weights.refused.get(release, ())}
            good = [
                offer.weights.version
                for (pipeline, _), offer in self.offers.items()
                if pipeline == release.pipeline
                and offer.suits(release.version)
                and offer.weights.digest not in self.cluster.failing.weights | refused
            ]
            assert serves is not None or not good, "good weights are there"
            assert not good or serves.version >= max(good), "newer good weights are there"


WeightsHistories.TestCase.settings = settings(stateful_step_count=40)
TestWeightsHistories = WeightsHistories.TestCase


def live(restart=()):
    history = WeightsHistories()
    history.some_pipelines_change_weights_by_restart(frozenset(restart))
    history.much_is_live_already({"/predict/iris/1", "/predict/iris/2"})
    return history


def served(history):
    return {
        r.app.route: " ".join(sorted({str(p.serves and p.serves.version) for p in r.up}))
        for r in history.cluster.ours
    }


@pytest.mark.parametrize("restart", [(), ("iris",)])
def test_good_weights_come_and_bad_ones_leave_what_was_there(restart):
    history = live(restart)
    history.publish_weights("iris", 1, good=True, fits="", rounds=0)
    history.nothing_happens_any_more()
    assert served(history) == {"/predict/iris/1": "1", "/predict/iris/2": "1"}
    history.publish_weights("iris", 2, good=False, fits=">=2", rounds=0)
    history.nothing_happens_any_more()
    assert served(history) == {"/predict/iris/1": "1", "/predict/iris/2": "1"}
    assert [str(release.version) for release in history.daemon.weights.refused] == ["2"]
    assert history.daemon.quarantined == {}
    history.publish_weights("iris", 3, good=True, fits="", rounds=0)
    history.nothing_happens_any_more()
    assert served(history) == {"/predict/iris/1": "3", "/predict/iris/2": "3"}


def test_a_release_that_was_never_live_is_tried_with_a_few_bad_ones_and_then_to_blame():
    history = WeightsHistories()
    for night in range(1, 5):
        history.publish_weights("iris", night, good=False, fits="", rounds=0)
    history.publish("/predict/iris/1", ("good", "good"))
    history.nothing_happens_any_more()
    (refused,) = history.daemon.weights.refused.values()
    assert len(refused) == MOST_TRIED
    assert len(history.daemon.quarantined) == 1


def test_what_was_not_seen_yet_is_not_told_live_for_weights_that_failed_beside_it():
    history = WeightsHistories()
    history.pipelines_have_replicas_and_parts({"iris": 1, "rag": 1}, ("iris",))
    history.publish_and_start("/predict/iris/1", ("mute", "good"), 2, followed=False)
    history.publish_weights("iris", 1, good=False, fits="", rounds=0)
    history.nothing_happens_any_more()
    assert [failure.reason for failure in history.daemon.quarantined.values()] == ["ProbeFailed"]


def test_what_failed_is_told_though_newer_weights_fit_another_version():
    history = live()
    history.publish_weights("iris", 2, good=True, fits=">=2", rounds=0)
    history.publish_weights("iris", 1, good=False, fits="", rounds=0)
    history.nothing_happens_any_more()
    assert served(history) == {"/predict/iris/1": "None", "/predict/iris/2": "2"}
    (told,) = [c.subject for c in history.daemon.told if c.reason == REFUSED]
    assert told.startswith("iris@1+")
