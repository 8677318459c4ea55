"""Weights that a release was live with, and replicas that cannot take them any more: passes of the
real reconciler.
"""

import pytest

from controller.config.settings import PipelinePolicy
from tests.support.passes import reasons
from tests.unit.test_weights_passes import served, wanted

pytestmark = pytest.mark.unit

SILENT = {"reason": "LoadFailed", "message": "the feature store did not answer"}


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


def test_options_with_which_proven_weights_fail_do_not_take_the_route(at_work, paper_head):
    work = at_work()
    work.drop()
    work.drop_weights("2026.1")
    work.settle()
    work.drop_weights("2026.2")
    work.settle()
    before = paper_head.routes()
    paper_head.refused_weights["2026.2"] = {"reason": "OutOfMemory", "message": "it has no room"}
    rule = PipelinePolicy(name="demo", options={"max_memory": "64MiB"})
    work.reconciler.renew(work.config.model_copy(update={"pipelines": (rule,)}))
    work.settle()
    assert len(before) == 1
    assert paper_head.routes() == before
    assert wanted(paper_head)[-1] == ["2026.2"]
    assert work.journal.refused_weights() == {}
    (failure,) = work.journal.quarantines()
    assert failure.reason == "OutOfMemory"
    for _ in range(5):
        assert not work.pass_(after=60.0).sent


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
