"""Passes of the real reconciler with weights: from a wheel that holds only data to what every
replica answers with.
"""

from pathlib import Path

import pytest

from controller.model import Phase
from controller.planning.weights import former_in_document, in_document
from tests.support.passes import reasons

pytestmark = pytest.mark.unit

ROUTE = "/predict/demo/1.0"
BAD = {"reason": "LoadFailed", "message": "no such file: model.bin"}


@pytest.fixture
def live(work):
    """With its release live, without weights."""
    work.drop()
    work.settle()
    return work


def wanted(head):
    """The versions of the weights in each config that was sent."""
    found = []
    for config in head.puts:
        weights = [in_document(document) for document in config["applications"]]
        found.append([str(one.version) if one else None for one in weights])
    return found


def served(work):
    """The versions that the release was seen live with, the last first."""
    (proven,) = work.journal.proven_weights().values()
    return [str(one.weights.version) for one in proven]


def causes(work):
    return [config.cause for config in work.journal.configs()]


def test_new_weights_are_one_config_and_live_once_they_answered(live, paper_head):
    sent = len(paper_head.puts)
    live.drop_weights()
    report = live.settle()
    assert wanted(paper_head)[sent:] == [["2026.1"]]
    assert "NewWeights" in causes(live)[-1]
    assert served(live) == ["2026.1"]
    assert reasons(report) == {}
    story = [e.reason for e in live.journal.events(pipeline="demo")]
    assert story[-1] == "WeightsLive"
    for _ in range(10):
        report = live.pass_(after=2.0)
        assert (report.sent, report.events, report.sentence) == (False, (), "1 live")


def test_a_pass_at_rest_is_remembered_whole(live):
    live.drop_weights()
    live.settle()
    live.pass_(after=1.0)
    gatherer, planner = live.reconciler._gatherer, live.reconciler._planner
    before = gatherer._latest[1], planner._latest[1]
    for _ in range(5):
        live.pass_(after=1.0)
        assert (gatherer._latest[1], planner._latest[1]) == before
        assert gatherer._latest[1] is before[0]


def test_they_are_not_live_before_every_replica_answered_with_them(at_work, paper_head):
    work = at_work()
    paper_head.replicas, paper_head.loading = 4, 5
    work.drop()
    work.settle()
    work.drop_weights()
    seen = []
    while not (proven := work.journal.proven_weights()):
        work.pass_(after=0.2)
        replicas = [r for app in paper_head._served.values() for r in app.replicas]
        seen.append(sum(bool(replica.serves) for replica in replicas))
        assert len(seen) < 40
    assert proven
    assert seen[-1] == 4
    assert seen.count(4) <= 3, "it is soon known"


def test_nights_of_weights_are_one_config_each(live, paper_head):
    sent = len(paper_head.puts)
    for night in range(1, 6):
        live.drop_weights(f"2026.{night}")
        live.settle()
    assert wanted(paper_head)[sent:] == [[f"2026.{night}"] for night in range(1, 6)]
    assert served(live) == ["2026.5", "2026.4", "2026.3", "2026.2", "2026.1"]


def test_bad_weights_change_nothing_but_are_told_and_left_alone(live, paper_head):
    live.drop_weights("2026.1")
    live.settle()
    sent = len(paper_head.puts)
    paper_head.refused_weights["2026.2"] = BAD
    live.drop_weights("2026.2")
    report = live.settle()
    assert wanted(paper_head)[sent:] == [["2026.2"], ["2026.1"]]
    assert "WeightsRolledBack" in causes(live)[-1]
    assert list(reasons(report).values()) == ["WeightsRefused"]
    ((refused,),) = live.journal.refused_weights().values()
    assert (refused.reason, refused.message) == ("LoadFailed", BAD["message"])
    for _ in range(5):
        assert not live.pass_(after=60.0).sent
    # Other bytes under the same version are other weights.
    paper_head.refused_weights.clear()
    live.drop_weights("2026.2", content="mended")
    report = live.settle()
    assert served(live)[0] == "2026.2"
    assert reasons(report) == {}


def test_what_is_refused_is_written_down_once_though_the_config_must_wait(live, paper_head):
    paper_head.refused_weights["2026.1"] = BAD
    live.drop_weights("2026.1")
    while not any("NewWeights" in cause for cause in causes(live)):
        live.pass_(after=0.2)
    paper_head.refusal = "not now"
    for _ in range(10):
        live.pass_(after=1.0)
    story = [e.reason for e in live.journal.events(pipeline="demo")]
    assert story.count("LoadFailed") == 1
    paper_head.refusal = ""
    live.pass_(after=600.0)
    live.settle()
    assert wanted(paper_head)[-1] == [None]


STOPPED = (
    "The deployment failed to start 2 times in a row during a rolling update. This may be due to a "
    "problem with its constructor, initial health check or health checks failing. The update is "
    "stopped and replicas of the previous version keep running until a new deploy. See controller "
    "logs for details. Error:\nA replica of the new version failed its health check."
)
"""What Serve 2.60 says when the replicas that took a new config all ended at once."""


@pytest.mark.parametrize("said", ["the replica's process died while it started", STOPPED])
def test_weights_that_end_the_process_are_refused_though_no_replica_is_left_to_say_so(
    live, paper_head, said
):
    live.drop_weights("2026.1")
    live.settle()
    live.drop_weights("2026.2")
    while wanted(paper_head)[-1] != ["2026.2"]:
        live.pass_(after=0.2)
    paper_head.failing["demo"] = said
    for _ in range(4):
        live.pass_(after=1.0)
    ((refused,),) = live.journal.refused_weights().values()
    assert (str(refused.weights.version), refused.reason) == ("2026.2", "ReplicaDied")
    assert wanted(paper_head)[-1] == ["2026.1"]
    assert live.journal.quarantines() == []
    paper_head.failing.clear()
    live.settle()
    assert served(live) == ["2026.1"]


def test_the_first_weights_of_a_release_may_fail_as_well(live, paper_head):
    sent = len(paper_head.puts)
    paper_head.refused_weights["2026.1"] = BAD
    live.drop_weights("2026.1")
    report = live.settle()
    assert wanted(paper_head)[sent:] == [["2026.1"], [None]]
    assert "it goes on without any" in report.conditions[0].message
    assert live.journal.quarantines() == []


def test_an_operator_has_them_tried_again(live, paper_head):
    paper_head.refused_weights["2026.1"] = BAD
    live.drop_weights("2026.1")
    live.settle()
    paper_head.refused_weights.clear()
    live.journal.clear_refused_weights(lambda _: True, at=live.clock())
    report = live.settle()
    assert served(live) == ["2026.1"]
    assert reasons(report) == {}


@pytest.mark.parametrize("steps", range(8))
def test_a_kill_at_any_pass_loses_nothing(live, paper_head, steps):
    live.drop_weights("2026.1")
    live.settle()
    paper_head.refused_weights["2026.2"] = BAD
    live.drop_weights("2026.2")
    for _ in range(steps):
        live.pass_(after=0.2)
    live.restart()
    live.settle()
    assert served(live) == ["2026.1"]
    assert wanted(paper_head)[-1] == ["2026.1"]
    assert wanted(paper_head).count(["2026.2"]) == 1
    assert [len(one) for one in live.journal.refused_weights().values()] == [1]


def test_a_restart_with_nothing_new_sends_nothing(live, paper_head):
    live.drop_weights("2026.1")
    live.settle()
    sent = len(paper_head.puts)
    live.restart()
    for _ in range(5):
        live.pass_(after=1.0)
    assert len(paper_head.puts) == sent


def test_a_lost_journal_is_found_again_at_the_ingress(live, paper_head, tmp_path):
    live.drop_weights("2026.1")
    live.settle()
    sent = len(paper_head.puts)
    live.restart(tmp_path / "other")
    live.settle()
    assert served(live) == ["2026.1"]
    # The other daemon's mark is replaced; nothing else.
    assert {tuple(one) for one in wanted(paper_head)[sent:]} <= {("2026.1",)}


def test_with_a_lost_journal_the_way_back_is_not_lost(live, paper_head, tmp_path):
    for version in ("2026.1", "2026.2"):
        wheel = live.drop_weights(version)
        live.settle()
    live.restart(tmp_path / "other")
    live.settle()
    (document,) = paper_head.puts[-1]["applications"]
    assert str(former_in_document(document).version) == "2026.1"
    live.remove(wheel)
    paper_head.refused_weights["2026.3"] = BAD
    live.drop_weights("2026.3")
    live.settle()
    assert wanted(paper_head)[-1] == ["2026.2"]


def test_what_is_in_force_outlives_its_source(live, paper_head):
    older, newer = live.drop_weights("2026.1"), live.drop_weights("2026.2")
    live.settle()
    sent = len(paper_head.puts)
    live.remove(newer)
    live.settle()
    live.restart()
    live.settle()
    live.remove(older)
    live.settle()
    live.artifacts._tidied_at = float("-inf")
    live.pass_(after=60.0)
    assert wanted(paper_head)[sent:] == []
    named = paper_head.puts[-1]["applications"][0]["deployments"][0]["user_config"]["weights"]
    assert (Path(named["tree"]) / "demo_weights/model.bin").read_text() == "2026.2"


# -- by restart ----------------------------------------------------------------------------------

RESTART = {"pipelines": [{"name": "demo", "options": {"weights_swap": "restart"}}]}


def test_by_restart_they_are_staged_and_promoted_as_another_application(at_work, paper_head):
    work = at_work(**RESTART)
    work.drop()
    work.drop_weights("2026.1")
    work.settle()
    first = set(paper_head.routes())
    work.drop_weights("2026.2")
    work.settle()
    assert served(work) == ["2026.2", "2026.1"]
    assert len(paper_head.routes()) == 1
    assert first.isdisjoint(paper_head.routes())


def test_by_restart_bad_ones_are_quarantined_and_the_release_is_not(at_work, paper_head):
    work = at_work(**RESTART)
    work.drop()
    work.drop_weights("2026.1")
    work.settle()
    before = paper_head.routes()
    paper_head.refused_weights["2026.2"] = BAD
    work.drop_weights("2026.2")
    report = work.settle()
    assert paper_head.routes() == before
    assert list(reasons(report).values()) == ["WeightsRefused"]
    assert work.journal.quarantines() == []
    ((refused,),) = work.journal.refused_weights().values()
    assert refused.reason == "LoadFailed"
    for _ in range(5):
        assert not work.pass_(after=60.0).sent
    record, weights = work.records()["demo-1.0"], refused.weights
    ((former, *_),) = work.journal.proven_weights().values()
    assert (record.phase, record.reason) == (Phase.LIVE, "WeightsRefused")
    assert record.message == (
        f"it went back from {weights} to {former.weights}: LoadFailed: {BAD['message']}"
    )


def test_a_first_start_that_fails_with_new_weights_is_tried_with_older_ones(at_work, paper_head):
    work = at_work()
    paper_head.refused_weights["2026.2"] = BAD
    work.drop_weights("2026.1")
    work.drop_weights("2026.2")
    work.drop()
    work.settle()
    assert served(work) == ["2026.1"]
    assert work.journal.quarantines() == []


def test_it_is_not_blamed_for_them_while_the_config_without_them_must_wait(at_work, paper_head):
    work = at_work()
    paper_head.refused_weights["2026.2"] = BAD
    work.drop_weights("2026.1")
    work.drop_weights("2026.2")
    work.drop()
    while not paper_head.puts:
        work.pass_(after=0.5)
    paper_head.refusal = "not now"
    for _ in range(10):
        work.pass_(after=1.0)
    assert len(work.journal.refused_weights()) == 1
    paper_head.refusal = ""
    work.pass_(after=600.0)
    work.settle()
    assert work.journal.quarantines() == []
    assert served(work) == ["2026.1"]


def test_a_release_that_fails_with_weights_that_serve_elsewhere_is_itself_to_blame(
    at_work, paper_head
):
    work = at_work()
    work.drop()
    work.drop_weights("2026.1")
    work.settle()
    paper_head.failing["other"] = ""
    paper_head.refused_weights["2026.1"] = BAD
    work.drop(version="2.0")
    work.settle()
    (failure,) = work.journal.quarantines()
    assert str(failure.subject.version) == "2.0"
    assert failure.message.startswith("with the weights demo-weights@2026.1")
    # With other weights it is tried again.
    paper_head.refused_weights.clear()
    work.drop_weights("2026.3")
    work.settle()
    assert work.journal.quarantines() == []
    assert {str(p[0].weights.version) for p in work.journal.proven_weights().values()} == {"2026.3"}
