"""Random histories: whatever arrives, fails, is edited or crashes, what works goes on working.

The machine plays the world: sources that list wheels, a cluster that starts applications slowly and
by their nature well or badly, an ingress that follows late. The system under test is `elect` and
`plan`, called as the reconciler calls them.
"""

from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from packaging.version import Version

from controller.model import (
    Answer,
    Application,
    ApplicationStatus,
    Overrides,
    Pin,
    PlacementRecord,
    Replica,
    Suspension,
)
from controller.planning.policy import LEAVING, OTHER_PINNED, elect
from controller.planning.rollout import plan
from controller.planning.situation import Limits, Situation, routes_to_probe, standing
from tests.support import world

pytestmark = pytest.mark.unit

VERSIONS = ("1.0", "2.0", "3.0")
NATURES = ("good", "raises", "hangs", "mute")
"""Mute: it becomes ready, but never answers at its route."""


@dataclass
class Running:
    app: Application
    nature: str
    steps: int = 0


class Histories(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.now = world.NOW
        self.listed = {}
        self.natures = {}
        self.policy = world.rule()
        self.pin = None
        self.overrides = Overrides()
        self.cluster = {}
        self.ingress = {}
        self.records = {}
        self.quarantined = {}
        self.count = 0

    # -- what happens to the world -----------------------------------------------------------

    @rule(version=st.sampled_from(VERSIONS), nature=st.sampled_from(NATURES))
    def publish(self, version, nature):
        self.count += 1
        digest = f"{self.count:064x}"
        self.listed[version] = replace(
            world.candidate(version), release=replace(world.release(version), digest=digest)
        )
        self.natures[digest] = nature

    @rule(version=st.sampled_from(VERSIONS))
    def withdraw(self, version):
        self.listed.pop(version, None)

    @rule(
        keep=st.integers(1, 3),
        versions=st.sampled_from(["", ">=2", "<3", "==1.0"]),
        active=st.sampled_from([True, True, True, False]),
    )
    def edit_policy(self, keep, versions, active):
        self.policy = world.rule(versions, keep=keep, active=active)

    @rule(versions=st.lists(st.sampled_from(VERSIONS), max_size=2, unique=True))
    def pin_or_unpin(self, versions):
        wanted = tuple(map(Version, versions))
        self.pin = Pin("iris", wanted, "somebody", "", self.now) if wanted else None

    @rule(what=st.sampled_from([None, None, "", "iris"]))
    def suspend_or_resume(self, what):
        orders = {} if what is None else {what: Suspension(what, "somebody", "", self.now)}
        self.overrides = Overrides({}, orders)

    @rule(seconds=st.sampled_from([1, 40, 400]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def the_cluster_moves_on(self):
        for name, running in list(self.cluster.items()):
            app = running.app
            if app.status is ApplicationStatus.DELETING:
                del self.cluster[name]
            elif app.building:
                running.app = replace(app, building=False, replicas=(Replica("STARTING", 1),))
            elif app.status is ApplicationStatus.DEPLOYING and running.nature != "hangs":
                bad = running.nature == "raises"
                status = ApplicationStatus.DEPLOY_FAILED if bad else ApplicationStatus.RUNNING
                running.app = replace(app, status=status)
            running.steps += 1

    @rule()
    def the_ingress_follows(self):
        self.ingress = {r.app.route: r for r in self.cluster.values() if r.app.route}

    @rule()
    def the_journal_is_lost(self):
        """Placed where nothing is in between: what was promoted was also seen."""
        if all(self._live(running.app) for running in self.cluster.values() if running.app.route):
            self.records = {}

    @rule()
    def a_pass(self):
        self._date()
        self._pass()

    @rule(rounds=st.integers(1, 6))
    def quiet_time(self, rounds):
        """Without these, random steps hardly ever bring anything to life."""
        for _ in range(rounds):
            self.a_pass()
            self.the_cluster_moves_on()
            self.the_ingress_follows()

    @rule(version=st.sampled_from(VERSIONS), nature=st.sampled_from(NATURES))
    def republish_and_start(self, version, nature):
        """Up to the moment in which a successor may have been promoted and not yet seen."""
        self.publish(version, nature)
        for _ in range(3):
            self.a_pass()
            self.the_cluster_moves_on()
        self.a_pass()

    # -- the reconciler's part ---------------------------------------------------------------

    def _date(self):
        for name, running in self.cluster.items():
            app = running.app
            known = self.records.get(name)
            if known is None:
                adopted = self.now if app.route else None
                known = PlacementRecord(name, self.now, adopted, adopted)
            routed_at = (known.routed_at or self.now) if app.route else None
            self.records[name] = replace(known, routed_at=routed_at)

    def _pass(self):
        apps = [running.app for running in self.cluster.values()]
        candidates = [self.listed[v] for v in sorted(self.listed)]
        serving = standing(apps, self.records)
        verdicts = elect(
            candidates,
            self.policy,
            pin=self.pin,
            serving=serving,
            present={app.release for app in apps},
            quarantined=self.quarantined.keys(),
        )
        answers = {route: self._answer(route) for route in routes_to_probe(apps, self.records)}
        placements = {v.release: world.placement(v.release, "") for v in verdicts if v.elected}
        placements = {r: replace(p, name=self._name(r)) for r, p in placements.items()}
        decided = plan(
            Situation(
                *(self.now, verdicts, placements, apps, answers, self.records, Limits(), {}),
                overrides=self.overrides,
            )
        )
        self._check(verdicts, answers, decided)
        for failure in decided.quarantines:
            self.quarantined[failure.release] = failure
        for transition in decided.transitions:
            if transition.phase == "Live":
                known = self.records[transition.placement]
                self.records[transition.placement] = replace(known, live_at=self.now)
        if decided.changes and not decided.hold:
            self._apply(decided)

    def _name(self, release):
        return f"{release.pipeline}-{release.version}-{release.digest[-8:]}"

    def _answer(self, route):
        running = self.ingress.get(route)
        if running is None or running.nature == "mute":
            return Answer(None, 404)
        return world.answer(running.app)

    def _apply(self, decided):
        wanted = {a.document["name"]: a.document for a in decided.applications}
        for name, running in self.cluster.items():
            if name in wanted:
                document = wanted[name]
                route = document["route_prefix"]
                running.app = replace(running.app, route=route, document=document)
            else:
                running.app = replace(running.app, status=ApplicationStatus.DELETING, route=None)
                self.records.pop(name, None)
        for name, document in wanted.items():
            if name not in self.cluster:
                version = name.split("-")[1]
                digest = document["args"]["digest"]
                of = replace(world.release(version), digest=digest)
                app = world.application(of, "DEPLOYING", building=True)
                app = replace(app, name=name, document=document)
                self.cluster[name] = Running(app, self.natures[digest])

    # -- what must always hold ---------------------------------------------------------------

    def _live(self, app):
        record = self.records.get(app.name)
        return record is not None and record.live_at is not None

    def _check(self, verdicts, answers, decided):
        kept = {a.document["name"]: a.document for a in decided.applications}
        if self.overrides.suspensions:
            assert decided.changes == (), "what is suspended stays as it is"
        leaving = {v.release.route for v in verdicts if v.reason in LEAVING}
        pushed_out = {v.release.route for v in verdicts if v.reason == OTHER_PINNED}
        for running in self.cluster.values():
            app = running.app
            if app.status is ApplicationStatus.DELETING or not self._live(app):
                continue
            route = app.release.route
            if route in pushed_out and app.route and app.name not in kept:
                assert self._pin_is_met(kept, answers), "a pin takes nothing before it is met"
            if route in leaving:
                continue
            answered = answers.get(route)
            succeeded = answered and answered.header and answered.application != app.name
            # Rule 1: it keeps its place until its successor answered at its route.
            assert app.name in kept or succeeded, (app.name, decided.changes)
            # Rule 2: whatever holds the route afterwards is it, or one that became ready.
            holder = next((n for n, d in kept.items() if d["route_prefix"] == route), None)
            assert holder is not None
            assert self.cluster[holder].app.status is ApplicationStatus.RUNNING

    def _pin_is_met(self, kept, answers):
        pinned = {f"/predict/iris/{version}" for version in self.pin.versions}
        return any(
            document["route_prefix"] in pinned
            and (
                self._live(self.cluster[name].app)
                or answers[document["route_prefix"]].application == name
            )
            for name, document in kept.items()
        )

    @invariant()
    def no_route_has_two_holders(self):
        held = [r.app.route for r in getattr(self, "cluster", {}).values() if r.app.route]
        assert len(held) == len(set(held))


Histories.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestHistories = Histories.TestCase


def test_left_alone_the_world_settles_on_what_policy_elects():
    """Liveness: with good wheels and enough passes everything elected is live."""
    machine = Histories()
    machine.begin()
    for version in VERSIONS:
        machine.publish(version, "good")
    for _ in range(30):
        machine.a_pass()
        machine.the_cluster_moves_on()
        machine.the_ingress_follows()
    held = sorted(running.app.route for running in machine.cluster.values())
    assert held == ["/predict/iris/2.0", "/predict/iris/3.0"]


def test_a_bad_successor_never_takes_the_place_of_what_serves():
    for nature in ("raises", "hangs", "mute"):
        machine = Histories()
        machine.begin()
        machine.publish("1.0", "good")
        for _ in range(12):
            machine.a_pass()
            machine.the_cluster_moves_on()
            machine.the_ingress_follows()
        [good] = machine.cluster
        machine.publish("1.0", nature)
        for _ in range(40):
            machine.a_pass()
            machine.the_cluster_moves_on()
            machine.the_ingress_follows()
            machine.time_passes(40)
        assert list(machine.cluster) == [good], nature
        assert machine.cluster[good].app.route == "/predict/iris/1.0"
        assert len(machine.quarantined) == 1
