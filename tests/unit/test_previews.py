"""Passes that do not act, and previews: they say what would be done, and leave no trace."""

from __future__ import annotations

import pytest
import yaml

from controller.reconcile.assembly import preview

pytestmark = pytest.mark.unit


def test_a_pass_that_does_not_act_says_what_would_be_retired_and_leaves_no_trace(work, paper_head):
    wheel = work.drop()
    work.settle()
    before, sent = work.story(), len(paper_head.puts)
    work.remove(wheel)
    work.drop("other")
    report = work.pass_(act=False)
    assert [(change.action, change.cause.reason) for change in report.plan.changes] == [
        ("add", "BecomingReady"),
        ("remove", "Absent"),
    ]
    assert "other-1.0" in report.serve_config
    assert not report.sent
    assert (work.story(), len(paper_head.puts)) == (before, sent)


def test_a_preview_beside_a_daemon_reads_its_journal_and_leaves_no_trace(work, paper_head):
    wheel = work.drop()
    work.settle()
    work.remove(wheel)
    work.drop("other")
    before, sent = work.story(), len(paper_head.puts)
    report = preview(work.config)
    assert [(change.action, change.cause.reason) for change in report.plan.changes] == [
        ("add", "BecomingReady"),
        ("remove", "Absent"),
    ]
    assert not report.sent
    assert (work.story(), len(paper_head.puts)) == (before, sent)


def test_a_preview_before_any_daemon_shows_what_would_be_staged_and_makes_no_journal(
    work, paper_head, tmp_path
):
    work.drop()
    paths = work.config.paths.model_copy(update={"state": tmp_path / "none"})
    config = work.config.model_copy(update={"paths": paths})
    report = preview(config)
    [change] = report.plan.changes
    assert str(change).startswith("add demo-1.0-")
    assert preview(config).serve_config == report.serve_config
    assert paper_head.puts == []
    assert not (tmp_path / "none").exists()


def test_a_preview_away_from_the_daemon_s_state_takes_its_marks_for_no_change(
    work, paper_head, tmp_path
):
    work.drop()
    work.settle()
    work.drop("other")
    paths = work.config.paths.model_copy(update={"state": tmp_path / "none"})
    report = preview(work.config.model_copy(update={"paths": paths}))
    [change] = report.plan.changes
    assert str(change).startswith("add other-1.0-")
    demo, _ = yaml.safe_load(report.serve_config)["applications"]
    assert [demo] == paper_head.puts[-1]["applications"]
