"""Passes of the real reconciler: from a folder of wheels to what a head is sent and answers."""

from __future__ import annotations

import json
from random import Random

import pytest
from packaging.version import Version

from controller.journal import Journal
from controller.model import Condition, Phase
from controller.ops.status import quarantines
from controller.planning import wheel_names
from controller.planning.overrides import Pin
from controller.telemetry.metrics import Metrics
from tests.support import passes
from tests.support.odd import altered, each_altered
from tests.support.passes import reasons, routes

pytestmark = pytest.mark.unit

ROUTE, ROUTE_2 = "/predict/demo/1.0", "/predict/demo/2.0"
BROKEN = "wheelway-failure[LoadFailed] load() raised: no such file: model.bin"


# -- a release's way -----------------------------------------------------------------------------


def test_a_wheel_is_staged_promoted_and_live_in_two_configs_and_then_nothing_is_sent(
    work, paper_head
):
    work.drop()
    phases = []
    for _ in range(5):
        work.pass_(after=0.5)
        phases.append(work.phases()["demo-1.0"])
    assert phases == [Phase.PREPARED, Phase.STAGED, Phase.STAGED, Phase.READY, Phase.LIVE]
    assert routes(paper_head) == [{"demo-1.0": None}, {"demo-1.0": ROUTE}]
    for _ in range(20):
        report = work.pass_(after=2.0)
        assert (report.sent, report.sentence, report.events) == (False, "1 live", ())
    assert len(paper_head.puts) == 2
    assert work.outcomes() == ["Applied", "Applied"]
    times = work.records()["demo-1.0"].times
    way = [Phase.DISCOVERED, Phase.FETCHED, Phase.PREPARED, Phase.STAGED, Phase.READY, Phase.LIVE]
    assert list(times) == way
    assert sorted(times.values()) == list(times.values())


def test_a_newer_version_is_live_before_the_one_it_pushes_out_is_retired(at_work, paper_head):
    work = at_work(pipelines=[{"name": "demo", "keep": 1}])
    work.drop()
    work.settle()
    work.drop(version="2.0")
    work.settle()
    second = "/predict/demo/2.0"
    assert routes(paper_head)[2:] == [
        {"demo-1.0": ROUTE, "demo-2.0": None},
        {"demo-1.0": ROUTE, "demo-2.0": second},
        {"demo-2.0": second},
    ]
    assert work.phases() == {"demo-1.0": Phase.RETIRED, "demo-2.0": Phase.LIVE}


def test_what_waits_is_told_with_its_reason_until_it_is_live(at_work, paper_head):
    work = at_work(rollout={"max_staging": 1})
    paper_head.starting = 3
    for name in ("a", "b", "c"):
        work.drop(name)
    seen = {}
    for _ in range(30):
        report = work.pass_(after=0.5)
        for item in report.waiting:
            seen.setdefault(item.subject.partition("@")[0], []).append((item.phase, item.reason))
    assert report.waiting == ()
    assert seen.keys() == {"a", "b", "c"}
    assert any((Phase.PREPARED, "Queued") in steps for steps in seen.values())
    assert all(any(phase is Phase.STAGED for phase, _ in steps) for steps in seen.values())
    work.drop("d")
    work.drop("e")
    report = work.pass_(after=0.5)
    assert len(report.waiting) == 2
    assert "2 waiting" in report.sentence


def test_what_takes_a_place_is_told_of_before_what_leaves_it(at_work):
    work = at_work(pipelines=[{"name": "demo", "keep": 1}])
    work.drop()
    work.settle()
    work.drop(version="2.0")
    work.settle()
    told = [(e.at, e.subject[5:8], e.fields.get("phase")) for e in work.journal.events()]
    order = [(version, phase) for _, version, phase in told]
    assert order.index(("2.0", "Live")) < order.index(("1.0", "Retiring"))
    assert [at for at, _, _ in told] == sorted(at for at, _, _ in told)


def test_what_ended_between_two_passes_is_told_in_the_order_in_which_it_did(work, monkeypatch):
    receive = passes._receive

    def slowly(*given):
        work.clock.now += 1.0
        return receive(*given)

    monkeypatch.setattr(passes, "_receive", slowly)
    work.drop("a")
    work.drop("b")
    work.settle()
    told = [event.at for event in work.journal.events()]
    assert len(set(told)) > 2
    assert told == sorted(told)


def test_other_bytes_of_a_version_take_its_route_in_one_config(work, paper_head):
    work.drop()
    work.settle()
    [old] = paper_head.sent()[-1]
    work.drop(marker="other bytes")
    work.settle()
    staged, promoted, retired = paper_head.sent()[2:]
    [new] = retired
    assert (staged, promoted) == ({old: ROUTE, new: None}, {old: None, new: ROUTE})
    assert retired == {new: ROUTE}


def test_a_config_waits_for_a_build_and_then_carries_all_that_came_meanwhile(work, paper_head):
    paper_head.building = 4
    work.drop()
    work.pass_()
    work.drop("other")
    work.drop("third")
    report = work.pass_(after=0.5)
    assert "is being built" in report.plan.hold.message
    work.settle()
    staged = {"demo-1.0": None, "other-1.0": None, "third-1.0": None}
    assert routes(paper_head)[:2] == [{"demo-1.0": None}, staged]


def test_a_build_has_its_time_again_after_each_config(at_work, paper_head):
    work = at_work(rollout={"build_deadline": 10, "absence_grace": 0, "retire_limit": 1})
    wheels = [work.drop("first"), work.drop("second")]
    work.settle()
    paper_head.building = 1000
    work.drop()
    work.pass_()
    waited = []
    for wheel in wheels:  # each is taken off by a config, which begins the build anew
        sent, began = len(paper_head.puts), work.clock()
        work.remove(wheel)
        while len(paper_head.puts) == sent:
            work.pass_(after=1.0)
        waited.append(work.clock() - began)
    assert 9 <= min(waited) <= max(waited) <= 12


def test_no_wheels_name_is_read_again_in_a_pass(work, monkeypatch):
    work.drop()
    gone = work.drop("gone")
    (work.wheels / "other-1.0-py3-none-any (1).whl").write_text("not whole")
    work.settle()
    work.remove(gone)  # it stays for its grace
    assert work.pass_().sentence.startswith("2 live")
    read, parse = [], wheel_names.parse
    monkeypatch.setattr(wheel_names, "parse", lambda name: read.append(name) or parse(name))
    for _ in range(3):
        work.pass_(after=0.1)
    assert read == []


def test_a_route_that_does_not_answer_goes_back_and_its_release_is_quarantined(work, paper_head):
    work.drop()
    work.settle()
    [old] = paper_head.sent()[-1]
    work.drop(marker="other bytes")
    work.pass_()
    paper_head.mute.add(ROUTE)
    while paper_head.sent()[-1].get(old) == ROUTE:
        work.pass_(after=0.5)
    work.pass_(after=0.5)
    assert work.pass_(after=29.9).conditions == ()
    assert paper_head.sent()[-1][old] is None
    work.pass_(after=0.1)
    assert paper_head.sent()[-1] == {old: ROUTE}
    [quarantine] = work.journal.quarantines()
    assert (quarantine.stage, quarantine.reason) == ("promote", "ProbeFailed")


@pytest.mark.parametrize(
    "instead", ["nothing", (404, {}, "not found"), (502, {}, "bad gateway"), (200, {}, "welcome")]
)
@pytest.mark.parametrize("back", [0.5, 40.0])
def test_a_release_is_not_blamed_for_an_ingress_that_is_away_nor_for_its_first_answer_on_return(
    work, paper_head, instead, back
):
    work.drop()
    work.settle()
    work.drop(version="2.0")
    work.pass_()
    paper_head.mute.add(ROUTE_2)
    while ROUTE_2 not in paper_head.sent()[-1].values():
        work.pass_(after=0.5)
    paper_head.instead = instead
    for _ in range(9):
        report = work.pass_(after=5.0)
    assert reasons(report) == {"ray": "IngressUnreachable"}
    paper_head.instead = None
    work.pass_(after=back)
    assert work.journal.quarantines() == []
    paper_head.mute.clear()
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE, "demo-2.0": Phase.LIVE}


def test_time_in_which_ray_cannot_be_looked_at_counts_against_nothing(work, paper_head):
    paper_head.starting = 1000
    work.drop("slow")
    for _ in range(4):
        work.pass_(after=1.0)
    paper_head.fails(503)
    for _ in range(40):
        work.pass_(after=10.0)
    paper_head.recovers()
    for _ in range(28):
        work.pass_(after=10.0)
    assert work.phases() == {"slow-1.0": Phase.STAGED}
    work.pass_(after=30.0)
    assert [q.reason for q in work.journal.quarantines()] == ["StartTimeout"]


def test_a_promotion_that_nobody_could_ask_for_is_no_failure(work, paper_head):
    work.drop()
    work.settle()
    work.drop(version="2.0")
    work.pass_()
    paper_head.mute.add(ROUTE_2)
    while ROUTE_2 not in paper_head.sent()[-1].values():
        work.pass_(after=0.5)
    work.pass_(after=0.5)
    paper_head.fails(503)
    for _ in range(10):
        work.pass_(after=10.0)
    paper_head.recovers()
    work.pass_(after=10.0)
    work.pass_(after=1.0)
    assert work.journal.quarantines() == []
    paper_head.mute.clear()
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE, "demo-2.0": Phase.LIVE}


def test_a_busy_node_s_builds_are_not_held_against_what_is_built(at_work, paper_head):
    """Each build takes longer than a config waits for it, and each config begins all anew."""
    work = at_work(rollout={"build_deadline": 5, "ready_deadline": 60})
    paper_head.building = 8
    work.drop("first")
    for other in ("second", "third", "fourth"):
        for _ in range(7):
            work.pass_(after=4.0)
        work.drop(other)
    report = work.settle(60)
    assert not report.quarantines
    assert set(work.phases().values()) == {Phase.LIVE}


def test_encoded_spellings_of_a_local_version_are_answered_for_as_long_as_it_serves(
    at_work, paper_head
):
    work = at_work()
    work.drop(version="1.0+cu1")
    work.settle()
    local = {"demo-1.0-cu1": "/predict/demo/1.0+cu1", "wheelway-encoded": "/predict"}
    assert routes(paper_head) == [{"demo-1.0-cu1": None}, local]
    work.restart(pipelines=[{"name": "demo", "versions": ">2"}])
    work.settle()
    assert routes(paper_head)[2:] == [{}]


def test_a_broken_template_of_the_operator_stops_every_config_and_touches_nothing(
    at_work, paper_head, tmp_path
):
    template = tmp_path / "templates" / "serve.yaml.j2"
    template.parent.mkdir()
    work = at_work(paths={"templates": template.parent})
    work.drop()
    work.settle()
    template.write_text("applications: {{ applications | jso }}")
    work.drop("other")
    report = work.pass_(after=60.0)
    assert reasons(report) == {"serve config": "TemplateInvalid"}
    assert str(template) in report.conditions[0].message
    assert len(paper_head.puts) == 2
    template.unlink()
    assert reasons(work.settle()) == {}
    assert routes(paper_head)[-1] == {"demo-1.0": ROUTE, "other-1.0": "/predict/other/1.0"}


def test_settings_change_in_place(work, paper_head):
    work.drop()
    work.settle()
    work.restart(pipelines=[{"name": "demo", "settings": {"threshold": 0.7}}])
    work.settle()
    assert len(paper_head.puts) == 3
    assert paper_head.sent()[2] == paper_head.sent()[1]
    [deployment] = paper_head.puts[2]["applications"][0]["deployments"]
    assert deployment["user_config"]["settings"] == {"threshold": 0.7}


def test_what_a_release_says_of_its_settings_is_a_condition(work, paper_head):
    paper_head.said[ROUTE] = {"settings_error": "threshold must be below 1"}
    work.drop()
    report = work.settle()
    [condition] = report.conditions
    assert (condition.reason, condition.message) == ("SettingsRefused", "threshold must be below 1")


def test_a_release_whose_requests_fail_is_told_of_until_no_replica_says_so(work, paper_head):
    work.drop()
    work.settle()
    sent = len(paper_head.puts)
    paper_head.said[ROUTE] = {"failing": "half of its last 10 requests failed, or more"}
    work.pass_(after=30.0)
    told = {"demo@1.0": "RequestsFailing"}
    assert by_version(work.pass_()) == told
    paper_head.said.clear()  # another replica answers, then the first again
    assert by_version(work.pass_(after=30.0)) == told
    paper_head.said[ROUTE] = {"failing": "half of its last 10 requests failed, or more"}
    assert by_version(work.pass_(after=30.0)) == told
    paper_head.said.clear()
    for _ in range(2):
        assert by_version(work.pass_(after=30.0)) == told
        assert by_version(work.pass_(after=0.1)) == told  # the same answer says nothing new
    assert by_version(work.pass_(after=30.0)) == {}
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    assert len(paper_head.puts) == sent
    events = [event for event in work.journal.events(limit=100) if "RequestsFailing" in str(event)]
    assert len(events) <= 2


def by_version(report):
    return {subject.partition("+")[0]: reason for subject, reason in reasons(report).items()}


def test_what_is_not_ours_is_carried_along_as_it_is_and_its_route_is_not_fought_over(
    work, paper_head
):
    theirs = paper_head.runs("theirs", "/theirs")
    paper_head.runs("by-hand", "/predict/other/1.0", declarative=False)
    work.drop()
    work.drop("other")
    report = work.settle()
    assert all(theirs in config["applications"] for config in paper_head.puts)
    assert routes(paper_head)[-1] == {"demo-1.0": ROUTE, "theirs": "/theirs"}
    assert set(reasons(report).values()) == {"RouteConflict"}


# -- what fails ----------------------------------------------------------------------------------


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
            [q.reason for q in now],
            [q.reason for q in ever],
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
    assert "wheelway.host:build" in work.journal.config(config.digest)
    paper_head.loses_answers = False
    assert reasons(work.settle()) == {}
    assert routes(paper_head) == [{"demo-1.0": None}, {"demo-1.0": ROUTE}]


# -- Ray cannot be seen --------------------------------------------------------------------------


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


def test_each_answer_of_the_ingress_is_a_part_of_the_pass(work):
    for name in ("first", "second", "third"):
        work.drop(name)
    work.settle()
    parts = []
    work.reconciler.progressed = lambda: parts.append(work.clock())
    work.pass_(after=0.1)
    quiet = len(parts)
    work.pass_(after=60.0)  # in which every route is asked
    assert len(parts) - quiet == quiet + 3


def test_what_is_scaled_to_no_replica_is_not_woken_by_being_asked_about(work, paper_head):
    work.drop()
    work.settle()
    paper_head.odd = {"deployments": {"Host": {"message": "", "replicas": []}}}
    asked = paper_head.asked.count(f"GET {ROUTE}")
    for _ in range(5):
        work.pass_(after=60.0)
    assert paper_head.asked.count(f"GET {ROUTE}") == asked
    paper_head.odd = {}
    work.pass_(after=60.0)
    assert paper_head.asked.count(f"GET {ROUTE}") == asked + 1


def test_a_wish_beyond_the_caps_is_refused_while_its_environment_is_built_and_ends_no_pass(
    at_work, monkeypatch
):
    work = at_work(serve={"caps": {"num_replicas": 1}})
    known = work.artifacts.environment

    def built(artifact, **facts):
        return None if artifact.project == "greedy" else known(artifact, **facts)

    monkeypatch.setattr(work.artifacts, "environment", built)
    work.drop("greedy", wheelway_toml="[options]\nnum_replicas = 2\n")
    work.drop()
    report = work.settle()
    assert work.phases()["demo-1.0"] is Phase.LIVE
    assert [quarantine.reason for quarantine in report.quarantines] == ["OptionAboveCap"]
