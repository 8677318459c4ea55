"""The dashboard client, the cluster's facts and the probe, against a real server on loopback.

The bodies are those that Ray 2.60 sent, shortened.
"""

from __future__ import annotations

import json
import math
import socket
import ssl
import threading
import time
from contextlib import closing

import httpx
import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.version import Version

from controller.config.settings import RayOptions
from controller.errors import Rejected, Stalled, Transient, Waiting
from controller.model import Answer, ApplicationStatus, Release, Replica
from controller.rayhead.haproxy import LABEL
from controller.serve.application import cause, parse
from controller.serve.cluster import Cluster, inspect
from controller.serve.dashboard import (
    APPLICATIONS,
    LONGEST_BLINDNESS,
    METRICS_TARGETS,
    Dashboard,
)
from controller.serve.ingress import Ingress
from controller.serve.rendering import Renderer
from tests.support.canned import canned
from wheelway.host import EncodedRoutesHost

pytestmark = pytest.mark.unit


@pytest.fixture
def server():
    with canned() as running:
        yield running


def dashboard_at(url, **options):
    return closing(Dashboard.connect(RayOptions(dashboard_url=url, **options)))


@pytest.fixture
def dashboard(server):
    with dashboard_at(server.url) as connected:
        yield connected


def document(**more):
    return {
        "name": "iris-1.0-0a1b2c3d",
        "route_prefix": None,
        "import_path": "wheelway.host:build",
        "args": {"release": {"pipeline": "iris", "version": "1.0", "digest": "a" * 64}},
        **more,
    }


def reported(status="RUNNING", **more):
    return {
        "name": "x",
        "route_prefix": None,
        "docs_path": None,
        "status": status,
        "message": "",
        "last_deployed_time_s": 12.5,
        "deployed_app_config": document(),
        "source": "declarative",
        "deployments": {},
        **more,
    }


def parsed(name):
    [application] = parse({"applications": {name: reported()}})
    return application


def only(**more):
    [application] = parse({"applications": {"x": reported(**more)}})
    return application


# -- what is reported ----------------------------------------------------------------------------


def test_a_running_release_is_read_with_its_document_verbatim(server, dashboard):
    host = {
        "status": "HEALTHY",
        "message": "",
        "replicas": [
            {"state": "RUNNING", "pid": 42, "replica_id": "a"},
            {"state": "STARTING", "replica_id": "b", "start_time_s": 1.0},
        ],
    }
    routed = document(route_prefix="/predict/iris/1.0")
    body = {"applications": {"b": reported(deployed_app_config=routed, deployments={"Host": host})}}
    server.says(APPLICATIONS, body)
    [found] = dashboard.applications()
    assert found.name == "b"
    assert found.status is ApplicationStatus.RUNNING
    assert found.route == "/predict/iris/1.0"
    assert found.document == routed
    assert found.release == Release("iris", Version("1.0"), "a" * 64)
    assert found.replicas == (Replica("RUNNING", 42), Replica("STARTING", None))
    assert not found.building
    assert found.message == ""


def test_what_did_not_change_between_two_looks_is_the_same_object(server, dashboard):
    both = {name: reported(deployed_app_config=document(name=name)) for name in ("a", "b")}
    server.says(APPLICATIONS, {"applications": both})
    first = dashboard.applications()
    assert dashboard.applications() is first
    both["b"]["status"] = "UNHEALTHY"
    server.says(APPLICATIONS, {"applications": both})
    one, other = dashboard.applications()
    assert one is first[0]
    assert other.status is ApplicationStatus.UNHEALTHY
    assert other.document is first[1].document
    both["b"]["deployed_app_config"] = document(name="b", import_path="their:app")
    server.says(APPLICATIONS, {"applications": both})
    assert dashboard.applications()[1].release is None


def test_no_serve_instance_is_no_application(server, dashboard):
    server.says(APPLICATIONS, {"deploy_mode": "MULTI_APP", "applications": {}, "proxies": {}})
    assert dashboard.applications() == ()


def test_only_a_deployment_without_deployments_is_building():
    assert only(status="DEPLOYING").building
    assert not only(status="DEPLOYING", deployments={"Host": {"replicas": []}}).building
    assert not only(status="DEPLOY_FAILED").building


def test_a_status_that_only_a_later_serve_knows_is_neither_ready_nor_failed():
    assert only(status="MIGRATING").status is ApplicationStatus.NOT_STARTED


def test_an_imperative_application_is_not_ours_and_holds_the_route_it_has():
    found = only(deployed_app_config=None, source="imperative", route_prefix="/theirs")
    assert (found.document, found.release, found.route) == (None, None, "/theirs")


def test_a_declarative_application_that_says_no_route_has_serves_default():
    found = only(deployed_app_config={"import_path": "a:b"}, route_prefix=None)
    assert (found.route, found.release) == ("/", None)
    assert found.document == {"name": "x", "import_path": "a:b"}


@pytest.mark.parametrize(
    "changed",
    [
        {"import_path": "wheelway.host:build_encoded_routes"},
        {"args": {}},
        {"args": {"release": "iris"}},
        {"args": {"release": {"pipeline": "Iris", "version": "1.0", "digest": "a" * 64}}},
        {"args": {"release": {"pipeline": "", "version": "1.0", "digest": "a" * 64}}},
        {"args": {"release": {"pipeline": "../x", "version": "1.0", "digest": "a" * 64}}},
        {"args": {"release": {"pipeline": "iris", "version": "one", "digest": "a" * 64}}},
        {"args": {"release": {"pipeline": "iris", "version": "9" * 5000, "digest": "a" * 64}}},
        {"args": {"release": {"pipeline": "iris", "version": "1.0", "digest": "a"}}},
        {"args": {"release": {"version": "1.0", "digest": "a" * 64}}},
    ],
)
def test_what_does_not_name_a_well_formed_release_is_not_ours(changed):
    assert only(deployed_app_config=document(**changed)).release is None


REPLICA_FAILED = """\
The deployment failed to start 3 times in a row. This may be due to a problem with its constructor \
or initial health check failing. See controller logs for details. Error:
\x1b[36mray::ServeReplica:x:Host.initialize_and_get_metadata()\x1b[39m (pid=1, ip=127.0.0.1, )
  File "/v/lib/python3.11/concurrent/futures/_base.py", line 449, in result
    return self.__get_result()
           ^^^^^^^^^^^^^^^^^^^
  File "/v/lib/python3.11/site-packages/ray/serve/_private/replica.py", line 1928, in initialize
    raise RuntimeError(traceback.format_exc()) from None
RuntimeError: Traceback (most recent call last):
  File "/v/lib/python3.11/site-packages/ray/serve/_private/replica.py", line 4008, in _call
    result = callable(*args, **kwargs)
  File "/v/x.py", line 9, in __init__
    raise RuntimeError("wheelway-failure[Quoted] in a source line")
"""


def test_the_hosts_own_words_are_dug_out_of_a_failed_replica():
    said = (
        "wheelway-failure[LoadFailed] load raised ValueError: no model\n"
        "Traceback (most recent call last):\n"
        '  File "iris.py", line 3, in load\nValueError: no model'
    )
    ray = said.replace(
        "Traceback (most recent call last):",
        "\x1b[36mray::ServeReplica:x:Host.initialize_and_get_metadata()\x1b[39m (pid=1, ip=::1)",
    )
    host = {"status": "DEPLOY_FAILED", "message": f"{REPLICA_FAILED}wheelway.X: {ray}"}
    own = "Failed to update the deployments ['Host']."
    found = only(status="DEPLOY_FAILED", message=own, deployments={"Host": host})
    assert found.message == said


def test_a_cause_without_a_marker_keeps_the_frames_that_are_not_rays():
    assert cause(REPLICA_FAILED.replace("wheelway-failure[Quoted] ", "") + "KeyError: 'boom'") == (
        "The deployment failed to start 3 times in a row.\n"
        '  File "/v/x.py", line 9, in __init__\n'
        '    raise RuntimeError("in a source line")\n'
        "KeyError: 'boom'"
    )


def test_a_replica_that_died_is_said_in_words():
    text = REPLICA_FAILED.splitlines()[0] + "\nActorDiedError()"
    assert "the replica's process died" in cause(text)


def test_a_failed_build_is_said_by_the_application_itself():
    found = only(
        status="DEPLOY_FAILED",
        message="Deploying app 'x' failed with exception:\nModuleNotFoundError: No module 'y'",
    )
    assert found.message.endswith("ModuleNotFoundError: No module 'y'")


# -- errors --------------------------------------------------------------------------------------


def failure(call):
    with pytest.raises((Waiting, Stalled, Transient, Rejected)) as caught:
        call()
    return caught.value


def test_nobody_there_is_waiting_with_the_cure():
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with dashboard_at(url) as dashboard:
            error = failure(dashboard.applications)
    assert (type(error), error.reason) == (Waiting, "DashboardUnreachable")
    assert url in error.message
    assert "wheelway up" in error.message
    assert error.__cause__ is not None


def test_a_dashboard_that_hangs_is_waiting(server):
    server.answers[APPLICATIONS] = "hang"
    with dashboard_at(server.url, timeout=0.2) as dashboard:
        error = failure(dashboard.applications)
    assert (type(error), error.reason) == (Waiting, "DashboardUnreachable")
    assert "within 0.2 s" in error.message


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, "Unauthorized", (Stalled, "DashboardUnauthorized")),
        (403, "Forbidden", (Stalled, "DashboardUnauthorized")),
        (404, "404: Not Found", (Stalled, "ServeUnavailable")),
        (501, "Serve dependencies are not installed.", (Stalled, "ServeUnavailable")),
        (503, "The GCS may be down, please retry later", (Transient, "DashboardFailed")),
        (500, "Traceback:\nRuntimeError: cannot bind socket", (Transient, "IngressPortTaken")),
        (302, "", (Stalled, "DashboardUnexpected")),
        (200, "<html>hello</html>", (Stalled, "DashboardUnexpected")),
        (200, "[]", (Stalled, "DashboardUnexpected")),
    ],
)
def test_answers_that_are_no_success_become_errors_with_a_reason(
    server, dashboard, status, body, expected
):
    server.says(APPLICATIONS, body, status)
    error = failure(dashboard.applications)
    assert (type(error), error.reason) == expected


@pytest.mark.parametrize(
    ("said", "waits"),
    [
        ("7", 7),
        ("1000000000", LONGEST_BLINDNESS),
        ("9" * 400, LONGEST_BLINDNESS),
        ("Thu, 01 Jan 2099 00:00:00 GMT", LONGEST_BLINDNESS),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("soon", None),
    ],
)
def test_retry_after_is_honoured_within_reason(server, dashboard, said, waits):
    server.says(APPLICATIONS, "later", 503, Retry_After=said)
    assert failure(dashboard.applications).retry_after == waits


ODD = {
    "no applications": {},
    "another's error": {"error": "upstream"},
    "no table of applications": {"applications": []},
    "applications that are none": {"applications": None},
    "an application that is none": {"applications": {"x": None}},
    "no status": {"applications": {"x": {"deployments": {}}}},
    "a status that is none": {"applications": {"x": reported(status=7)}},
    "a document that is none": {"applications": {"x": reported(deployed_app_config=["a"])}},
    "a route that is none": {
        "applications": {"x": reported(deployed_app_config=document(route_prefix=3))}
    },
    "a document's name that is none": {
        "applications": {"x": reported(deployed_app_config=document(name=None))}
    },
    "deployments in a list": {"applications": {"x": reported(deployments=["a"])}},
    "a deployment that is none": {"applications": {"x": reported(deployments={"Host": 1})}},
    "replicas in a table": {
        "applications": {"x": reported(deployments={"Host": {"replicas": {"a": 1}}})}
    },
    "a replica without a state": {
        "applications": {"x": reported(deployments={"Host": {"replicas": [{"pid": 1}]}})}
    },
    "a message that is none": {"applications": {"x": reported(message=["a"])}},
}


@pytest.mark.parametrize("case", ODD)
def test_only_a_well_formed_answer_is_an_answer(server, dashboard, case):
    server.says(APPLICATIONS, ODD[case])
    error = failure(dashboard.applications)
    assert (type(error), error.reason) == (Stalled, "DashboardUnexpected")
    assert "applications" in error.message


@pytest.mark.parametrize(
    "odd",
    [math.nan, math.inf, -math.inf, "\ud800", [{"a": math.nan}, {"b": math.nan}], {"\udfff": 0}],
)
def test_what_a_stranger_was_deployed_with_hides_none_of_ours_and_is_carried(
    server, dashboard, odd
):
    theirs = document(name="theirs", import_path="their:app", args={"odd": odd})
    both = {"theirs": reported(deployed_app_config=theirs), "ours": reported()}
    server.says(APPLICATIONS, {"applications": both})
    ours, others = dashboard.applications()
    assert (ours.release.pipeline, ours.oddity) == ("iris", "")
    assert others.oddity
    both["theirs"]["message"] = "of another pass"
    server.says(APPLICATIONS, {"applications": both})
    later = dashboard.applications()[1]
    assert later.document is others.document, "it is as it was"
    server.says(APPLICATIONS, "")
    dashboard.put({"applications": [later.document]})
    said = json.loads(server.asked[-1][3])["applications"]
    assert json.dumps(said) == json.dumps([theirs])


def test_an_oddity_of_our_own_is_a_difference_and_no_news(server, dashboard):
    odd = document(args={**document()["args"], "limit": math.inf})
    server.says(APPLICATIONS, {"applications": {"x": reported(deployed_app_config=odd)}})
    [ours] = dashboard.applications()
    assert ours.release.pipeline == "iris"
    assert ours.document != document()
    assert ours.oddity == ""


@pytest.mark.parametrize(
    "body",
    [
        '{"proxies": {"a": NaN}}',
        json.dumps({"applications": {"x": reported(message="\ud800")}}),
        json.dumps({"applications": {"x": reported(deployed_app_config={"name": "\ud800"})}}),
        json.dumps({"applications": {"\ud800": reported()}}),
        '{"applications": ' + "[" * 100_000,
        '{"applications": ' + "1" * 5000 + "}",
        "",
    ],
)
def test_what_cannot_be_said_again_is_no_answer(server, dashboard, body):
    server.says(APPLICATIONS, body)
    assert failure(dashboard.applications).reason == "DashboardUnexpected"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def answers(draw):
    """What Ray says, with one part of it, anywhere, replaced by something else or left out."""
    host = {"status": "HEALTHY", "message": "", "replicas": [{"state": "RUNNING", "pid": 1}]}
    whole = {"applications": {"x": reported(deployments={"Host": host})}, "proxies": {}}
    spot = whole
    while True:
        key = draw(st.sampled_from(sorted(spot) if isinstance(spot, dict) else range(len(spot))))
        if draw(st.booleans()) or not isinstance(spot[key], (dict, list)) or not spot[key]:
            break
        spot = spot[key]
    if draw(st.booleans()):
        spot[key] = draw(anything)
    else:
        del spot[key]
    return whole


@given(answers())
def test_whatever_answers_is_understood_or_refused(answer):
    try:
        found = parse(answer)
    except ValueError as error:
        assert "applications" in str(error)  # noqa: PT017 - what it is for an answer is not known
    else:
        assert {application.name for application in found} == answer["applications"].keys()


@pytest.mark.parametrize("how", ["hang", "drip", "trickle"])
def test_a_dashboard_that_never_ends_its_answer_is_waited_for_no_longer(server, how):
    server.answers[APPLICATIONS] = how
    with dashboard_at(server.url, timeout=0.3) as dashboard:
        error = failure(dashboard.applications)
    assert (type(error), error.reason) == (Waiting, "DashboardUnreachable")
    assert "within 0.3 s" in error.message


def test_a_dashboard_that_says_too_much_is_none(server, dashboard, monkeypatch):
    monkeypatch.setattr("controller.serve.dashboard._DETAILS_LIMIT", 1 << 20)
    server.answers[APPLICATIONS] = "flood"
    assert failure(dashboard.applications).reason == "DashboardUnexpected"


@pytest.mark.parametrize(
    "said", [{}, [1], [{}], [{"targets": "a:1"}], [{"targets": [1]}], {"targets": ["a:1"]}]
)
def test_targets_that_are_none_are_not_asked(server, dashboard, said):
    server.says(METRICS_TARGETS, said)
    assert failure(dashboard.metrics_targets).reason == "DashboardUnexpected"


def test_a_refused_config_says_which_application_and_why(server, dashboard):
    server.says(
        APPLICATIONS,
        "1 validation error for ServeDeploySchema\napplications.0.import_path\n"
        "  Value error, Got invalid import path \"nocolon\". [type=value_error, input_value='n']\n"
        "    For further information visit https://errors.pydantic.dev/2/v/value_error",
        400,
    )
    error = failure(lambda: dashboard.put({"applications": [{"name": "bad"}]}))
    assert (type(error), error.reason) == (Rejected, "ConfigRefused")
    assert error.message == (
        "Ray refused the Serve config: application 'bad', import_path; "
        'Got invalid import path "nocolon".'
    )


def test_a_put_sends_the_config_as_json(server, dashboard):
    server.says(APPLICATIONS, "")
    config = {"applications": [{"name": "größe"}]}
    dashboard.put(config)
    [(method, path, headers, body)] = server.asked
    assert (method, path) == ("PUT", APPLICATIONS)
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == config


def test_of_a_config_only_what_is_not_as_in_the_one_before_is_written_anew(server, dashboard):
    server.says(APPLICATIONS, "")
    one, two = document(name="a"), document(name="b", args={"n": 1})
    others = {"proxy_location": "HeadOnly", "http_options": {"applications": ["]"], "port": 8000}}
    configs = [
        {**others, "applications": [one, two]},
        {"applications": [one, document(name="b", args={"n": 2})], **others},
        {"applications": [one]},
        {"applications": []},
    ]
    made = []
    for config in configs:
        dashboard.put(config)
        made.append(dashboard._texts.made)
    assert [json.loads(body) for *_, body in server.asked] == configs
    assert made == [2, 3, 3, 3]


def test_a_document_that_comes_back_as_it_was_sent_is_the_same_object(server, dashboard):
    server.says(APPLICATIONS, "")
    same, other = document(name="a"), document(name="b")
    dashboard.put({"applications": [same, other]})
    changed = document(name="b", route_prefix="/theirs")
    both = {"a": reported(deployed_app_config=document(name="a"))}
    both["b"] = reported(deployed_app_config=changed)
    server.says(APPLICATIONS, {"applications": both})
    one, two = dashboard.applications()
    assert one.document is same
    assert two.document == changed


# -- tokens --------------------------------------------------------------------------------------


def test_the_token_is_read_again_when_its_file_changes(server, tmp_path):
    server.says(APPLICATIONS, {"applications": {}})
    file = tmp_path / "token"
    file.write_text("first\n")
    with dashboard_at(server.url, token_file=file) as dashboard:
        dashboard.applications()
        successor = tmp_path / "new"
        successor.write_text("second")
        successor.rename(file)
        dashboard.applications()
    assert [headers["authorization"] for _, _, headers, _ in server.asked] == [
        "Bearer first",
        "Bearer second",
    ]


@pytest.mark.parametrize("content", [None, "", "two\nlines"])
def test_a_token_that_cannot_be_used_is_said_before_anything_is_sent(server, tmp_path, content):
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with dashboard_at(server.url, token_file=file) as dashboard:
        error = failure(dashboard.applications)
    assert (error.reason, str(file) in error.message) == ("TokenUnreadable", True)
    assert server.asked == []


# -- the cluster ---------------------------------------------------------------------------------


def test_the_clusters_facts_are_gathered(server, dashboard):
    server.says("/api/version", {"ray_version": "2.60.0", "session_name": "session_1"})
    server.says("/api/v0/cluster_metadata", {"data": {"pythonVersion": "3.11.7"}})
    usage = {"CPU": [0.5, 2.0], "memory": [0.0, 1.0]}
    status = {"clusterStatus": {"loadMetricsReport": {"usage": usage}}}
    server.says("/api/cluster_status", {"data": status})
    actors = "/api/v0/actors?filter_keys=class_name&filter_predicates=%3D&filter_values="
    alive = {"data": {"result": {"result": [{"state": "ALIVE"}]}}}
    none = {"data": {"result": {"result": []}}}
    server.says(f"{actors}HAProxyManager", alive)
    assert inspect(dashboard) == Cluster("session_1", "2.60.0", "3.11.7", 2.0, 1.5, haproxy=True)
    server.says(f"{actors}HAProxyManager", none)
    server.says(f"{actors}ProxyActor", alive)
    assert inspect(dashboard).haproxy is False
    server.says(f"{actors}ProxyActor", none)
    assert inspect(dashboard).haproxy is None


@pytest.mark.parametrize(
    ("labels", "stop"),
    [({LABEL: "930"}, 930.0), ({}, 120.0), ({LABEL: "soon"}, None), (None, None)],
)
def test_how_long_the_ingress_waits_is_read_from_the_heads_label(server, dashboard, labels, stop):
    server.says("/api/version", {"ray_version": "2.60.0"})
    worker = {"is_head_node": False, "labels": {LABEL: "7"}}
    rows = [worker, {"is_head_node": True, "labels": labels}]
    server.says("/api/v0/nodes", {"data": {"result": {"result": rows}}})
    assert inspect(dashboard).hard_stop == stop


def test_haproxys_restart_is_not_taken_for_a_slow_ingress(server, dashboard):
    server.says("/api/version", {"ray_version": "2.60.0"})
    actors = "/api/v0/actors?filter_keys=class_name&filter_predicates=%3D&filter_values="
    restarting = {"state": "RESTARTING", "name": "SERVE_PROXY_ACTOR-node1"}
    fallback = {"state": "ALIVE", "name": "SERVE_PROXY_ACTOR-fallback-node1"}
    server.says(f"{actors}HAProxyManager", {"data": {"result": {"result": [restarting]}}})
    server.says(f"{actors}ProxyActor", {"data": {"result": {"result": [fallback]}}})
    assert inspect(dashboard).haproxy is None


def test_what_a_cluster_does_not_say_is_unknown(server, dashboard):
    server.says("/api/version", {"ray_version": "2.60.0"})
    assert inspect(dashboard) == Cluster("", "2.60.0", None, None, None, haproxy=None)


OPTIONAL = (
    "/api/cluster_status",
    "/api/v0/cluster_metadata",
    "/api/v0/actors",
    "/api/v0/nodes",
)


@pytest.mark.parametrize("how", ["hang", "drip", "trickle"])
def test_an_optional_part_that_is_slow_hides_nothing_but_itself(server, monkeypatch, how):
    monkeypatch.setattr("controller.serve.cluster.OPTIONAL_DEADLINE", 0.3)
    server.says("/api/version", {"ray_version": "2.60.0", "session_name": "session_1"})
    for path in OPTIONAL:
        server.answers[path] = how
    unknown = Cluster("session_1", "2.60.0", None, None, None, haproxy=None)
    began = time.monotonic()
    with dashboard_at(server.url, timeout=90.0) as dashboard:
        assert inspect(dashboard) == unknown
    assert time.monotonic() - began < 60  # what else is asked may take 90 s


def wrapped(odd):
    """An optional part's answer that is odd at one of the depths at which something is read."""
    return st.sampled_from(
        [
            odd,
            {"data": odd},
            {"data": {"pythonVersion": odd, "result": odd}},
            {"data": {"result": {"result": odd}}},
            {"data": {"result": {"result": [{"is_head_node": True, "labels": odd}]}}},
            {"data": {"clusterStatus": {"loadMetricsReport": {"usage": {"CPU": odd}}}}},
        ]
    )


@given(said=st.lists(anything.flatmap(wrapped), min_size=4, max_size=4))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_optional_part_that_is_odd_is_unknown(server, dashboard, said):
    server.says("/api/version", {"ray_version": "2.60.0"})
    for path, answer in zip(OPTIONAL, said, strict=True):
        server.says(path, json.dumps(answer))
    found = inspect(dashboard)
    assert (found.ray, found.haproxy) == ("2.60.0", None)
    assert found.cpus is None or math.isfinite(found.cpus)
    assert found.python is None or isinstance(found.python, str)


def test_something_else_at_the_address_is_not_taken_for_ray(server, dashboard):
    server.says("/api/version", {"version": 1})
    assert failure(lambda: inspect(dashboard)).reason == "DashboardUnexpected"


# -- the ingress ---------------------------------------------------------------------------------


def test_a_probe_sends_the_route_as_typed_and_reads_the_release(server):
    route = "/predict/iris/1!1.0+cu12"
    metadata = {"application": "iris-1-0a1b2c3d", "settings_error": "threshold: too high"}
    server.says(route, metadata, x_wheelway_release="iris@1!1.0+cu12+aaaaaaaa")
    answer = Ingress(server.url).probe(route)
    assert (answer.header, answer.status) == ("iris@1!1.0+cu12+aaaaaaaa", 200)
    assert answer.application == "iris-1-0a1b2c3d"
    assert answer.settings_error == "threshold: too high"


def test_every_probe_is_a_connection_of_its_own(server):
    server.says("/r", {})
    ingress = Ingress(server.url)
    ingress.probe("/r")
    ingress.probe("/r")
    assert [headers["connection"] for _, _, headers, _ in server.asked] == ["close", "close"]


def test_a_route_that_nobody_holds_has_a_status_and_no_header(server):
    answer = Ingress(server.url).probe("/nothing")
    assert (answer.header, answer.status, answer.detail) == (None, 404, "not here")


@pytest.mark.parametrize(
    ("table", "known"),
    [
        ((200, b'{"/r": "ours-1"}', {}), True),
        ((200, b'{"/r": "another-head"}', {}), False),
        ((200, b"{}", {}), False),
        ((503, b"Route table is not populated yet.", {}), False),
        ((502, b"bad gateway", {}), False),
        ((404, b"the balancer shows no such page", {}), None),
    ],
)
def test_an_answer_counts_if_it_is_the_ingress_of_this_head_that_gives_it(server, table, known):
    server.answers["/-/routes"] = table
    ingress = Ingress(server.url)
    own, other = Answer(None, 404, detail="Ping http://.../-/routes"), Answer(None, 404)
    ours = Answer("iris@1.0+aaaaaaaa", 200, "ours-1")
    away = Answer(None, None, detail="refused", reached=False)
    answers = {"/own": own, "/other": other, "/ours": ours, "/away": away}
    found = ingress.vouched(answers, [parsed("ours-1")])
    assert found["/ours"] == ours
    assert found["/away"] == away
    assert found["/own"].reached is (True if known is None else known)
    assert found["/other"].reached is bool(known)


@pytest.mark.parametrize(
    ("table", "routeless"),
    [
        ((503, b"Route table is not populated yet.", {}), True),
        ((200, b"{}", {}), True),
        ((200, b'{"/r": "another-head"}', {}), False),
        ((200, b'{"/r": "ours-1"}', {}), False),
    ],
)
def test_serves_own_ingress_without_any_route_is_told_from_a_strangers(server, table, routeless):
    server.answers["/-/routes"] = table
    serves = "Path '/own' not found. Ping http://.../-/routes for available routes."
    answers = {"/own": Answer(None, 404, detail=serves), "/other": Answer(None, 404)}
    found = Ingress(server.url).vouched(answers, [parsed("ours-1")])
    assert found["/own"].routeless is routeless
    assert found["/other"].routeless is False


def test_nothing_more_is_asked_of_an_ingress_that_answers_as_ours(server):
    ours = {"/r": Answer("iris@1.0+aaaaaaaa", 200, "ours-1")}
    assert Ingress(server.url).vouched(ours, [parsed("ours-1")]) == ours
    assert server.asked == []


def test_an_ingress_that_is_not_there_or_hangs_is_an_answer_without_a_status(server):
    server.answers["/r"] = "hang"
    hanging = Ingress(server.url, timeout=0.2).probe("/r")
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        refused = Ingress(f"http://127.0.0.1:{unused.getsockname()[1]}").probe("/r")
    assert (hanging.status, refused.status) == (None, None)
    assert (hanging.reached, refused.reached) == (True, False)
    assert "Timeout" in hanging.detail
    assert "refused" in refused.detail


@pytest.mark.parametrize("how", ["hang", "drip", "trickle", "flood"])
def test_an_answer_at_a_route_that_does_not_end_is_none(server, monkeypatch, how):
    monkeypatch.setattr("controller.serve.ingress._LIMIT", 1 << 20)
    server.answers["/r"] = how
    answer = Ingress(server.url, timeout=60 if how == "flood" else 0.3).probe("/r")
    assert (answer.header, answer.status, answer.reached) == (None, None, True)
    assert ("Timeout" if how != "flood" else "BodyTooLarge") in answer.detail


@pytest.mark.parametrize("how", ["hang", "drip", "trickle", "flood"])
def test_a_table_of_routes_that_does_not_end_knows_nobody(server, monkeypatch, how):
    monkeypatch.setattr("controller.serve.ingress._LIMIT", 1 << 20)
    server.answers["/-/routes"] = how
    ingress = Ingress(server.url, timeout=60 if how == "flood" else 0.3)
    found: list[dict[str, Answer]] = []
    answers = {"/r": Answer(None, 404)}
    asking = threading.Thread(
        target=lambda: found.append(ingress.vouched(answers, [parsed("ours-1")])), daemon=True
    )
    asking.start()
    asking.join(60)
    assert [answer.reached for answer in found[0].values()] == [False]


@pytest.fixture
def secure():
    """A server by https, and the authority that signed for it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with canned() as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
        yield running.url.replace("http:", "https:"), authority, running


def test_an_ingress_by_https_is_trusted_by_the_same_authority_as_the_dashboard(secure, tmp_path):
    url, authority, running = secure
    running.says("/r", {}, x_wheelway_release="iris@1.0+aaaaaaaa")
    stranger = Ingress.connect(RayOptions(ingress_url=url)).probe("/r")
    assert (stranger.header, stranger.status) == (None, None)
    assert "set ray.ca_file" in stranger.detail
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    trusted = Ingress.connect(RayOptions(ingress_url=url, ca_file=ca_file)).probe("/r")
    assert (trusted.header, trusted.status) == ("iris@1.0+aaaaaaaa", 200)
    ca_file.write_text("nothing")
    error = failure(lambda: Ingress.connect(RayOptions(ingress_url=url, ca_file=ca_file)))
    assert (type(error), error.reason) == (Stalled, "CertificateUnreadable")


@pytest.mark.anyio
async def test_what_answers_encoded_routes_trusts_the_ingress_as_the_daemon_does(secure, tmp_path):
    url, authority, running = secure
    running.says("/predict/iris/1.0+cu1", {}, x_wheelway_release="iris@1.0+cu1+aaaaaaaa")
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    renderer = Renderer(wheelway="0.1.0")

    async def ask(**trust):
        document = renderer.encoded_routes(RayOptions(ingress_url=url, **trust))
        app = EncodedRoutesHost(document["args"]).__serve_build_asgi_app__()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/predict/iris/1.0%2Bcu1")

    stranger = await ask()
    assert (stranger.status_code, stranger.json()["reason"]) == (502, "IngressUnreachable")
    trusted = await ask(ca_file=ca_file)
    assert trusted.headers["x-wheelway-release"] == "iris@1.0+cu1+aaaaaaaa"
    ca_file.write_text("nothing")
    unusable = await ask(ca_file=ca_file)
    assert unusable.status_code == 502
    assert f"ray.ca_file {ca_file}: " in unusable.json()["detail"]


def test_a_ca_is_handed_to_replicas_for_an_ingress_by_https_alone(tmp_path):
    ca_file, renderer = tmp_path / "ca.pem", Renderer(wheelway="0.1.0")
    plain = RayOptions(ingress_url="http://127.0.0.1:8000", ca_file=ca_file)
    assert "ca_file" not in renderer.encoded_routes(plain)["args"]
    secured = RayOptions(ingress_url="https://127.0.0.1:8000", ca_file=ca_file)
    assert renderer.encoded_routes(secured)["args"]["ca_file"] == str(ca_file)
