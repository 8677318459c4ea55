"""How far a release has come, told from what was decided and what is there."""

import pytest

from controller.model import Condition, Phase, Quarantine, Transition
from controller.planning.causes import SUSPENDED
from controller.planning.phases import phases_of, underway
from controller.planning.plan import Plan
from controller.planning.policy import Verdict
from tests.support.world import elected, placement, release

pytestmark = pytest.mark.unit

ONE, OTHER = release(digest="a"), release(digest="b")
NOTHING = Plan((), ())


def unelected(of=ONE, reason="NotKept"):
    return Verdict(of, False, reason, "why")


def told(decided=NOTHING, verdicts=(), **more):
    """Phase and reason by release."""
    facts = {"placements": {}, "quarantines": {}, "present": set(), "kept": set(), "before": {}}
    facts["is_offered"] = lambda _: True
    found = phases_of(decided, verdicts, **(facts | more))
    assert [one.subject for one in found] == sorted({one.subject for one in found})
    return {one.subject: (one.phase, one.reason) for one in found}


def planned(*transitions):
    return Plan((), (), transitions=transitions)


def test_an_elected_release_is_fetched_until_its_placement_can_be_rendered():
    assert told(verdicts=[elected(ONE)]) == {ONE: (Phase.FETCHED, "Preparing")}
    ready = {ONE: placement(ONE)}
    assert told(verdicts=[elected(ONE)], placements=ready) == {
        ONE: (Phase.PREPARED, "WaitingToStage")
    }


@pytest.mark.parametrize(
    ("hindrance", "reason"),
    [
        (Condition(str(ONE), "WaitingForDeletion", "why"), "WaitingForDeletion"),
        (Condition(str(OTHER), "WaitingForDeletion", "why"), "WaitingToStage"),
        (Condition("iris", SUSPENDED, "why"), SUSPENDED),
        (Condition("serve config", SUSPENDED, "why"), SUSPENDED),
        (Condition("serve config", "TakingOver", "why"), "WaitingToStage"),
        (Condition(str(ONE), "WithoutEffect", "why", ok=True), "WaitingToStage"),
    ],
)
def test_what_keeps_a_release_from_being_staged_is_its_reason_rather_than_that_it_could_be(
    hindrance, reason
):
    decided, ready = Plan((), (), conditions=(hindrance,)), {ONE: placement(ONE)}
    found = told(decided, [elected(ONE)], placements=ready)
    assert found == {ONE: (Phase.PREPARED, reason)}
    facts = {"placements": ready, "serving": (), "unread": (), "conditions": ()}
    assert [(w.phase, w.reason) for w in underway(decided, [elected(ONE)], **facts)] == [
        (Phase.PREPARED, reason)
    ]


def test_what_the_rollout_saw_counts_more_than_what_policy_says():
    seen = Transition(ONE, Phase.LIVE, "AnswersAtRoute", "/predict/iris/1.0", placement(ONE).name)
    assert told(planned(seen), [elected(ONE)]) == {ONE: (Phase.LIVE, "AnswersAtRoute")}


@pytest.mark.parametrize("order", [1, -1])
def test_a_release_that_is_rolled_onto_itself_is_told_by_its_newer_placement(order):
    leaving = Transition(ONE, Phase.RETIRING, "SuccessorLive", "its successor is live")
    coming = Transition(ONE, Phase.LIVE, "AnswersAtRoute", "route")
    assert told(planned(*[leaving, coming][::order])) == {ONE: (Phase.LIVE, "AnswersAtRoute")}


def test_a_quarantined_release_keeps_the_reason_it_failed_for():
    failed = Quarantine(ONE, "stage", "LoadFailed", "no weights", "inputs")
    found = told(verdicts=[unelected(reason="Quarantined")], quarantines={ONE: failed})
    assert found == {ONE: (Phase.QUARANTINED, "LoadFailed")}


def test_what_stays_in_the_config_keeps_its_phase_though_policy_wants_it_gone():
    for phase in (Phase.STAGED, Phase.READY, Phase.LIVE, Phase.RETIRING):
        found = told(verdicts=[unelected()], present={ONE}, kept={ONE}, before={ONE: phase})
        assert found == {ONE: (phase, "NotKept")}


def test_what_runs_while_its_placement_is_worked_out_anew_is_as_it_was():
    assert told(verdicts=[elected(ONE)], present={ONE}, kept={ONE}, before={ONE: Phase.LIVE}) == {}


def test_without_a_record_what_serves_is_taken_for_live_and_then_for_leaving():
    assert told(verdicts=[unelected()], present={ONE}, kept={ONE}) == {ONE: (Phase.LIVE, "NotKept")}
    assert told(verdicts=[unelected()], present={ONE}) == {ONE: (Phase.RETIRING, "NotKept")}


def test_a_release_retires_as_long_as_its_replicas_drain_and_is_retired_once_they_are_gone():
    leaving = {"verdicts": [unelected()], "before": {ONE: Phase.LIVE}}
    assert told(**leaving, present={ONE}) == {ONE: (Phase.RETIRING, "NotKept")}
    assert told(**leaving) == {ONE: (Phase.RETIRED, "NotKept")}


@pytest.mark.parametrize("phase", [Phase.STAGED, Phase.READY])
def test_what_never_served_is_superseded_even_while_it_is_taken_down(phase):
    for present in ({ONE}, set()):
        found = told(verdicts=[unelected()], present=present, before={ONE: phase})
        assert found == {ONE: (Phase.SUPERSEDED, "NotKept")}


@pytest.mark.parametrize(
    ("phase", "end"),
    [
        (Phase.STAGED, (Phase.SUPERSEDED, "NoLongerWanted")),
        (Phase.READY, (Phase.SUPERSEDED, "NoLongerWanted")),
        (Phase.LIVE, (Phase.RETIRED, "Lost")),
        (Phase.RETIRING, (Phase.RETIRED, "Drained")),
    ],
)
def test_what_no_policy_speaks_of_ends_when_it_is_gone_from_the_cluster(phase, end):
    assert told(before={ONE: phase}) == {ONE: end}
    assert told(before={ONE: phase}, present={ONE}) == {}


@pytest.mark.parametrize("phase", [Phase.RETIRED, Phase.SUPERSEDED])
def test_an_end_stays_the_end_until_policy_elects_it_again(phase):
    before = {ONE: phase}
    assert told(before=before) == {}
    assert told(verdicts=[unelected()], before=before) == {ONE: (phase, "NotKept")}
    assert told(verdicts=[elected(ONE)], before=before) == {ONE: (Phase.FETCHED, "Preparing")}


def test_a_release_that_was_only_prepared_is_fetched_again_when_policy_passes_it_over():
    found = told(verdicts=[unelected()], before={ONE: Phase.PREPARED})
    assert found == {ONE: (Phase.FETCHED, "NotKept")}


def test_each_release_is_told_once_and_by_itself():
    found = told(
        verdicts=[elected(OTHER), unelected(ONE, "Replaced")],
        placements={OTHER: placement(OTHER)},
        present={ONE},
        kept={ONE},
        before={ONE: Phase.LIVE},
    )
    assert found == {ONE: (Phase.LIVE, "Replaced"), OTHER: (Phase.PREPARED, "WaitingToStage")}


@pytest.mark.parametrize(
    "phase", [Phase.DISCOVERED, Phase.FETCHED, Phase.PREPARED, Phase.QUARANTINED]
)
def test_what_no_source_lists_any_more_is_over_wherever_it_got_to(phase):
    assert told(before={ONE: phase}) == {}
    found = told(before={ONE: phase}, is_offered=lambda release: release != ONE)
    assert found == {ONE: (Phase.SUPERSEDED, "Absent")}
    assert told(before={ONE: Phase.RETIRED}, is_offered=lambda _: False) == {}
