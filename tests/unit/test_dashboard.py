"""The dashboard client against a real server on loopback."""

from __future__ import annotations

import json
import math
import socket
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from controller.errors import Rejected, Stalled, Transient, Waiting
from controller.model import Release
from controller.observed import ApplicationStatus, Replica
from controller.serve.application import parse
from controller.serve.dashboard import (
    APPLICATIONS,
    LONGEST_BLINDNESS,
    METRICS_TARGETS,
)
from tests.support.canned import canned
from tests.support.reports import anything, dashboard_at, document, failure, reported

pytestmark = pytest.mark.unit


@pytest.fixture
def server():
    with canned() as running:
        yield running


@pytest.fixture
def dashboard(server):
    with dashboard_at(server.url) as connected:
        yield connected


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
    assert found.replicas == (Replica("RUNNING", 42, "a"), Replica("STARTING", None, "b"))
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


# -- errors --------------------------------------------------------------------------------------


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
    monkeypatch.setattr("controller.serve.dashboard.LARGEST_REPORT", 1 << 20)
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


def test_each_config_is_sent_as_it_is_whatever_the_one_before_was(server, dashboard):
    server.says(APPLICATIONS, "")
    one, two = document(name="a"), document(name="b", args={"n": 1})
    others = {"proxy_location": "HeadOnly", "http_options": {"applications": ["]"], "port": 8000}}
    configs = [
        {**others, "applications": [one, two]},
        {"applications": [one, document(name="b", args={"n": 2})], **others},
        {"applications": [one]},
        {"applications": []},
    ]
    for config in configs:
        dashboard.put(config)
    assert server.bodies() == configs


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
