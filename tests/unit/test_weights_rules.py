"""Which weights a release takes: those that fit, of one project, by the rule of the operator."""

import pytest

from controller.config.settings import PipelinePolicy
from controller.ops import weights as orders
from controller.planning.paths import path_of
from tests.support.passes import reasons
from tests.unit.test_weights_passes import ROUTE, causes, served, wanted

pytestmark = pytest.mark.unit


@pytest.fixture
def live(work):
    """With its release live, without weights."""
    work.drop()
    work.settle()
    return work


def test_each_version_takes_those_that_fit_it(at_work, paper_head):
    work = at_work()
    work.drop(version="1.0")
    work.drop(version="2.0")
    work.drop_weights("2026.1")
    work.drop_weights("2026.2", fits=">=2")
    work.settle()
    taken = {
        path_of(r): str(p[0].weights.version) for r, p in work.journal.proven_weights().items()
    }
    assert taken == {ROUTE: "2026.1", "/predict/demo/2.0": "2026.2"}


def test_weights_that_fit_nothing_or_come_early_say_so(at_work, paper_head):
    work = at_work()
    work.drop_weights("2026.1", fits=">=3")
    report = work.settle()
    assert list(reasons(report).values()) == ["WaitingForPipeline"]
    work.drop()
    report = work.settle()
    assert list(reasons(report).values()) == ["FitsNothing"]
    assert work.journal.proven_weights() == {}
    assert wanted(paper_head)[-1] == [None]


def test_a_history_of_weights_that_do_not_fit_is_not_fetched_whole(at_work):
    work = at_work()
    for night in range(1, 21):
        work.drop_weights(f"2026.{night}", fits=">=3")
    work.drop()
    for _ in range(30):
        report = work.pass_(after=1.0)
    assert sum("weights" in name for name in work.received) == 10
    assert set(reasons(report).values()) == {"FitsNothing", "NoneFits"}
    (said,) = [c.message for c in report.conditions if c.reason == "NoneFits"]
    assert "newest 10 wheels of demo-weights" in said
    work.restart(pipelines=[{"name": "demo", "weights": {"versions": "<2026.3"}}])
    for _ in range(30):
        work.pass_(after=1.0)
    assert sum("weights" in name for name in work.received) == 10 + 3, "the rule says which"


def test_two_projects_for_one_pipeline_are_a_conflict_and_the_first_stays(live, paper_head):
    live.drop_weights("2026.1")
    live.settle()
    sent = len(paper_head.puts)
    live.drop_weights("2027", "rival")
    report = live.settle()
    assert list(reasons(report).values()) == ["Conflict"]
    assert wanted(paper_head)[sent:] == []


def test_the_rule_says_which_are_taken(at_work, paper_head):
    work = at_work(pipelines=[{"name": "demo", "weights": {"versions": "<2026.2"}}])
    work.drop()
    work.drop_weights("2026.1")
    work.drop_weights("2026.2")
    work.settle()
    assert served(work) == ["2026.1"]
    work.restart(pipelines=[{"name": "demo", "weights": {"active": False}}])
    work.settle()
    assert wanted(paper_head)[-1] == [None]


def test_an_edit_of_the_rule_holds_at_once(live, paper_head):
    live.drop_weights("2026.1")
    live.drop_weights("2026.2")
    live.settle()
    rule = PipelinePolicy(name="demo", weights={"pins": ["2026.1"]})
    live.reconciler.renew(live.config.model_copy(update={"pipelines": (rule,)}))
    live.settle()
    assert wanted(paper_head)[-1] == ["2026.1"]
    assert "WeightsRolledBack" in causes(live)[-1]


def test_weights_that_are_newer_are_no_way_back_though_they_served_before(live):
    for night in ("2026.1", "2026.2"):
        live.drop_weights(night)
        live.settle()
    orders.roll_back(live.journal, "demo", by="ada", at=live.clock())
    live.settle()
    assert "WeightsRolledBack" in causes(live)[-1]
    orders.unpin(live.journal, "demo", by="ada", at=live.clock())
    live.settle()
    assert served(live)[0] == "2026.2"
    assert "NewWeights: replicas load other weights" in causes(live)[-1]


def test_former_bytes_of_the_same_version_are_a_way_back(live, paper_head):
    live.drop_weights("2026.1")
    live.settle()
    paper_head.refused_weights["2026.1"] = {"reason": "LoadFailed", "message": "no"}
    live.drop_weights("2026.1", content="other")
    live.settle()
    assert "WeightsRolledBack" in causes(live)[-1]
