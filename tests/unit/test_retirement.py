"""What a plan retires: what policy or the sources take away, and what makes room."""

from dataclasses import replace

import pytest

from controller.model import Phase
from controller.observed import Answer
from controller.planning.paths import path_of
from controller.planning.plan import Cause, Change
from controller.planning.rollout import plan
from controller.planning.situation import Limits
from tests.support.world import (
    NOW,
    answer,
    application,
    elected,
    gone,
    placement,
    record,
    release,
    routes,
    situation,
)

pytestmark = pytest.mark.unit

ROUTE = path_of(release())


@pytest.mark.parametrize("reason", ["Inactive", "VersionExcluded", "NotPinned", "Absent"])
def test_what_policy_or_the_sources_take_away_is_retired(reason):
    app = application(route=ROUTE)
    decided = plan(
        situation([gone(app.release, reason)], [], [app], [record(app, routed=1.0, live=2.0)])
    )
    assert decided.applications == ()
    assert decided.transitions[0].phase is Phase.RETIRING
    assert decided.changes == (Change("remove", app.name, Cause(reason, "why"), was=ROUTE),)


def making_room(*, newest_live):
    versions = ["1.0", "2.0", "3.0"]
    apps = [application(release(v), route=path_of(release(v))) for v in versions]
    records = [record(app, routed=1.0, live=2.0) for app in apps[:2]]
    answers = {}
    if newest_live:
        answers[apps[2].route] = answer(apps[2])
    records.append(record(apps[2], routed=NOW))
    return apps, situation(
        [elected(apps[2].release), elected(apps[1].release), gone(apps[0].release, "NotKept")],
        [placement(apps[2].release), placement(apps[1].release)],
        apps,
        records,
        answers,
    )


def test_an_old_version_makes_room_only_after_the_newer_ones_are_live():
    apps, now = making_room(newest_live=False)
    assert apps[0].name in routes(plan(now))
    apps, now = making_room(newest_live=True)
    assert sorted(routes(plan(now))) == [apps[1].name, apps[2].name]


def vanished(count, of):
    apps = []
    verdicts = []
    for number in range(of):
        one = release(pipeline=f"p{number}")
        apps.append(application(one, route=path_of(one)))
        verdicts.append(gone(one, "Absent") if number < count else elected(one))
    placements = [placement(app.release) for app in apps[count:]]
    records = [record(app, routed=1.0, live=2.0) for app in apps]
    return situation(verdicts, placements, apps, records)


def test_a_source_that_lists_far_fewer_wheels_retires_nothing():
    decided = plan(vanished(3, of=4))
    assert len(decided.applications) == 4
    assert {c.reason for c in decided.conditions} == {"RetireLimit"}


def test_a_limit_of_one_retires_what_vanished_though_successors_of_another_source_hold_the_routes():
    """As after a journal was lost: who listed what served before is known no more."""
    apps, verdicts, records, sources = [], [], [], {}
    for number in range(3):
        before, after = (release(pipeline=f"p{number}", digest=d) for d in "ab")
        served, failing = application(before), application(after, route=path_of(after))
        apps += [served, failing]
        verdicts += [gone(before, "Absent"), gone(after, "Absent")]
        records += [record(served, live=2.0), record(failing, routed=NOW - 40)]
        sources[after] = "wheels"
    answers = {app.route: Answer(None, 503) for app in apps if app.route}
    told = situation(verdicts, [], apps, records, answers, sources=sources)
    assert {c.reason for c in plan(told).conditions} == {"RetireLimit"}
    decided = plan(replace(told, limits=Limits(retire_limit=1.0)))
    assert decided.applications == ()
    assert not decided.conditions


def test_a_few_that_vanish_are_retired():
    assert len(plan(vanished(2, of=4)).applications) == 2
    assert plan(vanished(1, of=1)).applications == ()


def test_what_is_unknown_stays_as_it_is():
    app = application(route=ROUTE)
    decided = plan(situation([], [], [app]))
    assert routes(decided) == {app.name: ROUTE}
    assert not decided.changes
