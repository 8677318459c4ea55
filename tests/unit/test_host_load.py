"""A release under load: its queue, its deadlines, and clients that leave."""

import asyncio
import threading

import httpx
import pytest

from tests.support.asking import (
    RELEASE,
    ROUTE,
    acquire,
    application,
    asking,
    assert_problem,
    client_of,
    serving,
    until,
)
from tests.support.pipelines import AsyncGated, Echo, Gated
from wheelway.limits import Limits

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


def gate(kind=threading.Event):
    return {"gate": kind(), "entered": threading.Semaphore(0)}


async def test_a_synchronous_stage_does_not_hold_up_the_event_loop():
    settings = gate()
    async with asking(Gated, settings) as client:
        waiting = asyncio.create_task(client.post(ROUTE, json=1))
        await acquire(settings["entered"])
        assert (await client.get(f"{ROUTE}/healthz")).json() == {"status": "ok"}
        assert not waiting.done()
        settings["gate"].set()
        assert (await waiting).json() == 1


async def test_beyond_the_queue_requests_are_503_at_once_and_may_come_again():
    settings = gate(asyncio.Event)
    limits = Limits(max_ongoing_requests=1, max_queued_requests=1)
    async with asking(AsyncGated, settings, limits) as client:
        first = asyncio.create_task(client.post(ROUTE, json=1))
        await acquire(settings["entered"])
        second = asyncio.create_task(client.post(ROUTE, json=2))
        for _ in range(5):  # the second gets as far as the queue
            await asyncio.sleep(0)
        refused = await client.post(ROUTE, json=3)
        assert_problem(refused, 503, "Overloaded")
        assert refused.headers["retry-after"] == "1"
        assert not settings["entered"].acquire(blocking=False)
        settings["gate"].set()
        assert [(await task).json() for task in (first, second)] == [1, 2]
        assert (await client.post(ROUTE, json=4)).json() == 4


async def test_raised_limits_let_those_that_wait_run():
    settings = gate(asyncio.Event)
    app, runtime = await application(AsyncGated, settings, Limits(max_ongoing_requests=1))
    async with client_of(app) as client:
        tasks = [asyncio.create_task(client.post(ROUTE, json=n)) for n in range(3)]
        await acquire(settings["entered"])
        app.serve(runtime, Limits(max_ongoing_requests=3))
        await acquire(settings["entered"], 2)
        settings["gate"].set()
        assert [(await task).json() for task in tasks] == [0, 1, 2]
    await runtime.unload()


async def test_a_request_that_takes_too_long_is_504_and_its_thread_stays_accounted_for():
    settings = gate()
    limits = Limits(request_timeout=0.05, max_ongoing_requests=1, max_queued_requests=0)
    app, runtime = await application(Gated, settings, limits)
    async with client_of(app) as client:
        assert_problem(await client.post(ROUTE, json=1), 504, "TimedOut")
        await until(lambda: runtime.calls.abandoned == 1)
        assert_problem(await client.post(ROUTE, json=2), 503, "Overloaded")
        settings["gate"].set()
        await until(lambda: runtime.calls.abandoned == 0)
        assert (await client.post(ROUTE, json=3)).json() == 3
    await runtime.unload()


class Slow(Gated):
    def pre_process(self, request: int) -> int:
        return request


@pytest.mark.parametrize(
    ("pipeline", "kind", "threads", "where"),
    [
        (Slow, threading.Event, 1, ["it was in `infer`", "it waited for a thread"]),
        (AsyncGated, asyncio.Event, 1, ["it was in `infer`"] * 2),
    ],
)
async def test_the_log_says_of_every_504_where_the_request_was(
    pipeline, kind, threads, where, caplog
):
    settings = gate(kind)
    app, runtime = await application(
        pipeline, settings, Limits(request_timeout=0.5, max_ongoing_requests=3), threads=threads
    )
    async with client_of(app) as client:
        ids = [str(n) for n in range(len(where))]
        asked = [client.post(ROUTE, json=1, headers={"x-request-id": name}) for name in ids]
        for answer in await asyncio.gather(*asked):
            assert_problem(answer, 504, "TimedOut")
    settings["gate"].set()
    told = sorted(record.getMessage() for record in caplog.records)
    about = f"{RELEASE} at {ROUTE} was not answered within 0.5 s"
    assert told == [f"request {n} of {about}: {place}" for n, place in enumerate(where)]
    await runtime.unload()


async def test_of_a_504_whose_turn_or_body_did_not_come_that_is_said(caplog):
    settings = gate(asyncio.Event)
    limits = Limits(request_timeout=0.3, max_ongoing_requests=1, max_queued_requests=3)
    app, runtime = await application(AsyncGated, settings, limits)

    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            asked = [client.post("/", json=number) for number in range(2)]
            for answer in await asyncio.gather(*asked):
                assert answer.status_code == 504
        assert b" 504 " in await reader.readline()
        writer.close()
    assert {record.getMessage().rpartition(" s: ")[2] for record in caplog.records} == {
        "it was in `infer`",
        "it waited for others to end, `max_ongoing_requests` ran",
        "its body was still coming",
    }
    await runtime.unload()


async def test_a_client_that_leaves_amid_its_body_leaves_nothing_behind():
    app, _ = await application(Echo)
    async with serving(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        await until(lambda: app._in_flight == 1)
        writer.close()
        await until(lambda: app._in_flight == 0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.post("/", json=[1])).json() == [1]


async def test_a_client_that_leaves_while_it_waits_ends_its_request():
    settings = gate(asyncio.Event)
    app, runtime = await application(AsyncGated, settings)
    async with serving(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1")
        await writer.drain()
        await acquire(settings["entered"])
        assert app._in_flight == 1
        writer.close()
        await until(lambda: app._in_flight == 0)
        settings["gate"].set()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.post("/", json=2)).json() == 2
    assert runtime.calls.abandoned == 0


async def test_the_end_of_the_server_unloads_the_pipeline():
    ended = []

    class Closing(Echo):
        def unload(self):
            ended.append(True)

    app, _ = await application(Closing)
    async with serving(app, root_path="/predict/x/1.0") as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.post("/", json=1)).json() == 1
        assert ended == []
    assert ended == [True]
