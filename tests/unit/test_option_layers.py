"""The layers of options: the operator's defaults, what a wheel asks for, the operator's policy."""

from __future__ import annotations

import pytest

from controller.cache import option_layers as layers
from controller.cache.option_layers import effective_settings
from controller.config.settings import Caps, Options, PipelinePolicy, ServeOptions
from controller.errors import Rejected

pytestmark = pytest.mark.unit


def effective(defaults, wishes, policy, caps):
    return layers.effective(ServeOptions(defaults=defaults, caps=caps), wishes, policy)


def policy(**fields):
    return PipelinePolicy(name="*", **fields)


def test_defaults_then_wishes_then_policy_and_nested_tables_key_by_key():
    options = effective(
        Options(threads=2, max_ongoing_requests=50, env_vars={"A": "default", "B": "default"}),
        {
            "threads": 4,
            "env_vars": {"B": "wish", "C": "wish"},
            "ray_actor_options": {"num_cpus": 2},
        },
        policy(options=Options(env_vars={"C": "policy"}, ray_actor_options={"num_gpus": 1})),
        Caps(),
    )
    assert options.model_dump(exclude_none=True) == {
        "threads": 4,
        "max_ongoing_requests": 50,
        "env_vars": {"A": "default", "B": "wish", "C": "policy"},
        "ray_actor_options": {"num_cpus": 2, "num_gpus": 1},
    }


def test_a_layer_that_fixes_replicas_ends_the_autoscaling_below_and_the_other_way_round():
    scaling = {"autoscaling_config": {"max_replicas": 3}}
    fixed = effective(Options(**scaling), {"num_replicas": 2}, None, Caps())
    assert (fixed.num_replicas, fixed.autoscaling_config) == (2, None)
    scaled = effective(Options(num_replicas=2), scaling, None, Caps())
    assert (scaled.num_replicas, scaled.autoscaling_config) == (None, {"max_replicas": 3})
    auto = effective(Options(num_replicas="auto"), scaling, None, Caps())
    assert (auto.num_replicas, auto.autoscaling_config) == ("auto", {"max_replicas": 3})


ABOVE = {
    "num_replicas": ({"num_replicas": 5}, "num_replicas = 5, the cap is 4"),
    "max_replicas": (
        {"autoscaling_config": {"max_replicas": 9}},
        "autoscaling_config.max_replicas = 9, the cap is 4",
    ),
    "auto": ({"num_replicas": "auto"}, "the cap is 4"),
    "num_cpus": (
        {"ray_actor_options": {"num_cpus": 3.5}},
        "ray_actor_options.num_cpus = 3.5, the cap is 2",
    ),
    "num_gpus": ({"ray_actor_options": {"num_gpus": 1}}, "num_gpus = 1, the cap is 0"),
    "memory": ({"ray_actor_options": {"memory": 11}}, "memory = 11, the cap is 10"),
    "max_memory": ({"max_memory": 11}, "max_memory = 11, the cap is 10"),
    "max_request_bytes": ({"max_request_bytes": 11}, "max_request_bytes = 11, the cap is 10"),
    "request_timeout": ({"request_timeout": 11}, "request_timeout = 11, the cap is 10"),
    "stream_timeout": ({"stream_timeout": 11}, "stream_timeout = 11, the cap is 10"),
    "threads": ({"threads": 11}, "threads = 11, the cap is 10"),
    "graceful_shutdown_timeout": (
        {"graceful_shutdown_timeout": 11},
        "graceful_shutdown_timeout = 11, the cap is 10",
    ),
    "health_check_period": ({"health_check_period": 11}, "period = 11, the cap is 10"),
    "health_check_timeout": ({"health_check_timeout": 11}, "timeout = 11, the cap is 10"),
    "resources": (
        {"ray_actor_options": {"resources": {"licence": 11}}},
        "ray_actor_options.resources.licence = 11, the cap is 10",
    ),
}
CAPS = Caps(
    num_replicas=4,
    num_cpus=2,
    num_gpus=0,
    memory=10,
    max_memory=10,
    max_request_bytes=10,
    request_timeout=10,
    stream_timeout=10,
    threads=10,
    graceful_shutdown_timeout=10,
    health_check_period=10,
    health_check_timeout=10,
    resources=10,
)


@pytest.mark.parametrize("option", ABOVE)
def test_a_wish_above_its_cap_is_rejected_with_both_values_and_the_cure(option):
    wishes, expected = ABOVE[option]
    with pytest.raises(Rejected, match=r"\[serve\.caps\].*\[\[pipelines\]\]") as caught:
        effective(Options(), wishes, None, CAPS)
    assert caught.value.reason == "OptionAboveCap"
    assert expected in caught.value.message
    assert effective(Options(), wishes, None, Caps()).model_dump(exclude_none=True) == wishes


@pytest.mark.parametrize("option", ABOVE)
def test_the_operators_own_word_is_not_capped_and_settles_the_wish(option):
    wishes, _ = ABOVE[option]
    word = Options(**wishes)
    assert effective(Options(), wishes, policy(options=word), CAPS) == word
    assert effective(word, {}, None, CAPS) == word


@pytest.mark.parametrize("option", ["request_timeout", "stream_timeout"])
def test_what_is_longer_than_the_ingress_lets_finish_is_refused_with_that_reason(option):
    serve = ServeOptions(longest_request="5m")
    assert getattr(layers.effective(serve, {option: 300}, None), option) == 300
    with pytest.raises(Rejected, match="whenever a release goes live") as caught:
        layers.effective(serve, {option: 301}, None)
    assert caught.value.reason == "OptionAboveCap"
    assert f"{option} = 301" in caught.value.message
    assert "wheelway ray-head --longest-request" in caught.value.message


def test_a_batch_waits_less_than_the_operator_lets_a_request_take():
    word = policy(options=Options(request_timeout=2))
    with pytest.raises(Rejected, match="request_timeout: must be longer than batch_wait") as caught:
        effective(Options(), {"batch_wait_timeout": 3}, word, Caps())
    assert caught.value.reason == "OptionsRefused"


def test_nobody_wishes_for_a_million_replicas_unless_the_operator_said_so():
    with pytest.raises(Rejected, match="num_replicas = 101, the cap is 100"):
        effective(Options(), {"num_replicas": 101}, None, Caps())
    assert effective(Options(), {"num_replicas": 101}, None, Caps(num_replicas=200))


@pytest.mark.parametrize(
    ("wishes", "cap", "raised"),
    [
        ({"graceful_shutdown_timeout": 86400}, "960", {"graceful_shutdown_timeout": "1d"}),
        ({"health_check_period": 86400}, "60", {"health_check_period": "1d"}),
        ({"health_check_timeout": 86400}, "300", {"health_check_timeout": "1d"}),
        ({"ray_actor_options": {"resources": {"x": 1e6}}}, "1000", {"resources": 1e6}),
        ({"ray_actor_options": {"num_cpus": 1000}}, "64", {"num_cpus": 1000}),
        ({"ray_actor_options": {"num_gpus": 1000}}, "8", {"num_gpus": 1000}),
        ({"ray_actor_options": {"memory": 2**42}}, str(2**40), {"memory": "4TiB"}),
        ({"max_memory": 2**42}, str(2**40), {"max_memory": "4TiB"}),
        ({"max_request_bytes": 2**32}, str(2**30), {"max_request_bytes": "4GiB"}),
    ],
)
def test_no_wheel_takes_what_others_pay_for_unless_the_operator_said_so(wishes, cap, raised):
    with pytest.raises(Rejected, match=f"the cap is {cap}"):
        effective(Options(), wishes, None, Caps())
    assert effective(Options(), wishes, None, Caps(**raised))


def test_who_may_answer_longer_may_take_longer_to_end():
    serve = ServeOptions(longest_request="1h")
    assert layers.effective(serve, {"graceful_shutdown_timeout": 3660}, None)
    with pytest.raises(Rejected, match="the cap is 3660"):
        layers.effective(serve, {"graceful_shutdown_timeout": 3661}, None)


def test_the_operator_may_preload_a_library():
    word = Options(env_vars={"LD_PRELOAD": "libjemalloc.so.2"})
    assert effective(Options(), {}, policy(options=word), Caps()).env_vars == word.env_vars


def test_variables_that_are_too_many_together_reject_this_release_alone():
    text = 40_000 * "x"
    wishes = {"env_vars": {"A": text}}
    with pytest.raises(Rejected, match="env_vars: together they may have 65536") as caught:
        effective(Options(env_vars={"B": text}), wishes, None, Caps())
    assert caught.value.reason == "OptionsRefused"
    assert effective(Options(env_vars={"A": text}), wishes, None, Caps()).env_vars


def test_a_wish_that_the_operator_replaced_by_another_kind_of_scaling_has_no_effect():
    wishes = {"autoscaling_config": {"max_replicas": 9}}
    options = effective(Options(), wishes, policy(options=Options(num_replicas=1)), CAPS)
    assert options.num_replicas == 1


def test_auto_within_a_wished_maximum_is_fine():
    wishes = {"num_replicas": "auto", "autoscaling_config": {"max_replicas": 4}}
    assert effective(Options(), wishes, None, CAPS).num_replicas == "auto"


def test_settings_are_overlaid_key_by_key_at_the_top_only():
    wishes = {"threshold": 0.5, "colours": {"red": 1, "blue": 2}}
    word = policy(settings={"colours": {"red": 3}})
    assert effective_settings(wishes, word) == {"threshold": 0.5, "colours": {"red": 3}}
    assert effective_settings(wishes, None) == wishes
