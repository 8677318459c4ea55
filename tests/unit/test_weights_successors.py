"""Applications that are to replace others with the same weights, and whether they can take these:
passes of the real reconciler.
"""

import pytest

from controller.config.settings import PipelinePolicy
from controller.planning.doubts import TRIES
from tests.support.passes import reasons
from tests.unit.test_weights_doubts import FULL, SILENT, proven, refuses, replicas_of, takes
from tests.unit.test_weights_passes import wanted

pytestmark = pytest.mark.unit

__all__ = ["proven"]
"""The fixture."""

ROUTE = "/predict/demo/1.0"


def other_options(work):
    """An edit that starts the release as another application."""
    rule = PipelinePolicy(name="demo", options={"max_memory": "64MiB"})
    work.reconciler.renew(work.config.model_copy(update={"pipelines": (rule,)}))


def until_promoted(work, head):
    """Passes until another application has the route and has started; returns both names."""
    (before,) = head.routes()
    for _ in range(40):
        holder = next((n for n, route in head.routes().items() if route and n != before), None)
        if holder is not None:
            return before, holder
        work.pass_(after=1.0)
    raise AssertionError(head.routes())


def promotions(work, head, name, passes, *, after=10.0):
    """How many of so many passes end with that application on the route."""
    found = 0
    for _ in range(passes):
        work.pass_(after=after)
        found += head.routes().get(name) == ROUTE
    return found


def test_a_successor_that_cannot_take_them_now_waits_beside_who_has_them(proven, paper_head):
    work = proven(2)
    paper_head.refused_weights["2026.2"] = SILENT
    other_options(work)
    before, after = until_promoted(work, paper_head)
    for _ in range(5):
        report = work.pass_(after=1.0)
    assert paper_head.routes() == {before: ROUTE, after: None}
    assert all(replica.serves["version"] == "2026.2" for replica in replicas_of(paper_head))
    (condition,) = report.conditions
    assert (condition.reason, condition.ok) == ("WeightsAwaited", False)
    assert "2 of 2 replicas could not take demo-weights@2026.2" in condition.message
    assert SILENT["message"] in condition.message
    assert "every quarter of an hour" in condition.message
    assert TRIES[1] == 900.0
    (release,) = work.records().values()
    assert (release.phase.value, release.reason) == ("Live", "WeightsAwaited")
    sent = len(paper_head.puts)
    assert promotions(work, paper_head, after, 360) <= 8, "an hour of it"
    assert len(paper_head.puts) - sent <= 16
    assert (work.journal.quarantines(), work.journal.refused_weights()) == ([], {})
    paper_head.refused_weights.clear()
    for replica in paper_head._served[after].replicas:
        takes(replica)
    assert promotions(work, paper_head, after, int(TRIES[1] // 10) + 10) > 0
    report = work.settle()
    assert paper_head.routes() == {after: ROUTE}
    assert reasons(report) == {}


def test_a_successor_is_no_worse_than_who_cannot_take_them_either(proven, paper_head):
    work = proven(2)
    for replica in replicas_of(paper_head):
        refuses(replica, SILENT)
    for _ in range(3):
        work.pass_(after=10.0)
    paper_head.refused_weights["2026.2"] = SILENT
    other_options(work)
    _, after = until_promoted(work, paper_head)
    for _ in range(10):
        report = work.pass_(after=10.0)
    assert paper_head.routes() == {after: ROUTE}
    assert list(reasons(report).values()) == ["WeightsBackOff"]
    assert work.journal.quarantines() == []
    paper_head.refused_weights.clear()
    for replica in replicas_of(paper_head):
        takes(replica)
    for _ in range(10):
        report = work.pass_(after=10.0)
    assert reasons(report) == {}


def test_what_does_not_pass_is_the_successors_fault_though_who_served_has_one_that_does(
    proven, paper_head
):
    work = proven(2)
    for replica in replicas_of(paper_head):
        refuses(replica, SILENT)
    for _ in range(3):
        work.pass_(after=10.0)
    paper_head.refused_weights["2026.2"] = FULL
    other_options(work)
    before, _ = until_promoted(work, paper_head)
    for _ in range(10):
        work.pass_(after=1.0)
    assert paper_head.routes() == {before: ROUTE}
    (failure,) = work.journal.quarantines()
    assert failure.reason == "OutOfMemory"
    assert work.journal.refused_weights() == {}


def test_a_successor_whose_replicas_need_time_for_the_weights_gets_it(proven, paper_head):
    work = proven(3)
    other_options(work)
    before, after = until_promoted(work, paper_head)
    _, two, three = replicas_of(paper_head)
    refuses(two, SILENT)
    refuses(three, SILENT)
    for _ in range(20):
        report = work.pass_(after=2.0)
    assert paper_head.routes() == {before: None, after: ROUTE}
    assert "WeightsMixed" in reasons(report).values()
    takes(two)
    for _ in range(20):
        work.pass_(after=2.0)
    assert paper_head.routes() == {before: None, after: ROUTE}, "a third has not"
    takes(three)
    for _ in range(20):
        report = work.pass_(after=2.0)
    assert paper_head.routes() == {after: ROUTE}
    assert reasons(report) == {}
    assert (work.journal.quarantines(), work.journal.refused_weights()) == ([], {})


@pytest.mark.parametrize("why", [SILENT, FULL])
def test_a_successor_is_not_judged_by_one_replica_until_its_time_is_over(proven, paper_head, why):
    work = proven(2)
    other_options(work)
    before, after = until_promoted(work, paper_head)
    one, _ = replicas_of(paper_head)
    refuses(one, why)
    for _ in range(20):
        work.pass_(after=10.0)
    assert paper_head.routes() == {before: None, after: ROUTE}
    for _ in range(11):
        work.pass_(after=10.0)
    assert paper_head.routes()[before] == ROUTE
    assert work.journal.refused_weights() == {}
    assert set(wanted(paper_head)[-1]) == {"2026.2"}
    if why is FULL:
        (failure,) = work.journal.quarantines()
        assert failure.reason == why["reason"]
        assert "in 1 of 2 replicas" in failure.message
        assert paper_head.routes() == {before: ROUTE}
        return
    assert work.journal.quarantines() == []
    assert promotions(work, paper_head, after, 60) <= 4, "a later try has no such time"
    takes(one)
    assert promotions(work, paper_head, after, 100) > 0
    report = work.settle()
    assert paper_head.routes() == {after: ROUTE}
    assert reasons(report) == {}


def test_a_successor_serves_without_them_once_who_had_them_is_ill(proven, paper_head, monkeypatch):
    work = proven(2)
    paper_head.refused_weights["2026.2"] = SILENT
    other_options(work)
    before, after = until_promoted(work, paper_head)
    for _ in range(5):
        work.pass_(after=1.0)
    assert paper_head.routes() == {before: ROUTE, after: None}
    ill, status = paper_head._served[before], paper_head._status
    monkeypatch.setattr(
        paper_head, "_status", lambda app: "UNHEALTHY" if app is ill else status(app)
    )
    for _ in range(10):
        report = work.pass_(after=1.0)
    assert paper_head.routes() == {after: ROUTE}
    assert list(reasons(report).values()) == ["WeightsBackOff"]


def test_a_daemon_that_starts_meanwhile_tries_it_once_more(proven, paper_head):
    work = proven(2)
    paper_head.refused_weights["2026.2"] = SILENT
    rule = PipelinePolicy(name="demo", options={"max_memory": "64MiB"})
    work.restart(pipelines=[rule])
    before, after = until_promoted(work, paper_head)
    for _ in range(5):
        work.pass_(after=1.0)
    work.restart(pipelines=[rule])
    for _ in range(30):
        report = work.pass_(after=1.0)
    assert paper_head.routes() == {before: ROUTE, after: None}
    assert list(reasons(report).values()) == ["WeightsAwaited"]
    assert work.journal.quarantines() == []


def test_other_weights_are_not_kept_waiting_by_those_that_cannot_be_taken(proven, paper_head):
    work = proven(2)
    paper_head.refused_weights["2026.2"] = SILENT
    other_options(work)
    _, after = until_promoted(work, paper_head)
    for _ in range(5):
        work.pass_(after=1.0)
    work.drop_weights("2026.3")
    report = work.settle()
    assert paper_head.routes() == {after: ROUTE}
    assert wanted(paper_head)[-1] == ["2026.3"]
    assert reasons(report) == {}


def test_who_has_the_weights_gets_the_route_back_from_a_successor_that_nobody_wants_any_more(
    proven, paper_head
):
    work = proven(2)
    other_options(work)
    before, after = until_promoted(work, paper_head)
    one, two = replicas_of(paper_head)
    refuses(one, SILENT)
    work.pass_(after=1.0)
    work.pass_(after=1.0)
    paper_head.starting = 30
    rule = PipelinePolicy(name="demo", options={"max_memory": "65MiB"})
    work.reconciler.renew(work.config.model_copy(update={"pipelines": (rule,)}))
    for _ in range(10):
        work.pass_(after=1.0)
    assert paper_head.routes()[after] == ROUTE
    assert len(paper_head.routes()) == 3
    refuses(two, SILENT)
    for _ in range(5):
        work.pass_(after=1.0)
    assert paper_head.routes()[before] == ROUTE


def test_a_successor_that_takes_them_is_live_at_once(proven, paper_head):
    work = proven(3)
    other_options(work)
    _, after = until_promoted(work, paper_head)
    report = work.settle()
    assert paper_head.routes() == {after: "/predict/demo/1.0"}
    assert reasons(report) == {}


def test_options_with_which_proven_weights_fail_do_not_take_the_route(at_work, paper_head):
    work = at_work()
    work.drop()
    work.drop_weights("2026.1")
    work.settle()
    work.drop_weights("2026.2")
    work.settle()
    before = paper_head.routes()
    paper_head.refused_weights["2026.2"] = FULL
    other_options(work)
    work.settle()
    assert len(before) == 1
    assert paper_head.routes() == before
    assert wanted(paper_head)[-1] == ["2026.2"]
    assert work.journal.refused_weights() == {}
    (failure,) = work.journal.quarantines()
    assert failure.reason == "OutOfMemory"
    for _ in range(5):
        assert not work.pass_(after=60.0).sent
