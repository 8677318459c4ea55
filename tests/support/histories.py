"""What a history of the world must have held: judged by the world's own facts, never by the reasons
that plans give. The rules are those of docs/architecture.md.
"""

from dataclasses import replace

from controller.observed import ApplicationStatus
from controller.planning.overrides import Overrides
from controller.planning.paths import path_of
from controller.planning.planner import Planner
from controller.planning.situation import Limits
from tests.support import laws, world
from tests.support.cluster import Cluster, place
from tests.support.paper_passes import GRACE, Daemon, Wishes

EVERY_ROUTE = ("/predict/iris/1", "/predict/iris/2", "/predict/iris/3", "/predict/rag/1")
"""Each stands for a pipeline at a version. They are few, so that much happens to each."""


class Judge:
    """The world of a history, and what is judged of it."""

    def __init__(self):
        super().__init__()
        self.now = world.NOW
        self.turned = 0.0  # seconds by which the daemon's clock is wrong since the last boot
        self.cluster = Cluster()
        self.daemon = Daemon(self.cluster)
        self.planner = Planner()
        self.rules = dict.fromkeys(["iris", "rag"], world.rule())
        self.options = dict.fromkeys(["iris", "rag"], 0)
        self.replicas = {}  # by pipeline
        self.parts = frozenset()  # pipelines that have one
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

    # -- what the world knows ----------------------------------------------------------------

    def _look(self):
        if self.sources_known:
            missing = set(EVERY_ROUTE) - self.listed.keys()
            self.missed_since = {r: self.missed_since.get(r, self.now) for r in missing}
        candidates = tuple(self.listed[route] for route in sorted(self.listed))
        overrides = Overrides(dict(self.pins), dict(self.suspensions))
        wishes = Wishes(
            *(candidates, self.rules, overrides, self.options, self.unprepared, self.sources_known),
            parts=self.parts,
            replicas=dict(self.replicas),
            **self._weights_wished(),
        )
        return self.daemon.poll(wishes, self.now + self.turned)

    def _weights_wished(self):
        """What the sources offer of weights, and the operator wants of them."""
        return {}

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
        if path_of(release) not in self.listed:
            late = self.now >= self.missed_since.get(path_of(release), self.now) + GRACE
            return (
                self.sources_known and late and self.daemon.sources.get(release) not in self.losing
            )
        return self._pushed_out(release)

    def _has_lost_much(self, source):
        """Whether a person must confirm that what is missing from a source may go."""
        of_it = {
            (path_of(r.release), bool(r.app.route)): r.release
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
        self._what_works_is_reached(decided)
        self._strangers_stay_as_they_are(kept)
        self._nobody_is_blamed_in_vain(situation, decided)
        facts = (replace(situation, now=0.0), decided)
        if facts == self.judged:
            return
        self.judged = facts
        laws.every_difference_has_its_reason(situation, decided)
        laws.bindings_hold_before_and_after(situation, decided)
        laws.order_does_not_matter(situation, decided)
        laws.a_failed_start_changes_nothing_else(situation)
        laws.pipelines_do_not_see_each_other(situation)

    def _what_is_suspended_stays_as_it_is(self, kept, decided):
        assert "" not in self.suspensions or not decided.changes
        for pipeline in self.suspensions:
            there = [r.app for r in self.cluster.ours if r.release.pipeline == pipeline]
            ours = {n: d for n, d in kept.items() if n.startswith(f"{pipeline}-")}
            assert ours == {app.name: app.document for app in there} or not pipeline
            assert not [q for q in decided.quarantines if q.subject.name == pipeline]

    def _what_works_goes_on(self, kept):
        """A live release serves until its successor answered; a bad one takes nobody's route, not
        even that of one which still has time to answer.
        """
        hopeful = self.proven | {r.app.name for r in self.cluster.ours if self._has_time(r.app)}
        routes = {path_of(r.release): r.release for r in self.cluster.ours if r.app.name in hopeful}
        for route, release in routes.items():
            if self._is_suspended(release.pipeline) or self._may_leave(release):
                continue
            here = {r.app.name: r.app for r in self.cluster.ours if path_of(r.release) == route}
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

    def _what_works_is_reached(self, decided):
        """What has its route and ever answered there has its path, until it may leave."""
        bound = laws.bound_by(decided)
        for running in self.cluster.ours:
            release, name = running.release, running.app.name
            holds = running.app.route == path_of(release) and name in self.proven
            if holds and (self._is_suspended(release.pipeline) or not self._may_leave(release)):
                assert bound.get(running.app.route) == name

    def _nobody_is_blamed_in_vain(self, situation, decided):
        """What is live is not quarantined, nor what may still answer."""
        for failure in decided.quarantines:
            name = situation.placements[failure.subject].name
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
            name, route = running.app.name, path_of(running.release)
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
        if decided.quarantines or decided.refused_weights or arrived or changed:
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
                assert holder.app.name.startswith(wanted) or self._quarantined(release)
        served = {release.pipeline for release in taken.values()}
        crowded = {taken[route].pipeline for route in taken.keys() & theirs}
        assert bool(crowded) == ("RouteConflict" in {c.reason for c in self.decided.conditions})
        for running in self.cluster.ours:
            release, name = running.release, running.app.name
            if path_of(release) in taken:
                assert running.app.route or path_of(release) in theirs, f"{name} is left over"
                continue
            replaced = path_of(release) in self.listed or self._unpinned(release)
            pushed_out_in_vain = replaced and release.pipeline in crowded
            pin_unmet = self._unpinned(release) and release.pipeline not in served
            source = self.daemon.sources.get(release)
            lost_with_many = path_of(release) not in self.listed and source in self.losing
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
