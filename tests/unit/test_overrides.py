"""What an operator orders by command: pins over policy, and standing still."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.version import Version

from controller.config.settings import Config
from controller.model import Artifact, Phase, PipelineEntry, Revision
from controller.planning.overrides import Overrides, Pin, Suspension
from controller.planning.policy import Case, elect, unfetched, unmet
from controller.planning.rollout import plan
from tests.support.world import (
    answer,
    application,
    candidate,
    elected,
    foreign,
    placement,
    record,
    release,
    routes,
    rule,
    situation,
)

pytestmark = pytest.mark.unit


def pin(*versions, pipeline="iris"):
    return Pin(pipeline, tuple(map(Version, versions)), "alice", "worse answers", 1.0)


def suspended(*pipelines):
    return Overrides({}, {name: Suspension(name, "alice", "", 1.0) for name in pipelines})


def verdicts(candidates, rule_, **more):
    return {
        str(v.release.version): (v.elected, v.reason)
        for v in elect(Case(candidates, rule_, **more))
    }


# -- pins ----------------------------------------------------------------------------------------


def test_a_pin_beats_every_part_of_the_files_policy():
    offered = [candidate("3.0"), candidate("2.0"), candidate("1.0rc1", "b")]
    strict = rule(">=2", active=False, keep=1, pins=(Version("3.0"),))
    assert verdicts(offered, strict, pin=pin("1.0rc1", "2.0")) == {
        "3.0": (False, "OtherPinned"),
        "2.0": (True, "Pinned"),
        "1.0rc1": (True, "Pinned"),
    }


def test_verdicts_under_a_pin_say_who_pinned_and_why():
    verdict = elect(Case([candidate("1.0")], rule(), pin=pin("1.0")))[0]
    assert verdict.message == "pinned to 1.0 by alice (worse answers)"


def test_a_pin_that_nothing_fit_meets_takes_nothing_away():
    serving = {release("2.0")}
    offered = [candidate("2.0"), candidate("1.0", "b")]
    failed = {release("1.0", "b")}
    assert verdicts(offered, rule(), pin=pin("1.0"), serving=serving, quarantined=failed) == {
        "2.0": (False, "PinUnmet"),
        "1.0": (False, "Quarantined"),
    }
    assert verdicts(offered, rule(), pin=pin("7.0"), serving=serving) == {
        "2.0": (False, "PinUnmet"),
        "1.0": (False, "PinUnmet"),
    }


def test_a_pinned_version_whose_new_bytes_failed_stands_by_those_that_serve():
    old, new = release("1.0", "a"), candidate("1.0", "b")
    found = verdicts(
        [new, candidate("2.0", "c")],
        rule(),
        pin=pin("1.0"),
        serving={old},
        quarantined={new.release},
    )
    assert found["2.0"] == (False, "OtherPinned")
    kept = elect(Case([new], rule(), pin=pin("1.0"), serving={old}, quarantined={new.release}))
    assert [(v.release, v.reason) for v in kept if v.elected] == [(old, "StandsIn")]


def test_a_pinned_wheel_is_fetched_though_newer_ones_fill_keep():
    def revision(version, digest):
        name = f"iris-{version}-py3-none-any.whl"
        return Revision("shelf", "iris", Version(version), name, name, digest * 64, 1)

    listed = [revision("3.0", "a"), revision("2.0", "b"), revision("1.0", "c")]
    known = {"a" * 64: carrying("iris", "a" * 64)}
    config = Config(pipelines=[{"name": "iris", "keep": 1}])
    assert unfetched(listed, known, config) == ()
    wanted = unfetched(listed, known, config, pins={"iris": pin("1.0")})
    assert [str(one.version) for one in wanted] == ["1.0"]


def carrying(name, digest):
    entry = PipelineEntry(name, f"{name}:Pipeline", {}, {})
    somewhere, version = Path("nowhere"), Version("3.0")
    return Artifact(
        *(digest, name, version, f"{name}-3.0-py3-none-any.whl", 1, somewhere, somewhere, digest),
        requires=(),
        pipelines=(entry,),
    )


def test_what_a_pin_pushes_out_stays_until_the_pinned_version_is_live():
    new, old = application(release("2.0"), route="/predict/iris/2.0"), release("1.0", "b")
    offered = [candidate("2.0"), candidate("1.0", "b")]
    told = elect(Case(offered, rule(), pin=pin("1.0"), serving={new.release}))
    live = record(new, routed=1.0, live=2.0)
    preparing = plan(situation(told, (), [new], [live], {}))
    assert routes(preparing) == {new.name: "/predict/iris/2.0"}
    staging = plan(situation(told, [placement(old)], [new], [live], {}))
    assert routes(staging) == {new.name: "/predict/iris/2.0", placement(old).name: None}
    back = application(old, route="/predict/iris/1.0")
    both = [record(back, routed=1.0, live=2.0), live]
    done = plan(situation(told, [placement(old)], [new, back], both, {back.route: answer(back)}))
    assert routes(done) == {back.name: "/predict/iris/1.0"}


def test_an_unmet_pin_is_a_condition_unless_its_wheel_may_still_come():
    served = elect(Case([candidate("2.0")], rule(), pin=pin("1.0"), serving={release("2.0")}))
    claims = [candidate("2.0")]
    (found,) = unmet({"iris": pin("1.0")}, served, claims, [])
    assert (found.subject, found.reason) == ("iris", "PinUnmet")
    assert "wheelway unpin iris" in found.message
    name = "iris-1.0-py3-none-any.whl"
    coming = Revision("shelf", "iris", Version("1.0"), name, name, "b" * 64, 1)
    assert unmet({"iris": pin("1.0")}, served, claims, [coming]) == []
    failed = [*claims, candidate("1.0", "b")]
    assert len(unmet({"iris": pin("1.0")}, served, failed, [coming])) == 1
    met = elect(Case([candidate("1.0", "b")], rule(), pin=pin("1.0")))
    assert unmet({"iris": pin("1.0")}, met, failed, []) == []


# -- standing still ------------------------------------------------------------------------------


def test_a_suspended_pipeline_stays_as_it_is_and_others_go_on():
    live = application(release("1.0"), route="/predict/iris/1.0")
    new, other = release("2.0", "b"), release("1.0", "c", pipeline="rose")
    decided = plan(
        situation(
            [elected(new), elected(other)],
            [placement(new), placement(other)],
            [live],
            [record(live, routed=1.0, live=2.0)],
            overrides=suspended("iris"),
        )
    )
    assert routes(decided) == {live.name: "/predict/iris/1.0", placement(other).name: None}
    (condition,) = decided.conditions
    assert (condition.subject, condition.reason, condition.ok) == ("iris", "Suspended", False)
    assert "`wheelway resume iris` ends it" in condition.message
    assert "suspended by alice" in condition.message


def test_what_policy_takes_out_stays_while_its_pipeline_is_suspended():
    live = application(release("1.0"), route="/predict/iris/1.0")
    taken_out = elect(Case([candidate("1.0")], rule(active=False), serving={live.release}))
    records = [record(live, routed=1.0, live=2.0)]
    assert routes(plan(situation(taken_out, (), [live], records))) == {}
    decided = plan(situation(taken_out, (), [live], records, overrides=suspended("iris")))
    assert decided.changes == ()
    assert [(t.phase, t.reason) for t in decided.transitions] == [(Phase.LIVE, "AnswersAtRoute")]


def test_with_everything_suspended_no_config_differs_from_the_one_in_force():
    live = application(release("1.0"), route="/predict/iris/1.0")
    theirs, imperative = foreign(), foreign("live", "/live", declarative=False)
    leaving = application(release("0.9", "d"), "DELETING")
    new = release("2.0", "b")
    decided = plan(
        situation(
            [elected(new)],
            [placement(new)],
            [live, theirs, imperative, leaving],
            [record(live, routed=1.0, live=2.0)],
            overrides=suspended(""),
            encoded_routes={"name": "encoded", "route_prefix": "/"},
        )
    )
    assert decided.changes == ()
    assert routes(decided) == {live.name: "/predict/iris/1.0", "theirs": "/theirs"}
    (condition,) = decided.conditions
    assert condition.subject == "serve config"
    assert "`wheelway resume` ends it" in condition.message


def test_what_was_on_its_way_is_told_as_suspended():
    new = release("1.0", "b")
    before = application(release("1.0"), route="/predict/iris/1.0")
    staged = application(new, "RUNNING", generation="2")
    decided = plan(
        situation(
            [elected(new)],
            [placement(new, "2")],
            [before, staged],
            [record(before, routed=1.0, live=2.0), record(staged)],
            {before.route: answer(before)},
            overrides=suspended("iris"),
        )
    )
    assert decided.changes == ()
    told = {t.placement: (t.phase, t.reason) for t in decided.transitions}
    assert told == {
        before.name: (Phase.LIVE, "AnswersAtRoute"),
        staged.name: (Phase.READY, "Suspended"),
    }


def test_a_failure_while_suspended_waits_for_its_verdict():
    new = release("1.0", "b")
    staged = application(new, "DEPLOY_FAILED", message="Traceback")
    frozen = situation(
        [elected(new)], [placement(new)], [staged], [record(staged)], overrides=suspended("iris")
    )
    assert plan(frozen).quarantines == ()
    going_on = situation([elected(new)], [placement(new)], [staged], [record(staged)])
    assert [q.subject for q in plan(going_on).quarantines] == [new]
