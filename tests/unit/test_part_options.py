"""The options of parts: what holds for all, what a wheel asks for, the operator's word over it."""

from __future__ import annotations

import pytest

from controller.cache.option_layers import effective, effective_parts
from controller.config.loading import load
from controller.config.settings import Caps, Options, PartOptions, PipelinePolicy, ServeOptions
from controller.errors import ConfigError, Rejected
from controller.model import PartEntry, PipelineEntry

pytestmark = pytest.mark.unit


def entry(parts=("risk",), options=(), **wishes):
    """A pipeline of these options, with parts that wish for this."""
    named = tuple(PartEntry(name, f"m:{name.title()}", wishes) for name in parts)
    return PipelineEntry("scorecard", "m:Card", dict(options), {}, None, named)


def rule(options=(), **parts):
    return PipelinePolicy(name="*", options=Options(**dict(options)), parts=parts)


def said(options):
    return options.model_dump(exclude_none=True)


def test_defaults_of_deployments_then_wishes_then_policy_key_by_key():
    defaults = Options(
        threads=2,
        env_vars={"A": "1"},
        request_timeout=5,
        ray_actor_options={"num_cpus": 0.1, "num_gpus": 0},
    )
    wished = entry(threads=3, num_replicas=2, ray_actor_options={"num_cpus": 1})
    word = rule(risk={"num_replicas": 4, "ray_actor_options": {"memory": 7}})
    [risk] = effective_parts(ServeOptions(defaults=defaults), wished, word).values()
    assert said(risk) == {
        "threads": 3,
        "num_replicas": 4,
        "ray_actor_options": {"num_cpus": 1, "num_gpus": 0, "memory": 7},
    }


def test_what_is_said_of_the_pipeline_is_not_said_of_its_parts():
    loud = {"num_replicas": 7, "threads": 9, "ray_actor_options": {"num_gpus": 1}}
    found = effective_parts(ServeOptions(), entry(options=loud), rule(options=loud))
    assert said(found["risk"]) == {}


@pytest.mark.parametrize("inline", [True, False])
def test_no_part_may_have_a_request_wait_for_others_until_its_time_is_over(inline):
    of_part = {"batch_wait_timeout": 5, "inline": inline}
    with pytest.raises(Rejected) as caught:
        effective_parts(ServeOptions(), entry(**of_part), rule({"request_timeout": 5}))
    assert caught.value.reason == "OptionsRefused"
    assert (
        "parts.risk.batch_wait_timeout: must be below the pipeline's request_timeout, which is 5"
        in caught.value.message
    )
    wished = entry(options={"request_timeout": 5}, **of_part)
    assert effective_parts(ServeOptions(), wished, rule({"request_timeout": 6}))
    assert effective_parts(ServeOptions(), entry(**of_part), None)


def test_each_part_has_its_own():
    two = entry(parts=("churn", "risk"))
    found = effective_parts(ServeOptions(), two, rule(risk={"threads": 2}))
    assert {name: options.threads for name, options in found.items()} == {"churn": None, "risk": 2}


INLINE = [
    ({}, None, None, None, None, False),
    ({"defaults": Options(inline=True)}, None, None, None, None, True),
    ({}, True, None, None, None, True),
    ({"defaults": Options(inline=True)}, False, None, None, None, False),
    ({}, True, False, None, None, False),
    ({}, False, True, None, None, True),
    ({}, None, False, True, None, True),
    ({}, True, True, False, None, False),
    ({}, None, None, True, False, False),
    ({}, None, None, False, True, True),
]


@pytest.mark.parametrize(("serve", "pipeline", "part", "operators", "over_part", "inline"), INLINE)
def test_inline_is_said_for_all_for_a_pipeline_or_for_a_part_and_the_operator_wins(
    serve, pipeline, part, operators, over_part, inline
):
    def of(value):
        return {} if value is None else {"inline": value}

    wished = entry(options=of(pipeline), **of(part))
    word = rule(options=of(operators), risk=of(over_part))
    found = effective_parts(ServeOptions(**serve), wished, word)
    assert bool(found["risk"].inline) is inline


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({"ray_actor_options": {"num_gpus": 9}}, "parts.risk.ray_actor_options.num_gpus = 9"),
        ({"num_replicas": 101}, "parts.risk.num_replicas = 101, the cap is 100"),
        ({"max_memory": 2**41}, "parts.risk.max_memory = 2199023255552"),
        ({"graceful_shutdown_timeout": 5000}, "parts.risk.graceful_shutdown_timeout = 5000"),
    ],
)
def test_a_wish_of_a_part_above_a_cap_ends_as_its_pipelines_does(wishes, expected):
    with pytest.raises(Rejected) as caught:
        effective_parts(ServeOptions(), entry(**wishes), None)
    assert caught.value.reason == "OptionAboveCap"
    assert expected in caught.value.message
    assert effective_parts(ServeOptions(), entry(**wishes), rule(risk=wishes))
    inline = effective_parts(ServeOptions(), entry(**wishes), rule(options={"inline": True}))
    assert inline["risk"].inline, "of a part in its pipeline's threads that takes no effect"


def test_threads_of_a_part_that_is_inline_are_the_pipelines_replicas_and_capped():
    serve = ServeOptions(caps=Caps(threads=2))
    with pytest.raises(Rejected, match=r"parts\.risk\.threads = 3, the cap is 2"):
        effective_parts(serve, entry(threads=3, inline=True), None)


def test_caps_hold_for_each_part_by_itself():
    serve = ServeOptions(caps=Caps(num_cpus=1))
    parts = entry(parts=("a", "b", "c"), ray_actor_options={"num_cpus": 1})
    assert len(effective_parts(serve, parts, None)) == 3


def test_a_pipelines_own_options_do_not_change_for_its_parts():
    assert effective(ServeOptions(), {"inline": True}, None) == Options(inline=True)


# -- the operator's file -------------------------------------------------------------------------

FILE = """
[serve.defaults]
inline = true

[[pipelines]]
name = "other"

[[pipelines]]
name = "scorecard"
[pipelines.parts.risk]
inline = false
num_replicas = 2
graceful_shutdown_timeout = "1m"
"""


def configured(folder, text):
    path = folder / "controller.toml"
    path.write_text(text)
    return load(path)


def test_the_operator_says_it_below_the_pipeline(tmp_path):
    config = configured(tmp_path, FILE)
    assert config.serve.defaults.inline is True
    other, scorecard = config.pipelines
    assert other.parts == {}
    assert scorecard.parts == {
        "risk": PartOptions(inline=False, num_replicas=2, graceful_shutdown_timeout=60)
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("env_vars = { A = '1' }", ":12: pipelines.1.parts.risk.env_vars"),
        ("num_replicas = 0", ":12: pipelines.1.parts.risk.num_replicas"),
        ("[pipelines.parts.Risk]", "pipelines.1.parts.Risk"),
    ],
)
def test_a_mistake_in_it_is_told_with_line_and_key(tmp_path, line, expected):
    text = FILE.replace("num_replicas = 2", line).replace("graceful", "# graceful")
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, text)
    assert expected in caught.value.message
