"""What becomes of a route whose holder was promoted and then overtaken before it was seen."""

import pytest

from controller.model import Phase
from controller.observed import Answer
from controller.planning import causes
from controller.planning.paths import path_of
from controller.planning.plan import Change
from controller.planning.policy import Verdict
from controller.planning.rollout import plan
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
OLD = application(release(digest="a"))
NEW = application(release(digest="b"), route=ROUTE)
NEWEST = release(digest="c")
MUTE = Answer(None, 404)
REFUSED = Answer(None, None, detail="connection refused", reached=False)


def overtaken(verdicts, placements=(), *more, said=MUTE, since=1, holder=NEW, **facts):
    """Bytes b have the route of the live bytes a, unseen for so many seconds; then others came."""
    return situation(
        verdicts,
        placements,
        [OLD, holder, *more],
        [
            record(OLD, live=NOW - 98),
            record(holder, routed=NOW - since),
            *(record(app) for app in more),
        ],
        {ROUTE: said},
        **facts,
    )


def test_who_is_seen_when_another_is_wanted_already_is_live_and_stays_when_that_one_fails():
    failed = application(NEWEST, "DEPLOY_FAILED")
    decided = plan(overtaken([elected(NEWEST)], [placement(NEWEST)], failed, said=answer(NEW)))
    assert routes(decided) == {NEW.name: ROUTE}
    assert [q.subject for q in decided.quarantines] == [NEWEST]
    live, leaving = decided.transitions
    assert (live.placement, live.phase) == (NEW.name, Phase.LIVE)
    assert (leaving.placement, leaving.phase) == (OLD.name, Phase.RETIRING)


@pytest.mark.parametrize("placements", [[], [placement(NEWEST)]])
def test_an_overtaken_holder_that_never_answers_gives_the_route_back_at_its_own_deadline(
    placements,
):
    early = plan(overtaken([elected(NEWEST)], placements))
    assert routes(early).items() >= {OLD.name: None, NEW.name: ROUTE}.items()
    assert early.wake_at == NOW - 1 + 30
    late = plan(overtaken([elected(NEWEST)], placements, since=31))
    assert routes(late).pop(OLD.name) == ROUTE
    assert NEW.name not in routes(late)
    assert not late.quarantines
    blind = plan(overtaken([elected(NEWEST)], placements, since=31, said=REFUSED))
    assert routes(blind).items() >= {OLD.name: None, NEW.name: ROUTE}.items()
    assert blind.wake_at is None


@pytest.mark.parametrize("verdicts", [[Verdict(NEW.release, False, "Missing", "why")], []])
def test_it_gives_it_back_too_while_its_version_is_missing_or_its_source_unknown(verdicts):
    assert routes(plan(overtaken(verdicts, since=29))) == {OLD.name: None, NEW.name: ROUTE}
    assert routes(plan(overtaken(verdicts, since=31))) == {OLD.name: ROUTE}


def test_a_route_is_given_back_at_once_and_in_spite_of_builds_when_its_holder_fails():
    ill = application(NEW.release, "UNHEALTHY", route=ROUTE, message="it is ill")
    building = application(NEWEST, "DEPLOYING", building=True)
    decided = plan(overtaken([elected(NEWEST)], [placement(NEWEST)], building, holder=ill))
    assert routes(decided) == {OLD.name: ROUTE, building.name: None}
    assert not decided.hold
    assert decided.changes == (
        Change("change", OLD.name, causes.HAS_ROUTE_BACK, route=ROUTE),
        Change("remove", ill.name, causes.NEVER_SEEN, was=ROUTE),
    )


@pytest.mark.parametrize("said", [MUTE, REFUSED])
def test_without_a_predecessor_an_overtaken_holder_has_its_time_though_its_successor_failed(said):
    def left(since):
        verdicts = [Verdict(NEWEST, False, "Quarantined", "why")]
        records = [record(NEW, routed=NOW - since)]
        return plan(situation(verdicts, [], [NEW], records, {ROUTE: said}))

    assert routes(left(1)) == {NEW.name: ROUTE}
    assert routes(left(31)) == ({} if said is MUTE else {NEW.name: ROUTE})


def test_a_version_that_makes_room_keeps_what_works_beside_an_unproven_holder():
    newer = release("2.0")
    verdicts = [elected(newer), Verdict(NEW.release, False, "NotKept", "why")]
    decided = plan(overtaken(verdicts, [placement(newer)]))
    assert routes(decided) == {OLD.name: None, NEW.name: ROUTE, placement(newer).name: None}


def test_versions_that_vanished_together_keep_what_works_beside_unproven_holders():
    others = [application(release(v), route=path_of(release(v))) for v in ("2.0", "3.0")]
    verdicts = [Verdict(app.release, False, "Absent", "why") for app in (NEW, *others)]
    decided = plan(overtaken(verdicts, [], *others))
    assert routes(decided).items() >= {OLD.name: None, NEW.name: ROUTE}.items()


def test_a_route_counts_as_vanished_from_the_source_of_whoever_may_have_it_back():
    others = [application(release(v), route=path_of(release(v))) for v in ("2.0", "3.0")]
    verdicts = [Verdict(app.release, False, "Absent", "why") for app in (NEW, *others)]
    known = {NEW.release: "shelf"}  # where the others came from was in a journal that was lost
    decided = plan(overtaken(verdicts, [], *others, since=31, sources=known))
    assert routes(decided).pop(OLD.name) == ROUTE


def test_what_was_live_and_is_wanted_back_is_not_dropped_for_being_ill_while_nothing_else_works():
    ill = application(release(digest="a"), "UNHEALTHY", message="it is ill")
    apps = [ill, NEW]
    records = [record(ill, live=NOW - 98), record(NEW, routed=NOW - 1)]
    facts = ([elected(ill.release)], [placement(ill.release)], apps, records)
    decided = plan(situation(*facts, {ROUTE: MUTE}))
    assert routes(decided) == {ill.name: None, NEW.name: ROUTE}
    assert not decided.quarantines
    assert [c.reason for c in decided.conditions] == ["Unhealthy"]
    proven = plan(situation(*facts, {ROUTE: answer(NEW)}))
    assert routes(proven) == {NEW.name: ROUTE}
    assert [q.subject for q in proven.quarantines] == [ill.release]


def test_a_holder_that_has_to_start_again_has_its_time_to_start_and_then_to_answer():
    again = application(NEW.release, "DEPLOYING", route=ROUTE)
    waits = plan(
        overtaken([elected(NEW.release)], [placement(NEW.release)], holder=again, since=99)
    )
    assert not waits.quarantines
    assert routes(waits) == {OLD.name: None, NEW.name: ROUTE}
    late = plan(
        overtaken(
            [elected(NEW.release)], [placement(NEW.release)], holder=again, since=99, now=NOW + 300
        )
    )
    assert [q.reason for q in late.quarantines] == ["StartTimeout"]
    assert routes(late) == {OLD.name: ROUTE}
