"""What `wheelway.request()` tells of the request at hand, wherever a pipeline asks."""

import asyncio
import gc
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import httpx
import pytest
import uvicorn

from tests.support.asking import ROUTE, application, asking, serving, until
from wheelway import Pipeline, request
from wheelway.deadlines import Watched
from wheelway.inbound import PATIENCE, Headers, Request, at_hand
from wheelway.limits import Limits
from wheelway.local import loaded, run

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


def told():
    brought = request()
    return [brought.id, brought.client, brought.headers.get("X-Tenant", "")]


class Telling(Pipeline):
    """One line from each place where a stage may ask."""

    def load(self, context):
        self.loaded = told()

    def pre_process(self, value: int) -> list[list[str]]:
        with ThreadPoolExecutor(1) as threads:
            return [self.loaded, told(), threads.submit(copy_context().run, told).result()]

    async def infer(self, lines: list[list[str]]) -> list[list[str]]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.to_thread(told))
        return [*lines, told(), task.result()]

    def post_process(self, lines: list[list[str]]) -> list[list[str]]:
        return [*lines, told()]


class Patient(Pipeline):
    async def infer(self, value: int) -> float:
        await asyncio.sleep(0.01)
        return request().remaining


# -- over HTTP -----------------------------------------------------------------------------------


@pytest.mark.parametrize("isolated", [False, True])
async def test_every_stage_and_thread_knows_what_the_request_brought(isolated):
    app, _ = await application(Telling, isolated=isolated)
    async with serving(app) as port, httpx.AsyncClient() as client:
        for name in ("one", "two"):
            headers = {"x-request-id": name, "X-Tenant": f"{name}é".encode("latin-1")}
            answer = await client.post(f"http://127.0.0.1:{port}", json=1, headers=headers)
            before, *lines = answer.json()
            assert before == ["", "", ""]
            assert lines == [[name, "127.0.0.1", f"{name}é"]] * 5


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["10.0.0.7"], "10.0.0.7"),
        (["9.9.9.9, 10.0.0.7"], "10.0.0.7"),
        (["9.9.9.9", "10.0.0.7"], "10.0.0.7"),
        (["10.0.0.7, 127.0.0.1"], "10.0.0.7"),
        (["2001:db8::1"], "2001:db8::1"),
        (["no address\x80"], ""),
        (["x" * 5000], ""),
    ],
)
async def test_the_client_is_who_the_last_proxy_says_asked_and_always_an_address(forwarded, client):
    app, _ = await application(Telling)
    lines = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    async with serving(app) as port, httpx.AsyncClient() as asker:
        answer = await asker.post(f"http://127.0.0.1:{port}", json=1, headers=lines)
    assert answer.json()[1][1] == client


async def test_a_client_without_an_address_has_none(tmp_path):
    app, _ = await application(Telling)
    path = str(tmp_path / "socket")
    server = uvicorn.Server(uvicorn.Config(app, uds=path, log_level="error", lifespan="on"))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    transport = httpx.AsyncHTTPTransport(uds=path)
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await client.post("http://here", json=1, headers={"x-request-id": "one"})
    server.should_exit = True
    await asyncio.wait_for(task, 60)
    assert answer.json()[1] == ["one", "", ""]


async def test_what_remains_is_what_the_request_timeout_leaves():
    async with asking(Patient, limits=Limits(request_timeout=30.0)) as client:
        assert 20 < (await client.post(ROUTE, json=1)).json() < 30


# -- without a server ----------------------------------------------------------------------------


def test_where_no_request_is_at_hand_there_is_a_plain_default():
    brought = request()
    assert (dict(brought.headers), brought.id, brought.client) == ({}, "", "")
    assert PATIENCE - 5 < brought.remaining <= PATIENCE


def test_a_test_gives_the_headers_that_a_stage_reads():
    before, *lines = run(Telling, 1, headers={"X-TENANT": "acme"})
    assert before == ["", "", ""]
    assert lines == [["", "", "acme"]] * 5
    with loaded(Telling) as telling:
        assert telling(1, headers={"x-tenant": "acme"})[1][2] == "acme"
        assert telling(1)[1][2] == ""


# -- the value -----------------------------------------------------------------------------------


def test_headers_are_found_in_any_case_joined_and_cannot_be_changed():
    headers = Headers(
        [(b"accept", b"a/b"), (b"cookie", b"a=1"), (b"accept", b"c/d"), (b"cookie", b"b=2")]
    )
    assert (headers["ACCEPT"], headers["Cookie"]) == ("a/b, c/d", "a=1; b=2")
    assert dict(headers) == {"accept": "a/b, c/d", "cookie": "a=1; b=2"}
    assert len(headers) == 2
    assert "x" not in headers
    assert "é€" not in headers
    assert headers == Headers.of({"Accept": "a/b, c/d", "cookie": "a=1; b=2"})
    with pytest.raises(TypeError):
        headers["accept"] = "x"
    with pytest.raises(AttributeError):
        Request().id = "x"


def test_what_is_logged_of_a_request_has_no_secret():
    brought = Request(Headers.of({"Authorization": "Bearer s3cret"}), "one")
    assert "authorization" in repr(brought)
    assert "s3cret" not in repr(brought)


def test_what_crosses_to_another_process_are_the_seconds_that_remain():
    brought = Request(Headers.of({"a": "b"}), "one", "10.0.0.7", time.monotonic() + 20)
    sent = pickle.dumps(brought)
    assert len(sent) < 400
    arrived = pickle.loads(sent)
    assert arrived == brought
    assert 19 < arrived.remaining <= 20
    over = Request(due=time.monotonic() - 9)
    assert over.remaining == pickle.loads(pickle.dumps(over)).remaining == 0


def test_whoever_calls_stages_may_say_which_request_is_at_hand():
    with at_hand(Request(id="one")):
        assert request().id == "one"
    assert request().id == ""


def watched():
    return sum(isinstance(one, Watched) for one in gc.get_objects())


async def test_a_request_that_was_answered_is_not_kept_by_what_it_brought():
    async with asking(Patient) as client:
        gc.collect()
        gc.disable()  # what it alone would find may stay for long
        before = watched()
        try:
            for _ in range(5):
                await asyncio.create_task(client.post(ROUTE, json=1))
            assert watched() == before
        finally:
            gc.enable()
