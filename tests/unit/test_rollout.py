"""What a plan does with one route at a time, and across routes."""

from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.model import Phase
from controller.observed import Answer, ApplicationStatus, Replica
from controller.planning import causes
from controller.planning.paths import path_of
from controller.planning.plan import Change
from controller.planning.probing import routes_to_probe
from controller.planning.rollout import plan
from controller.planning.situation import needs_encoding
from tests.support.world import (
    NOW,
    answer,
    application,
    elected,
    foreign,
    gone,
    placement,
    record,
    release,
    routes,
    situation,
)

pytestmark = pytest.mark.unit

ROUTE = path_of(release())


def replacing(status, *, now=NOW, message="", building=False, record_of_new=None):
    """Bytes b replace the live bytes a on one route; b is in some state, without a route."""
    old = application(release(digest="a"), route=ROUTE)
    new = application(release(digest="b"), status, message=message, building=building)
    return (
        old,
        new,
        situation(
            [elected(new.release), gone(old.release, "Replaced")],
            [placement(new.release)],
            [old, new],
            [record(old, routed=NOW - 99, live=NOW - 98), record_of_new or record(new)],
            now=now,
        ),
    )


def test_a_new_release_is_staged_without_a_route():
    decided = plan(situation([elected()], [placement()]))
    assert routes(decided) == {placement().name: None}
    assert decided.changes == (Change("add", placement().name, causes.STAGED),)


def test_a_release_that_is_not_prepared_changes_nothing():
    decided = plan(situation([elected()]))
    assert decided.applications == ()
    assert not decided.changes


def test_a_ready_release_is_given_the_route_and_its_predecessor_keeps_running_without():
    old, new, now = replacing("RUNNING")
    decided = plan(now)
    assert routes(decided) == {old.name: None, new.name: ROUTE}
    assert decided.transitions[0].phase is Phase.READY


def test_the_predecessor_stays_until_the_successor_itself_was_seen_at_the_route():
    old = application(release(digest="a"))
    new = application(release(digest="b"), route=ROUTE)
    facts = (
        [elected(new.release), gone(old.release, "Replaced")],
        [placement(new.release)],
        [old, new],
        [record(old, live=NOW - 98), record(new, routed=NOW - 1)],
    )
    for seen in (None, answer(old), Answer(None, 404), Answer(None, None, detail="refused")):
        decided = plan(situation(*facts, {ROUTE: seen} if seen else {}))
        assert routes(decided) == {old.name: None, new.name: ROUTE}
        assert not decided.changes
    decided = plan(situation(*facts, {ROUTE: answer(new)}))
    assert routes(decided) == {new.name: ROUTE}
    told = {t.subject.digest[0]: t.message for t in decided.transitions}
    assert told == {"b": ROUTE, "a": f"{new.name} serves in its place"}
    phases = {t.subject.digest[0]: t.phase for t in decided.transitions}
    assert phases == {"b": Phase.LIVE, "a": Phase.RETIRING}


def test_the_same_release_with_other_options_is_told_apart_by_its_application():
    old = application(generation="1")
    new = application(generation="2", route=ROUTE)
    facts = (
        [elected()],
        [placement(generation="2")],
        [old, new],
        [record(old, live=NOW - 98), record(new, routed=NOW - 1)],
    )
    stale = plan(situation(*facts, {ROUTE: answer(old)}))
    assert routes(stale) == {old.name: None, new.name: ROUTE}
    assert routes(plan(situation(*facts, {ROUTE: answer(new)}))) == {new.name: ROUTE}


def test_a_failed_start_quarantines_the_release_and_leaves_the_route_alone():
    message = "RuntimeError: wheelway-failure[LoadFailed] ValueError: no weights\n  line 3"
    old, new, now = replacing("DEPLOY_FAILED", message=message)
    decided = plan(now)
    assert routes(decided) == {old.name: ROUTE}
    [failure] = decided.quarantines
    assert (failure.subject, failure.stage) == (new.release, "stage")
    assert (failure.reason, failure.message) == ("LoadFailed", "ValueError: no weights")
    [change] = decided.changes
    assert str(change).startswith(f"remove {new.name}: LoadFailed: ")


def test_what_was_live_before_is_known_to_start_however_long_ago_it_was_staged():
    old, new, now = replacing("DEPLOYING", now=NOW + 301)
    records = [record(old, live=2.0), record(new, live=3.0)]
    decided = plan(replace(now, records={one.name: one for one in records}))
    assert not decided.quarantines
    assert routes(decided) == {old.name: ROUTE, new.name: None}
    assert decided.wake_at is None


def test_a_start_that_takes_too_long_is_quarantined_and_says_how_long():
    late = NOW + 301
    old, _new, now = replacing("DEPLOYING", now=late)
    decided = plan(now)
    assert routes(decided) == {old.name: ROUTE}
    assert decided.quarantines[0].reason == "StartTimeout"
    assert "300 s" in decided.quarantines[0].message


def test_a_start_within_its_deadline_wakes_the_daemon_when_that_passes():
    old, new, now = replacing("DEPLOYING")
    decided = plan(now)
    assert routes(decided) == {old.name: ROUTE, new.name: None}
    assert decided.wake_at == NOW - 10 + 300


def test_what_serve_scaled_to_nothing_before_it_started_is_not_ready_nor_blamed():
    for replicas in ((), (Replica("STOPPING", 1),)):
        old, new, now = replacing("RUNNING", now=NOW + 9999)
        unstarted = replace(new, replicas=replicas)
        decided = plan(replace(now, applications=[old, unstarted]))
        assert routes(decided) == {old.name: ROUTE, new.name: None}
        assert not decided.quarantines
        assert [c.reason for c in decided.conditions] == ["NeverStarted"]
    known = {old.name: record(old, live=NOW - 98), new.name: record(new, live=NOW - 97)}
    back = plan(replace(now, applications=[old, unstarted], records=known))
    assert routes(back)[new.name] == ROUTE  # it is known to start


def test_a_want_of_cpus_is_waited_for_without_a_deadline():
    said = (
        "1 replica has taken more than 30s to be scheduled. Resources required for each replica: X"
    )
    old, new, now = replacing("DEPLOYING", now=NOW + 9999, message=said)
    decided = plan(now)
    assert routes(decided) == {old.name: ROUTE, new.name: None}
    assert not decided.quarantines
    assert [c.reason for c in decided.conditions] == ["InsufficientResources"]


def promoted(at, seen):
    old = application(release(digest="a"))
    new = application(release(digest="b"), route=ROUTE)
    return (
        old,
        new,
        situation(
            [elected(new.release), gone(old.release, "Replaced")],
            [placement(new.release)],
            [old, new],
            [record(old, live=NOW - 98), record(new, routed=at)],
            {ROUTE: seen},
        ),
    )


def test_a_route_that_does_not_lead_there_by_the_deadline_goes_back():
    old, _new, now = promoted(NOW - 31, Answer(None, 503))
    decided = plan(now)
    assert routes(decided) == {old.name: ROUTE}
    assert decided.quarantines[0].reason == "ProbeFailed"
    assert "503" in decided.quarantines[0].message


def test_an_unreachable_ingress_is_nobodys_fault():
    refused = Answer(None, None, detail="connection refused", reached=False)
    old, new, now = promoted(NOW - 9999, refused)
    decided = plan(now)
    assert routes(decided) == {old.name: None, new.name: ROUTE}
    assert not decided.quarantines
    assert [(c.subject, c.reason) for c in decided.conditions] == [("ray", "IngressUnreachable")]


def test_a_route_that_accepts_connections_and_never_answers_goes_back():
    old, _new, now = promoted(NOW - 31, Answer(None, None, detail="ReadTimeout"))
    decided = plan(now)
    assert routes(decided) == {old.name: ROUTE}
    assert decided.quarantines[0].reason == "ProbeFailed"
    assert "no answer came (ReadTimeout)" in decided.quarantines[0].message


@pytest.mark.parametrize("status", ["DEPLOY_FAILED", "RUNNING"])
@pytest.mark.parametrize("fix", ["unprepared", "prepared", "starting"])
def test_a_fix_on_its_way_does_not_leave_the_route_with_a_successor_that_failed(status, fix):
    old = application(release(digest="a"))
    mute = application(release(digest="b"), status, route=ROUTE)
    mended = release(digest="c")
    apps = [old, mute, *([application(mended, "DEPLOYING")] if fix == "starting" else [])]
    decided = plan(
        situation(
            [elected(mended), gone(mute.release, "Replaced"), gone(old.release, "Replaced")],
            [] if fix == "unprepared" else [placement(mended)],
            apps,
            [record(old, live=NOW - 98), record(mute, routed=NOW - 31)],
            {ROUTE: Answer(None, 503)},
        )
    )
    there = routes(decided)
    assert there[old.name] == ROUTE
    assert mute.name not in there
    assert (placement(mended).name in there) == (fix != "unprepared")


def test_a_live_release_that_serve_calls_ill_is_told_though_its_route_answers():
    app = application(status="UNHEALTHY", route=ROUTE, message="it is ill")
    decided = plan(
        situation(
            [elected()],
            [placement()],
            [app],
            [record(app, routed=NOW - 99, live=NOW - 98)],
            {ROUTE: answer(app)},
        )
    )
    assert routes(decided) == {app.name: ROUTE}
    assert [condition.reason for condition in decided.conditions] == ["Unhealthy"]


def test_a_quarantined_successor_that_still_holds_the_route_gives_it_back():
    old = application(release(digest="a"))
    new = application(release(digest="b"), route=ROUTE)
    decided = plan(
        situation(
            [elected(old.release, "StandsIn"), gone(new.release, "Quarantined")],
            [],
            [old, new],
            [record(old, live=NOW - 98), record(new, routed=NOW - 50)],
        )
    )
    assert routes(decided) == {old.name: ROUTE}


def test_a_live_release_that_stops_answering_keeps_its_place_and_is_reported():
    app = application(status="UNHEALTHY", route=ROUTE, message="it is ill")
    decided = plan(
        situation([elected()], [placement()], [app], [record(app, routed=1.0, live=2.0)])
    )
    assert routes(decided) == {app.name: ROUTE}
    assert [c.reason for c in decided.conditions] == ["Unhealthy"]


def test_a_superseded_start_is_dropped_for_the_newest_bytes():
    live = application(release(digest="a"), route=ROUTE)
    stale = application(release(digest="b"), "DEPLOYING")
    newest = release(digest="c")
    decided = plan(
        situation(
            [elected(newest), gone(live.release, "Replaced")],
            [placement(newest)],
            [live, stale],
            [record(live, routed=1.0, live=2.0), record(stale)],
        )
    )
    assert routes(decided) == {live.name: ROUTE, placement(newest).name: None}


def test_a_fallback_survives_when_its_unproven_successor_is_superseded():
    fallback = application(release(digest="a"))
    unproven = application(release(digest="b"), route=ROUTE)
    newest = release(digest="c")
    decided = plan(
        situation(
            [elected(newest)],
            [placement(newest)],
            [fallback, unproven],
            [record(fallback, live=2.0), record(unproven, routed=NOW)],
        )
    )
    assert routes(decided) == {
        fallback.name: None,
        unproven.name: ROUTE,
        placement(newest).name: None,
    }


def test_foreign_applications_are_carried_verbatim_and_imperative_ones_left_out():
    declared, imperative = foreign(), foreign("other", "/other", declarative=False)
    decided = plan(situation([elected()], [placement()], [declared, imperative]))
    carried = {a.document["name"]: a.document for a in decided.applications}
    assert carried["theirs"] == declared.document
    assert "other" not in carried


def test_a_foreign_application_that_holds_what_json_has_not_is_told_and_carried():
    odd = replace(foreign(), oddity="Out of range float values are not JSON compliant")
    decided = plan(situation([elected()], [placement()], [odd]))
    assert "theirs" in {a.document["name"] for a in decided.applications}
    [condition] = decided.conditions
    assert (condition.subject, condition.reason) == ("application theirs", "NotJson")
    assert odd.oddity in condition.message


@pytest.mark.parametrize("declarative", [True, False])
def test_a_route_that_a_foreign_application_holds_is_reported_and_not_fought_over(declarative):
    theirs = foreign(route=ROUTE, declarative=declarative)
    decided = plan(situation([elected()], [placement()], [theirs]))
    assert placement().name not in routes(decided)
    assert decided.conditions[0].reason == "RouteConflict"


def test_a_route_is_free_while_the_application_that_had_it_is_being_deleted():
    # Serve has forgotten its document by then: whose it was cannot be seen.
    leaving = replace(foreign(route=ROUTE, declarative=False), status=ApplicationStatus.DELETING)
    decided = plan(situation([elected()], [placement()], [leaving]))
    assert routes(decided) == {placement().name: None}
    assert not decided.conditions


def test_lightweight_settings_change_the_same_application_in_place():
    app = application(route=ROUTE)
    edited = placement()
    edited.document["user_config"] = {"threshold": 1}
    decided = plan(situation([elected()], [edited], [app], [record(app, routed=1.0, live=2.0)]))
    [only] = decided.applications
    assert only.document == {**edited.document, "route_prefix": ROUTE}
    [change] = decided.changes
    assert change == Change("change", app.name, causes.SETTINGS, was=ROUTE, route=ROUTE)


def test_a_route_that_clients_may_encode_brings_the_application_for_that():
    extra = {"name": "wheelway-encoded-routes", "route_prefix": "/predict"}
    local = release("1.0+cu1")
    app = application(local, route=path_of(local))
    facts = ([elected(local)], [placement(local)], [app], [record(app, routed=1.0, live=2.0)])
    assert extra["name"] in routes(plan(situation(*facts, encoded_routes=extra)))
    plain = plan(situation([elected()], [placement()], encoded_routes=extra))
    assert extra["name"] not in routes(plain)


def test_the_application_for_encoded_routes_comes_changes_and_goes_for_reasons_of_its_own():
    extra = {"name": "wheelway-encoded-routes", "route_prefix": "/predict"}
    there = replace(foreign(extra["name"], "/predict"), document={**extra, "args": {"of": "old"}})
    local, plain = release("1.0+cu1"), release()
    causes_of = {}
    for only in (local, plain):
        app = application(only, route=path_of(only))
        facts = ([elected(only)], [placement(only)], [app, there], [record(app, live=2.0)])
        [causes_of[only]] = plan(situation(*facts, encoded_routes=extra)).changes
    routed = {"was": "/predict", "route": "/predict"}
    assert causes_of[local] == Change("change", there.name, causes.ENCODED_ROUTES, **routed)
    assert causes_of[plain] == Change(
        "remove", there.name, causes.NOTHING_TO_ENCODE, was="/predict"
    )


@given(st.text() | st.text("/._~-+!%:a1Z é"))
def test_a_route_needs_encoding_when_it_is_another_encoded(path):
    assert needs_encoding(path) == (quote(path) != path)


def test_only_routes_in_question_are_probed():
    live = application(release(pipeline="live"), route=path_of(release(pipeline="live")))
    fresh = application(release(pipeline="fresh"), route=path_of(release(pipeline="fresh")))
    asked = routes_to_probe([live, fresh], {live.name: record(live, live=1.0)})
    assert asked == (fresh.route,)


def test_giving_a_route_back_does_not_wait_for_somebody_elses_build():
    old, _new, now = promoted(NOW - 31, Answer(None, 503))
    building = application(release(pipeline="other"), "DEPLOYING", building=True)
    now = situation(
        [*now.verdicts, elected(building.release)],
        [*now.placements.values(), placement(building.release)],
        [*now.applications, building],
        [*now.records.values(), record(building)],
        now.answers,
    )
    decided = plan(now)
    assert decided.changes
    assert not decided.hold
    assert routes(decided)[old.name] == ROUTE
