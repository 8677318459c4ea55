"""The API on a real Unix socket, over a real journal."""

from __future__ import annotations

import grp
import json
import os
import socket
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import httpx
import pytest
from openapi_spec_validator import validate
from packaging.version import Version

from controller.api import Api
from controller.config.loading import parse
from controller.config.settings import Config
from controller.daemon.passes import WAITING, Passes
from controller.errors import ConfigError
from controller.journal import DaemonStatus, Journal
from controller.model import Condition, Event, Phase, Quarantine, Release, Transition
from controller.planning.overrides import Pin
from controller.reconcile.report import Report
from tests.support.head import eventually
from tests.support.indexes import free_port
from tests.support.service import Service, fill, on_socket

pytestmark = pytest.mark.unit

IRIS = Release("iris", Version("1.0"), "ab" * 32)


@pytest.fixture
def service(tmp_path):
    with Journal.open(tmp_path) as journal:
        fill(journal)
    return Service(tmp_path)


@pytest.fixture
def client(service):
    with service.serving() as client:
        yield client


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["title"]
    assert document["detail"]
    return answer.status_code, document["reason"]


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
    assert "GET" in answer.headers["allow"]
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
    assert client.get("/v1/overrides").json() == {"pins": [pinned.json()], "suspensions": []}
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


# -- a pass that was asked for -------------------------------------------------------------------


def test_a_pass_counts_only_if_all_was_listed_before_it():
    passes = Passes(lambda: None, lambda: 60.0)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(passes.reconcile(60)))
    asking.start()
    eventually(passes.wanted)
    passes.ended(1, Report("listing", 1.0), complete=False)
    assert passes.has_waiters
    passes.ended(2, Report("listed", 1.0), complete=True)
    asking.join(60)
    assert [(a["number"], a["sentence"]) for a in answers] == [(2, "listed")]
    assert not passes.has_waiters


def test_whoever_waits_longer_than_they_said_gets_the_last_pass_and_is_told():
    passes = Passes(lambda: None, lambda: 60.0)
    passes.ended(4, Report("before", 1.0), complete=True)
    told = passes.reconcile(0.01)
    assert (told["number"], told["complete"]) == (4, False)


def test_a_daemon_that_ends_lets_nobody_wait(service):
    with service.serving() as client:
        service.passes._wake = lambda: None
        answers = []
        asking = threading.Thread(target=lambda: answers.append(client.post("/v1/reconcile")))
        asking.start()
        eventually(lambda: service.passes.has_waiters)
        service.passes.over()
        asking.join(60)
    assert problem(answers[0]) == (503, "DaemonEnding")


# -- events --------------------------------------------------------------------------------------


class Listener:
    """Server-sent events as they come."""

    def __init__(self, service, path="/v1/events", **headers) -> None:
        self.seen: list[tuple[int, dict]] = []
        self.begun = threading.Event()
        self.over = threading.Event()
        self._ask = (service, path, headers)
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()
        assert self.begun.wait(60)

    def _listen(self) -> None:
        service, path, headers = self._ask
        with (
            on_socket(service.folder / "control.sock") as client,
            client.stream("GET", path, headers=headers) as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            number = 0
            for line in answer.iter_lines():
                self.begun.set()
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("data: "):
                    self.seen.append((number, json.loads(line[6:])))
        self.over.set()

    def reasons(self) -> list[str]:
        return [event["reason"] for _, event in self.seen]


def test_events_follow_the_journal_whoever_writes_to_it(service):
    with service.serving() as client:
        listener = Listener(service)
        post(client, "suspend", pipeline="iris")
        with Journal.amend(service.folder) as other:
            other.append(Event(1.0, "shelf", "FromElsewhere", "line one\nline two"))
        eventually(lambda: len(listener.seen) == 2)
        assert listener.reasons() == ["SuspensionSet", "FromElsewhere"]
        assert listener.seen[1][1]["message"] == "line one\nline two"
        numbers = [number for number, _ in listener.seen]
        assert numbers == sorted(numbers)
        assert len(set(numbers)) == 2
    assert listener.over.wait(60), "the server's end ends the stream"
    listener.thread.join(60)


def test_a_client_that_comes_back_misses_nothing(service):
    with service.serving():
        with Journal.read(service.folder) as journal:
            known = journal.events_after(0)
        listener = Listener(service, **{"Last-Event-ID": str(known[-3][0])})
        eventually(lambda: len(listener.seen) == 2)
        assert [number for number, _ in listener.seen] == [number for number, _ in known[-2:]]
        of_iris = Listener(service, "/v1/events?after=0&pipeline=iris")
        beyond = Listener(service, f"/v1/events?after={10**9}")
        eventually(lambda: len(of_iris.seen) == len(known) == len(beyond.seen))
    for one in (listener, of_iris, beyond):
        one.thread.join(60)


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


# -- the sockets ---------------------------------------------------------------------------------


def configured(service, text):
    config = parse(text, service.folder / "controller.toml")
    service.config = config
    return config


def test_the_socket_is_for_its_owner_and_group_and_goes_with_the_server(service):
    group = grp.getgrgid(os.getgid()).gr_name
    configured(service, f'[api]\nsocket = "here.sock"\nsocket_group = "{group}"\n')
    path = service.folder / "here.sock"
    with service.serving():
        found = path.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert found.st_gid == os.getgid()
    assert not path.exists()


def test_a_socket_that_a_killed_daemon_left_is_replaced(service):
    with service.inside() as inside:
        first = Api(inside, state=service.folder)
        first.apply(service.config.api)
        os.link(service.folder / "control.sock", service.folder / "left.sock")
        first.close()
    (service.folder / "left.sock").rename(service.folder / "control.sock")
    with service.serving() as client:
        assert client.get("/livez").status_code == 200


@pytest.mark.parametrize(
    ("options", "reason", "said"),
    [
        ('socket = "file"', "SocketUnusable", "it is no socket"),
        ('socket = "nowhere/x.sock"', "SocketUnusable", "No such file"),
        (f'socket = "{"x" * 200}"', "SocketUnusable", "at most 107 bytes"),
        ('socket_group = "no-such-group"', "SocketGroupUnusable", "no-such-group"),
        ('socket = "taken.sock"', "SocketInUse", "taken.sock"),
    ],
)
def test_what_keeps_the_socket_from_being_made_is_a_condition(service, options, reason, said):
    (service.folder / "file").write_text("precious")
    with service.inside() as inside:
        other, api = Api(inside, state=service.folder), Api(inside, state=service.folder)
        try:
            other.apply(configured(service, '[api]\nsocket = "taken.sock"\n').api)
            (found,) = api.apply(configured(service, f"[api]\n{options}\n").api)
            assert (found.subject, found.reason, found.ok) == ("api", reason, False)
            assert said in found.message
            assert not (service.folder / "control.sock").exists()
        finally:
            api.close()
            other.close()
    assert (service.folder / "file").read_text() == "precious"


def test_what_was_in_the_way_is_tried_again_and_a_lost_socket_is_made_anew(service):
    now, path = [0.0], service.folder / "control.sock"
    path.write_text("in the way")
    with service.inside() as inside:
        api = Api(inside, state=service.folder, clock=lambda: now[0])
        try:
            options = service.config.api
            assert api.apply(options)[0].reason == "SocketUnusable"
            path.unlink()
            assert api.apply(options)[0].reason == "SocketUnusable", "not at every pass"
            now[0] += 11
            assert api.apply(options) == ()
            path.unlink()
            now[0] += 11
            assert api.apply(options) == ()
            with on_socket(path) as client:
                assert client.get("/livez").status_code == 200
        finally:
            api.close()


@pytest.mark.parametrize("options", ["listen = '127.0.0.1:{port}'", 'socket = "new.sock"'])
def test_whoever_ordered_a_pass_that_moves_the_sockets_is_answered_by_the_former_one(
    service, options
):
    edited = configured(service, f"[api]\n{options.format(port=free_port())}\n").api
    make_a_pass = service._make_a_pass

    def take_up_the_edit():
        assert api.apply(edited) == ()
        make_a_pass()

    service.passes = Passes(take_up_the_edit, lambda: 60.0)
    with service.inside() as inside:
        api = Api(inside, state=service.folder)
        try:
            api.apply(Config().api)
            with on_socket(service.folder / "control.sock") as client:
                assert client.post("/v1/reconcile").json()["complete"]
            with on_socket(edited.path(service.folder)) as client:
                assert client.get("/livez").status_code == 200
        finally:
            api.close()


def test_an_edited_configuration_moves_the_socket(service):
    with service.inside() as inside:
        api = Api(inside, state=service.folder)
        try:
            api.apply(service.config.api)
            assert api.apply(configured(service, '[api]\nsocket = "new.sock"\n').api) == ()
            assert not (service.folder / "control.sock").exists()
            with on_socket(service.folder / "new.sock") as client:
                assert client.get("/livez").status_code == 200
        finally:
            api.close()


def test_the_port_tells_what_monitoring_needs_and_takes_no_orders(service):
    port = free_port()
    configured(service, f'[api]\nlisten = "127.0.0.1:{port}"\n')
    service.passes.ended(1, service.report, complete=True)
    opened = {"/healthz", "/readyz", "/livez", "/metrics", "/status.json"}
    with service.serving() as socket, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for path in opened:
            assert client.get(path).status_code == 200, path
        assert client.get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.")
        document = client.get("/status.json").json()
        failed = next(r for r in document["releases"] if r["quarantine"])
        assert failed["quarantine"]["reason"] == "LoadFailed"
        assert failed["quarantine"]["log_tail"] == "", "logs are for those who may use the socket"
        assert document["daemon"]["state"] == "running"
        assert document["releases"][0]["reason"]
        for path, methods in socket.get("/openapi.json").json()["paths"].items():
            if path not in opened:
                for method in methods:
                    assert problem(client.request(method, path)) == (404, "PathUnknown")
        assert problem(client.post("/livez")) == (405, "MethodNotAllowed")
        elsewhere = client.get("/status.json", headers={"host": f"evil.example:{port}"})
        assert problem(elsewhere) == (421, "HostRefused")
        assert client.get("/livez", headers={"host": f"localhost:{port}"}).status_code == 200


def test_the_port_tells_no_causes_paths_or_persons(service):
    """Whoever asks there is anybody on the machine: free texts may hold whatever somebody wrote."""
    port, secret = free_port(), "/srv/secret of ada at https://index.acme.example"
    configured(service, f'[api]\nlisten = "127.0.0.1:{port}"\n')
    at, found = time.time(), Condition("iris", "PinUnmet", secret)
    with Journal.open(service.folder) as journal:
        journal.set_conditions([found], at)
        journal.record(Transition(IRIS, Phase.QUARANTINED, "LoadFailed", secret), at)
        journal.add_quarantine(Quarantine(IRIS, "stage", "LoadFailed", secret, "", secret, at))
        journal.order(Pin("iris", (IRIS.version,), secret, secret, at), message=secret)
        journal.set_status(DaemonStatus(1, at, secret, 0.1, os.getpid(), "0", at))
    service.passes.ended(1, replace(service.report, sentence=secret), complete=True)
    with service.serving() as socket, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        document = client.get("/status.json").json()
        assert [c["reason"] for c in document["conditions"]] == ["PinUnmet"]
        assert document["overrides"]["pins"][0]["versions"] == [str(IRIS.version)]
        for failed in (False, True):
            if failed:
                report = replace(service.report, sentence=secret, failed=True)
                service.passes.ended(2, report, complete=False)
                assert problem(client.get("/readyz")) == (503, "PassFailed")
            for path in ("/status.json", "/readyz", "/livez", "/healthz", "/metrics"):
                assert "secret" not in client.get(path).text, path
        assert "secret" in socket.get("/readyz").text
        assert secret in socket.get("/v1/status").text


def test_whoever_connects_and_says_nothing_keeps_nobody_out(service):
    port = free_port()
    configured(service, f'[api]\nlisten = "127.0.0.1:{port}"\n')
    service.passes.ended(1, service.report, complete=True)
    with ExitStack() as stack:
        on_the_socket = stack.enter_context(service.serving())
        path = str(service.folder / "control.sock")
        for number in range(150):
            loud = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            loud.sendall(b"GET /livez HTTP/1.1\r\n"[: number % 3 * 10])
            quiet = stack.enter_context(socket.socket(socket.AF_UNIX))
            quiet.connect(path)
        assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
        assert on_the_socket.get("/livez").status_code == 200


def test_connections_that_are_at_work_stay_when_silent_ones_go(service):
    with ExitStack() as stack:
        client = stack.enter_context(service.serving())
        listener = Listener(service)
        path = str(service.folder / "control.sock")
        for _ in range(100):
            quiet = stack.enter_context(socket.socket(socket.AF_UNIX))
            quiet.connect(path)
        client.post("/v1/suspend", json={"pipeline": "iris"})
        eventually(lambda: listener.seen)
    listener.thread.join(60)


def test_no_more_may_wait_for_a_pass_than_leave_threads_for_others(service):
    woken = []
    service.passes._wake = lambda: woken.append(True)
    with service.serving() as client, ThreadPoolExecutor(WAITING) as pool:
        waiting = [
            pool.submit(client.post, "/v1/reconcile", json={"timeout": 300}) for _ in range(WAITING)
        ]
        eventually(lambda: len(woken) == WAITING)
        refused = client.post("/v1/reconcile")
        assert problem(refused) == (503, "TooManyWait")
        assert refused.headers["retry-after"] == "5"
        assert client.get("/livez").status_code == 200
        service.passes.wanted()
        service.passes.ended(1, service.report, complete=True)
        assert {answer.result(30).status_code for answer in waiting} == {200}
        assert client.post("/v1/reconcile", json={"timeout": 0}).status_code == 200


def test_no_more_may_wait_for_a_reload_than_leave_threads_for_others(service):
    service.passes._reload = lambda: None
    with service.serving() as client, ThreadPoolExecutor(WAITING) as pool:
        waiting = [
            pool.submit(client.post, "/v1/reload", json={"timeout": 300}) for _ in range(WAITING)
        ]
        eventually(lambda: service.passes.reloads() == WAITING)
        refused = client.post("/v1/reload", json={"timeout": 300})
        assert problem(refused) == (503, "TooManyWait")
        assert refused.headers["retry-after"] == "5"
        assert client.post("/v1/reconcile", json={"timeout": 0}).status_code == 200
        service.passes.reloaded(WAITING, None)
        assert [answer.result(30).json()["in_force"] for answer in waiting] == [True] * WAITING
        late = client.post("/v1/reload", json={"timeout": 0})
        assert problem(late) == (503, "NotTakenUp")


def test_a_port_that_is_taken_leaves_the_socket_open(service):
    with httpx.Client(), service.inside() as inside:
        port = free_port()
        listen = configured(service, f'[api]\nsocket = "a.sock"\nlisten = "127.0.0.1:{port}"\n').api
        first, second = Api(inside, state=service.folder), Api(inside, state=service.folder)
        try:
            assert first.apply(listen) == ()
            options = configured(service, f'[api]\nlisten = "127.0.0.1:{port}"\n').api
            (found,) = second.apply(options)
            assert found.reason == "ListenUnusable"
            with on_socket(service.folder / "control.sock") as client:
                assert client.get("/livez").status_code == 200
        finally:
            first.close()
            second.close()


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0:9180", "10.0.0.1:9180", "[::]:9180", "example.org:9180", "127.0.0.1", ":9180"),
        *("127.0.0.1:0", "127.0.0.1:70000", "::1:9180", "127.0.0.1:x", "[127.0.0.1]:9180"),
    ],
)
def test_only_this_machine_is_listened_to(tmp_path, address):
    with pytest.raises(ConfigError, match="no loopback address with a port"):
        parse(f'[api]\nlisten = "{address}"\n', tmp_path / "controller.toml")


@pytest.mark.parametrize(
    ("address", "means"),
    [
        ("127.0.0.1:9180", ("127.0.0.1", 9180)),
        ("127.8.8.8:1", ("127.8.8.8", 1)),
        ("localhost:9180", ("127.0.0.1", 9180)),
        ("[::1]:9180", ("::1", 9180)),
    ],
)
def test_every_spelling_of_loopback_is_understood(tmp_path, address, means):
    config = parse(f'[api]\nlisten = "{address}"\n', tmp_path / "controller.toml")
    assert config.api.address == means


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


def test_without_a_configuration_the_socket_lies_beside_the_journal(tmp_path):
    assert Config().api.path(tmp_path) == tmp_path / "control.sock"
    assert Config().api.address is None
