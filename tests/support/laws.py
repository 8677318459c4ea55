"""What must hold of any plan, whatever history led to it: judged from its situation alone."""

import re
from dataclasses import replace

from controller.model import Phase
from controller.observed import ApplicationStatus
from controller.planning.causes import NO_LONGER_WANTED
from controller.planning.paths import path_of
from controller.planning.rollout import plan
from controller.planning.situation import Limits, is_working, was_live

PATIENT = Limits(max_staging=99, retire_limit=1.0, build_deadline=0.0)
"""Under these nothing that one release does can make another wait."""


def documents(decided):
    """By name: what a plan would apply."""
    return {a.document["name"]: a.document for a in decided.applications}


def lives(decided):
    """Names of those that a plan takes for live."""
    return {t.placement for t in decided.transitions if t.phase is Phase.LIVE}


def every_difference_has_its_reason(situation, decided):
    """What differs is told, nothing else is, and nothing that ever served goes without a cause."""
    there = {
        app.name: app
        for app in situation.applications
        if app.document is not None and app.status is not ApplicationStatus.DELETING
    }
    after = documents(decided)
    differing = {
        name
        for name in there.keys() | after.keys()
        if name not in there or there[name].document != after.get(name)
    }
    assert sorted(change.application for change in decided.changes) == sorted(differing)
    for change in decided.changes:
        assert re.fullmatch("([A-Z][a-z]+)+", change.cause.reason), change
        assert change.cause.message
        if change.action == "remove" and was_live(there[change.application], situation.records):
            assert change.cause != NO_LONGER_WANTED, change


def bindings_hold_before_and_after(situation, decided):
    """A path leads to one of its own that works now and stays. Only what is to be seen there first
    has a route of Serve that leads elsewhere; what has its route and was seen there has its path.
    """
    there = {
        app.name: app
        for app in situation.applications
        if app.status is not ApplicationStatus.DELETING
    }
    after = documents(decided)
    leads = {document["route_prefix"]: name for name, document in after.items()}
    bound = bound_by(decided)
    assert list(bound) == sorted(bound)
    for path, name in bound.items():
        assert path_of(there[name].release) == path
        assert is_working(there[name], situation), f"{path} leads to {name}"
        assert decided.hold or name in after, f"{path} leads to {name}, which goes"
        if not decided.hold and leads[path] != name:
            app = there[leads[path]]
            assert not app.route or not was_live(app, situation.records), f"{path} left {app.name}"
    for app in there.values():
        holds = app.release is not None and app.route == path_of(app.release)
        if holds and leads.get(app.route) == app.name and was_live(app, situation.records):
            assert bound[app.route] == app.name


def bound_by(decided):
    """By path: the name of the one application that a plan has it lead to."""
    found = {}
    for binding in decided.bindings:
        (target,) = binding.targets
        assert (target.slot.member, target.weight) == (None, 1)
        assert binding.path not in found
        found[binding.path] = target.slot.application
    return found


def order_does_not_matter(situation, decided):
    """The same facts give the same plan, in whatever order they come."""
    assert plan(situation) == decided
    shuffled = replace(
        situation,
        applications=situation.applications[::-1],
        verdicts=sorted(situation.verdicts, key=lambda v: v.release.pipeline, reverse=True),
        placements=dict(reversed(situation.placements.items())),
        records=dict(reversed(situation.records.items())),
    )
    pace = {"hold": None, "wake_at": None}  # of several builds one is named
    assert replace(plan(shuffled), **pace) == replace(decided, **pace)


def a_failed_start_changes_nothing_else(situation):
    """Were it still starting, all others would be planned just the same."""
    situation = replace(situation, limits=PATIENT)
    decided = plan(situation)
    failed = {q.subject for q in decided.quarantines if q.stage == "stage"}
    if not failed:
        return
    names = {p.name for release, p in situation.placements.items() if release in failed}
    apps = [
        replace(app, status=ApplicationStatus.DEPLOYING, message="") if app.name in names else app
        for app in situation.applications
    ]
    records = dict(situation.records)
    for name in names & records.keys():
        records[name] = replace(records[name], staged_at=situation.now)
    hopeful = plan(replace(situation, applications=apps, records=records))
    others = {n: d for n, d in documents(hopeful).items() if n not in names}
    assert documents(decided) == others


def pipelines_do_not_see_each_other(situation):
    """What is planned for a pipeline is what would be planned for it alone."""
    situation = replace(situation, limits=PATIENT)
    together = plan(situation)
    for pipeline in {v.release.pipeline for v in situation.verdicts}:
        verdicts = [v for v in situation.verdicts if v.release.pipeline == pipeline]
        apps = [
            app
            for app in situation.applications
            if app.release is None or app.release.pipeline == pipeline
        ]
        alone = plan(replace(situation, verdicts=verdicts, applications=apps))
        assert _part(pipeline, alone) == _part(pipeline, together)


def _part(pipeline, decided):
    return (
        [a for a in decided.applications if a.document.get("args", {}).get("pipeline") == pipeline],
        [b for b in decided.bindings if b.path.startswith(f"/predict/{pipeline}/")],
        [t for t in decided.transitions if t.subject.pipeline == pipeline],
        [q for q in decided.quarantines if q.subject.pipeline == pipeline],
        [c for c in decided.conditions if c.subject.startswith(f"{pipeline}@")],
    )
