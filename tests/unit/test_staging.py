"""Which releases may start, in which order, and when a config waits for a build."""

import pytest

from controller.model import Phase
from controller.planning import causes
from controller.planning.paths import path_of
from controller.planning.rollout import plan
from controller.planning.situation import Limits
from controller.planning.staging import Turns
from tests.support.world import (
    NOW,
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


def test_a_config_waits_while_one_of_ours_is_built_and_not_longer_than_its_deadline():
    building = application(release(pipeline="other"), "DEPLOYING", building=True)
    verdicts = [elected(), elected(building.release)]
    placements = [placement(), placement(building.release)]
    held = plan(situation(verdicts, placements, [building], [record(building)]))
    assert held.changes
    assert held.hold.reason == "BuildRunning"
    assert building.name in held.hold.message
    late = situation(verdicts, placements, [building], [record(building)], now=NOW + 61)
    assert not plan(late).hold


def test_what_waits_with_a_config_is_not_told_as_if_it_had_gone():
    building = application(release(pipeline="other"), "DEPLOYING", building=True)
    leaving = application(route=ROUTE)
    verdicts = [elected(building.release), gone(leaving.release, "Inactive")]
    apps, records = [building, leaving], [record(building), record(leaving, live=2.0)]
    held = plan(situation(verdicts, [placement(building.release)], apps, records))
    assert held.hold
    assert [change.action for change in held.changes] == ["remove"]
    assert Phase.RETIRING not in {t.phase for t in held.transitions}


def test_only_so_many_start_at_once_and_each_pipelines_newest_first():
    wanted = [release(f"{n}.0", pipeline=f"p{p}") for n in (1, 2, 9) for p in (1, 2)]
    wanted.append(release("1.0", pipeline="p3"))
    placements = [placement(one) for one in wanted]
    decided = plan(situation(map(elected, wanted), placements, limits=Limits(max_staging=4)))
    names = [name.rsplit("-", 1)[0] for name in sorted(routes(decided))]
    assert names == ["p1-2.0", "p1-9.0", "p2-9.0", "p3-1.0"]
    assert [c.reason for c in decided.conditions] == ["Queued"] * 3


def test_whoever_waits_longest_starts_next_whatever_its_version():
    wanted = [release("9.0", pipeline="busy"), release("10.0", pipeline="busy"), release()]
    placements = [placement(one) for one in wanted]
    since = dict(zip(wanted, (NOW - 1, NOW, NOW - 5), strict=True))
    facts = (map(elected, wanted), placements)
    decided = plan(situation(*facts, limits=Limits(max_staging=2), waiting_since=since))
    assert routes(decided).keys() == {placements[2].name, placements[0].name}


def test_a_turn_counts_from_when_a_release_first_waited():
    turns, one, other = Turns(), release(), release("2.0")
    both = {one: placement(one), other: placement(other)}
    first = {one: both[one]}
    assert turns.waiting([one], first, [], 1.0) == {one: 1.0}
    assert turns.waiting([one, other], both, [], 2.0) == {one: 1.0, other: 2.0}
    assert turns.waiting([one, other], both, [application()], 3.0) == {other: 2.0}
    assert turns.waiting([one], first, [], 4.0) == {one: 4.0}


def test_a_release_whose_environment_is_made_again_keeps_its_turn_while_it_is_elected():
    turns, one = Turns(), release()
    assert turns.waiting([one], {}, [], 0.0) == {}  # it was never ready
    turns.waiting([one], {one: placement(one)}, [], 1.0)
    assert turns.waiting([one], {}, [], 2.0) == {one: 1.0}
    other = placement(one, generation="2")  # in another environment
    assert turns.waiting([one], {one: other}, [], 3.0) == {one: 1.0}
    assert turns.waiting([], {}, [], 4.0) == {}


def test_a_release_that_is_not_checked_lets_others_start_first():
    wanted = [release(pipeline=name) for name in ("a", "b", "c", "d")]
    placements = [placement(one) for one in wanted]
    since = {one: NOW + number for number, one in enumerate(wanted)}

    def admitted(free, *unchecked):
        facts = situation(
            map(elected, wanted),
            placements,
            limits=Limits(max_staging=free),
            waiting_since=since,
            unchecked=dict.fromkeys(unchecked, causes.CHECKING_FILES),
        )
        decided = plan(facts)
        told = {c.subject[0]: c.reason for c in decided.conditions}
        return {name[0] for name in routes(decided)}, told

    first, second, third, last = wanted
    queued, checking = "Queued", "CheckingFiles"
    assert admitted(2) == ({"a", "b"}, {"c": queued, "d": queued})
    assert admitted(2, first) == ({"b", "c"}, {"a": checking, "d": queued})
    assert admitted(2, third, last) == ({"a", "b"}, {"c": queued, "d": queued})
    assert admitted(2, first, second, third) == ({"d"}, dict.fromkeys("abc", checking))
    assert admitted(0, first)[1] == dict.fromkeys("abcd", queued)


def test_an_application_that_is_being_deleted_is_waited_for_before_it_comes_back():
    app = application(status="DELETING")
    decided = plan(situation([elected()], [placement()], [app]))
    assert decided.applications == ()
    assert decided.conditions[0].reason == "WaitingForDeletion"
