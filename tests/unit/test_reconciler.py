"""Passes of the real reconciler: from a folder of wheels to what a head is sent and answers."""

from __future__ import annotations

import pytest

from controller.model import Phase
from controller.planning import wheel_names
from tests.support import passes
from tests.support.passes import reasons, routes

pytestmark = pytest.mark.unit

ROUTE, ROUTE_2 = "/predict/demo/1.0", "/predict/demo/2.0"
BROKEN = "wheelway-failure[LoadFailed] load() raised: no such file: model.bin"


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
