"""Releases with parts on their way: rendered, sent, failing, moved by an operator's word."""

from __future__ import annotations

import pytest

from controller.config.settings import Options, PartOptions
from controller.errors import Rejected, TemplateError
from controller.model import Environment, Phase
from controller.ops import status
from controller.serve.rendering import APPLICATION, Renderer
from controller.serve.templates import shipped
from tests.support.passes import reasons, routes
from tests.support.rendered import place
from tests.support.wheels import sha256

pytestmark = pytest.mark.unit

RISK = {"risk": PartOptions()}


@pytest.fixture
def renderer():
    return Renderer(wheelway="0.1.0")


def deployments(placement):
    return {one["name"]: one for one in placement.document["deployments"]}


# -- rendered ------------------------------------------------------------------------------------


def test_each_part_is_a_deployment_in_the_releases_environment_with_defaults_of_its_own(renderer):
    placed = place(
        renderer,
        environment=Environment("c" * 64, "/envs/c/bin/python"),
        options=Options(num_replicas=2, env_vars={"A": "b"}, request_timeout=90),
        parts={
            "risk": PartOptions(num_replicas=3, threads=2, ray_actor_options={"num_gpus": 1}),
            "churn": PartOptions(autoscaling_config={"min_replicas": 0, "max_replicas": 2}),
        },
    )
    assert placed.document["args"]["parts"] == {
        "churn": {"target": "acme.iris:Churn", "inline": False, "threads": 4, "max_memory": None},
        "risk": {"target": "acme.iris:Risk", "inline": False, "threads": 2, "max_memory": None},
    }
    found = deployments(placed)
    assert list(found) == ["Host", "churn", "risk"]
    runtime = {"py_executable": "/envs/c/bin/python", "env_vars": {"A": "b"}}
    assert {str(one["ray_actor_options"]["runtime_env"]) for one in found.values()} == {
        str(runtime)
    }
    assert found["risk"]["num_replicas"] == 3
    assert found["risk"]["ray_actor_options"]["num_gpus"] == 1
    assert found["churn"]["ray_actor_options"]["num_cpus"] == 0
    assert found["churn"]["autoscaling_config"]["initial_replicas"] == 1
    assert "num_replicas" not in found["churn"]
    assert found["risk"]["max_ongoing_requests"] > 1000, "the part itself has calls wait"
    assert found["risk"]["graceful_shutdown_timeout_s"] >= 95, "its pipeline may still call it"


def test_a_part_has_limits_of_its_own(renderer):
    limits = {
        name: one["user_config"].get("limits")
        for name, one in deployments(
            place(
                renderer,
                options=Options(max_batch_size=8),
                parts={
                    "churn": PartOptions(),
                    "risk": PartOptions(max_batch_size=4, batch_wait_timeout=0.5),
                    "slow": PartOptions(batch_wait_timeout=0),
                },
            )
        ).items()
    }
    assert limits["Host"]["max_batch_size"] == 8
    assert "batch_wait_timeout" not in limits["Host"]
    calls = {"request_timeout": 60.0, "max_ongoing_requests": 100}
    assert limits["churn"] == calls
    assert limits["risk"] == {**calls, "max_batch_size": 4, "batch_wait_timeout": 0.5}
    assert limits["slow"] == {**calls, "batch_wait_timeout": 0}


def test_an_inline_part_has_no_deployment(renderer):
    placed = place(renderer, parts={"risk": PartOptions(inline=True, threads=8)})
    assert list(deployments(placed)) == ["Host"]
    assert placed.document["args"]["parts"]["risk"]["inline"] is True
    assert placed.document["args"]["parts"]["risk"]["threads"] == 8


def test_options_of_batches_of_an_inline_part_change_without_another_application(renderer):
    def of(**options):
        return place(
            renderer,
            parts={
                "churn": PartOptions(inline=True),
                "deployed": PartOptions(max_batch_size=9),
                "risk": PartOptions(inline=True, **options),
            },
        )

    def limits(placed):
        return deployments(placed)["Host"]["user_config"]["limits"].get("parts")

    assert limits(of()) is None, "a replica knows the defaults by itself"
    batches = {"max_batch_size": 4, "batch_wait_timeout": 0}
    assert limits(of(**batches)) == {"risk": batches}
    waiting = {"max_batch_size": None, "batch_wait_timeout": 1}
    assert limits(of(batch_wait_timeout=1)) == {"risk": waiting}
    assert of().name == of(**batches).name


def test_a_release_without_parts_is_as_it_was(renderer):
    placed = place(renderer)
    assert "parts" not in placed.document["args"]
    assert list(deployments(placed)) == ["Host"]


def test_what_restarts_replicas_of_a_part_is_another_application_and_what_does_not_is_none(
    renderer,
):
    def name(**options):
        return place(renderer, parts={"risk": PartOptions(**options)}).name

    names = {
        name(),
        name(num_replicas=2),
        name(max_ongoing_requests=7, max_batch_size=7, batch_wait_timeout=1),
        name(health_check_period=3),
    }
    assert names == {name()}
    others = [name(threads=2), name(inline=True), name(ray_actor_options={"num_cpus": 2})]
    assert len({name(), *others, place(renderer).name}) == 5


def test_what_ray_refuses_of_a_part_is_the_releases_fault(renderer):
    with pytest.raises(Rejected) as caught:
        place(renderer, parts={"risk": PartOptions(autoscaling_config={"unheard_of": 1})})
    assert caught.value.reason == "OptionsRefused"
    place(renderer, parts=RISK)


def test_a_template_of_before_there_were_parts_is_to_blame_for_them_alone(tmp_path):
    text = (shipped() / APPLICATION).read_text()
    lines = text.replace(
        '[{"name": "Host", "options": options}] + parts',
        '[{"name": "Host", "options": options}] + []',
    )
    assert lines != text
    (tmp_path / APPLICATION).write_text(lines)
    old = Renderer(tmp_path, wheelway="0.1.0")
    place(old)
    with pytest.raises(TemplateError, match="a pipeline would not find its parts"):
        place(old, parts=RISK)
    place(old, parts={"risk": PartOptions(inline=True)})


# -- on a head -----------------------------------------------------------------------------------

SCORECARD = {
    "pipelines": {"demo": "demo.pipeline:Demo", "plain": "demo.pipeline:Plain"},
    "parts": {"demo.risk": "demo.pipeline:Risk", "demo.churn": "demo.pipeline:Churn"},
}
BROKEN = "wheelway-failure[LoadFailed] load() raised: no such file: risk.bin"


def told(work, pipeline="demo"):
    seen = status.tell(work.journal, lambda: work.config, work.clock(), everything=True)
    return {
        f"{one['version']} {part['name']}": (part["state"], part["running"], part["wanted"])
        for one in seen["releases"]
        if one["pipeline"] == pipeline
        for part in one["parts"]
    }


def test_a_release_with_parts_goes_live_and_its_parts_are_told(work, paper_head):
    work.drop(**SCORECARD, wheelway_toml="[parts.risk.options]\nnum_replicas = 2\n")
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE, "plain-1.0": Phase.LIVE}
    assert told(work) == {"1.0 churn": ("HEALTHY", 1, 1), "1.0 risk": ("HEALTHY", 2, 2)}
    assert told(work, "plain") == {}
    puts = len(paper_head.puts)
    for _ in range(5):
        assert not work.pass_(after=2.0).sent
    assert len(paper_head.puts) == puts


def test_a_part_that_fails_fails_its_release_alone_and_is_named(work, paper_head):
    work.drop(**SCORECARD)
    work.settle()
    second = work.drop(version="2.0", **SCORECARD)
    paper_head.failing_parts[f"demo@2.0+{sha256(second)[:8]}", "risk"] = BROKEN
    work.settle()
    assert work.phases() == {
        "demo-1.0": Phase.LIVE,
        "demo-2.0": Phase.QUARANTINED,
        "plain-1.0": Phase.LIVE,
        "plain-2.0": Phase.LIVE,
    }
    [failed] = work.journal.quarantines()
    assert (failed.stage, failed.reason) == ("stage", "LoadFailed")
    assert failed.message == "the part 'risk': load() raised: no such file: risk.bin"
    assert told(work) == {"1.0 churn": ("HEALTHY", 1, 1), "1.0 risk": ("HEALTHY", 1, 1)}


def test_a_bad_part_refuses_its_pipeline_and_no_other_of_the_wheel(work):
    work.drop(**{**SCORECARD, "parts": {"demo.Risk": "demo.pipeline:Risk"}})
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.QUARANTINED, "plain-1.0": Phase.LIVE}
    [failed] = work.journal.quarantines()
    assert (failed.stage, failed.reason) == ("wishes", "PartInvalid")


def test_a_part_of_no_pipeline_makes_the_wheel_unsound_and_leaves_others_alone(work):
    work.drop()
    work.drop("other", parts={"othr.risk": "other.pipeline:Risk"})
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE, "other-1.0": Phase.QUARANTINED}
    [failed] = work.journal.quarantines()
    assert (failed.stage, failed.reason) == ("inspect", "PartWithoutPipeline")


ABOVE = "[parts.risk.options]\nray_actor_options = { num_gpus = 9 }\n"


def test_a_wish_above_a_cap_is_told_and_the_operators_word_cures_it(at_work):
    work = at_work()
    work.drop(**SCORECARD, wheelway_toml=ABOVE)
    work.settle()
    [failed] = work.journal.quarantines()
    assert (failed.subject.pipeline, failed.stage, failed.reason) == (
        *("demo", "prepare", "OptionAboveCap"),
    )
    assert "parts.risk.ray_actor_options.num_gpus = 9.0, the cap is 8" in failed.message
    cure = {"risk": {"ray_actor_options": {"num_gpus": 1}}}
    work.restart(pipelines=[{"name": "demo", "parts": cure}])
    work.settle()
    assert work.phases()["demo-1.0"] is Phase.LIVE


def test_inline_for_everything_is_a_rollout_to_one_deployment_each(at_work, paper_head):
    work = at_work()
    work.drop(**SCORECARD)
    work.settle()
    before = {name for name in paper_head.routes() if name.startswith("demo")}
    work.restart(serve={"defaults": {"inline": True}})
    work.settle()
    after = {name for name in paper_head.routes() if name.startswith("demo")}
    assert before.isdisjoint(after)
    assert told(work) == {"1.0 churn": ("", 0, None), "1.0 risk": ("", 0, None)}
    assert routes(paper_head)[-1]["demo-1.0"] == "/predict/demo/1.0"
    [last] = [one for one in paper_head.puts[-1]["applications"] if one["name"].startswith("demo")]
    assert [one["name"] for one in last["deployments"]] == ["Host"]


def test_replicas_of_a_part_change_without_a_new_application(at_work, paper_head):
    work = at_work()
    work.drop(**SCORECARD)
    work.settle()
    before = set(paper_head.routes())
    work.restart(pipelines=[{"name": "demo", "parts": {"risk": {"num_replicas": 3}}}])
    work.settle()
    assert set(paper_head.routes()) == before
    assert told(work)["1.0 risk"] == ("HEALTHY", 3, 3)


def test_options_for_a_part_that_is_not_there_are_told_and_do_nothing(at_work):
    work = at_work(pipelines=[{"name": "demo", "parts": {"rsk": {"threads": 2}}}])
    work.drop(**SCORECARD)
    report = work.settle()
    assert work.phases()["demo-1.0"] is Phase.LIVE
    [note] = [c for c in report.conditions if c.reason == "PartUnknown"]
    assert note.ok
    assert "rsk" in note.message
    assert "PartUnknown" in reasons(report).values()
