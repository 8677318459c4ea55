"""What operators do with weights, and what publishers do to them, on a real head."""

import json
import subprocess

import pytest

from tests.support.head import eventually
from tests.support.load import load_on
from tests.support.site import WHEELWAY
from tests.support.tuned import CODE, Tuned

pytestmark = pytest.mark.ray

SCORES = (
    CODE.replace("class Demo(Pipeline):", "class Risk(Pipeline):", 1)
    + """

class Demo(Risk):
    def load(self, context):
        super().load(context)
        self.risk = context.parts["risk"]

    async def infer(self, request: dict[str, int]) -> dict[str, object]:
        there = await self.risk(request)
        return {"n": request["n"], "model": [self.model.get("name"), there["model"]]}
"""
)


def command(site, *arguments):
    """What the installed command says."""
    done = subprocess.run(
        [WHEELWAY, "--config", site.config, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def live(tuned, versions, **model):
    """Publish the pipeline and weights of these versions, one after the other; their marks."""
    marks = []
    for version in versions:
        marks.append(tuned.weights(version, model))
        if len(marks) == 1:
            tuned.publish()
            tuned.site.wait_for(tuned.route)
        tuned.wait_live_with(marks[-1])
    return marks


def test_operators_roll_back_pin_and_lift_and_are_told(at_work):
    site, tuned = at_work, Tuned(at_work, "ordered")
    with_one, with_two, with_three = live(tuned, ["1.0", "2.0", "3.0"])
    before = tuned.applications()
    with load_on(site.ingress + tuned.route, 2, pause=0.02) as load:
        said = command(site, "rollback", "ordered", "--weights", "--note", "odd answers")
        assert "2.0" in said
        tuned.wait_live_with(with_two)
        assert tuned.answer() == ("2.0", with_two)
        command(site, "unpin", "ordered", "--weights")
        tuned.wait_live_with(with_three)
        command(site, "pin", "ordered", "1.0", "--weights")
        tuned.wait_live_with(with_one)
        assert tuned.answer() == ("1.0", with_one)
        command(site, "unpin", "ordered", "--weights")
        tuned.wait_live_with(with_three)

        bad = tuned.weights("4.0", {"raise": "bad"})
        tuned.wait_refused(bad)
        eventually(lambda: tuned.configured()[0] == with_three)
        assert bad in command(site, "quarantine", "list")
        story = command(site, "explain", "ordered")
        assert with_three in story
        assert f"{bad} failed with it: LoadFailed" in story
        [row] = [
            r
            for r in json.loads(command(site, "status", "--json"))["releases"]
            if r["pipeline"] == "ordered"
        ]
        assert row["weights"] == with_three
        puts = site.sent()
        command(site, "quarantine", "clear", "ordered", "4.0", "--weights")
        eventually(lambda: site.sent() == puts + 2)
        tuned.wait_refused(bad)
        history = command(site, "history", "ordered")
        assert bad in history
    assert not load.failures
    assert tuned.applications() == before
    assert tuned.answer() == ("3.0", with_three)


def test_many_weights_at_once_end_with_the_newest(at_work):
    site, tuned = at_work, Tuned(at_work, "flooded")
    live(tuned, ["1.0"])
    before, sent = tuned.applications(), site.sent()
    with load_on(site.ingress + tuned.route, 2, pause=0.02) as load:
        marks = [tuned.weights(f"2.{n}") for n in range(12)]
        tuned.wait_live_with(marks[-1])
    assert not load.failures
    assert tuned.applications() == before
    assert site.sent() - sent <= 6
    assert set(tuned.by_replica().values()) == {marks[-1]}


def test_a_release_may_be_told_to_serve_without_weights(at_work):
    site, tuned = at_work, Tuned(at_work, "bare")
    live(tuned, ["1.0"])
    before = tuned.applications()
    with load_on(site.ingress + tuned.route, 2, pause=0.02) as load:
        site.configure('[[pipelines]]\nname = "bare"\nweights = { active = false }\n')
        eventually(lambda: tuned.answer() == (None, ""))
        site.configure("")
        eventually(lambda: tuned.answer()[0] == "1.0")
    assert not load.failures
    assert tuned.applications() == before


def test_weights_of_another_project_are_told_and_change_nothing(at_work):
    tuned, foreign = Tuned(at_work, "claimed"), Tuned(at_work, "claimed")
    [mark] = live(tuned, ["1.0"])
    foreign.project = "foreign-weights"
    claims = foreign.weights("9.0")
    eventually(lambda: claims in {c.subject for c in at_work.conditions("Conflict")})
    assert tuned.answer() == ("1.0", mark)


def test_a_pipeline_and_its_parts_change_weights_together(at_work):
    site, tuned = at_work, Tuned(at_work, "scores")
    package = "scores.pipeline"
    one = tuned.weights("1.0")
    site.drop(
        "scores",
        code=SCORES,
        parts={"scores.risk": f"{package}:Risk"},
        wheelway_toml="[parts.risk.options]\nray_actor_options = { num_cpus = 0.05 }\n",
    )
    site.wait_for(tuned.route)
    tuned.wait_live_with(one)
    assert tuned.answer() == (["1.0", "1.0"], one)
    seen = set()
    with load_on(site.ingress + tuned.route, 2, pause=0.02) as load:
        two = tuned.weights("2.0")

        def answered():
            model, mark = tuned.answer()
            seen.add((*model, mark))
            return mark == two

        eventually(answered)
        tuned.wait_live_with(two)
        bad = tuned.weights("3.0", {"wrong": "nonsense"})
        assert tuned.wait_refused(bad).reason == "ExampleFailed"
        eventually(lambda: len(tuned.applications()) == 1)
        assert answered()
    assert not load.failures
    assert seen <= {("1.0", "1.0", one), ("2.0", "2.0", two)}
    assert "scores" not in site.quarantines()
