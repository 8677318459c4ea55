"""A release without a replica: what its clients get from Serve's own proxy."""

import asyncio
import itertools
import json

import httpx
import pytest

from wheelway import fallback
from wheelway.fallback import Fallback, Outlook

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(fallback, "ASK_AFTER", 0.02)
    monkeypatch.setattr(fallback, "ASK_EVERY", 0.02)


class Proxy:
    """Holds a request until it is let go."""

    def __init__(self):
        self.go, self.ended = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope, receive, send):
        assert (await receive())["type"] == "http.request"
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended.set()
            raise
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here", "more_body": True})
        await asyncio.sleep(0.1)  # a slow answer is an answer
        await send({"type": "http.response.body", "body": b" I am"})


async def asked(proxy, outlooks, method="POST", request_id="abc"):
    seen = []

    async def outlook(path):
        seen.append(path)
        found = outlooks[min(len(seen), len(outlooks)) - 1]
        if found == "go":
            proxy.go.set()
            return Outlook(runs=True, request_timeout=60)
        return found

    transport = httpx.ASGITransport(Fallback(proxy, outlook))
    headers = {"x-request-id": request_id} if request_id else {}
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.request(method, "/predict/x/1.0", headers=headers)
    return answer, seen


async def test_a_request_that_no_replica_takes_in_time_is_503(monkeypatch):
    monkeypatch.setattr(fallback, "MAX_WAIT", 0.1)
    proxy = Proxy()
    answer, seen = await asked(proxy, [Outlook(runs=False, request_timeout=60)])
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["reason"], problem["instance"]) == ("NotLoaded", "abc")
    assert seen[0] == "/predict/x/1.0"
    assert proxy.ended.is_set()


@pytest.mark.parametrize("sent", ["", "no id", "x" * 200])
async def test_a_request_without_a_usable_id_is_given_one(monkeypatch, sent):
    monkeypatch.setattr(fallback, "MAX_WAIT", 0.0)
    answer, _ = await asked(Proxy(), [Outlook(runs=False)], request_id=sent)
    assert answer.headers["x-request-id"] == answer.json()["instance"]
    assert answer.json()["instance"] not in {"", sent}


async def test_a_controller_that_does_not_answer_is_waited_for_no_longer_than_a_replica(
    monkeypatch,
):
    monkeypatch.setattr(fallback, "MAX_WAIT", 0.1)
    proxy, under_way = Proxy(), []

    async def outlook(path):
        under_way.append(path)
        await asyncio.Event().wait()

    transport = httpx.ASGITransport(Fallback(proxy, outlook))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await asyncio.wait_for(client.get("/predict/x/1.0"), 60)
    assert (answer.status_code, answer.json()["reason"]) == (503, "NotLoaded")
    assert proxy.ended.is_set()


async def test_a_head_without_a_controller_is_waited_for_no_longer_than_a_replica(monkeypatch):
    monkeypatch.setattr(fallback, "MAX_WAIT", 0.1)
    answer, _ = await asyncio.wait_for(asked(Proxy(), [Outlook(runs=None)]), 60)
    assert answer.status_code == 503


async def test_a_replica_that_only_says_it_runs_is_given_up_after_its_deadline(monkeypatch):
    looks = itertools.count()
    monkeypatch.setattr(fallback, "monotonic", lambda: 10.0 * next(looks))
    runs = Outlook(runs=True, request_timeout=25)
    answer, seen = await asyncio.wait_for(asked(Proxy(), [runs]), 60)
    assert (answer.status_code, answer.json()["reason"]) == (504, "TimedOut")
    assert len(seen) == 7  # from the first on, in which it is seen to run: 25 s and 30 of patience


async def test_a_shorter_request_timeout_counts(monkeypatch):
    monkeypatch.setattr(fallback, "MAX_WAIT", 3600.0)
    soon = Outlook(runs=False, request_timeout=0.1)
    answer, _ = await asyncio.wait_for(asked(Proxy(), [soon]), 60)
    assert answer.status_code == 503


async def test_head_is_answered_without_a_body(monkeypatch):
    monkeypatch.setattr(fallback, "MAX_WAIT", 0.1)
    answer, _ = await asked(Proxy(), [Outlook(runs=False)], "HEAD")
    assert (answer.status_code, answer.content) == (503, b"")


async def test_what_a_replica_works_on_is_left_to_it(monkeypatch):
    monkeypatch.setattr(fallback, "MAX_WAIT", 0.0)
    runs = Outlook(runs=True, request_timeout=60)
    answer, seen = await asked(Proxy(), [*[runs] * 5, "go"])
    assert (answer.status_code, answer.text) == (200, "here I am")
    assert len(seen) == 6


async def test_a_replica_that_comes_in_time_answers(monkeypatch):
    monkeypatch.setattr(fallback, "ASK_AFTER", 0.0)
    answer, _ = await asked(Proxy(), [Outlook(runs=None), "go"])
    assert (answer.status_code, answer.text) == (200, "here I am")


async def test_what_is_not_ours_waits_as_it_always_did(monkeypatch):
    proxy, patience = Proxy(), 0.05
    monkeypatch.setattr(fallback, "MAX_WAIT", patience)
    asyncio.get_running_loop().call_later(10 * patience, proxy.go.set)
    answer, seen = await asked(proxy, [None])
    assert (answer.text, len(seen)) == ("here I am", 1)


async def test_whatever_an_outlook_raises_requests_wait_as_they_always_did_and_it_is_logged_once(
    caplog,
):
    async def outlook(_path):
        proxy.go.set()
        raise AttributeError("this Ray calls it otherwise")

    proxy = Proxy()
    transport = httpx.ASGITransport(Fallback(proxy, outlook))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for _ in range(3):
            proxy.go.clear()
            answer = await client.post("/predict/x/1.0")
            assert (answer.status_code, answer.text) == (200, "here I am")
    [told] = caplog.records
    assert "no 503" in told.message
    assert "this Ray calls it otherwise" in caplog.text


async def test_a_client_that_leaves_ends_the_work():
    proxy, looked = Proxy(), asyncio.Event()

    async def outlook(_path):
        looked.set()
        return Outlook(runs=True, request_timeout=60)

    async def receive():
        return {"type": "http.request", "body": json.dumps(1).encode()}

    scope = {"type": "http", "path": "/predict/x/1.0", "method": "POST", "headers": []}
    task = asyncio.create_task(Fallback(proxy, outlook)(scope, receive, None))
    await asyncio.wait_for(looked.wait(), 60)
    task.cancel()
    await asyncio.wait_for(proxy.ended.wait(), 60)
