"""Golden files of the control API: what each path answers, on the socket and on the port."""

from __future__ import annotations

import json

import httpx
import pytest

from controller.errors import Stalled
from controller.model import Condition
from controller.reconcile.reconciler import Report
from tests.support.service import on_socket

pytestmark = pytest.mark.unit

ASKED = {
    "status": "/v1/status",
    "status-all": "/v1/status?all=true",
    "explainAll": "/v1/explain",
    "explain": "/v1/explain/Iris",
    "explain-version": "/v1/explain/fern?version=1.0",
    "history": "/v1/history?limit=500",
    "history-pipeline": "/v1/history?pipeline=iris&limit=3",
    "config": "/v1/configs/{sent}",
    "plan": "/v1/plan",
    "plannedConfig": "/v1/plan/config",
    "quarantines": "/v1/quarantine?all=true",
    "overrides": "/v1/overrides",
    "statusForAll": "/status.json",
    "livez": "/livez",
    "readyz": "/readyz",
    "healthz": "/healthz",
    "metrics": "/metrics",
    "openapi": "/openapi.json",
}
"""By golden file, which is called as the operation: what is asked."""
AS_THE_COMMAND = {
    "status": "status.json",
    "status-all": "status-all.json",
    "statusForAll": "status.json",
    "explainAll": "explain-all.json",
    "explain": "explain-iris.json",
    "plan": "plan.json",
    "history": "history.json",
    "quarantines": "quarantine-all.json",
    "plannedConfig": "render.yaml",
    "config": "history-applied.yaml",
}
"""What the command prints as it is answered here, and is kept once."""
ORDERED = {
    "pin": {"pipeline": "Iris", "versions": ["1.1"], "by": "carol", "note": "drift"},
    "unpin": {"pipeline": "iris", "by": "carol"},
    "rollback": {"pipeline": "iris", "by": "carol"},
    "suspend": {"by": "carol"},
    "resume": {"by": "carol"},
    "clearQuarantine": {"pipeline": "fern", "version": "1.0", "by": "carol"},
    "reconcile": {"timeout": 5},
    "reload": {"timeout": 5},
}
"""By operation, in this order."""
REFUSED = (
    ("GET", "/v1/nothing", None),
    ("GET", "/v1/pin", None),
    ("DELETE", "/v1/status", None),
    ("GET", "/v1/status?all=maybe", None),
    ("GET", "/v1/status?all=true&all=false", None),
    ("GET", "/v1/status?some=true", None),
    ("GET", "/v1/history?limit=0", None),
    ("GET", "/v1/explain/nothing-like-it", None),
    ("GET", "/v1/explain/iris?version=7.0", None),
    ("GET", "/v1/explain/iris?version=one", None),
    ("GET", "/v1/configs/ffff", None),
    ("GET", "/v1/configs/XYZ", None),
    ("GET", "/v1/events?after=-1", None),
    ("POST", "/v1/pin", {"pipeline": "iris"}),
    ("POST", "/v1/pin", {"pipeline": "iris", "versions": [], "by": "carol"}),
    ("POST", "/v1/pin", {"pipeline": "iris", "versions": ["7.0"], "by": "carol"}),
    ("POST", "/v1/pin", {"pipeline": "irsi", "versions": ["1.0"], "by": "carol"}),
    ("POST", "/v1/unpin", {"pipeline": "lily", "by": "carol"}),
    ("POST", "/v1/rollback", {"pipeline": "lily", "by": "carol"}),
    ("POST", "/v1/resume", {"by": "carol"}),
    ("POST", "/v1/resume", {"pipeline": "lily", "by": "carol"}),
    ("POST", "/v1/quarantine/clear", {"pipeline": "lily", "by": "carol"}),
    ("POST", "/v1/pin", "{"),
    ("POST", "/v1/pin", "x" * (64 * 1024 + 1)),
)
HEADERS = ("cache-control", "content-type", "retry-after", "allow")
"""Those of an answer that are kept."""


@pytest.fixture(scope="module")
def served(scene):
    with scene.serving(lambda: b"wheelway_told 1\n") as served, on_socket(served.socket) as client:
        yield served, client


def kept(answer: httpx.Response) -> dict[str, object]:
    """An answer as it is written down."""
    kind = answer.headers.get("content-type", "")
    body = answer.json() if kind.partition(";")[0].endswith("json") else answer.text.splitlines()
    headers = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
    if "allow" in headers:
        headers["allow"] = ", ".join(sorted(headers["allow"].split(", ")))
    return {"status": answer.status_code, "headers": headers, "body": body}


def operations(client: httpx.Client) -> dict[str, str]:
    """The path of each operation, by its id."""
    paths = client.get("/openapi.json").json()["paths"]
    return {one["operationId"]: path for path, of in paths.items() for one in of.values()}


def test_every_operation_is_here(served):
    _, client = served
    assert operations(client).keys() <= {*ASKED, *ORDERED, "events"}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_on_the_socket_is_answered(name, golden, scene, served):
    _, client = served
    sent = client.get("/v1/history").json()["configs"][0]["digest"]
    given = client.get(ASKED[name].format(sent=sent))
    answer = kept(given)
    assert answer["status"] == 200
    if name in AS_THE_COMMAND:
        answer["body"] = f"as in cli/{AS_THE_COMMAND[name]}"
        golden.check(
            f"cli/{AS_THE_COMMAND[name]}",
            given.json() if AS_THE_COMMAND[name].endswith("json") else given.text,
            scene.names,
        )
    golden.check(f"api/{name}.json", answer, scene.names)


def test_what_everybody_may_ask_on_the_port_is_answered(golden, scene, served):
    port = served[0].port
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        paths = ("/status.json", "/livez", "/metrics", "/v1/status", "/openapi.json", "/nothing")
        answers = {f"GET {path}": kept(client.get(path)) for path in paths}
        answers["POST /livez"] = kept(client.post("/livez"))
        elsewhere = client.get("/livez", headers={"host": "example.org"})
        answers["GET /livez of example.org"] = kept(elsewhere)
    golden.check("api/port.json", answers, scene.names)


def test_what_is_ordered_is_answered(golden, scene):
    with scene.serving() as served, on_socket(served.socket) as client:
        paths = operations(client)
        for name, body in ORDERED.items():
            answer = kept(client.post(paths[name], json=body))
            assert answer["status"] == 200, answer
            golden.check(f"api/{name}.json", {"sent": body, **answer}, scene.names)


def test_what_is_refused_is_a_problem_with_its_reason(golden, scene, served):
    _, client = served
    answers = {}
    for method, path, body in REFUSED:
        said = body if isinstance(body, str) else json.dumps(body) if body else ""
        headers = {"content-type": "application/json"} if said else {}
        answer = client.request(method, path, content=said, headers=headers)
        shown = said if len(said) < 100 else f"{len(said)} bytes"
        answers[f"{method} {path} {shown}".strip()] = kept(answer)
    typeless = client.post("/v1/pin", content="pipeline=iris", headers={"content-type": "text/x"})
    answers["POST /v1/pin as text"] = kept(typeless)
    golden.check("api/refused.json", answers, scene.names)


def test_what_a_daemon_in_trouble_answers(golden, scene):
    full = Condition("journal", "JournalUnwritable", "the disk is full")
    blind = Report("waiting for Ray: nobody answers", 1.0)
    failed = Report("the pass failed unexpectedly, see the log", 5.0, failed=True)
    unrendered = Report("2 live", 5.0, plan=scene.reports[-1].plan)
    told = {
        "Ray is down": {"report": blind, "complete": False},
        "the pass failed": {"report": failed, "complete": False},
        "nothing can be written down": {"report": blind, "complete": False, "unrecorded": full},
        "the config cannot be rendered": {"report": unrendered, "complete": True},
    }
    answers = {}
    with scene.serving(ended=False) as served, on_socket(served.socket) as client:
        for path in ("/livez", "/readyz", "/v1/plan", "/v1/plan/config"):
            answers[f"no pass yet: GET {path}"] = kept(client.get(path))
        for when, pass_ in told.items():
            served.told.ended(41, **pass_)
            for path in ("/readyz", "/v1/plan", "/v1/plan/config"):
                answers[f"{when}: GET {path}"] = kept(client.get(path))
        served.told.over()
        ended = client.post("/v1/reconcile", json={"timeout": 5})
        answers["it ends: POST /v1/reconcile"] = kept(ended)
    golden.check("api/trouble.json", answers, scene.names)


def test_a_mistake_of_ours_is_told_as_such_and_a_refusal_with_its_reason(golden, scene):
    def fails() -> bytes:
        raise KeyError("x")

    def refuses() -> bytes:
        raise Stalled("ConfigNotRendered", "it cannot be rendered")

    answers = {}
    for exposition in (fails, refuses):
        with scene.serving(exposition) as served, on_socket(served.socket) as client:
            answers[exposition.__name__] = kept(client.get("/metrics"))
    golden.check("api/failed.json", answers, scene.names)


def test_what_happens_is_streamed_event_by_event(golden, scene, served):
    _, client = served
    with client.stream("GET", "/v1/events?after=0&pipeline=fern") as answer:
        lines = []
        for line in answer.iter_lines():
            lines.append(line)
            if "LoadFailed" in line:
                break
    headers = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
    golden.check("api/events.txt", "\n".join([str(headers), *lines, ""]), scene.names)
