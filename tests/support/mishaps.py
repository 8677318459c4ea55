"""What goes wrong in a random history beside the releases themselves: replicas and parts end alone,
are not heard, hear late; what works does not load for a while, or not on one node; a head is lost.
"""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.support.cluster import NODES
from tests.support.histories import EVERY_ROUTE

ROUTES = st.sampled_from(EVERY_ROUTE)
PIPELINES = ("iris", "rag")
NUMBERS = st.integers(0, NODES - 1)
MOVES = st.integers(1, 12)


class Mishaps:
    """Rules of a machine that is a `tests.support.histories.Judge` as well."""

    @initialize(
        replicas=st.fixed_dictionaries(dict.fromkeys(PIPELINES, st.integers(1, NODES))),
        parts=st.sampled_from([(), (), ("iris",), ("rag",), PIPELINES]),
    )
    def pipelines_have_replicas_and_parts(self, replicas, parts=()):
        self.replicas, self.parts = dict(replicas), frozenset(parts)

    @rule(pipeline=st.sampled_from(PIPELINES), replicas=st.integers(1, NODES))
    def scale(self, pipeline, replicas):
        self.replicas[pipeline] = replicas

    @rule(route=ROUTES, numbers=st.sets(NUMBERS, min_size=1), rounds=st.integers(0, 2))
    def replicas_end(self, route, numbers, rounds):
        """Others start in their places."""
        for number in numbers:
            self.cluster.lose_a_replica(route, number)
        self.time_passes(rounds)

    @rule(route=ROUTES, moves=MOVES)
    def a_part_ends(self, route, moves):
        self.cluster.lose_a_part(route, moves)

    @rule(route=ROUTES, number=NUMBERS, moves=MOVES)
    def a_replica_is_not_heard(self, route, number, moves):
        self.cluster.silence(route, number, moves)

    @rule(moves=st.lists(st.integers(0, 6), min_size=NODES, max_size=NODES))
    def replicas_hear_of_configs_at_different_times(self, moves):
        self.cluster.hears_after = dict(enumerate(moves))

    @rule(route=ROUTES, moves=MOVES)
    def a_release_does_not_load_for_a_while(self, route, moves):
        if route in self.listed:
            self.cluster.failing.passing[self.listed[route].release.digest] = moves

    @rule(moves=st.integers(1, 4))
    def draining_takes(self, moves):
        self.cluster.drain_takes = moves

    @rule()
    def somebody_has_failed_releases_tried_again(self):
        self.daemon.quarantined.clear()

    @rule()
    def a_new_head_comes(self):
        """Nothing runs there."""
        self.meddled = True
        self.cluster.running.clear()
        self.cluster.leads_to.clear()

    def all_is_mended(self):
        self.cluster.failing.end()
        self.cluster.drain_takes = 1
        self.cluster.hears_after = dict.fromkeys(range(NODES), 0)
        for running in self.cluster.running.values():
            running.part_is_down = min(running.part_is_down, 1)
            running.drains = min(running.drains, 1)  # else that passes for rest
