"""Passes of the real reconciler while Ray cannot be observed, or answers oddly."""

from __future__ import annotations

import json
from random import Random

import pytest
from packaging.version import Version

from controller.model import Condition, Phase
from controller.planning.overrides import Pin
from tests.support.odd import altered, each_altered
from tests.support.passes import reasons, routes

pytestmark = pytest.mark.unit

ROUTE = "/predict/demo/1.0"
BROKEN = "wheelway-failure[LoadFailed] load() raised: no such file: model.bin"


def test_blind_passes_back_off_and_ask_nothing_in_between(work, paper_head):
    paper_head.fails(500)
    waits = []
    for _ in range(8):
        report = work.pass_()
        looks = paper_head.looks()
        assert (report.plan, reasons(report)["ray"]) == (None, "DashboardFailed")
        for _ in range(3):
            assert work.reconciler.backing_off()
            assert work.pass_().next_in == pytest.approx(report.next_in)
        work.pass_(after=report.next_in - 0.01)
        assert paper_head.looks() == looks
        waits.append(report.next_in)
        work.time_passes(0.011)
    assert waits == sorted(waits)
    assert waits[0] < 1
    assert waits[-1] <= work.config.rollout.interval
    paper_head.recovers()
    assert work.pass_().plan is not None
    assert not work.reconciler.backing_off()
    paper_head.fails(500)
    assert work.pass_().next_in == pytest.approx(waits[0])


def test_a_blind_pass_ends_only_what_it_looked_at(work, paper_head):
    work.drop()
    work.settle()
    work.journal.order(Pin("demo", (Version("7.0"),), "alice", "", work.clock.now), message="so")
    work.reconciler.notes = (Condition("config", "ConfigInvalid", "a typing error"),)
    assert reasons(work.pass_(after=1.0)) == {"demo": "PinUnmet", "config": "ConfigInvalid"}
    told = work.journal.last_event()
    paper_head.fails(500)
    work.reconciler.notes = ()
    away = work.wheels.rename(work.folder / "away")
    work.artifacts.request_poll("wheels")
    for _ in range(2):
        report = work.pass_(after=30.0)
        blind = {"demo": "PinUnmet", "ray": "DashboardFailed", "wheels": "DirectoryMissing"}
        assert reasons(report) == blind
        assert {c.subject for c, _ in work.journal.conditions()} == set(blind)
    away.rename(work.wheels)
    work.artifacts.request_poll("wheels")
    work.pass_(after=1.0)
    paper_head.recovers()
    assert reasons(work.pass_(after=60.0)) == {"demo": "PinUnmet"}
    happened = [(e.subject, e.fields["condition"]) for _, e in work.journal.events_after(told)]
    assert sorted(happened) == [
        ("config", "gone"),
        ("ray", "appeared"),
        ("ray", "gone"),
        ("wheels", "appeared"),
        ("wheels", "gone"),
    ]


def test_a_blind_pass_honours_retry_after(work, paper_head):
    paper_head.fails(429, Retry_After="60")
    report = work.pass_()
    assert report.next_in >= 60
    paper_head.recovers()
    assert work.pass_(after=59.9).plan is None
    assert paper_head.looks() == 1
    assert work.pass_(after=report.next_in - 59.9).plan is not None


def test_a_dashboard_that_asks_to_be_left_alone_for_years_is_looked_at_all_the_same(
    work, paper_head
):
    paper_head.fails(503, Retry_After="1000000000")
    report = work.pass_()
    assert report.next_in <= 120
    paper_head.recovers()
    assert work.pass_(after=report.next_in).plan is not None


@pytest.mark.parametrize("said", ["{}", '{"error": "upstream"}', '{"applications": []}'])
def test_what_answers_in_the_dashboards_place_takes_nothing_away(
    work, paper_head, monkeypatch, said
):
    work.drop()
    work.settle()
    sent, answer = len(paper_head.puts), paper_head.answer

    def stranger(method, path, query, body):
        gets = method == "GET" and path.startswith("/api/serve")
        return (200, {}, said) if gets else answer(method, path, query, body)

    monkeypatch.setattr(paper_head, "answer", stranger)
    for _ in range(12):
        report = work.pass_(after=5.0)
        assert reasons(report) == {"ray": "DashboardUnexpected"}
    assert len(paper_head.puts) == sent
    monkeypatch.undo()
    assert work.pass_(after=60.0).sentence == "1 live"


def test_an_odd_answer_is_told_or_understood_and_never_a_mistake_of_ours(
    work, paper_head, monkeypatch
):
    work.drop()
    paper_head.runs("theirs", "/theirs")
    work.settle()
    answer, dice = paper_head.answer, Random(8)

    def odd(method, path, query, body):
        status, headers, text = answer(method, path, query, body)
        if method == "GET" and path.startswith("/api/serve"):
            text = json.dumps(altered(json.loads(text), dice))
        return status, headers, text

    monkeypatch.setattr(paper_head, "answer", odd)
    reports = [work.pass_(after=120.0) for _ in range(150)]  # raises what it does not foresee
    told = [report.error.reason for report in reports if report.error is not None]
    assert 50 < told.count("DashboardUnexpected") < 150


def test_whatever_stands_in_what_runs_as_ours_is_understood_or_left_alone(
    work, paper_head, monkeypatch
):
    work.drop()
    work.settle()
    answer = paper_head.answer
    sound = json.loads(answer("GET", "/api/serve/applications/", "", b"")[2])
    [(name, ours)] = sound["applications"].items()
    said = {}

    def reported(method, path, query, body):
        if method != "GET" or not path.startswith("/api/serve"):
            return answer(method, path, query, body)
        return 200, {}, json.dumps({"applications": {name: {**ours, **said}}})

    monkeypatch.setattr(paper_head, "answer", reported)
    for odd in each_altered(ours["deployed_app_config"]):
        said["deployed_app_config"] = odd
        work.pass_(after=120.0)  # raises what it does not foresee


def test_a_head_that_hangs_is_not_waited_for_without_end(work, paper_head):
    work.restart(ray={"timeout": 0.3})
    paper_head.hangs()
    report = work.pass_()
    assert reasons(report) == {"ray": "DashboardUnreachable"}
    assert "did not answer GET" in report.sentence


def test_what_serves_is_not_touched_while_serve_says_for_a_moment_that_nothing_runs(
    work, paper_head
):
    work.drop()
    work.settle()
    paper_head.empty = True
    began, sent, known = work.clock(), len(paper_head.puts), work.journal.placements()
    report = work.pass_()
    while work.clock() + report.next_in < began + 20:
        assert reasons(report) == {"ray": "ClusterEmpty"}
        report = work.pass_(after=report.next_in)
    paper_head.empty = False
    report = work.pass_(after=report.next_in)
    assert report.sentence == "1 live"
    assert (len(paper_head.puts), work.journal.placements()) == (sent, known)


@pytest.mark.parametrize("blind", [0, 30])
def test_a_cluster_that_stays_empty_is_filled_again_soon_however_long_it_was_down(
    work, paper_head, blind
):
    work.drop()
    work.settle()
    sent = len(paper_head.puts)
    paper_head.fails(503)
    for _ in range(blind):
        work.time_passes(work.pass_().next_in)
    paper_head.recovers()
    paper_head.forgets()
    began = work.clock()
    while len(paper_head.puts) == sent:
        work.time_passes(work.pass_().next_in)
        assert work.clock() < began + 30
    assert work.clock() >= began + 20
    work.settle()
    assert routes(paper_head)[sent:] == [{"demo-1.0": None}, {"demo-1.0": ROUTE}]


def test_what_was_taken_away_on_purpose_is_no_reason_to_doubt_an_empty_cluster(work, paper_head):
    work.drop()
    work.settle()
    work.restart(policy={"unlisted": "inactive"})
    paper_head.leaving = 0
    assert work.pass_().sent
    report = work.pass_(after=0.5)
    assert (reasons(report), report.sentence) == ({}, "0 live")
    assert work.phases() == {"demo-1.0": Phase.RETIRED}


def test_nothing_is_staged_before_rays_side_was_looked_at(work, paper_head):
    work.drop()
    work.pass_()
    work.reconciler.inspected = False
    work.drop("other")
    report = [work.pass_(after=0.5) for _ in range(6)][-1]
    assert set(reasons(report).values()) == {"Queued"}
    assert routes(paper_head) == [{"demo-1.0": None}, {"demo-1.0": ROUTE}]
    work.reconciler.inspected = True
    work.pass_()
    assert routes(paper_head)[-1] == {"demo-1.0": ROUTE, "other-1.0": None}


def test_a_report_of_a_failure_keeps_no_frames_of_its_pass(work, paper_head):
    paper_head.fails(500)
    report = work.pass_()
    for _ in range(3):  # which only raise the same again
        assert work.pass_().error is None
    chain = [report.error]
    while chain[-1] is not None:
        chain.append(chain[-1].__cause__ or chain[-1].__context__)
    assert report.error is not None
    assert [one.__traceback__ for one in chain[:-1]] == [None] * (len(chain) - 1)
