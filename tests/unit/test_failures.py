"""Passes of the real reconciler in which a release fails, or a config is refused."""

from __future__ import annotations

import pytest

from controller.journal import Journal
from controller.model import Phase
from controller.ops.status import quarantines
from controller.telemetry.metrics import Metrics
from tests.support.passes import reasons, routes

pytestmark = pytest.mark.unit

ROUTE = "/predict/demo/1.0"
BROKEN = "wheelway-failure[LoadFailed] load() raised: no such file: model.bin"


def test_a_release_that_fails_to_start_is_quarantined_and_taken_off_alone(work, paper_head):
    paper_head.failing["bad"] = BROKEN
    work.drop()
    work.drop("bad")
    work.settle()
    assert work.phases() == {"bad-1.0": Phase.QUARANTINED, "demo-1.0": Phase.LIVE}
    assert routes(paper_head)[-1] == {"demo-1.0": ROUTE}
    [quarantine] = work.journal.quarantines()
    assert (quarantine.stage, quarantine.reason) == ("stage", "LoadFailed")
    sent = len(paper_head.puts)
    for _ in range(10):
        work.pass_(after=60.0)
    assert len(paper_head.puts) == sent


def test_what_of_a_wheel_has_no_effect_is_told_and_the_rest_is_served(work):
    work.drop(files={"demo-1.0.data/data/etc/demo.toml": "x"})
    report = work.settle()
    [note] = report.conditions
    assert (note.reason, note.ok) == ("WithoutEffect", True)
    assert note.subject.startswith("demo@1.0+")
    assert "demo-1.0.data/data/etc/demo.toml" in note.message
    assert work.phases() == {"demo-1.0": Phase.LIVE}


def test_a_failed_wheel_that_is_removed_leaves_metrics_and_lists_but_is_remembered(
    work, paper_head
):
    def told() -> tuple[bool, list[str], list[str]]:
        text = Metrics(work.journal, version="1", cache=work.config.paths.cache).render().decode()
        now, ever = (quarantines(work.journal, everything=every) for every in (False, True))
        return (
            'phase="Quarantined"' in text,
            [q["reason"] for q in now],
            [q["reason"] for q in ever],
        )

    paper_head.failing["bad"] = BROKEN
    work.drop()
    wheel = work.drop("bad")
    work.settle()
    assert told() == (True, ["LoadFailed"], ["LoadFailed"])
    content = wheel.read_bytes()
    work.remove(wheel)
    work.settle()
    assert told() == (False, [], ["LoadFailed"])
    wheel.write_bytes(content)
    work.artifacts.request_poll("wheels")
    report = work.settle()
    assert report.conditions == ()
    assert told() == (True, ["LoadFailed"], ["LoadFailed"])


def test_old_bytes_that_failed_are_listed_no_more_once_new_ones_of_their_version_are_live(
    work, paper_head
):
    paper_head.failing["demo"] = BROKEN
    work.drop()
    work.settle()
    paper_head.failing.clear()
    work.drop(code="from wheelway import Pipeline\n\n\nclass Demo(Pipeline):\n    infer = None\n")
    work.settle()
    assert Phase.LIVE in {record.phase for record in work.journal.releases()}
    assert quarantines(work.journal, everything=False) == []
    assert len(quarantines(work.journal, everything=True)) == 1


def test_a_lifted_quarantine_is_tried_again(work, paper_head):
    paper_head.failing["demo"] = BROKEN
    work.drop()
    work.settle()
    paper_head.failing.clear()
    with Journal.amend(work.state) as beside:
        [lifted] = beside.clear_quarantine("demo", at=work.clock())
    assert lifted.reason == "LoadFailed"
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    assert work.journal.quarantines() == []


def test_a_wheel_that_failed_inspection_is_looked_into_again_once_its_quarantine_is_lifted(work):
    wheel = work.drop(wrong_hash=["demo/pipeline.py"])
    work.settle()
    [first] = work.journal.quarantines()
    assert (first.stage, first.reason) == ("inspect", "RecordInvalid")
    work.pass_(after=60.0)
    assert work.journal.quarantines() == [first]
    assert work.received == [wheel.name]
    with Journal.amend(work.state) as beside:
        beside.clear_quarantine("demo", at=work.clock())
    work.pass_(after=1.0)
    [second] = work.journal.quarantines()
    assert (second.reason, second.at) == ("RecordInvalid", work.clock())
    assert work.received == [wheel.name] * 2


def test_with_other_options_it_is_tried_again_and_its_quarantine_ends_once_it_is_live(
    work, paper_head
):
    paper_head.failing["demo"] = BROKEN
    work.drop()
    assert work.settle().quarantines
    paper_head.failing.clear()
    work.restart(pipelines=[{"name": "demo", "options": {"threads": 8}}])
    assert work.pass_().quarantines == ()
    assert work.journal.quarantines() != []  # it is not proven yet
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    assert work.journal.quarantines() == []


def test_a_config_that_is_refused_waits_for_its_backoff_however_often_a_pass_is_made(
    work, paper_head
):
    paper_head.refusal = "RayTaskError: there is no room for it"
    work.drop()
    for attempt, wait in enumerate((0.5, 1.0, 2.0, 4.0), start=1):
        for after in (0.0, 0.0, wait - 0.01):
            report = work.pass_(after=after)
            assert len(paper_head.puts) == attempt
            assert reasons(report) == {"serve config": "ConfigRefused"}
            assert "there is no room for it" in report.conditions[0].message
        assert work.outcomes() == ["ConfigRefused"] * attempt
        work.time_passes(0.01)
    paper_head.refusal = ""
    assert work.pass_().sent
    assert reasons(work.settle()) == {}
    assert work.outcomes() == [*["ConfigRefused"] * 4, "Applied", "Applied"]


def test_another_config_does_not_wait_for_the_backoff_of_one_that_was_refused(work, paper_head):
    paper_head.refusal = "no"
    work.drop()
    work.pass_()
    work.drop("other")
    work.pass_()
    assert routes(paper_head) == [{"demo-1.0": None}, {"demo-1.0": None, "other-1.0": None}]


def test_a_config_whose_answer_is_lost_is_in_the_journal_and_not_sent_twice(work, paper_head):
    paper_head.loses_answers = True
    work.drop()
    report = work.pass_()
    assert not report.sent
    assert reasons(report) == {"serve config": "DashboardUnreachable"}
    [config] = work.journal.configs()
    assert config.outcome == "DashboardUnreachable"
    assert "wheelway.host:build" in work.journal.serve_config(config.digest)
    paper_head.loses_answers = False
    assert reasons(work.settle()) == {}
    assert routes(paper_head) == [{"demo-1.0": None}, {"demo-1.0": ROUTE}]
