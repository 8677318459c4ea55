"""Which time counts against a release, and which does not."""

from dataclasses import replace

import pytest

from controller.model import PlacementRecord
from controller.observed import Answer
from controller.planning.dates import dated, excused, restarted, unwatched
from controller.planning.paths import path_of
from controller.planning.rollout import plan
from controller.planning.situation import Limits
from tests.support.world import (
    NOW,
    answer,
    application,
    elected,
    placement,
    record,
    release,
    routes,
    situation,
)

pytestmark = pytest.mark.unit

ROUTE = path_of(release())
SHORT = "1 replica has taken more than 30s to be scheduled. Resources required for each replica: X"
MUTE = Answer(None, 404)
AWAY = Answer(None, None, detail="connection refused", reached=False)


def of(app, **dates):
    return {app.name: PlacementRecord(app.name, **dates)}


@pytest.mark.parametrize("what", [{"building": True}, {"message": SHORT}])
def test_the_time_to_start_counts_from_when_it_is_built_and_has_room(what):
    held_up = application(status="DEPLOYING", **what)
    records = dated([held_up], of(held_up, staged_at=1.0), 900.0)
    assert records[held_up.name].staged_at == 900.0
    starting = application(status="DEPLOYING")
    assert dated([starting], records, 950.0)[starting.name].staged_at == 900.0


def test_however_often_its_build_is_begun_anew_a_release_that_starts_well_is_not_quarantined():
    building = application(status="DEPLOYING", building=True)
    records, now = {}, NOW
    for _ in range(6):
        records = dated([building], records, now)
        decided = plan(situation([elected()], [placement()], [building], records.values(), now=now))
        assert not decided.quarantines
        now += 60
        records = restarted(records, now)


def test_a_build_has_its_time_from_its_own_last_begin():
    building = application(release(pipeline="other"), "DEPLOYING", building=True)
    verdicts = [elected(), elected(building.release)]
    placements = [placement(), placement(building.release)]
    records = restarted(dated([building], {}, NOW), NOW + 61)

    def held(at):
        now = situation(verdicts, placements, [building], records.values(), now=at)
        return plan(now).hold is not None

    assert held(NOW + 62)
    assert held(NOW + 120)
    assert not held(NOW + 61 + 60)
    ended = application(building.release, "DEPLOYING")
    assert dated([ended], records, NOW + 99)[ended.name].building_since is None


def test_a_release_that_is_ready_waits_only_for_a_moment_for_what_is_being_built():
    ready = application()
    building = application(release(pipeline="other"), "DEPLOYING", building=True)
    verdicts = [elected(), elected(building.release)]
    placements = [placement(), placement(building.release)]
    records = dated([ready, building], {}, NOW).values()

    def decided(at, **more):
        facts = (verdicts, placements, [ready, building], records)
        return plan(situation(*facts, now=at, **more))

    assert decided(NOW + 9).hold
    assert not decided(NOW + 10).hold
    assert routes(decided(NOW + 10))[ready.name] == ROUTE
    assert not decided(NOW + 1, limits=Limits(build_deadline=1)).hold


def excuse(app, record_, said, before, *, since, now=NOW, deadline=30.0):
    found = excused(
        {app.name: record_},
        {ROUTE: said} if said else {},
        {ROUTE: before} if before else {},
        {app.name: app.route},
        since=since,
        now=now,
        probe_deadline=deadline,
    )
    return found[app.name].routed_at


def test_time_in_which_the_ingress_could_not_be_asked_counts_for_nothing():
    app = application(route=ROUTE)
    given = record(app, routed=NOW - 15)
    assert excuse(app, given, MUTE, MUTE, since=NOW - 12) == NOW - 15
    assert excuse(app, given, AWAY, MUTE, since=NOW - 12) == NOW - 3
    assert excuse(app, given, MUTE, AWAY, since=NOW - 12) == NOW - 3
    assert excuse(app, given, MUTE, AWAY, since=NOW - 400) == NOW
    live = record(app, routed=NOW - 15, live=NOW - 14)
    assert excuse(app, live, AWAY, AWAY, since=NOW - 12) == NOW - 15


@pytest.mark.parametrize("since", [None, NOW - 1])
def test_one_answer_right_after_its_return_is_no_verdict(since):
    app = application(route=ROUTE)
    routed_at = excuse(app, record(app, routed=NOW - 400), MUTE, None, since=since)
    assert routed_at == NOW - 20
    decided = plan(
        situation([elected()], [placement()], [app], [record(app, routed=routed_at)], {ROUTE: MUTE})
    )
    assert not decided.quarantines
    short = excuse(app, record(app, routed=NOW - 400), MUTE, None, since=since, deadline=4.0)
    assert short == NOW


def test_time_to_answer_does_not_count_while_the_application_is_built_again():
    app = replace(application(status="DEPLOYING", building=True), route=ROUTE)
    [found] = dated([app], of(app, staged_at=1.0, routed_at=2.0), 900.0).values()
    assert found.routed_at == 900.0
    served = of(app, staged_at=1.0, routed_at=2.0, live_at=3.0)
    assert dated([app], served, 900.0)[app.name].routed_at == 2.0


def test_time_in_which_nobody_could_look_counts_against_no_start_and_no_answer():
    app, live = application(route=ROUTE), application(release("2.0"), route="/r")
    records = {
        app.name: record(app, staged=NOW - 20, routed=NOW - 12),
        live.name: record(live, live=NOW - 5),
    }
    found = unwatched(records, since=NOW - 9, now=NOW)
    assert (found[app.name].staged_at, found[app.name].routed_at) == (NOW - 11, NOW - 3)
    assert found[live.name] == records[live.name]


def test_a_process_that_begins_while_nobody_can_look_gives_everyone_all_of_their_time():
    app, staged = application(route=ROUTE), application(release("2.0"), status="DEPLOYING")
    records = {
        app.name: record(app, staged=NOW - 4000, routed=NOW - 4000),  # by a clock that was turned
        staged.name: record(staged, staged=NOW - 4000),
    }
    found = unwatched(records, since=None, now=NOW)
    assert (found[app.name].staged_at, found[app.name].routed_at) == (NOW, NOW)
    assert (found[staged.name].staged_at, found[staged.name].routed_at) == (NOW, None)


def test_what_is_found_on_its_route_is_taken_for_live_and_what_is_gone_is_forgotten():
    app = application(route=ROUTE)
    assert dated([app], {"gone": record(app)}, 5.0) == of(
        app, staged_at=5.0, routed_at=5.0, live_at=5.0
    )
    unrouted = application()
    assert dated([unrouted], dated([app], {}, 5.0), 6.0)[app.name].routed_at is None
    assert answer(app).reached


def test_what_starts_again_at_its_route_has_all_of_its_time_to_answer_once_it_is_ready():
    again, ready = application(status="DEPLOYING", route=ROUTE), application(route=ROUTE)
    records = dated([again], of(again, staged_at=NOW - 50, routed_at=NOW - 45), NOW)
    assert records[again.name].routed_at == NOW  # be this the first look of a process
    assert records[again.name].staged_at == NOW - 50

    def decided(at):
        later = dated([ready], records, at)
        assert later[ready.name].staged_at == at  # its start would count from here on
        known = later.values()
        return plan(situation([elected()], [placement()], [ready], known, {ROUTE: MUTE}, now=at))

    assert not decided(NOW + 29).quarantines
    assert [q.reason for q in decided(NOW + 30).quarantines] == ["ProbeFailed"]
