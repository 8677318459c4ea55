"""Histories of mishaps: parts that fail, die and drain late, replicas that start at a bad moment,
losses in the middle of a swap. Each is judged by all the rules of the random ones.
"""

import pytest

from controller.observed import ApplicationStatus
from tests.unit.test_weights_histories import WeightsHistories, served

pytestmark = pytest.mark.unit

ROUTE = "/predict/iris/1"


def weighted(replicas, *nights, restart=(), parts=()):
    history = WeightsHistories()
    history.pipelines_have_replicas_and_parts({"iris": replicas, "rag": 1}, parts)
    history.some_pipelines_change_weights_by_restart(restart)
    history.much_is_live_already({ROUTE})
    for night in nights:
        history.publish_weights("iris", night, good=True, fits="", rounds=9)
    return history


def test_a_part_that_does_not_start_fails_its_release_alone_and_is_named():
    history = WeightsHistories()
    history.pipelines_have_replicas_and_parts({"iris": 2, "rag": 1}, ("iris",))
    history.much_is_live_already({ROUTE, "/predict/rag/1"})
    before = served(history)
    history.publish("/predict/iris/2", ("raises", "good"))
    history.nothing_happens_any_more()
    assert served(history) == before
    (failure,) = history.daemon.quarantined.values()
    assert str(failure.subject.version) == "2"
    assert failure.message.startswith("the part 'risk'")


def test_a_part_that_dies_while_it_serves_is_told_and_takes_nothing_away():
    history = weighted(2, 1, parts=("iris",))
    names = set(history.cluster.running)
    history.a_part_ends(ROUTE, 4)
    history.time_passes(2, seconds=40)
    (told,) = history.decided.conditions
    assert "the part 'risk'" in told.message
    history.nothing_happens_any_more()
    assert set(history.cluster.running) == names
    assert history.daemon.quarantined == {}
    assert history.daemon.weights.refused == {}


def test_a_release_that_comes_back_waits_until_what_was_deleted_has_drained():
    history = weighted(1, parts=("iris",))
    history.draining_takes(4)
    history.edit_policy("iris", 2, "", (), active=False)
    history.time_passes(1)
    history.edit_policy("iris", 2, "", (), active=True)
    history.time_passes(2)
    (gone,) = history.cluster.running.values()
    assert gone.app.status is ApplicationStatus.DELETING
    assert [c.reason for c in history.decided.conditions] == ["WaitingForDeletion"]
    history.time_passes(9)
    assert history.cluster.holder(ROUTE).app.status is ApplicationStatus.RUNNING


@pytest.mark.parametrize("replicas", [1, 3])
def test_weights_that_served_come_back_after_replicas_started_while_they_did_not_load(replicas):
    history = weighted(replicas, 1, 2)
    history.replicas_start_while_weights_do_not_load(ROUTE, set(range(replicas)), 3, True)
    assert served(history) == {ROUTE: "1"}
    (document,) = [running.app.document for running in history.cluster.ours]
    history.time_passes(3, seconds=40)
    assert served(history) == {ROUTE: "2"}
    assert [running.app.document for running in history.cluster.ours] == [document]


def test_replicas_that_hear_of_new_weights_one_after_the_other_are_all_waited_for():
    history = weighted(3, 1)
    history.replicas_hear_of_configs_at_different_times([0, 2, 5])
    history.publish_weights("iris", 2, good=True, fits="", rounds=4)
    assert served(history) == {ROUTE: "1 2"}
    (proven,) = history.daemon.weights.proven.values()
    assert [str(one.weights.version) for one in proven] == ["1"]
    history.time_passes(9)
    (proven,) = history.daemon.weights.proven.values()
    assert [str(one.weights.version) for one in proven] == ["2", "1"]


def test_time_in_which_nobody_could_look_counts_against_no_weights():
    history = weighted(1, 1)
    history.replicas_hear_of_configs_at_different_times([3, 0, 0])
    history.publish_weights("iris", 2, good=True, fits="", rounds=4)
    history.nobody_can_look(400, 0)
    history.nothing_happens_any_more()
    assert history.daemon.weights.refused == {}
    assert served(history) == {ROUTE: "2"}


def test_weights_that_load_after_they_were_given_up_are_not_told_live():
    history = weighted(1, 1)
    history.replicas_hear_of_configs_at_different_times([6, 0, 0])
    history.publish_weights("iris", 2, good=True, fits="", rounds=4)
    history.environments_change(ROUTE, ready=False)  # so that no config can be made
    history.time_passes(2, seconds=400)
    history.time_passes(9)  # judged in every pass
    assert served(history) == {ROUTE: "2"}
    history.nothing_happens_any_more()
    assert served(history) == {ROUTE: "1"}
    (refused,) = history.daemon.weights.refused.values()
    assert [one.reason for one in refused] == ["StartTimeout"]


LOSSES = {
    "journal": lambda history: history.daemon.lose_the_journal(),
    "cache": WeightsHistories.the_cache_is_lost,
    "head": WeightsHistories.a_new_head_comes,
    "daemon": lambda history: history.daemon.restart(),
}


@pytest.mark.parametrize("lost", LOSSES)
@pytest.mark.parametrize("restart", [(), ("iris",)])
@pytest.mark.parametrize("rounds", range(6))
def test_a_swap_ends_as_it_should_whatever_is_lost_in_the_middle_of_it(lost, restart, rounds):
    history = weighted(2, 1, restart=restart)
    history.replicas_hear_of_configs_at_different_times([0, 2, 0])
    history.publish_weights("iris", 2, good=True, fits="", rounds=rounds)
    LOSSES[lost](history)
    history.nothing_happens_any_more()
    assert served(history) == {ROUTE: "2"}
    assert history.daemon.weights.refused == {}


@pytest.mark.parametrize("lost", LOSSES)
@pytest.mark.parametrize("rounds", range(6))
def test_bad_weights_leave_the_former_whatever_is_lost_in_the_middle_of_it(lost, rounds):
    history = weighted(2, 1)
    history.publish_weights("iris", 2, good=False, fits="", rounds=rounds)
    LOSSES[lost](history)
    history.nothing_happens_any_more()
    assert served(history) == {ROUTE: "1"}
