"""Who waits for the API to go on telling: for a pass, for the configuration, for what happens."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from controller.daemon.passes import WAITING, Passes
from controller.journal import Journal
from controller.model import Event
from controller.reconcile.report import Report
from tests.support.head import eventually
from tests.support.service import Service, fill, on_socket, problem

pytestmark = pytest.mark.unit


@pytest.fixture
def service(tmp_path):
    with Journal.open(tmp_path) as journal:
        fill(journal)
    return Service(tmp_path)


def post(client, path, **body):
    return client.post(f"/v1/{path}", json=body)


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
