"""Streams as clients get them, over real connections: how they come, and how they are left."""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import httpx
import pytest
from pydantic import Field, PlainSerializer

import wheelway
from tests.support.asking import ROUTE, application, assert_problem, serving, until
from tests.support.streaming import EVENTS, PLAIN, served
from wheelway import Pipeline
from wheelway.framing import preferred
from wheelway.limits import Limits

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Words(Pipeline):
    async def infer(self, request: list[str]) -> AsyncIterator[str]:
        for word in request:
            yield word


class Numbers(Pipeline):
    def infer(self, request: int) -> Iterator[int]:
        yield from range(request)


class Parts(Pipeline):
    def infer(self, request: list[str]) -> Iterator[bytes]:
        yield from (part.encode() for part in request)


# -- how they come -------------------------------------------------------------------------------


async def test_the_client_chooses_how_items_come():
    async with served(Words) as (client, _):
        lines = await client.post("", json=["a", "ü\n"])
        events = await client.post("", json=["a", "ü\n"], headers=EVENTS)
        text = await client.post("", json=["a", "ü\n"], headers=PLAIN)
    assert lines.content == '"a"\n"ü\\n"\n'.encode()
    assert events.content == 'data: "a"\n\ndata: "ü\\n"\n\n'.encode()
    assert text.text == "aü\n"
    types = [response.headers["content-type"] for response in (lines, events, text)]
    assert types == ["application/x-ndjson", "text/event-stream", "text/plain; charset=utf-8"]
    for response in (lines, events, text):
        assert response.headers["x-wheelway-release"] == "greeter@1.0+cu1+abababab"
        assert response.headers["transfer-encoding"] == "chunked"
        assert response.headers["vary"] == "accept"
        assert "x-request-id" in response.headers


async def test_what_is_annotated_beside_text_takes_nothing_from_it():
    class Tagged(Pipeline):
        def infer(self, request: str) -> Iterator[Annotated[str, Field(max_length=9)]]:
            yield from request

    class Counted(Pipeline):
        def infer(self, request: str) -> Iterator[Annotated[str, PlainSerializer(len, int)]]:
            yield request

    async with served(Tagged) as (client, _):
        assert (await client.post("", json="äb", headers=PLAIN)).text == "äb"
    async with served(Counted) as (client, _):
        assert (await client.post("", json="äb", headers=PLAIN)).text == "2"


async def test_bytes_are_the_raw_body_whatever_is_asked_for():
    async with served(Parts) as (client, _):
        for headers in ({}, EVENTS, PLAIN):
            response = await client.post("", json=["a", "", "b"], headers=headers)
            assert response.content == b"ab"
            assert response.headers["content-type"] == "application/octet-stream"


async def test_numbers_are_no_plain_text_and_none_at_all_is_an_empty_stream():
    async with served(Numbers) as (client, _):
        response = await client.post("", json=2, headers=PLAIN)
        assert response.content == b"0\n1\n"
        response = await client.post("", json=0, headers=EVENTS)
        assert (response.status_code, response.content) == (200, b"")


async def test_each_item_is_there_as_soon_as_it_was_yielded():
    class Stepwise(Pipeline):
        def load(self, context) -> None:
            self.gates = context.settings["gates"]

        def infer(self, request: int) -> Iterator[int]:
            for number, gate in enumerate(self.gates):
                gate.wait(60)
                yield number

    gates = [threading.Event() for _ in range(3)]
    async with (
        served(Stepwise, {"gates": gates}) as (client, _),
        asyncio.timeout(30),
    ):
        gates[0].set()
        async with client.stream("POST", "", json=1) as response:
            lines = response.aiter_lines()
            for number, gate in enumerate(gates):
                gate.set()
                assert await anext(lines) == str(number)


@pytest.mark.parametrize("isolated", [False, True])
async def test_what_a_request_brought_is_there_at_each_item(isolated):
    class Asking(Pipeline):
        def infer(self, request: int) -> Iterator[str]:
            for _ in range(request):
                yield wheelway.request().headers["x-tenant"]

        async def post_process(self, tenant: str) -> str:
            return f"{tenant} {wheelway.request().id}"

    class AsyncAsking(Asking):
        async def infer(self, request: int) -> AsyncIterator[str]:  # type: ignore[override]
            for _ in range(request):
                await asyncio.sleep(0)
                yield wheelway.request().headers["x-tenant"]

    for pipeline in (Asking, AsyncAsking):
        async with served(pipeline, isolated=isolated) as (client, _):
            asked = [
                client.post("", json=3, headers={"x-tenant": f"t{n}", "x-request-id": f"id{n}"})
                for n in range(5)
            ]
            for n, response in enumerate(await asyncio.gather(*asked)):
                assert response.text == f'"t{n} id{n}"\n' * 3


JSON_TYPES = ("application/x-ndjson", "text/event-stream")
TEXT_TYPES = (*JSON_TYPES, "text/plain")


@pytest.mark.parametrize(
    ("accept", "types", "chosen"),
    [
        ("", TEXT_TYPES, "application/x-ndjson"),
        ("*/*", TEXT_TYPES, "application/x-ndjson"),
        ("text/event-stream", JSON_TYPES, "text/event-stream"),
        ("Text/Event-Stream; charset=utf-8", JSON_TYPES, "text/event-stream"),
        ("text/event-stream, */*", JSON_TYPES, "text/event-stream"),
        ("text/event-stream;q=0.5, */*", JSON_TYPES, "application/x-ndjson"),
        ("text/event-stream;q=0, */*;q=0.1", JSON_TYPES, "application/x-ndjson"),
        ("text/event-stream;q=0", JSON_TYPES, "application/x-ndjson"),
        ("application/x-ndjson;q=0.4, text/event-stream;q=0.5", JSON_TYPES, "text/event-stream"),
        ("application/x-ndjson, text/event-stream", JSON_TYPES, "application/x-ndjson"),
        ("application/json", JSON_TYPES, "application/x-ndjson"),
        ("application/json, text/event-stream", JSON_TYPES, "text/event-stream"),
        ("text/html,application/xml;q=0.9,*/*;q=0.8", TEXT_TYPES, "application/x-ndjson"),
        ("text/plain", TEXT_TYPES, "text/plain"),
        ("text/plain", JSON_TYPES, "application/x-ndjson"),
        ("text/*;q=0.9, text/event-stream;q=0.1", TEXT_TYPES, "text/plain"),
        ("*/*;q=0.1, text/plain", TEXT_TYPES, "text/plain"),
        ('text/event-stream;x="a,b;q=0", text/plain;q=0.5', TEXT_TYPES, "text/event-stream"),
        ("text/event-stream;q=nan, text/plain;q=0.5", TEXT_TYPES, "text/plain"),
        ('text/event-stream, text/plain;x="a, */*', TEXT_TYPES, "text/event-stream"),
        ("text/event-stream;q=7", JSON_TYPES, "application/x-ndjson"),
        (",,;, /, text", JSON_TYPES, "application/x-ndjson"),
        ('"' * 5000 + ";q=" * 5000, JSON_TYPES, "application/x-ndjson"),
        ("text/event-stream", ("application/octet-stream",), "application/octet-stream"),
    ],
)
def test_what_accept_says_decides_by_rfc_9110(accept, types, chosen):
    assert preferred(types, accept) == chosen


def test_quotes_in_accept_that_do_not_end_hold_up_nobody():
    begin = time.thread_time()
    assert preferred(JSON_TYPES, 'text/event-stream;x="' + '\\"' * 32_000) == "text/event-stream"
    assert time.thread_time() - begin < 2


# -- how they are left ---------------------------------------------------------------------------


class Endless(Pipeline):
    """Tells when it was closed, and counts what it yielded."""

    def load(self, context) -> None:
        self.told = context.settings["told"]

    def infer(self, request: int) -> Iterator[bytes]:
        try:
            for number in itertools.count(1):
                self.told["yielded"] = number
                yield b"x" * request
                if self.told["pause"]:
                    time.sleep(self.told["pause"])
        except GeneratorExit:
            self.told["closed"] = time.monotonic()
            raise


class AsyncEndless(Endless):
    async def infer(self, request: int) -> AsyncIterator[bytes]:  # type: ignore[override]
        try:
            for number in itertools.count(1):
                self.told["yielded"] = number
                yield b"x" * request
                await asyncio.sleep(self.told["pause"])
        except (GeneratorExit, asyncio.CancelledError):
            self.told["closed"] = time.monotonic()
            raise


def told(pause):
    return {"pause": pause, "yielded": 0, "closed": 0.0}


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("pause", [0.0, 0.2])
@pytest.mark.parametrize("pipeline", [Endless, AsyncEndless])
async def test_a_client_that_leaves_closes_the_generator(pipeline, pause, isolated):
    state = told(pause)
    async with served(pipeline, {"told": state}, isolated=isolated) as (client, runtime):
        async with client.stream("POST", "", json=1) as response:
            await anext(response.aiter_raw())
        left = time.monotonic()
        await until(lambda: state["closed"])
        assert state["closed"] - left < 10
        await until(lambda: runtime.in_flight == 0 and runtime.calls.abandoned == 0)


async def test_one_that_waits_for_its_next_item_is_closed_too():
    class Waiting(Pipeline):
        def load(self, context) -> None:
            self.closed = context.settings["closed"]

        async def infer(self, request: int) -> AsyncIterator[int]:
            try:
                yield 1
                await asyncio.sleep(600)
            finally:
                self.closed.set()

    closed = asyncio.Event()
    limits = Limits(stream_timeout=600)
    async with served(Waiting, {"closed": closed}, limits) as (client, _):
        async with client.stream("POST", "", json=1) as response:
            await anext(response.aiter_raw())
        await asyncio.wait_for(closed.wait(), 60)


def slow_reader(port, body):
    """A client that has asked and reads nothing; its buffers are small."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    connection.connect(("127.0.0.1", port))
    head = f"POST {ROUTE} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("pipeline", [Endless, AsyncEndless])
async def test_a_client_that_does_not_read_holds_the_generator_back(pipeline, isolated):
    state = told(0)
    app, _ = await application(pipeline, {"told": state}, isolated=isolated)
    async with serving(app) as port:
        with slow_reader(port, b"65536"):
            await until(lambda: state["yielded"] > 3)
            await stands_still(state)
            held = state["yielded"]
            # What the kernel and the server buffer is some megabytes, whatever is yielded.
            assert held < 200
        await until(lambda: state["closed"])


def rest_of(connection):
    connection.settimeout(60)
    return b"".join(iter(lambda: connection.recv(1 << 20), b""))


async def stands_still(state):
    seen = -1
    while seen != state["yielded"]:
        seen = state["yielded"]
        await asyncio.sleep(0.5)


async def test_one_that_never_reads_again_is_left_after_stream_timeout(caplog):
    state = told(0)
    app, runtime = await application(Endless, {"told": state}, Limits(stream_timeout=1.5))
    async with serving(app) as port:
        with slow_reader(port, b"65536") as connection:
            await until(lambda: state["closed"])
            await until(lambda: runtime.in_flight == 0)
            assert "did not go on within 1.5 s: its client did not take what there" in caplog.text
            received = await asyncio.to_thread(rest_of, connection)
            assert not received.endswith(b"0\r\n\r\n")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}{ROUTE}") as client:
            assert "failing" not in (await client.get("")).json()


async def test_a_stream_counts_among_the_ongoing_until_it_ends():
    state = told(0.05)
    limits = Limits(max_ongoing_requests=1, max_queued_requests=0)
    async with served(AsyncEndless, {"told": state}, limits) as (client, _):
        async with client.stream("POST", "", json=1) as response:
            await anext(response.aiter_raw())
            assert_problem(await client.post("", json=1), 503, "Overloaded")
        await until(lambda: state["closed"])
        async with client.stream("POST", "", json=1) as response:
            assert response.status_code == 200


async def test_many_streams_share_a_thread_and_none_fails():
    class Ticks(Pipeline):
        def infer(self, request: int) -> Iterator[int]:
            yield from range(request)

    async with served(Ticks, threads=1) as (client, _):
        responses = await asyncio.gather(*(client.post("", json=20) for _ in range(50)))
    assert {response.text for response in responses} == {
        "".join(f"{number}\n" for number in range(20))
    }


# -- a held loop ---------------------------------------------------------------------------------


class Holding(Pipeline):
    """Holds the loop before or after its first item, until it is told to go on."""

    def load(self, context) -> None:
        self.told = context.settings["told"]

    async def infer(self, request: str) -> AsyncIterator[str]:
        if request == "before":
            self.hold()
        try:
            yield "first"
            if request == "after":
                self.hold()
            yield "second"
        except GeneratorExit:
            self.told["closed"] = True
            raise

    def hold(self) -> None:
        self.told["holding"].set()
        self.told["go on"].wait(60)


@pytest.mark.parametrize("where", ["before", "after"])
async def test_nobody_else_writes_into_a_stream_that_has_begun(where):
    state = {"holding": threading.Event(), "go on": threading.Event(), "closed": False}
    limits = Limits(**{"before": {"request_timeout": 0.2}, "after": {"stream_timeout": 0.2}}[where])
    app, runtime = await application(Holding, {"told": state}, limits)
    async with serving(app) as port:

        def rescue():
            state["holding"].wait(60)
            for _ in range(20):  # longer than both timeouts
                time.sleep(0.05)
                app.answer_late()
            state["go on"].set()

        def ask():
            url = f"http://127.0.0.1:{port}{ROUTE}"
            return httpx.post(url, json=where, timeout=60)

        rescuing = asyncio.create_task(asyncio.to_thread(rescue))
        response = await asyncio.to_thread(ask)
        await rescuing
        await until(lambda: runtime.in_flight == 0)
    if where == "before":
        assert_problem(response, 504, "TimedOut")
        assert state["closed"]
    else:
        assert response.text == '"first"\n"second"\n'
