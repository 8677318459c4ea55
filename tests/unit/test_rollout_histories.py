"""Random histories: whatever arrives, fails, is edited or crashes, what works goes on working.

The machine plays the world: sources that list the wheels of two pipelines, an operator who edits
policy and options, pins and suspends, others who run applications of their own, and a cluster with
its ingress (`tests/support/cluster.py`). Under test are `elect` and `plan`, called as the
reconciler calls them (`tests/support/paper_passes.py`). What they may do is judged by the world's
own facts, never by the reasons that they give. The rules are those of docs/architecture.md.
"""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from packaging.version import Version

from controller.planning.overrides import Pin, Suspension
from controller.planning.policy import Candidate
from controller.planning.rollout import plan
from tests.support import laws, world
from tests.support.cluster import NATURES, place
from tests.support.histories import EVERY_ROUTE, Judge
from tests.support.mishaps import Mishaps
from tests.support.paper_passes import GRACE

pytestmark = [pytest.mark.unit, pytest.mark.timeout(900)]  # a failure is shrunk for minutes

PIPELINES = st.sampled_from(["iris", "rag"])
ROUTES = st.sampled_from(EVERY_ROUTE)
VERSIONS = st.sampled_from([Version("1"), Version("2"), Version("3")])
TWO_NATURES = st.tuples(st.sampled_from(NATURES), st.sampled_from(NATURES))
"""Of the same bytes, under each of the two options."""
FATES = st.sampled_from(["it arrives", "it arrives", "it is lost", "the daemon is killed after it"])
"""What becomes of a PUT. One whose answer is lost is like one that arrives."""


class Histories(Mishaps, Judge, RuleBasedStateMachine):
    # -- what happens to the world -----------------------------------------------------------

    @initialize(routes=st.sets(ROUTES, max_size=4))
    def much_is_live_already(self, routes):
        for route in sorted(routes):
            self.publish(route, ("good", "good"))
        self.time_passes(6)

    @rule(route=ROUTES, natures=TWO_NATURES, prepared=st.sampled_from([True, True, False]))
    def publish(self, route, natures, *, prepared=True):
        pipeline, version = route.split("/")[2:]
        digest = f"{len(self.natures) + 1:064x}"
        release = replace(world.release(version, pipeline=pipeline), digest=digest)
        self.listed[route] = Candidate(release, pipeline, source=f"{pipeline}'s")
        self.natures[digest] = natures
        if not prepared:
            self.unprepared.add(digest)

    @rule(route=ROUTES, natures=TWO_NATURES, rounds=st.integers(1, 5), followed=st.booleans())
    def publish_and_start(self, route, natures, rounds, followed):
        """Up to the moment in which a successor was promoted and not yet seen, for instance."""
        self.publish(route, natures)
        self.time_passes(rounds, followed=followed)

    @rule(routes=st.sets(ROUTES, min_size=1))
    def withdraw(self, routes):
        for route in routes & self.listed.keys():
            del self.listed[route]

    @rule(
        pipeline=PIPELINES,
        keep=st.integers(1, 3),
        versions=st.sampled_from(["", "", ">=2", "<3", "==1"]),
        pins=st.sampled_from([(), (), (Version("1"),)]),
        active=st.sampled_from([True, True, True, False]),
    )
    def edit_policy(self, pipeline, keep, versions, pins, active):
        self.rules[pipeline] = world.rule(versions, keep=keep, pins=pins, active=active)

    @rule(pipeline=PIPELINES)
    def edit_options(self, pipeline):
        self.options[pipeline] = 1 - self.options[pipeline]

    @rule(pipeline=PIPELINES, versions=st.sets(VERSIONS, max_size=2), rounds=st.integers(0, 5))
    def pin_or_unpin(self, pipeline, versions, rounds):
        self.pins.pop(pipeline, None)
        if versions:
            self.pins[pipeline] = Pin(pipeline, tuple(versions), "somebody", "", self.now)
        self.time_passes(rounds)

    @rule(
        pipelines=st.sets(st.sampled_from(["", "iris", "rag"]), max_size=1),
        seconds=st.sampled_from([0, 1, 40]),
    )
    def suspend_or_resume(self, pipelines, seconds):
        """The empty name suspends everything."""
        self.suspensions = {name: Suspension(name, "somebody", "", self.now) for name in pipelines}
        self.time_passes(1, seconds=seconds)

    @rule(route=ROUTES, ready=st.booleans())
    def environments_change(self, route, ready):
        """All are ready, or one is to be built anew."""
        if ready:
            self.unprepared.clear()
        elif route in self.listed:
            self.unprepared.add(self.listed[route].release.digest)

    @rule(route=ROUTES, declarative=st.booleans())
    def a_stranger_comes(self, route, declarative):
        """Serve gives it any route that nobody holds."""
        if not self.cluster.holder(route):
            name = f"theirs-{len(self.strangers)}"
            self.strangers[name] = world.foreign(name, route, declarative=declarative)
            self.cluster.add(self.strangers[name])

    @rule()
    def strangers_leave(self):
        for name in self.strangers:
            self.cluster.running.pop(name, None)

    @rule(rounds=st.integers(0, 3), times=st.integers(1, 5))
    def somebody_sends_a_config_without_ours(self, rounds, times):
        self.meddled = True
        for _ in range(times):
            theirs = (
                self.strangers[n].document for n in self.strangers if n in self.cluster.running
            )
            self.cluster.put([document for document in theirs if document], self.natures)
            self.time_passes(rounds)

    @rule(reachable=st.booleans())
    def the_ingress_comes_or_goes(self, reachable):
        self.cluster.reachable = reachable

    @rule(seconds=st.sampled_from([1, 40, 400]), moves=st.integers(0, 3))
    def nobody_can_look(self, seconds, moves):
        """The dashboard is away; the cluster goes on."""
        self.daemon.interrupted(self.now + self.turned)
        for _ in range(moves):
            self.cluster.move_on()
            self.cluster.ingress_follows()
        self.now += seconds
        self.daemon.interrupted(self.now + self.turned)
        self.asked = None

    @rule(moves=st.integers(1, 4))
    def builds_take(self, moves):
        self.cluster.build_takes = moves

    @rule(route=ROUTES, ill=st.booleans())
    def health_changes(self, route, ill):
        if ill:
            self.cluster.fall_ill(route)
        else:
            self.cluster.get_well()

    @rule()
    def the_journal_is_lost(self):
        """Placed where nothing is in between: what was promoted was also seen."""
        if self.proven.issuperset(r.app.name for r in self.cluster.ours if r.app.route):
            self.daemon.lose_the_journal()
            self.losing = set()

    @rule(step=st.sampled_from([-3600.0, 0.0, 3600.0]))
    def the_machine_boots_with_another_time(self, step):
        self.turned += step
        self.cluster.reboot()
        self.daemon.restart()
        self.asked = None

    @rule(sources_known=st.booleans())
    def the_daemon_restarts(self, sources_known):
        self.daemon.restart()
        self.sources_known = sources_known

    @rule(put=FATES)
    def a_pass(self, put="it arrives"):
        situation = self._look()
        decided = plan(situation)
        assert self.planner.plan(situation) == decided  # what is remembered is as good as made anew
        self._note(situation)
        self._judge(situation, decided)
        sending = self.decided = self.daemon.restrained(situation, decided)
        held = sending.hold is not None and not decided.hold
        assert self.meddled or not held, "nobody else sent anything"
        if held:
            self._no_route_back_waits(decided)
        self.daemon.record(situation, sending)
        if sending.changes and not sending.hold and put != "it is lost":
            self.cluster.put([a.document for a in decided.applications], self.natures)
            self.ordered = {n: d["route_prefix"] for n, d in laws.documents(decided).items()}
            self.daemon.contest.sent(decided.applications, self.now + self.turned)
            self.daemon.probes.restarted(self.now + self.turned)
            self._judge_the_next(situation, decided, plan(self._look()))
        elif sending.changes and not sending.hold:
            self.daemon.probes.restarted(self.now + self.turned)
            self.daemon.contest.unknown()
        if put == "the daemon is killed after it":
            self.daemon.restart()

    @rule(
        rounds=st.integers(1, 6), followed=st.booleans(), seconds=st.sampled_from([0, 1, 40, 400])
    )
    def time_passes(self, rounds, *, followed=True, seconds=1):
        """Without these, random steps hardly ever bring anything to life."""
        self.sources_known = True
        for _ in range(rounds):
            self.a_pass()
            self.cluster.move_on()
            self.daemon.fetch()
            if followed:
                self.cluster.ingress_follows()
            self.now += seconds

    @rule()
    def nothing_happens_any_more(self):
        """Liveness: what stood in the way is mended, and the world comes to rest as it should."""
        self.unprepared.clear()
        self.all_is_mended()
        self.cluster.get_well()
        self.cluster.reachable = True
        self.cluster.build_takes = 1
        self.suspensions.clear()
        started, held = set(self.cluster.running), set(self.daemon.quarantined.values())
        for _ in range(40):
            before = (self.cluster.applications, None, ())
            self.time_passes(3, seconds=GRACE)
            if before == (self.cluster.applications, self.decided.wake_at, self.decided.changes):
                break
        else:
            raise AssertionError(f"no rest: {self.decided}")
        for failure in set(self.daemon.quarantined.values()) - held:
            option = int(failure.inputs[-1])
            good = self.natures[failure.subject.digest][option] == "good"
            assert not good or self._may_fail(failure, option, started), failure
        self._everything_is_where_it_belongs()

    def _may_fail(self, failure, option, started):
        """Whether a good release may have failed: one that was starting when the machine broke."""
        return place(failure.subject, option).name in started


Histories.TestCase.settings = settings(stateful_step_count=40)
TestHistories = Histories.TestCase


def test_left_alone_the_world_settles_on_what_policy_elects():
    history = Histories()
    for version in ("1", "2", "3"):
        history.publish(f"/predict/iris/{version}", ("good", "good"))
    history.nothing_happens_any_more()
    held = sorted(running.app.route for running in history.cluster.ours)
    assert held == ["/predict/iris/2", "/predict/iris/3"]


@pytest.mark.parametrize("nature", ["raises", "hangs", "mute"])
def test_a_bad_successor_never_takes_the_place_of_what_serves_until_its_options_mend_it(nature):
    history = Histories()
    history.publish("/predict/iris/1", ("good", "good"))
    history.nothing_happens_any_more()
    [good] = history.cluster.running
    history.publish("/predict/iris/1", (nature, "good"))
    history.nothing_happens_any_more()
    assert list(history.cluster.running) == [good]
    assert history.cluster.running[good].app.route == "/predict/iris/1"
    assert len(history.daemon.quarantined) == 1
    history.edit_options("iris")
    history.nothing_happens_any_more()
    [mended] = history.cluster.running
    assert mended != good
    assert history.daemon.quarantined == {}


def test_what_is_promoted_and_mute_counts_when_too_many_vanish_at_once():
    history = Histories()
    history.much_is_live_already({"/predict/iris/2", "/predict/iris/3"})
    history.nothing_happens_any_more()
    history.publish_and_start("/predict/iris/2", ("mute", "good"), 1, followed=False)
    history.the_journal_is_lost()
    history.time_passes(2, followed=False)
    history.withdraw({"/predict/iris/2", "/predict/iris/3"})
    history.the_ingress_comes_or_goes(reachable=False)  # that it is mute shows with the absence
    history.time_passes(1, seconds=400)
    history.the_ingress_comes_or_goes(reachable=True)
    history.time_passes(1, seconds=400)
    history.a_pass()
    held = sorted(running.app.route for running in history.cluster.ours)
    assert held == ["/predict/iris/2", "/predict/iris/3"]


def test_while_somebody_else_takes_one_away_again_and_again_what_failed_gives_its_route_back():
    history = Histories()
    history.much_is_live_already({"/predict/iris/1", "/predict/rag/1"})
    [good] = [r.app.name for r in history.cluster.ours if r.app.route == "/predict/iris/1"]

    def somebody_takes_rag():
        history.meddled = True
        apps = [r.app for r in history.cluster.ours if r.release.pipeline == "iris"]
        history.cluster.put([app.document for app in apps], history.natures)

    for _ in range(6):
        somebody_takes_rag()
        while not history.cluster.holder("/predict/rag/1"):
            history.time_passes(1, seconds=40)
    history.publish("/predict/iris/1", ("mute", "good"))
    while history.cluster.holder("/predict/iris/1").app.name == good:
        history.time_passes(1)
    history.time_passes(1)
    somebody_takes_rag()
    history.time_passes(3, seconds=40)
    assert history.cluster.holder("/predict/iris/1").app.name == good


def test_a_pin_takes_nothing_away_before_what_it_names_is_live():
    history = Histories()
    history.much_is_live_already({"/predict/iris/1", "/predict/iris/2"})
    history.publish("/predict/iris/3", ("good", "good"))
    history.pin_or_unpin("iris", {Version("3")}, 9)  # judged in every pass
    assert [running.app.route for running in history.cluster.ours] == ["/predict/iris/3"]


def test_what_is_suspended_waits_for_whatever_was_ordered_meanwhile():
    history = Histories()
    history.much_is_live_already({"/predict/iris/1", "/predict/iris/2", "/predict/rag/1"})
    history.suspend_or_resume({"iris"}, 1)
    for pipeline in ("iris", "rag"):
        history.edit_policy(pipeline, 1, "", (), active=False)
    history.time_passes(2)
    held = sorted(running.app.route for running in history.cluster.ours)
    assert held == ["/predict/iris/1", "/predict/iris/2"]
    history.suspend_or_resume(set(), 1)
    assert history.cluster.ours == []


@pytest.mark.parametrize("live", [(), ("/predict/iris/1",)])
@pytest.mark.parametrize("seconds", [1, 40, 400])
def test_what_was_promoted_before_a_boot_has_its_time_to_answer_from_when_it_runs_again(
    live, seconds
):
    history = Histories()
    history.much_is_live_already(live)
    history.publish_and_start("/predict/iris/1", ("mute", "good"), 3, followed=False)
    history.builds_take(3)
    history.the_machine_boots_with_another_time(0.0)
    history.nobody_can_look(seconds, 3)  # it is built meanwhile
    history.time_passes(3)
    assert history.daemon.quarantined == {}
    history.nothing_happens_any_more()
    assert len(history.daemon.quarantined) == 1


def test_what_had_no_time_left_to_start_gives_its_route_back_however_long_it_could_have_answered():
    history = Histories()
    history.publish_and_start("/predict/iris/1", ("mute", "good"), 3, followed=False)
    history.builds_take(3)
    history.the_machine_boots_with_another_time(0.0)
    history.time_passes(2)
    history.time_passes(1, seconds=400)
    history.a_pass()
    assert [failure.reason for failure in history.daemon.quarantined.values()] == ["StartTimeout"]


@pytest.mark.parametrize("step", [-3600.0, 0.0, 3600.0])
def test_what_starts_while_a_machine_boots_with_another_time_is_not_blamed_for_that(step):
    history = Histories()
    history.publish_and_start("/predict/iris/1", ("hangs", "good"), 1, followed=True)
    history.the_machine_boots_with_another_time(step)
    history.nobody_can_look(400, 2)
    history.time_passes(3)
    assert history.daemon.quarantined == {}
    history.nothing_happens_any_more()
    assert len(history.daemon.quarantined) == 1


def test_a_release_and_the_one_before_it_that_fail_in_the_same_pass_are_judged_apart():
    history, (route, natures) = Histories(), ("/predict/iris/1", ("good", "good"))
    history.much_is_live_already({route})
    history.publish(route, natures)
    history.builds_take(3)
    history.time_passes(5)
    history.the_machine_boots_with_another_time(-3600.0)
    history.builds_take(1)
    history.publish(route, natures)
    history.time_passes(3, followed=False, seconds=400)
