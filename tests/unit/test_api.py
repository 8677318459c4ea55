"""The API on a real Unix socket, over a real journal."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from openapi_spec_validator import validate

from controller.daemon.passes import Passes
from controller.journal import Journal
from controller.model import Condition, Event
from controller.reconcile.report import Report
from tests.support.service import Service, fill, problem

pytestmark = pytest.mark.unit


@pytest.fixture
def service(tmp_path):
    with Journal.open(tmp_path) as journal:
        fill(journal)
    return Service(tmp_path)


@pytest.fixture
def client(service):
    with service.serving() as client:
        yield client


def post(client, path, **body):
    return client.post(f"/v1/{path}", json=body)


# -- what is told --------------------------------------------------------------------------------


def test_status_tells_what_is_served_and_with_all_what_is_over(service, client):
    document = client.get("/v1/status").json()
    assert [(r["version"], r["phase"]) for r in document["releases"]] == [
        ("1.5", "Quarantined"),
        ("1.4", "Live"),
        ("1.3", "Live"),
    ]
    assert document["hidden"] == 2
    everything = client.get("/v1/status", params={"all": "true"}).json()
    assert [r["version"] for r in everything["releases"]] == ["1.5", "1.4", "1.3", "1.2", "1.1"]


def test_events_of_a_project_of_weights_are_refused_with_what_to_ask_for(service, client):
    with Journal.open(service.folder) as journal:
        journal.keep_weights_owners({"iris": "iris-weights"})
    answer = client.get("/v1/events?pipeline=Iris_Weights")
    assert problem(answer) == (404, "NameUnknown")
    assert "weights of iris: `/v1/events?pipeline=iris`" in answer.json()["detail"]


def test_explain_and_history_tell_of_an_order(client):
    post(client, "pin", pipeline="iris", versions=["1.3"], by="alice", note="see 42")
    document = client.get("/v1/explain/Iris").json()
    assert document["summary"].startswith("iris: 1.4, 1.3 are live")
    assert document["releases"][0]["quarantine"]["log_tail"] == "secret\n"
    assert document["overrides"]["pins"][0]["by"] == "alice"
    told = client.get("/v1/history", params={"pipeline": "iris"}).json()
    assert told["events"][-1]["reason"] == "PinSet"
    assert len(client.get("/v1/history?limit=2").json()["events"]) == 2


def test_an_applied_config_is_found_by_the_start_of_its_digest(client):
    answer = client.get("/v1/configs/ab12")
    assert answer.text == "applications: []\n"
    assert answer.headers["content-type"].startswith("application/yaml")
    assert problem(client.get("/v1/configs/ffff")) == (404, "ConfigUnknown")


def test_the_plan_is_that_of_the_last_pass(service, client):
    assert problem(client.get("/v1/plan")) == (503, "NoPassYet")
    service.passes.ended(1, Report("one staged", 1.0, plan=service.report.plan), complete=False)
    planned = client.get("/v1/plan").json()
    assert [change["sentence"] for change in planned["changes"]] == [
        "add iris-1.4-0123abcd: ExamplesPassed: it is ready"
    ]
    assert planned["changes"][0]["reason"] == planned["applications"][0]["reason"]
    assert planned["applications"][0]["route"] == "/predict/iris/1.4"
    service.passes.ended(2, Report("waiting for Ray: nobody", 1.0), complete=False)
    answer = client.get("/v1/plan")
    assert problem(answer) == (503, "RayUnavailable")
    assert answer.json()["detail"] == "waiting for Ray: nobody"


def test_what_is_not_understood_is_refused_with_the_place(client):
    for answer in (
        client.get("/v1/status?all=maybe"),
        client.get("/v1/status?al=true"),
        client.get("/v1/history?limit=0"),
        client.get("/v1/history?limit=1&limit=2"),
        client.get("/v1/explain/iris?name=other"),
        client.get("/v1/explain/iris?version=one"),
        client.get("/v1/overrides?pipeline=iris"),
        client.get("/livez?verbose=true"),
        post(client, "pin", pipeline="iris", versions="1.3"),
        client.post("/v1/pin", json=["iris"]),
        client.get("/v1/events?after=-1"),
        post(client, "pin", pipeline="iris"),
        post(client, "pin", pipeline="iris", versions=["1.3"], force=True),
        post(client, "suspend", pipeline=7),
        client.post("/v1/pin", content=b"{", headers={"content-type": "application/json"}),
    ):
        assert problem(answer) == (422, "RequestInvalid"), answer.request.url
    assert "limit" in client.get("/v1/history?limit=0").json()["detail"]


def test_unknown_paths_methods_and_kinds_of_bodies_are_problems_too(client):
    assert problem(client.get("/v2/status")) == (404, "PathUnknown")
    answer = client.delete("/v1/status")
    assert problem(answer) == (405, "MethodNotAllowed")
    assert answer.headers["allow"] == "GET, HEAD"
    assert client.put("/openapi.json").headers["allow"] == "GET, HEAD"
    unanswered = client.get("/v1/pin"), client.head("/v1/pin")
    assert {answer.headers["allow"] for answer in unanswered} == {"POST"}
    assert problem(client.post("/v1/resume", content=b"x=1")) == (415, "RequestNotJson")
    large = {"pipeline": "iris", "versions": ["1.3"], "note": "x" * 70_000}
    assert problem(client.post("/v1/pin", json=large)) == (413, "RequestTooLarge")
    assert problem(client.get("/v1/explain/irsi")) == (404, "NameUnknown")


def test_an_empty_body_is_one_without_keys_whatever_its_type_and_head_is_get_without_a_body(client):
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/v1/suspend", headers=form).status_code == 200
    assert "pipeline: Field required" in client.post("/v1/unpin").json()["detail"]
    told = client.head("/livez")
    assert (told.status_code, told.content) == (200, b"")
    assert int(told.headers["content-length"]) > 0


@pytest.mark.parametrize("path", ["/v1/pin", "/v1/suspend"])
def test_null_is_no_request_and_suspends_nothing(client, path):
    answer = client.post(path, content=b"null", headers={"content-type": "application/json"})
    assert problem(answer) == (422, "RequestInvalid")
    assert answer.json()["detail"] == "the request: Input should be an object, not null"
    assert client.get("/v1/overrides").json()["suspensions"] == []


def test_readiness_is_judged_by_one_look_at_the_passes(service, client):
    service.passes.ended(1, service.report, complete=True)
    good = service.passes.liveness()
    looks = iter([good, replace(good, failed=True)])
    service.passes.liveness = lambda: next(looks)
    assert client.get("/readyz").status_code == 200
    assert problem(client.get("/readyz")) == (503, "PassFailed")


def test_a_mistake_of_ours_is_told_as_one_and_logged(service, client, caplog):
    service.passes.liveness = None
    assert problem(client.get("/livez")) == (500, "InternalError")
    assert "Traceback" in caplog.text


# -- what is ordered -----------------------------------------------------------------------------


def test_a_pin_is_kept_told_and_lifted(service, client):
    pinned = post(client, "pin", pipeline="Iris", versions=["1.2", "1.3"], by="alice", note="why")
    assert pinned.json() == {
        "pipeline": "iris",
        "versions": ["1.3", "1.2"],
        "by": "alice",
        "note": "why",
        "at": pinned.json()["at"],
    }
    assert service.made == 1, "a pass begins at once"
    ordered = {"pins": [pinned.json()], "suspensions": [], "weights": []}
    assert client.get("/v1/overrides").json() == ordered
    assert client.get("/v1/status").json()["overrides"]["pins"] == [pinned.json()]
    with Journal.read(service.folder) as journal:
        assert journal.events(pipeline="iris")[-1].message == "pinned to 1.3, 1.2 by alice (why)"
    assert post(client, "unpin", pipeline="iris", by="bob").json() == pinned.json()
    assert problem(post(client, "unpin", pipeline="iris")) == (404, "NotPinned")
    with Journal.read(service.folder) as journal:
        assert journal.overrides().pins == {}
        last = journal.events(pipeline="iris")[-1]
    assert (last.reason, last.fields["by"]) == ("PinLifted", "bob")


def test_what_no_source_lists_cannot_be_pinned(client):
    answer = post(client, "pin", pipeline="iris", versions=["1.3", "1.1"])
    assert problem(answer) == (409, "VersionUnlisted")
    assert "1.1; listed are 1.5, 1.4, 1.3, 1.2" in answer.json()["detail"]
    answer = post(client, "pin", pipeline="irsi", versions=["1.3"])
    assert problem(answer) == (404, "NameUnknown")
    assert "did you mean iris" in answer.json()["detail"]
    assert client.get("/v1/overrides").json()["pins"] == []


def test_a_suspension_is_of_one_pipeline_or_of_everything(client):
    assert post(client, "suspend", pipeline="iris", note="n").json()["pipeline"] == "iris"
    assert client.post("/v1/suspend").json()["pipeline"] == ""
    suspended = client.get("/v1/overrides").json()["suspensions"]
    assert [order["pipeline"] for order in suspended] == ["", "iris"]
    assert post(client, "resume").json()["pipeline"] == ""
    answer = post(client, "resume")
    assert problem(answer) == (404, "NotSuspended")
    assert "suspended: iris" in answer.json()["detail"]
    assert post(client, "resume", pipeline="iris").json()["note"] == "n"
    assert client.get("/v1/overrides").json()["suspensions"] == []


def test_a_rollback_pins_the_version_before_the_newest_live_one(client):
    done = post(client, "rollback", pipeline="iris", by="alice").json()
    assert (done["before"], done["after"]) == ("1.4", "1.3")
    assert done["pin"]["versions"] == ["1.3"]
    assert done["pin"]["note"] == "rolled back from 1.4 to 1.3"


def test_a_cleared_quarantine_is_gone_and_the_daemon_woken(service, client):
    assert [q["version"] for q in client.get("/v1/quarantine").json()] == ["1.5"]
    cleared = post(client, "quarantine/clear", pipeline="iris", version="1.5").json()
    assert cleared[0]["reason"] == "LoadFailed"
    assert service.made == 1
    assert client.get("/v1/quarantine").json() == []
    again = post(client, "quarantine/clear", pipeline="iris")
    assert problem(again) == (404, "NotQuarantined")


def test_reconcile_tells_of_the_pass_that_it_caused(service, client):
    service.report = Report("1 live", 1.0, conditions=(Condition("ray", "DiskFull", "full"),))
    done = client.post("/v1/reconcile").json()
    assert (done["number"], done["complete"], done["sentence"]) == (1, True, "1 live")
    assert done["plan"] is None
    assert done["conditions"] == [
        {"subject": "ray", "reason": "DiskFull", "message": "full", "ok": False}
    ]


def test_writes_that_meet_a_locked_journal_wait_or_say_so(service, client):
    with Journal.amend(service.folder) as other:
        done = threading.Event()

        def pin():
            assert post(client, "pin", pipeline="iris", versions=["1.3"]).status_code == 200
            done.set()

        with other.transaction():
            other.append(Event(1.0, "x", "Y", "z"))
            thread = threading.Thread(target=pin)
            thread.start()
        thread.join(60)
    assert done.is_set()


def test_many_may_ask_and_order_at_the_same_time(service):
    with service.serving() as client, ThreadPoolExecutor(12) as pool:

        def ask(number):
            match number % 4:
                case 0:
                    return post(client, "pin", pipeline="iris", versions=["1.3"], by=str(number))
                case 1:
                    return client.get("/v1/explain/iris")
                case 2:
                    return client.get("/v1/status?all=true")
            return client.get("/v1/history?pipeline=iris")

        answers = list(pool.map(ask, range(120)))
    assert {answer.status_code for answer in answers} == {200}
    with Journal.read(service.folder) as journal:
        said = [e.fields["by"] for e in journal.events(pipeline="iris") if e.reason == "PinSet"]
    assert sorted(map(int, said)) == list(range(0, 120, 4))


# -- health --------------------------------------------------------------------------------------


FAILED = Report("cut short: no space", 1.0, failed=True)


def test_health_tells_a_daemon_that_stands_still_from_one_that_does_not_see_ray(tmp_path):
    with Journal.open(tmp_path) as journal:
        fill(journal)
    service, now = Service(tmp_path), [100.0]
    service.passes = Passes(lambda: None, lambda: 60.0, clock=lambda: now[0])
    with service.serving() as client:
        assert client.get("/livez").json()["number"] == 0
        assert problem(client.get("/readyz")) == (503, "NoPassYet")
        service.passes.ended(1, Report("waiting for Ray", 1.0), complete=True)
        assert client.get("/livez").status_code == 200
        assert problem(client.get("/readyz")) == (503, "RayUnavailable")
        service.passes.ended(2, service.report, complete=True)
        assert client.get("/readyz").json()["sentence"] == "2 live"
        assert client.get("/healthz").status_code == 200
        now[0] += 40
        service.passes.ended(3, FAILED, complete=False)
        assert client.get("/livez").json() == {"number": 2, "age": 40, "sentence": FAILED.sentence}
        assert problem(client.get("/readyz")) == (503, "PassFailed")
        assert problem(client.get("/v1/plan")) == (503, "PassFailed")
        now[0] += 21
        for path in ("/livez", "/readyz", "/healthz"):
            assert problem(client.get(path)) == (503, "NoPassLately")


# -- the document --------------------------------------------------------------------------------


def test_the_openapi_document_is_valid_and_has_every_operation(client):
    document = client.get("/openapi.json").json()
    validate(document)
    described = {
        f"{method.upper()} {path}": operation["operationId"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert described == {
        "GET /healthz": "healthz",
        "GET /livez": "livez",
        "GET /metrics": "metrics",
        "GET /readyz": "readyz",
        "GET /status.json": "statusForAll",
        "GET /v1/configs/{digest}": "config",
        "GET /v1/events": "events",
        "GET /v1/explain": "explainAll",
        "GET /v1/explain/{name}": "explain",
        "GET /v1/history": "history",
        "GET /v1/overrides": "overrides",
        "GET /v1/plan": "plan",
        "GET /v1/plan/config": "plannedConfig",
        "GET /v1/quarantine": "quarantines",
        "GET /v1/status": "status",
        "POST /v1/pin": "pin",
        "POST /v1/quarantine/clear": "clearQuarantine",
        "POST /v1/reconcile": "reconcile",
        "POST /v1/reload": "reload",
        "POST /v1/resume": "resume",
        "POST /v1/rollback": "rollback",
        "POST /v1/suspend": "suspend",
        "POST /v1/unpin": "unpin",
    }
    release = document["components"]["schemas"]["ReleaseDocument"]
    assert release["properties"]["placement"]["description"].startswith("Its latest Serve")
    limits = {p["name"]: p["schema"] for p in document["paths"]["/v1/history"]["get"]["parameters"]}
    assert (limits["limit"]["minimum"], limits["limit"]["maximum"]) == (1, 5000)
