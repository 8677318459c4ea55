"""What a wheel says of the parts of its pipelines, and what becomes of what is wrong with it."""

from __future__ import annotations

import pytest

from controller.config.settings import InspectionLimits
from controller.errors import Rejected
from tests.support.wheels import make_wheel
from tests.unit.test_inspection import look, reason_of

pytestmark = pytest.mark.unit

PIPELINES = {"Score.Card": "demo.pipeline:Card", "other": "demo.pipeline:Other"}
PARTS = {"Score.Card.risk": "demo.models:Risk", "score-card.churn_2": "demo.models:Churn"}


def card(folder, **knobs):
    """The entries of a wheel of two pipelines, of which one has parts."""
    found = look(make_wheel(folder, **{"pipelines": PIPELINES, "parts": PARTS, **knobs}))
    return {entry.name: entry for entry in found.pipelines}


def test_parts_belong_to_the_pipeline_before_the_last_dot(tmp_path):
    found = card(tmp_path)
    assert [(p.name, p.target, p.options) for p in found["score-card"].parts] == [
        ("churn_2", "demo.models:Churn", {}),
        ("risk", "demo.models:Risk", {}),
    ]
    assert found["other"].parts == ()
    assert {entry.refusal for entry in found.values()} == {None}


WRONG = {
    "no name": ("PartInvalid", {"other.": "demo.x:X"}),
    "capitals": ("PartInvalid", {"other.Risk": "demo.x:X"}),
    "a digit in front": ("PartInvalid", {"other.2nd": "demo.x:X"}),
    "too long": ("PartInvalid", {"other." + "x" * 64: "demo.x:X"}),
    "no class": ("PartInvalid", {"other.risk": "demo.x"}),
    "extras": ("PartInvalid", {"other.risk": "demo.x:X [gpu]"}),
    "twice": ("PartInvalid", {"other.risk": "demo.x:X", "Other.risk": "demo.x:Y"}),
    "its own pipeline": ("PartCircular", {"other.risk": "demo.pipeline : Other"}),
    "too many": ("TooManyParts", {f"other.p{n}": "demo.x:X" for n in range(21)}),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_bad_part_refuses_its_pipeline_and_no_other_of_the_wheel(tmp_path, case):
    reason, parts = WRONG[case]
    found = card(tmp_path, parts={**PARTS, **parts})
    refusal = found["other"].refusal
    assert (refusal.subject, refusal.reason) == ("other 1.0", reason)
    assert "demo-1.0-py3-none-any.whl" in refusal.message
    assert found["score-card"].refusal is None
    assert len(found["score-card"].parts) == 2


@pytest.mark.parametrize("name", ["otter.risk", "risk", ".risk", "a b.risk", "other/x.risk"])
def test_a_part_of_no_pipeline_of_the_wheel_may_be_of_any_and_refuses_the_wheel(tmp_path, name):
    wheel = make_wheel(tmp_path, pipelines=PIPELINES, parts={name: "demo.models:Risk"})
    assert reason_of(wheel) == "PartWithoutPipeline"


def test_parts_alone_are_no_pipelines_wheel_to_be_left_alone_but_a_mistake(tmp_path):
    wheel = make_wheel(tmp_path, pipelines={}, parts={"demo.risk": "demo.models:Risk"})
    assert reason_of(wheel) == "PartWithoutPipeline"


def test_how_many_parts_there_may_be_is_the_operators_to_say(tmp_path):
    wheel = make_wheel(tmp_path, pipelines=PIPELINES, parts=PARTS)
    found = look(wheel, limits=InspectionLimits(max_parts=1))
    assert [p.refusal and p.refusal.reason for p in found.pipelines] == [None, "TooManyParts"]


def test_the_group_is_no_longer_told_of_as_somebody_elses(tmp_path):
    assert look(make_wheel(tmp_path, pipelines=PIPELINES, parts=PARTS)).notes == ()


# -- their options -------------------------------------------------------------------------------

EVERYBODYS = """
[parts.risk.options]
threads = 2
ray_actor_options = { num_cpus = 0.5 }
"""
OWN = """
[pipelines."Score.Card".parts.risk.options]
inline = true
ray_actor_options = { num_gpus = 1 }
"""


def test_options_of_a_part_come_from_the_wheels_own_file_and_the_pipelines_win(tmp_path):
    found = card(tmp_path, wheelway_toml=EVERYBODYS + OWN)
    churn, risk = found["score-card"].parts
    assert churn.options == {}
    assert risk.options == {
        "threads": 2,
        "inline": True,
        "ray_actor_options": {"num_cpus": 0.5, "num_gpus": 1},
    }
    assert {entry.refusal for entry in found.values()} == {None}


MISTAKES = {
    "no such part": (
        "[parts.rsk.options]\nthreads = 2",
        ":1: parts.rsk: this wheel has no such part, only churn_2, risk",
    ),
    "no part of that pipeline": (
        "[pipelines.other.parts.risk.options]\nthreads = 2",
        "pipelines.other.parts.risk: this pipeline has no parts;",
    ),
    "what a part shares": (
        "[parts.risk.options]\nenv_vars = { A = '1' }",
        ":2: parts.risk.options.env_vars: unknown key; a part shares `env_vars` with its pipeline",
    ),
    "settings": ("[parts.risk.settings]\nx = 1", "a part shares `settings` with its pipeline"),
    "an unknown option": (
        "[parts.risk.options]\nthread = 2",
        "unknown key; known are autoscaling_config, batch_wait_timeout",
    ),
    "an option without its table": (
        "[parts.risk]\nthreads = 2",
        "`threads` belongs under [parts.NAME.options], or [pipelines.NAME.parts.NAME.options]",
    ),
    "code": (
        "[parts.risk.options]\nautoscaling_config = { policy = 'x:y' }",
        "'policy' cannot be wished for",
    ),
    "two kinds of scaling": (
        "[parts.risk.options]\nnum_replicas = 2\nautoscaling_config = { max_replicas = 3 }",
        "keep one",
    ),
    "the operator's": ("[parts.risk]\nkeep = 2", "`keep` is the operator's to say"),
    "of weights": ('fits = ">=1"', "`fits` belongs into the `wheelway.toml` of weights"),
    "no table": ("parts = 2", ":1: parts: "),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_options_that_a_part_cannot_have_are_refused_with_file_line_and_key(tmp_path, case):
    text, expected = MISTAKES[case]
    refusal = card(tmp_path, wheelway_toml=text)["other"].refusal
    assert refusal.reason == "WishesInvalid"
    assert expected in refusal.message
    assert refusal.message.startswith("demo/wheelway.toml:")


def test_a_mistake_of_one_pipeline_leaves_the_others_parts_alone(tmp_path):
    found = card(tmp_path, wheelway_toml='[pipelines."score.card".parts.rsk.options]\n')
    assert found["score-card"].refusal.reason == "WishesInvalid"
    assert found["other"].refusal is None


def test_hostile_groups_are_read_within_bounds(tmp_path):
    parts = {f"other.p{n}": "demo.x:X" for n in range(50_000)}
    found = card(tmp_path, parts=parts)
    assert found["other"].refusal.reason == "TooManyParts"
    assert len(found["other"].parts) <= 21
    with pytest.raises(Rejected, match="no pipeline") as caught:
        look(make_wheel(tmp_path, parts={"x" * 60_000 + ".risk": "demo.x:X"}))
    assert len(caught.value.message) < 600
