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

from controller.model import ApplicationStatus
from controller.planning.overrides import Overrides, Pin, Suspension
from controller.planning.planner import Planner
from controller.planning.policy import Candidate
from controller.planning.rollout import plan
from controller.planning.situation import Limits
from tests.support import laws, world
from tests.support.cluster import NATURES, Cluster, place
from tests.support.paper_passes import GRACE, Daemon, Wishes

pytestmark = [pytest.mark.unit, pytest.mark.timeout(900)]  # a failure is shrunk for minutes

PIPELINES = st.sampled_from(["iris", "rag"])
EVERY_ROUTE = ("/predict/iris/1", "/predict/iris/2", "/predict/iris/3", "/predict/rag/1")
ROUTES = st.sampled_from(EVERY_ROUTE)
"""Each stands for a pipeline at a version. They are few, so that much happens to each."""
VERSIONS = st.sampled_from([Version("1"), Version("2"), Version("3")])
TWO_NATURES = st.tuples(st.sampled_from(NATURES), st.sampled_from(NATURES))
"""Of the same bytes, under each of the two options."""
FATES = st.sampled_from(["it arrives", "it arrives", "it is lost", "the daemon is killed after it"])
"""What becomes of a PUT. One whose answer is lost is like one that arrives."""


class Histories(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = world.NOW
        self.turned = 0.0  # seconds by which the daemon's clock is wrong since the last boot
        self.cluster = Cluster()
        self.daemon = Daemon()
        self.planner = Planner()
        self.rules = dict.fromkeys(["iris", "rag"], world.rule())
        self.options = dict.fromkeys(["iris", "rag"], 0)
        self.pins = {}  # by pipeline, as suspensions
        self.suspensions = {}
        self.sources_known = True
        self.listed = {}  # by route: a candidate
        self.missed_since = {}  # by route: the first pass that could know it as listed no more
        self.natures = {}  # by digest: one for each option
        self.unprepared = set()  # digests
        self.strangers = {}  # by name: applications that are not ours
        self.meddled = False  # whether another ever sent a config
        self.ordered = {}  # by name: the routes of the config that the daemon sent last
        self.judged = None  # what was judged last, for idle passes are many
        self.proven = set()  # names of ours that ever answered at their route
        self.counted = {}  # by name of ours: seconds that count against its start, and its answer
        self.asked = None  # when the last pass was, and whether it reached the ingress
        self.losing = set()  # sources of which too much vanished, until nothing of it is missing

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
            self.daemon.sent_at = self.now + self.turned
            self._judge_the_next(situation, decided, plan(self._look()))
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
            if followed:
                self.cluster.ingress_follows()
            self.now += seconds

    @rule()
    def nothing_happens_any_more(self):
        """Liveness: what stood in the way is mended, and the world comes to rest as it should."""
        self.unprepared.clear()
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
            good = self.natures[failure.release.digest][option] == "good"
            assert not good or place(failure.release, option).name in started, failure
        self._everything_is_where_it_belongs()

    # -- what the world knows ----------------------------------------------------------------

    def _look(self):
        if self.sources_known:
            missing = set(EVERY_ROUTE) - self.listed.keys()
            self.missed_since = {r: self.missed_since.get(r, self.now) for r in missing}
        candidates = tuple(self.listed[route] for route in sorted(self.listed))
        overrides = Overrides(dict(self.pins), dict(self.suspensions))
        wishes = Wishes(
            *(candidates, self.rules, overrides, self.options, self.unprepared, self.sources_known)
        )
        return self.daemon.poll(self.cluster, wishes, self.now + self.turned)

    def _note(self, situation):
        """Whoever answers at its route now has proven itself, recorded or not."""
        answered = {(route, a.application) for route, a in situation.answers.items()}
        ours = {(r.app.route, r.app.name) for r in self.cluster.ours}
        self.proven |= {name for _, name in answered & ours}
        self.proven &= {name for _, name in ours}
        self._count()
        if self.sources_known:
            self.losing = {
                source
                for source in {self.daemon.sources.get(r.release) for r in self.cluster.ours}
                if self._has_lost_much(source)
            }

    def _count(self):
        """Add the time since the last pass where it counts: while a replica starts, and while the
        ingress could be asked at both ends of it.
        """
        at, reached = self.asked or (self.now, False)
        seconds, before = self.now - at, self.counted
        self.asked, self.counted = (self.now, self.cluster.reachable), {}
        for running in self.cluster.ours:
            app = running.app
            starting, answering = before.get(app.name, (0, 0))
            began = app.status is ApplicationStatus.DEPLOYING and not app.building
            anew = app.building or (app.route and app.status is ApplicationStatus.RUNNING)
            starting = starting + seconds if began else 0 if anew else starting
            answering += seconds if reached and self.cluster.reachable else 0
            self.counted[app.name] = starting, answering if app.route else 0

    def _has_time(self, app):
        """Whether it holds a route and may still be about to answer there for the first time."""
        begun = {ApplicationStatus.RUNNING, ApplicationStatus.DEPLOYING}
        if app.route is None or app.status not in begun:
            return False
        starts = app.status is ApplicationStatus.DEPLOYING and not app.building
        if starts and self.counted.get(app.name, (0, 0))[0] >= Limits().ready_deadline:
            return False
        waited = self.now + self.turned - self.daemon.records[app.name].routed_at
        return waited < Limits().probe_deadline or not self.cluster.reachable

    def _is_suspended(self, pipeline):
        return "" in self.suspensions or pipeline in self.suspensions

    def _excluded(self, release):
        """Whether the operator's word takes a version away, be it that nothing takes its place."""
        if release.pipeline in self.pins:
            return False
        by = self.rules[release.pipeline]
        allowed = release.version in (by.pins or by.versions)
        return not by.active or not allowed

    def _unpinned(self, release):
        pin = self.pins.get(release.pipeline)
        return pin is not None and release.version not in pin.versions

    def _pushed_out(self, release):
        """Whether those that take a version's place are there: what is pinned, or what is newer."""
        ours = [r for r in self.cluster.ours if r.release.pipeline == release.pipeline]
        there = {r.release.version for r in ours if r.app.name in self.proven}
        if (pin := self.pins.get(release.pipeline)) is not None:
            return self._unpinned(release) and not there.isdisjoint(pin.versions)
        by = self.rules[release.pipeline]
        return not by.pins and sum(version > release.version for version in there) >= by.keep

    def _may_leave(self, release):
        """Whether the operator or the sources take a version away that works."""
        if self._excluded(release) or (self._unpinned(release) and self._pushed_out(release)):
            return True
        if release.route not in self.listed:
            late = self.now >= self.missed_since.get(release.route, self.now) + GRACE
            return (
                self.sources_known and late and self.daemon.sources.get(release) not in self.losing
            )
        return self._pushed_out(release)

    def _has_lost_much(self, source):
        """Whether a person must confirm that what is missing from a source may go."""
        of_it = {
            (r.release.route, bool(r.app.route)): r.release
            for r in self.cluster.ours
            if (r.app.route or self.daemon.records[r.app.name].live_at)
            and self.daemon.sources.get(r.release) == source
        }
        live = sum(routed for _, routed in of_it)
        gone = {
            route
            for (route, _), release in of_it.items()
            if route not in self.listed
            and self.cluster.holder(route)
            and not self._excluded(release)
            and not self._unpinned(release)
        }
        allowed = max(1, int(Limits().retire_limit * max(live, len(gone))))
        return len(gone) > (0 if source in self.losing else allowed)

    # -- what must always hold ---------------------------------------------------------------

    def _judge(self, situation, decided):
        kept = laws.documents(decided)
        self._what_is_suspended_stays_as_it_is(kept, decided)
        self._what_works_goes_on(kept)
        self._strangers_stay_as_they_are(kept)
        self._nobody_is_blamed_in_vain(situation, decided)
        facts = (replace(situation, now=0.0), decided)
        if facts == self.judged:
            return
        self.judged = facts
        laws.every_difference_has_its_reason(situation, decided)
        laws.order_does_not_matter(situation, decided)
        laws.a_failed_start_changes_nothing_else(situation)
        laws.pipelines_do_not_see_each_other(situation)

    def _what_is_suspended_stays_as_it_is(self, kept, decided):
        assert "" not in self.suspensions or not decided.changes
        for pipeline in self.suspensions:
            there = [r.app for r in self.cluster.ours if r.release.pipeline == pipeline]
            ours = {n: d for n, d in kept.items() if n.startswith(f"{pipeline}-")}
            assert ours == {app.name: app.document for app in there} or not pipeline
            assert not [q for q in decided.quarantines if q.release.pipeline == pipeline]

    def _what_works_goes_on(self, kept):
        """A live release serves until its successor answered; a bad one takes nobody's route, not
        even that of one which still has time to answer.
        """
        hopeful = self.proven | {r.app.name for r in self.cluster.ours if self._has_time(r.app)}
        routes = {r.release.route: r.release for r in self.cluster.ours if r.app.name in hopeful}
        for route, release in routes.items():
            if self._is_suspended(release.pipeline) or self._may_leave(release):
                continue
            here = {r.app.name: r.app for r in self.cluster.ours if r.release.route == route}
            name = next((n for n, d in kept.items() if d["route_prefix"] == route), None)
            assert name in here, f"{route} is left to {name}"
            if name in self.proven:
                continue
            ready = here[name].status is ApplicationStatus.RUNNING
            assert ready or here[name].route, f"{name} is given {route}"
            holders = {n for n, app in here.items() if app.route} & self.proven
            needed = holders or hopeful & here.keys()  # who answers has relieved those before it
            assert kept.keys() >= needed, f"{name} has not answered at {route}"
            promoted = here[name].route is None
            alone = self.proven.isdisjoint(here)
            assert promoted or alone or self._has_time(here[name]), f"{name} is mute at {route}"

    def _nobody_is_blamed_in_vain(self, situation, decided):
        """What is live is not quarantined, nor what may still answer."""
        for failure in decided.quarantines:
            name = situation.placements[failure.release].name
            app = self.cluster.running[name].app
            assert name not in self.proven or not app.route, f"{name} is live, though ill"
            assert not self._has_time(app), f"{name} was not asked, or not for long enough"
            starting, answering = self.counted[name]
            if app.status is ApplicationStatus.RUNNING:
                assert answering >= Limits().probe_deadline, f"{name} had {answering} s to answer"
            if app.status is ApplicationStatus.DEPLOYING:
                assert starting >= Limits().ready_deadline, f"{name} had {starting} s to start"

    def _strangers_stay_as_they_are(self, kept):
        """Declarative ones verbatim, imperative ones not at all, nobody's route twice."""
        there = [app for app in self.cluster.applications if app.name in self.strangers]
        carried = {name: document for name, document in kept.items() if name in self.strangers}
        assert carried == {app.name: app.document for app in there if app.document is not None}
        held = [d["route_prefix"] for d in kept.values() if d["route_prefix"]]
        held.extend(app.route for app in there if app.document is None)
        assert len(held) == len(set(held)), held

    def _no_route_back_waits(self, decided):
        """Whoever else changes what: what failed at its route does not keep it for that."""
        kept = laws.documents(decided)
        for running in self.cluster.ours:
            name, route = running.app.name, running.release.route
            holder = self.cluster.holder(route)
            if holder is None or holder.app.name in self.proven or self._has_time(holder.app):
                continue
            returns = name in self.proven and name in kept and kept[name]["route_prefix"] == route
            untouched = self.ordered.get(name, route) is running.app.route is None
            assert not (returns and untouched), f"{name} waits for {route}"

    def _judge_the_next(self, situation, decided, following):
        """Once it is applied, the same facts ask for no other config."""
        changed = {c.reason for c in decided.conditions} & {"Queued", "RetireLimit"}
        arrived = {name for name in laws.lives(decided) if situation.records[name].live_at is None}
        if decided.quarantines or arrived or changed:
            return  # then policy elects others, or what waits has its turn
        # An ingress that was late may lead already where it is now meant to.
        news = following.quarantines or laws.lives(following) - laws.lives(decided)
        assert not following.changes or news, following.changes

    def _everything_is_where_it_belongs(self):
        taken = self._taken()
        theirs = {a.route for a in self.cluster.applications if a.name in self.strangers}
        for route, release in taken.items():
            holder = self.cluster.holder(route)
            assert holder is not None, f"nothing serves {route}"
            if route not in theirs:
                assert holder.app.name in self.proven, f"{holder.app.name} never answered"
                wanted = place(release, self.options[release.pipeline]).name
                assert holder.app.name == wanted or self._quarantined(release)
        served = {release.pipeline for release in taken.values()}
        crowded = {taken[route].pipeline for route in taken.keys() & theirs}
        assert bool(crowded) == ("RouteConflict" in {c.reason for c in self.decided.conditions})
        for running in self.cluster.ours:
            release, name = running.release, running.app.name
            if release.route in taken:
                assert running.app.route or release.route in theirs, f"{name} is left over"
                continue
            replaced = release.route in self.listed or self._unpinned(release)
            pushed_out_in_vain = replaced and release.pipeline in crowded
            pin_unmet = self._unpinned(release) and release.pipeline not in served
            source = self.daemon.sources.get(release)
            lost_with_many = release.route not in self.listed and source in self.losing
            kept = pushed_out_in_vain or pin_unmet or lost_with_many
            assert kept, f"{name} should have gone"
            assert running.app.route, f"{name} is left over"
            assert not self._excluded(release), f"{name} should have gone at a word"

    def _taken(self):
        """By route: the releases that belong there by policy, the newest that are fit."""
        taken = {}
        for route, candidate in sorted(self.listed.items(), reverse=True):
            release, by = candidate.release, self.rules[candidate.release.pipeline]
            chosen = by.pins or release.pipeline in self.pins
            kept = sum(other.pipeline == release.pipeline for other in taken.values())
            holder = self.cluster.holder(route)
            stands_in = holder is not None and holder.app.name in self.proven
            fit = stands_in or not self._quarantined(release)
            away = self._excluded(release) or self._unpinned(release)
            if fit and not away and (chosen or kept < by.keep):
                taken[route] = release
        return taken

    def _quarantined(self, release):
        failure = self.daemon.quarantined.get(release)
        return failure is not None and failure.inputs[-1] == str(self.options[release.pipeline])


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
