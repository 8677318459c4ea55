"""Requests to a replica whose event loop its pipeline holds: answered in time, or not at all."""

import asyncio
import json
import logging
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import uvicorn

from tests.support.head import eventually
from tests.support.wheels import make_wheel, tree_of
from wheelway import Pipeline
from wheelway.asgi import Application
from wheelway.contract import Release
from wheelway.execution import Runtime, context_of
from wheelway.limits import Limits
from wheelway.rescue import close, connection_of
from wheelway.watchdog import Watchdog

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - conditions of others, who set no event
            await asyncio.sleep(0.01)


RELEASE = Release("held", "1.0", "ab" * 32, "cd" * 32, "0.1.0", "held-1.0-ab")
LOGGER = logging.getLogger("test.wheelway")


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


SERVING = """
import asyncio, json, logging, sys, threading
from pathlib import Path
import uvicorn
from wheelway import memory
from wheelway.replica import Arguments, Replica

memory.limit = lambda *a, **b: None
arguments = json.loads(sys.argv[1])

async def main():
    logging.basicConfig()
    replica = Replica(Arguments.of(arguments), logging.getLogger("replica"), name="held")
    direct = sys.argv[2] if len(sys.argv) > 2 else None
    await replica.reconfigure({"limits": {"request_timeout": 0.5}, "direct": direct})
    config = uvicorn.Config(replica.application, port=0, log_level="info")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await task

asyncio.run(main())
"""


HOLDING = """
import time
from pathlib import Path
from typing import Annotated
from pydantic import AfterValidator
from wheelway import Pipeline

made = []

def wait(path):
    while path and not Path(path).exists():
        time.sleep(0.01)
    return path

class Demo(Pipeline):
    def load(self, context):
        made.append(self)
"""
HOLDS = {
    "a stage": """
    async def infer(self, path: str) -> str:
        return wait(path)
""",
    "a batch": """
    async def infer_batch(self, paths: list[str]) -> list[str]:
        return [wait(path) for path in paths]
""",
    "a stage of which there is no second instance": """
        if len(made) > 1:
            raise MemoryError("no room")

    async def infer(self, path: str) -> str:
        return wait(path)
""",
    "what a stage returned": """
    def infer(self, path: str) -> str:
        async def later():
            return wait(path)
        return later()
""",
    "a validator": """
    def infer(self, path: Annotated[str, AfterValidator(wait)]) -> str:
        return path
""",
}


def answers(client, url):
    """Once nothing holds the loop; on a busy machine that may be too late for the first request."""
    return eventually(lambda: client.post(url, json="").json() == "")


@contextmanager
def served(tmp_path, name, code, direct=None):
    """A replica behind uvicorn in a process of its own, which also answers in the folder `direct`;
    its URL, and where its log goes.
    """
    tree, digest = tree_of(make_wheel(tmp_path, name, code=code))
    arguments = {
        "release": {"pipeline": name, "version": "1.0", "digest": "ab" * 32},
        "target": f"{name}.pipeline:Demo",
        "tree": str(tree),
        "record_digest": digest,
    }
    log = tmp_path / "log"
    with subprocess.Popen(
        [sys.executable, "-c", SERVING, json.dumps(arguments), *([direct] if direct else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log.open("wb"),
        text=True,
    ) as process:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/predict/{name}/1.0", log
        process.stdin.close()
        process.wait(60)


@pytest.mark.parametrize("what", HOLDS)
def test_code_that_holds_the_loop_keeps_nobody_beyond_the_request_timeout(tmp_path, what):
    name = f"holding_{list(HOLDS).index(what)}"
    with (
        served(tmp_path, name, HOLDING + HOLDS[what]) as (url, log),
        httpx.Client(timeout=60) as client,
    ):
        assert answers(client, url)
        for mine in ("first", "second", "third"):
            path = tmp_path / mine  # until it exists the loop, or the stage's own, is held
            late = client.post(url, json=str(path), headers={"x-request-id": mine})
            assert (late.status_code, late.json()["reason"]) == (504, "TimedOut")
            assert late.headers["x-request-id"] == late.json()["instance"] == mine
            assert late.headers["x-wheelway-release"] == f"{name}@1.0+abababab"
            path.touch()
            assert answers(client, url)
    text = log.read_text()
    assert "held the event loop" in text
    for mine in ("first", "second", "third"):
        told = rf"request {mine} of {name}@\S+ at /predict/{name}/1\.0 was not answered within "
        assert len(re.findall(told, text)) == 1
    assert ("validators and serialisers must be quick" in text) == (what == "a validator")
    assert "Exception in ASGI" not in text
    assert "without completing response" not in text


def test_nor_does_it_on_the_way_past_serve(tmp_path):
    code = HOLDING + HOLDS["a stage of which there is no second instance"]
    with (
        tempfile.TemporaryDirectory(prefix="ww-") as folder,
        served(tmp_path, "direct", code, folder) as (url, log),
        httpx.Client(transport=httpx.HTTPTransport(uds=f"{folder}/held.sock")) as client,
    ):
        eventually(Path(folder, "held.sock").exists)
        assert answers(client, url)
        for mine in ("first", "second"):
            path = tmp_path / mine
            headers = {"x-request-id": mine}
            late = client.post(url, json=str(path), headers=headers, timeout=60)
            assert (late.status_code, late.json()["reason"]) == (504, "TimedOut")
            assert late.headers["x-request-id"] == mine
            path.touch()
            assert answers(client, url)
    assert "Exception in ASGI" not in log.read_text()


def test_no_header_makes_anything_be_written_into_another_connection(tmp_path):
    """uvicorn believes X-Forwarded-For of a proxy on the same machine: port and all."""
    with socket.create_server(("127.0.0.1", 0)) as database:
        port = database.getsockname()[1]
        code = HOLDING.replace(
            "made.append(self)", f"made.append(socket.create_connection(('127.0.0.1', {port})))"
        )
        code = f"import socket\n{code}{HOLDS['a stage of which there is no second instance']}"
        with (
            served(tmp_path, "robbed", code) as (url, _),
            httpx.Client(timeout=60) as client,
            database.accept()[0] as connection,
        ):
            for claimed in (f"127.0.0.1:{port}", "203.0.113.9", "203.0.113.9, 127.0.0.1"):
                path = tmp_path / claimed
                late = client.post(url, json=str(path), headers={"x-forwarded-for": claimed})
                assert (late.status_code, late.json()["reason"]) == (504, "TimedOut")
                assert not select.select([connection], [], [], 0)[0], "nothing said, not ended"
                path.touch()
                assert answers(client, url)


# -- whose connection it is ----------------------------------------------------------------------


@asynccontextmanager
async def serving(app, own=None, **options):
    """Its port, or the path of `own`, which is bound already."""
    with own or socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_level="error", lifespan="off", **options)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield listener.getsockname() if own else listener.getsockname()[1]
        server.should_exit = True
        await asyncio.wait_for(task, 60)


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_a_request_s_connection_is_its_own_and_only_before_its_answer_begins(http):
    found = []

    def look(receive, loop=None):
        connection = connection_of(receive, loop or asyncio.get_running_loop())
        if connection is None:
            found.append(None)
        else:
            with connection.socket:
                found.append(connection.socket.getpeername())

    async def app(scope, receive, send):
        look(receive)
        look(receive, asyncio.new_event_loop())  # whose server turns while another loop is held
        look(partial(receive))  # whose is that?
        await send({"type": "http.response.start", "status": 200, "headers": []})
        look(receive)
        await send({"type": "http.response.body", "body": b"mine"})
        look(receive)

    async with serving(app, http=http) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        mine = writer.get_extra_info("sockname")
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"mine" in await reader.read()
        writer.close()
    assert found == [mine, None, None, None, None]


async def test_over_a_unix_socket_a_request_s_connection_is_its_own_too():
    held, answered = [], asyncio.Event()

    async def app(scope, receive, send):
        held.append(connection_of(receive, asyncio.get_running_loop()))
        await answered.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        assert connection_of(receive, asyncio.get_running_loop()) is None
        await send({"type": "http.response.body", "body": b""})

    async def ask(path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        said = await reader.read()
        writer.close()
        return said[9:12]

    with tempfile.TemporaryDirectory(prefix="ww-") as folder, socket.socket(socket.AF_UNIX) as own:
        own.bind(f"{folder}/own.sock")
        async with serving(app, own) as path:
            asked = []
            for number in range(3):
                asked.append(asyncio.create_task(ask(path)))
                await until(lambda number=number: len(held) > number)
            held[1].answer(504, b"content-length: 4\r\n", b"late")
            close(held[1].cycle.receive)
            for connection in held:
                connection.socket.close()  # or none of them would end
            answered.set()
            assert [await one for one in asked] == [b"204", b"504", b"204"]


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_what_is_answered_past_the_server_is_the_last_on_its_connection(http):
    async def app(scope, receive, send):
        connection = connection_of(receive, asyncio.get_running_loop())
        connection.answer(504, b"content-length: 4\r\n", b"late")
        assert not connection.is_free
        connection.answer(504, b"content-length: 5\r\n", b"twice")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in time"})

    async with serving(app, http=http) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        expected = (
            b"HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlate"
        )
        assert await reader.read() == expected
        writer.close()


async def test_who_has_sent_the_next_request_already_is_left_to_the_server():
    first = True

    async def app(scope, receive, send):
        nonlocal first
        if first:
            first = False
            protocol = receive.__self__.transport.get_protocol()
            await until(lambda: protocol.pipeline)
            assert connection_of(receive, asyncio.get_running_loop()) is None
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app, http="httptools") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        ask = b"GET / HTTP/1.1\r\nhost: x\r\n"
        writer.write(ask + b"\r\n" + ask + b"connection: close\r\n\r\n")
        assert (await reader.read()).count(b"HTTP/1.1 204") == 2
        writer.close()


class Holding(Pipeline):
    """Holds the loop as soon as all are there, until all were told that it is too late."""

    def __init__(self):
        self.calls = 0
        self.there = lambda: True
        self.told = threading.Event()

    async def infer(self, request: int) -> int:
        self.calls += 1
        await until(self.there)
        self.told.wait(60)
        return self.calls


async def test_whoever_was_told_that_it_is_too_late_is_not_computed_for_and_counts_once():
    runtime = Runtime(Holding, context_of(Holding, RELEASE, {}, LOGGER))
    await runtime.start()
    holding = runtime._instance
    app = Application(RELEASE, LOGGER)
    app.serve(runtime, Limits(request_timeout=2, max_ongoing_requests=1))
    holding.there = lambda: app._in_flight == 4
    told = []
    # Made before, as each takes long to make: all must be there before the first is too late.
    async with serving(app) as port, httpx.AsyncClient(timeout=60) as client:
        url = f"http://127.0.0.1:{port}/predict/held/1.0"
        asking = httpx.Client(timeout=60)

        def ask():
            told.append(asking.post(url, json=1).status_code)
            if len(told) == 4:
                holding.told.set()

        def rescue():
            while not holding.told.wait(0.1):
                app.answer_late()

        threads = [threading.Thread(target=rescue), *(threading.Thread(target=ask) for _ in "1234")]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await until(lambda: not app._in_flight)
        await asyncio.to_thread(asking.close)
        assert told == [504] * 4
        assert holding.calls == 1
        assert app._outcomes.recent.bit_count() == 4
        holding.there = lambda: True
        assert (await client.post(url, json=1)).json() == 2
    await runtime.unload()


async def test_every_hold_is_noticed_while_it_lasts_and_told_of_once(tmp_path):
    released = threading.Event()
    code = "def block(until): until.wait(60)\nasync def stage(until): until.wait(60)"
    space = {}
    exec(compile(code, tmp_path / "pipeline.py", "exec"), space)
    holds = []
    watchdog = Watchdog(tmp_path, holds.append, released.set, held_after=0.1)
    for number, what in enumerate(["stage", "block", "stage"], start=1):
        released.clear()
        done = space[what](released)
        if done is not None:
            await done
        assert released.is_set()
        await until(lambda number=number: len(holds) == number)
    watchdog.stop()
    assert [hold.by_coroutine for hold in holds] == [True, False, True]
    assert all(f'{tmp_path}/pipeline.py", line' in hold.stack for hold in holds)


async def test_a_stack_that_goes_on_while_it_is_read_ends_no_watch(tmp_path, monkeypatch):
    released, read, holds = threading.Event(), [], []

    def current_frames():
        read.append(1)
        if len(read) > 2:
            monkeypatch.undo()
            released.set()
        return {threading.main_thread().ident: SimpleNamespace(f_lineno=1, f_back=object())}

    space = {}
    exec(compile("def block(until): until.wait(60)", tmp_path / "pipeline.py", "exec"), space)
    monkeypatch.setattr("wheelway.watchdog.sys._current_frames", current_frames)
    watchdog = Watchdog(tmp_path, holds.append, held_after=0.1)
    space["block"](released)
    watchdog.stop()
    assert len(read) == 3
    assert holds == []
