"""Which slots public paths lead to, from the first answer of a release to its end."""

import pytest

from controller.model import Binding, Slot, Target
from controller.observed import Answer
from controller.planning.contest import Restraint, restrained
from controller.planning.daemons import DaemonMark
from controller.planning.overrides import Overrides, Suspension
from controller.planning.plan import Cause
from controller.planning.rollout import plan
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

ROUTE = "/predict/iris/1.0"
WANTED = release(digest="b")
OLD = application(release(digest="a"), route=ROUTE)
NEW = application(WANTED, route=ROUTE)
MUTE = Answer(None, 404)


def bound(decided):
    """By path: the one application that it leads to."""
    found = {}
    for binding in decided.bindings:
        (target,) = binding.targets
        assert (target.weight, target.slot.member) == (1, None)
        found[binding.path] = target.slot.application
    return found


def upgrade(*applications, said=None, records=(), **facts):
    """Bytes b are to take the place of bytes a."""
    answers = {ROUTE: said} if said else {}
    known = records or [record(app, live=NOW - 98) for app in applications if app is OLD]
    of = [elected(WANTED)], [placement(WANTED)], applications, known, answers
    return plan(situation(*of, **facts))


def test_a_live_release_has_its_path_alone_and_with_all_weight():
    decided = plan(
        situation([elected(OLD.release)], [], [OLD], [record(OLD, live=NOW)], cluster="green")
    )
    slot = Slot("green", OLD.name)
    assert decided.bindings == (Binding(ROUTE, (Target(slot, 1),)),)


@pytest.mark.parametrize("said", [MUTE, None])
def test_what_was_never_seen_at_its_path_has_none(said):
    staged = application(WANTED)
    assert not upgrade().bindings, "it is yet to be staged"
    promoted = upgrade(staged, records=[record(staged)])
    assert (routes(promoted), promoted.bindings) == ({staged.name: ROUTE}, ())
    assert not upgrade(NEW, said=said, records=[record(NEW, routed=NOW - 1)]).bindings


def test_it_has_its_path_by_its_first_answer():
    decided = upgrade(NEW, said=answer(NEW), records=[record(NEW, routed=NOW - 1)])
    assert bound(decided) == {ROUTE: NEW.name}


def test_a_path_stays_with_who_served_until_the_successor_was_seen_and_moves_before_that_one_goes():
    staged = application(WANTED)
    promoted = upgrade(OLD, staged)
    assert routes(promoted) == {OLD.name: None, staged.name: ROUTE}
    assert bound(promoted) == {ROUTE: OLD.name}

    before = application(OLD.release)
    records = [record(before, live=NOW - 98), record(NEW, routed=NOW - 1)]
    unseen = upgrade(before, NEW, said=MUTE, records=records)
    assert bound(unseen) == {ROUTE: before.name}
    seen = upgrade(before, NEW, said=answer(NEW), records=records)
    assert bound(seen) == {ROUTE: NEW.name}
    assert before.name not in routes(seen)


def test_a_path_never_leads_to_what_failed_before_it_was_seen():
    before = application(OLD.release)
    records = [record(before, live=NOW - 98), record(NEW, routed=NOW - 99)]
    decided = upgrade(before, NEW, said=MUTE, records=records)
    assert routes(decided) == {before.name: ROUTE}
    assert bound(decided) == {ROUTE: before.name}


def test_a_release_that_was_live_and_ails_keeps_its_path():
    ill = application(WANTED, "UNHEALTHY", route=ROUTE)
    assert bound(upgrade(ill, said=MUTE, records=[record(ill, live=NOW - 9)])) == {ROUTE: ill.name}


def test_one_whose_journal_was_lost_keeps_its_path():
    assert bound(plan(situation([elected(OLD.release)], [], [OLD]))) == {ROUTE: OLD.name}


def test_what_is_retired_loses_its_path_with_the_config_that_takes_it_away():
    leaving = [gone(OLD.release, "Inactive")], [], [OLD], [record(OLD, live=NOW)]
    decided = plan(situation(*leaving))
    assert decided.changes
    assert not decided.bindings


def test_what_is_retired_keeps_its_path_while_the_config_waits_for_a_build():
    other = release(pipeline="other")
    building = application(other, "DEPLOYING", building=True)
    leaving = [gone(OLD.release, "Inactive"), elected(other)], [placement(other)]
    there = [OLD, building], [record(OLD, live=NOW), record(building)]
    decided = plan(situation(*leaving, *there))
    assert decided.hold is not None
    assert bound(decided) == {ROUTE: OLD.name}


@pytest.mark.parametrize("mark", [None, DaemonMark("id", 1.0, "host", "user", "/folder")])
def test_what_is_retired_keeps_its_path_while_the_cluster_may_be_another_daemons(mark):
    facts = situation([gone(OLD.release, "Inactive")], [], [OLD], [record(OLD, live=NOW)])
    restraint = Restraint(Cause("AnotherDaemon", "it may be alive"), NOW + 9, mark)
    assert bound(restrained(plan(facts), facts, restraint)) == {ROUTE: OLD.name}


@pytest.mark.parametrize("what", ["", "iris"])
def test_a_suspended_path_leads_where_it_led(what):
    ordered = Overrides({}, {what: Suspension(what, "somebody", "", NOW)})
    assert bound(upgrade(OLD, application(WANTED), overrides=ordered)) == {ROUTE: OLD.name}


def test_a_path_that_somebody_else_holds_is_not_bound():
    before = application(OLD.release)
    theirs = foreign("theirs", ROUTE)
    known = [record(before, live=NOW - 98)]
    assert not upgrade(before, theirs, records=known).bindings


def test_bindings_are_sorted_by_their_paths():
    apps = [
        application(one, route=f"/predict/{one.pipeline}/{one.version}")
        for one in (release(pipeline="rag"), release("2.0"), release("10.0"), release())
    ]
    verdicts = [elected(app.release) for app in apps]
    decided = plan(situation(verdicts, [], apps, [record(app, live=NOW) for app in apps]))
    expected = ["/predict/iris/1.0", "/predict/iris/10.0", "/predict/iris/2.0", "/predict/rag/1.0"]
    assert [binding.path for binding in decided.bindings] == expected
