"""Weights that a release was live with, and replicas that cannot take them any more: passes of the
real reconciler.
"""

import pytest

from controller.ops.weights import roll_back
from tests.support.passes import reasons
from tests.unit.test_weights_passes import served, wanted
from wheelway.instances import RETRY

pytestmark = pytest.mark.unit

SILENT = {"reason": "LoadFailed", "message": "the feature store did not answer"}
FULL = {"reason": "OutOfMemory", "message": "it has no room"}


def replicas_of(head, route="/predict/demo/1.0"):
    """Those of the application that has the route."""
    (app,) = [app for app in head._served.values() if app.route == route]
    return app.replicas


def refuses(replica, why, former=None):
    """It cannot take the weights that it is told to have, and serves with the former ones."""
    named = {"weights": "demo-weights@2026", "digest": replica.wanted["digest"], "tail": ""}
    replica.serves, replica.error = former, named | why


def takes(replica):
    """It tried again."""
    replica.serves, replica.error = replica.wanted, None


@pytest.fixture
def proven(at_work, paper_head):
    """Live with 2026.2, and with 2026.1 before."""

    def start(replicas=1, versions=("2026.1", "2026.2")):
        work = at_work()
        paper_head.replicas = replicas
        work.drop()
        work.settle()
        for version in versions:
            work.drop_weights(version)
            work.settle()
        return work

    return start


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_failure_that_may_pass_takes_nothing_away_though_every_replica_says_so(
    proven, paper_head, replicas
):
    work = proven(replicas)
    sent = len(paper_head.puts)
    there = replicas_of(paper_head)
    for replica in there:
        refuses(replica, SILENT)
    for _ in range(20):
        report = work.pass_(after=10.0)
    (condition,) = report.conditions
    assert (condition.reason, condition.ok) == ("WeightsBackOff", False)
    assert f"replica {there[0].id}: LoadFailed: {SILENT['message']}" in condition.message
    assert "about once a minute" in condition.message
    assert RETRY[1] == 60.0
    assert "`wheelway rollback demo --weights`" in condition.message
    for replica in there:
        takes(replica)
    for _ in range(20):
        report = work.pass_(after=10.0)
    assert reasons(report) == {}
    assert wanted(paper_head)[sent:] == []
    assert work.journal.refused_weights() == {}
    assert served(work)[0] == "2026.2"


def test_an_order_gives_them_up(proven, paper_head):
    work = proven()
    (replica,) = replicas_of(paper_head)
    refuses(replica, SILENT)
    for _ in range(5):
        work.pass_(after=10.0)
    roll_back(work.journal, "demo", by="ann", at=work.clock())
    report = work.settle()
    assert wanted(paper_head)[-1] == ["2026.1"]
    assert reasons(report) == {}
    assert replica.error is None


def test_those_that_nothing_was_before_are_given_up_for_others(proven, paper_head):
    work = proven(versions=["2026.1"])
    (replica,) = replicas_of(paper_head)
    refuses(replica, SILENT)
    for _ in range(5):
        report = work.pass_(after=10.0)
    (condition,) = report.conditions
    assert condition.message.endswith(
        "publish others, or set `active = false` in the `weights` of its [[pipelines]]"
    )
    work.drop_weights("2026.2")
    report = work.settle()
    assert (served(work)[0], reasons(report)) == ("2026.2", {})


def test_a_failure_that_does_not_pass_refuses_them_once_every_replica_says_so(proven, paper_head):
    work = proven(2)
    one, two = replicas_of(paper_head)
    refuses(one, FULL)
    for _ in range(20):
        report = work.pass_(after=10.0)
    assert list(reasons(report).values()) == ["WeightsMixed"]
    refuses(two, SILENT)
    for _ in range(20):
        report = work.pass_(after=10.0)
    assert list(reasons(report).values()) == ["WeightsBackOff"]
    refuses(two, FULL)
    work.pass_(after=10.0)
    report = work.settle()
    for _ in range(20):
        report = work.pass_(after=10.0)
    assert list(reasons(report).values()) == ["WeightsRefused"]
    assert wanted(paper_head)[-1] == ["2026.1"]


def test_a_replica_that_starts_at_a_bad_moment_takes_nothing_away(at_work, paper_head):
    work = at_work()
    paper_head.replicas = 3
    work.drop()
    work.settle()
    for version in ("2026.1", "2026.2", "2026.3"):
        work.drop_weights(version)
        work.settle()
    sent = len(paper_head.puts)
    (app,) = [app for app in paper_head._served.values() if app.replicas]
    replica = app.replicas[1]
    now = replica.serves
    names = {"weights": "demo-weights@2026.3", "digest": now["digest"], "tail": ""}
    replica.serves, replica.error = None, names | SILENT
    seen = [reasons(work.pass_(after=10.0)) for _ in range(20)]
    assert list(seen[-1].values()) == ["WeightsMixed"]
    replica.serves, replica.error = now, None
    seen = [reasons(work.pass_(after=10.0)) for _ in range(20)]
    assert seen[-1] == {}
    assert wanted(paper_head)[sent:] == []
    assert work.journal.refused_weights() == {}
    assert served(work)[0] == "2026.3"


def test_a_swap_that_nobody_can_hear_of_is_told_and_drives_no_passes(at_work, paper_head):
    work = at_work()
    work.drop()
    work.drop_weights("2026.1")
    work.settle()
    paper_head.loading = 10_000
    work.drop_weights("2026.2")
    work.settle()
    paper_head.mute = {"/predict/demo/1.0"}
    report = work.pass_(after=1.0)
    assert report.next_in <= 0.5
    for _ in range(80):
        report = work.pass_(after=10.0)
    assert "WeightsUnobserved" in reasons(report).values()
    assert report.next_in > 0.5
