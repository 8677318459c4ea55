"""Templates, names and canonical YAML, with Ray's own schema and PyYAML as the readers."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import yaml

from controller.config.settings import ActorOptions, Options, RayOptions, ServeOptions
from controller.errors import Rejected, Stalled
from controller.model import Environment
from controller.serve import schema
from controller.serve.application import release_of
from controller.serve.canonical import quoted, to_yaml
from controller.serve.rendering import Renderer
from tests.support.rendered import INGRESS, place, release

pytestmark = pytest.mark.unit

HOSTILE = [
    "",
    "a\"b\\c'd",
    "two\nlines\r\nand\ttab",
    "{{ options }} {% raise %} {# gone #}",
    "!!python/object/apply:os.system ['true']",
    "- a: &x b\n- *x",
    "\u2028\u2029\x85\x7f\ufeff\x00\x1b\uffff",
    "größe 😀 \U0010ffff",
    "yes",
    "1e3",
    "null",
    "x" * 3000,
]


@pytest.fixture
def renderer():
    return Renderer(wheelway="0.1.0")


# -- the document --------------------------------------------------------------------------------


def test_an_application_says_what_the_host_needs_and_ray_accepts_it(renderer):
    placement = place(
        renderer,
        environment=Environment("c" * 64, "/envs/c/bin/python"),
        options=Options(
            num_replicas=2,
            env_vars={"MODE": "fast"},
            ray_actor_options=ActorOptions(num_cpus=0.5, resources={"tpu": 1.0}),
        ),
        settings={"threshold": 0.7},
    )
    document = placement.document
    assert document["import_path"] == "wheelway.host:build"
    assert document["route_prefix"] is None
    assert document["args"] == {
        "release": {
            "pipeline": "iris",
            "version": "1.0",
            "digest": "a" * 64,
            "project": "acme-iris",
        },
        "target": "acme.iris:Iris",
        "tree": "/cache/tree",
        "record_digest": "b" * 64,
        "environment": "c" * 64,
        "wheelway": "0.1.0",
        "threads": 4,
        "max_memory": None,
    }
    [host] = document["deployments"]
    assert host == {
        "name": "Host",
        "num_replicas": 2,
        "max_ongoing_requests": 400,
        "graceful_shutdown_timeout_s": 65.0,
        "health_check_period_s": 10.0,
        "health_check_timeout_s": 30.0,
        "max_surge_percent": 100,
        "ray_actor_options": {
            "num_cpus": 0.5,
            "resources": {"tpu": 1.0},
            "runtime_env": {
                "py_executable": "/envs/c/bin/python",
                "env_vars": {"MODE": "fast"},
            },
        },
        "user_config": {
            "settings": {"threshold": 0.7},
            "limits": {
                "max_request_bytes": 16 * 2**20,
                "request_timeout": 60.0,
                "max_ongoing_requests": 100,
                "max_queued_requests": 200,
            },
        },
    }
    assert release_of(document) == placement.release
    renderer.validate(renderer.serve_config([document], ServeOptions(), INGRESS))


def test_a_config_is_the_same_text_whether_its_applications_are_new_or_known(renderer):
    documents = [
        {**place(renderer, of=release(f"1.{number}"), settings={"n": HOSTILE}).document}
        for number in range(4)
    ]
    for changed in range(4):
        documents[changed] = {**documents[changed], "route_prefix": f"/predict/iris/1.{changed}"}
        config = renderer.serve_config(documents, ServeOptions(), INGRESS)
        assert config["applications"] == documents
        assert renderer.to_yaml(config) == to_yaml(config)
        renderer.validate(config)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_string_of_a_wheel_breaks_the_document(renderer, text):
    settings = {"value": text, text: [text, {"deeper": text}]}
    variables = {"A": text.replace("\0", "")}
    placement = place(
        renderer, settings=settings, tree=f"/t/{text}", options=Options(env_vars=variables)
    )
    [host] = placement.document["deployments"]
    assert host["user_config"]["settings"] == settings
    assert host["ray_actor_options"]["runtime_env"]["env_vars"] == variables
    config = renderer.serve_config([placement.document], ServeOptions(), INGRESS)
    assert config["applications"] == [placement.document]
    assert yaml.safe_load(renderer.to_yaml(config)) == config


@pytest.mark.parametrize("number", [0, -0.0, 1e-7, 1e16, 1.5e300, 2**70, -3, 0.1, True])
def test_numbers_come_back_as_the_same_numbers(number):
    back = yaml.safe_load(quoted(number))
    assert (back, type(back)) == (number, type(number))


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", {1: 2}, object(), b"x"])
def test_what_json_cannot_say_rejects_this_release_alone(renderer, value):
    with pytest.raises(Rejected, match="could not run it") as caught:
        place(renderer, settings={"value": value})
    assert caught.value.reason == "OptionsRefused"
    assert place(renderer)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(autoscaling_config={"min_replicas": "x"}), "autoscaling_config.min_replicas"),
        (Options(autoscaling_config={"min_replica": 1}), "does not know this key"),
        (Options(num_replicas=2, autoscaling_config={"max_replicas": 3}), "num_replicas"),
    ],
)
def test_options_that_ray_refuses_reject_this_release_alone(renderer, options, said):
    with pytest.raises(Rejected, match=said):
        place(renderer, options=options)


BEYOND = {
    "replicas": {"num_replicas": 2**31},
    "requests": {"max_ongoing_requests": 2**31},
    "scaling": {"num_replicas": None, "autoscaling_config": {"max_replicas": 2**33}},
    "auto": {"num_replicas": "auto", "autoscaling_config": {"max_replicas": 2**33}},
    "resources": {"ray_actor_options": {"resources": {"memory": 1}}},
    "a fraction": {"ray_actor_options": {"num_cpus": 0.00001}},
}
"""Ray's schema takes them; its controller would raise in the loop that serves everybody."""


@pytest.mark.parametrize("case", BEYOND)
def test_what_ray_cannot_convert_is_refused_before_it_is_sent(renderer, case):
    good = place(renderer).document
    [host] = good["deployments"]
    bad = {**good, "name": "bad", "deployments": [{**host, **BEYOND[case]}]}
    with pytest.raises(schema.SchemaError, match=r"deployments\[0\]: Ray cannot convert it"):
        schema.application(bad)
    with pytest.raises(Rejected, match="application 'bad'") as caught:
        renderer.validate({"applications": [good, bad]})
    assert caught.value.reason == "ConfigRefused"
    renderer.validate({"applications": [good, {**bad, "import_path": "their:app"}]})


def test_validating_imports_nobodys_code(renderer, tmp_path, monkeypatch):
    (tmp_path / "policy_of_someone.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    scaling = {"max_replicas": 3, "policy": {"policy_function": "policy_of_someone:scale"}}
    placement = place(renderer, options=Options(autoscaling_config=scaling))
    assert placement.document["deployments"][0]["autoscaling_config"] == scaling
    renderer.validate({"applications": [placement.document]})


@pytest.mark.parametrize(
    ("given", "first"), [({}, 1), ({"initial_replicas": 0}, 1), ({"initial_replicas": 2}, 2)]
)
def test_what_may_scale_to_nothing_starts_with_a_replica_that_proves_it(renderer, given, first):
    scaling = {"min_replicas": 0, "max_replicas": 3, **given}
    placement = place(renderer, options=Options(autoscaling_config=scaling))
    rendered = placement.document["deployments"][0]["autoscaling_config"]
    assert rendered == {**scaling, "initial_replicas": first}
    renderer.validate({"applications": [placement.document]})


# -- names ---------------------------------------------------------------------------------------


def test_equal_inputs_give_the_same_name_and_the_same_bytes():
    first, second = (
        Renderer(wheelway="0.1.0").to_yaml(
            {"applications": [place(Renderer(wheelway="0.1.0"), settings=settings).document]}
        )
        for settings in ({"a": 1, "b": [2]}, {"b": [2], "a": 1})
    )
    assert first.encode() == second.encode()
    assert first.endswith("\n")


@pytest.mark.parametrize(
    "changed",
    [
        {"of": release(digest="e")},
        {"environment": Environment("d" * 64, "/envs/d/bin/python")},
        {"options": Options(env_vars={"A": "b"})},
        {"options": Options(ray_actor_options=ActorOptions(num_cpus=2))},
        {"options": Options(threads=8)},
        {"options": Options(autoscaling_config={"max_replicas": 3})},
        {"tree": "/elsewhere"},
    ],
)
def test_what_restarts_replicas_changes_the_name(renderer, changed):
    assert place(renderer, **changed).name != place(renderer).name


def test_another_wheelway_changes_the_name(renderer):
    assert place(Renderer(wheelway="0.2.0")).name != place(renderer).name


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": {"threshold": 0.9}},
        {"options": Options(num_replicas=3)},
        {"options": Options(max_ongoing_requests=5, max_queued_requests=0, request_timeout=1)},
        {"options": Options(graceful_shutdown_timeout=1, health_check_period=1)},
        {"options": Options(max_request_bytes=10)},
        {"options": Options(stream_timeout=8)},
        {"options": Options(max_batch_size=8)},
        {"options": Options(batch_wait_timeout=0.01)},
    ],
)
def test_lightweight_changes_keep_the_name_but_change_the_document(renderer, changed):
    before, after = place(renderer), place(renderer, **changed)
    assert after.name == before.name
    assert after.document != before.document


def test_bounds_of_autoscaling_are_lightweight_and_its_policy_is_not(renderer):
    def named(**scaling):
        return place(renderer, options=Options(autoscaling_config=scaling)).name

    assert named(max_replicas=3) == named(max_replicas=5)
    assert named(max_replicas=3) != named(max_replicas=3, policy={"policy_function": "a:b"})


@pytest.mark.parametrize("version", ["1.0+cu12", "1!2.0.post1.dev3", "1.0rc1"])
def test_names_stay_within_what_ray_and_haproxy_take(renderer, version):
    placement = place(renderer, of=release(version, pipeline="p" * 300))
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,130}", placement.name)
    assert placement.name == placement.document["name"]


# -- the whole config ----------------------------------------------------------------------------


def test_the_ingress_listens_where_it_is_probed_unless_told_otherwise(renderer):
    assert renderer.serve_config([], ServeOptions(), "http://127.0.0.1:8123")["http_options"] == {
        "host": "127.0.0.1",
        "port": 8123,
    }
    serve = ServeOptions(http_options={"host": "0.0.0.0", "request_timeout_s": 5})
    assert renderer.serve_config([], serve, INGRESS)["http_options"] == {
        "host": "0.0.0.0",
        "port": 8000,
        "request_timeout_s": 5,
    }


def test_unknown_http_options_are_the_configurations_fault(renderer):
    with pytest.raises(Stalled, match=r"\[serve\] http_options\.prot") as caught:
        renderer.serve_config([], ServeOptions(http_options={"prot": 1}), INGRESS)
    assert caught.value.reason == "ServeOptionsRefused"


def test_foreign_applications_are_carried_verbatim(renderer):
    foreign = {"name": "theirs", "import_path": "x.y:z", "args": {"k": "\u2028 {{ }}"}, "odd": [1]}
    assert renderer.serve_config([foreign], ServeOptions(), INGRESS)["applications"] == [foreign]


@pytest.mark.parametrize("odd", [math.nan, math.inf, "\ud800"])
def test_what_no_json_has_is_carried_in_foreign_applications(renderer, odd):
    settings = [{"name": "D", "user_config": {"limit": odd}}]
    foreign = {
        "name": "theirs",
        "import_path": "x.y:z",
        "args": {"k": odd},
        "deployments": settings,
    }
    config = renderer.serve_config([foreign], ServeOptions(), INGRESS)
    assert config["applications"] == [foreign]
    renderer.validate(config)
    assert renderer.to_yaml(config).isascii()


def test_validation_names_the_bad_application(renderer):
    good, nothing = place(renderer).document, {"name": "Host", "num_replicas": 0}
    with pytest.raises(Rejected, match=r"application 'bad': deployments\[0\]\.num_replicas"):
        renderer.validate(
            {"applications": [good, {**good, "name": "bad", "deployments": [nothing]}]}
        )
    with pytest.raises(Rejected, match="multiple configs"):
        renderer.validate({"applications": [good, good]})


def test_the_application_for_encoded_routes_takes_no_cpu_and_is_accepted(renderer):
    document = renderer.encoded_routes(RayOptions(ingress_url=INGRESS))
    assert document["name"] == "wheelway-encoded-routes"
    assert document["route_prefix"] == "/predict"
    assert document["args"] == {"ingress_url": INGRESS, "wheelway": "0.1.0"}
    assert document["deployments"][0]["ray_actor_options"]["num_cpus"] == 0
    assert release_of(document) is None
    renderer.validate({"applications": [document]})


def test_a_placement_is_what_the_model_promises(renderer):
    placement = place(renderer)
    assert placement == replace(placement, name=placement.document["name"])
    assert placement.document["route_prefix"] is None
