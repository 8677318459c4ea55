"""The way past Serve: a replica's own Unix socket, served by the real uvicorn."""

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from tests.support.asking import LOGGER, until
from tests.support.reading import made, weights_of
from tests.support.wheels import make_wheel, tree_of
from wheelway import direct
from wheelway.replica import Arguments, Replica

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

GATED = """
import asyncio
from collections.abc import AsyncIterator

import wheelway
from wheelway import Pipeline

gates, unloaded = {}, []

def gate(name):
    return gates.setdefault(name, asyncio.Event())

class Demo(Pipeline):
    async def infer(self, request: str) -> dict:
        if request:
            gate(f"in {request}").set()
            await gate(request).wait()
        found = wheelway.request()
        return {"id": found.id, "client": found.client, "was": self.context.settings.get("n")}

    def load(self, context):
        self.context = context

    def reconfigure(self, settings):
        if settings.get("bad"):
            raise ValueError("bad settings")

    def unload(self):
        unloaded.append(1)

class Stream(Pipeline):
    async def infer(self, request: int) -> AsyncIterator[int]:
        for number in range(request):
            yield number
            await gate(number).wait()
"""
ROUTE = "/predict/gated/1.0"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The limit holds for the process: here that is the test run's."""
    monkeypatch.setattr("wheelway.memory.limit", lambda *_, **_more: None)
    monkeypatch.setattr(direct, "TICK", 0.02)
    monkeypatch.setattr(direct, "RETRY", 0.02)
    monkeypatch.setattr(direct, "SETTLE", 0.05)


@pytest.fixture
def folder():
    """As an operator makes it; a path of pytest's own would be too long."""
    with tempfile.TemporaryDirectory(prefix="ww-") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A module of a name is imported once."""
    return tree_of(make_wheel(tmp_path_factory.mktemp("gated"), "gated", code=GATED))


@pytest.fixture
async def replicas(tree):
    """Makes replicas of one pipeline, as Serve does, and ends them."""
    running = []

    async def start(user_config, name="r1", target="Demo"):
        arguments = {
            "release": {"pipeline": "gated", "version": "1.0", "digest": "ab" * 32},
            "target": f"gated.pipeline:{target}",
            "tree": str(tree[0]),
            "record_digest": tree[1],
        }
        replica = Replica(Arguments.of(arguments), LOGGER, name=name, echo_request_id=False)
        running.append(replica)
        await replica.reconfigure(user_config)
        module = sys.modules["gated.pipeline"]
        module.gates.clear()
        module.unloaded.clear()
        return replica, module

    yield start
    for replica in running:
        await replica.unload()


def asking(path):
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=60)


@pytest.fixture
async def opened(replicas, folder):
    """One that listens, its module, and the path."""
    replica, module = await replicas({"direct": str(folder)})
    await until((folder / "r1.sock").exists)
    return SimpleNamespace(replica=replica, module=module, path=folder / "r1.sock")


def serves_way(application):
    transport = httpx.ASGITransport(application, root_path=ROUTE)
    return httpx.AsyncClient(transport=transport, base_url="http://serve")


async def error_of(replica):
    await until(lambda: replica.direct.told()["direct_error"])
    return replica.direct.told()["direct_error"]


async def test_without_a_folder_nothing_happens(replicas):
    replica, _ = await replicas({"settings": {}})
    await asyncio.sleep(0.1)
    assert replica.direct._keeping is None
    async with serves_way(replica.application) as client:
        told = (await client.get(ROUTE)).json()
    assert not [key for key in told if key.startswith("direct")]


async def test_both_ways_answer_alike_but_for_whom_the_gateway_speaks(replicas, folder):
    replica, _ = await replicas({"direct": str(folder)})
    path = folder / "r1.sock"
    await until(path.exists)
    said = {"x-request-id": "mine-1", "x-forwarded-for": "10.0.0.9, 2001:db8::1"}
    async with asking(path) as client, serves_way(replica.application) as other:
        answer = await client.post(ROUTE, json="", headers=said)
        assert answer.json() == {"id": "mine-1", "client": "2001:db8::1", "was": None}
        assert answer.headers.get_list("x-request-id") == ["mine-1"]
        assert answer.headers.get_list("date") != []
        assert "connection" not in answer.headers
        made_up = await client.post(ROUTE, json="", headers={"x-forwarded-for": "10.0.0.9, odd"})
        assert made_up.json() == {"id": made_up.headers["x-request-id"], "client": "", "was": None}
        assert (await client.post(ROUTE, json="")).json()["client"] == ""
        for ask in ({"json": 3}, {"content": b"{"}, {"json": "", "headers": {"content-type": "x"}}):
            mine, theirs = await client.post(ROUTE, **ask), await other.post(ROUTE, **ask)
            assert mine.status_code == theirs.status_code
            assert mine.status_code in {415, 422}
            assert mine.json()["reason"] == theirs.json()["reason"]
            assert mine.headers["x-request-id"] == mine.json()["instance"]
        for below in ("", "/docs", "/openapi.json", "/healthz", "/nothing"):
            mine, theirs = await client.get(ROUTE + below), await other.get(ROUTE + below)
            assert mine.status_code == theirs.status_code
            assert mine.headers["x-wheelway-release"] == theirs.headers["x-wheelway-release"]
        told = (await other.get(ROUTE)).json()
    assert told["direct"]["ongoing"] == 0
    assert told["direct"]["answered"] >= 11
    assert "direct_error" not in told


async def test_limits_settings_and_the_queue_are_one_for_both_ways(opened):
    limits = {"max_ongoing_requests": 1, "max_queued_requests": 1}
    config = {"direct": str(opened.path.parent), "limits": limits, "settings": {"bad": True}}
    await opened.replica.reconfigure(config)
    await opened.replica.settled()
    application = opened.replica.application
    async with asking(opened.path) as client, serves_way(application) as other:
        assert (await client.get(ROUTE)).json()["settings_error"] == "ValueError: bad settings"
        first = asyncio.create_task(other.post(ROUTE, json="x"))
        await until(lambda: "in x" in opened.module.gates)
        second = asyncio.create_task(client.post(ROUTE, json="x"))
        await until(lambda: application._in_flight == 2)
        for one in (client, other):
            refused = await one.post(ROUTE, json="")
            assert (refused.status_code, refused.json()["reason"]) == (503, "Overloaded")
            assert refused.headers["retry-after"] == "1"
        assert (await other.get(ROUTE)).json()["direct"]["ongoing"] == 1
        opened.module.gate("x").set()
        assert [(await task).status_code for task in (first, second)] == [200, 200]
        limits["request_timeout"] = 0.2
        await opened.replica.reconfigure({**config, "limits": limits})
        late = await client.post(ROUTE, json="never")
        assert (late.status_code, late.json()["reason"]) == (504, "TimedOut")


async def test_both_ways_get_new_weights_at_once(tmp_path, folder):
    name = f"swapping_{folder.name[3:]}"  # a module of its own
    replica, _ = made(tmp_path, name, replica="host-1")
    one, two = (weights_of(tmp_path, f"{n}.0", {"add": n}) for n in (1, 2))
    await replica.reconfigure({"direct": str(folder), "weights": one})
    path = folder / "host-1.sock"
    await until(path.exists)
    route = f"/predict/{name}/1.0"
    async with asking(path) as client:
        assert (await client.post(route, json=1)).json() == {"is": 2}
        await replica.reconfigure({"direct": str(folder), "weights": two})
        await replica.settled()
        answer = await client.post(route, json=1)
        assert answer.json() == {"is": 3}
        assert "2.0" in answer.headers["x-wheelway-weights"]
    await replica.unload()


async def test_a_stream_goes_item_by_item_and_ends_when_its_client_leaves(replicas, folder):
    replica, module = await replicas({"direct": str(folder)}, target="Stream")
    path = folder / "r1.sock"
    await until(path.exists)
    async with asking(path) as client:
        async with client.stream("POST", ROUTE, json=9) as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "0"
            module.gate(0).set()
            assert await anext(lines) == "1"
        await until(lambda: not replica.application._in_flight)


async def test_who_talks_nonsense_or_leaves_in_the_middle_hurts_nobody(opened):
    async def said(sent, *, ends=False):
        reader, writer = await asyncio.open_unix_connection(str(opened.path))
        writer.write(sent)
        if not ends:
            answer = await asyncio.wait_for(reader.read(), 60)
            writer.close()
            return answer
        await until(lambda: opened.replica.application._in_flight)
        writer.close()
        await until(lambda: not opened.replica.application._in_flight)
        return b""

    assert (await said(b"\x16\x03\x01 no HTTP\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert (await said(b"GET http:// HTTP/9.9\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    head = f"POST {ROUTE} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n".encode()
    await said(head + b'"', ends=True)
    await said(head + b'"xxxxxxx"', ends=True)
    idle = [await asyncio.open_unix_connection(str(opened.path)) for _ in range(100)]
    async with asking(opened.path) as client, serves_way(opened.replica.application) as other:
        for one in (client, other):
            assert (await one.post(ROUTE, json="")).status_code == 200
    for _, writer in idle:
        writer.close()
    await until(lambda: not opened.replica.direct.told()["direct"]["ongoing"])


# -- the file ------------------------------------------------------------------------------------


async def test_only_its_owner_and_the_folders_group_may_open_it(opened):
    mode, folder = opened.path.stat(), opened.path.parent.stat()
    assert stat.S_IMODE(mode.st_mode) == 0o660
    assert (mode.st_uid, mode.st_gid) == (os.geteuid(), folder.st_gid)


def others(folder):
    if os.geteuid():
        pytest.skip("only root gives folders away")
    os.chown(folder, 12345, -1)


def linked(folder):
    folder.rmdir()
    folder.symlink_to("/tmp")


WRONG = {
    "others may read": (lambda folder: folder.chmod(0o755), "others may"),
    "its group may write": (lambda folder: folder.chmod(0o770), "others may"),
    "another user's": (others, "belongs to the user 12345"),
    "a link": (linked, "is no folder"),
    "not there": (lambda folder: folder.rmdir(), "there is no folder"),
    "something else there": (lambda folder: (folder / "r1.sock").mkdir(), "something else at"),
    "a link in its place": (
        lambda folder: (folder / "r1.sock").symlink_to(folder / "elsewhere"),
        "something else at",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_folder_that_is_not_the_gateways_alone_is_not_used_until_it_is(
    replicas, folder, tmp_path, wrong, caplog
):
    spoil, why = WRONG[wrong]
    spoil(folder)
    replica, _ = await replicas({"direct": str(folder)})
    assert why in await error_of(replica)
    await asyncio.sleep(0.1)
    assert caplog.text.count("does not answer directly, only by way of Serve: ") == 1
    async with serves_way(replica.application) as client:
        assert (await client.post(ROUTE, json="")).status_code == 200
        assert why in (await client.get(ROUTE)).json()["direct_error"]
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():  # it may look there in this moment
        folder.rename(tmp_path / folder.name)
    folder.mkdir(0o700)
    async with asking(folder / "r1.sock") as client:
        await until(lambda: not replica.direct.told()["direct_error"])
        assert (await client.post(ROUTE, json="")).status_code == 200


@pytest.mark.parametrize(
    ("named", "name", "why"),
    [
        ("relative", "r1", "no absolute path"),
        ("/" + 100 * "x", "r1", "has 109 bytes"),
        ("/tmp", "../r1", "cannot be the name of a file"),
        ("/tmp", "", "cannot be the name of a file"),
        ("/\0", "r1", "null"),
        (7, "r1", "no absolute path"),
    ],
)
async def test_a_path_that_cannot_be_is_told(replicas, named, name, why):
    replica, _ = await replicas({"direct": named}, name)
    assert why in await error_of(replica)
    assert replica.ready


KILLED = """
import os, socket, sys
for path in sys.argv[1:]:
    one = socket.socket(socket.AF_UNIX)
    one.bind(path)
    one.listen()
    os.dup(one.fileno())
print(flush=True)
sys.stdin.read()
"""


async def test_what_killed_replicas_left_is_removed_by_the_next_and_nothing_else(replicas, folder):
    dead = [folder / f"dead{number}.sock" for number in range(20)]
    with subprocess.Popen(  # noqa: ASYNC220 - it starts and is killed, no more
        [sys.executable, "-c", KILLED, *map(str, dead)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        (folder / "a.sock").write_text("no socket")
        first, _ = await replicas({"direct": str(folder)}, "r1")
        await until((folder / "r1.sock").exists)
        assert len(list(folder.iterdir())) == 22
        os.kill(process.pid, signal.SIGKILL)
    second, _ = await replicas({"direct": str(folder)}, "r2")
    await until((folder / "r2.sock").exists)
    assert {path.name for path in folder.iterdir()} == {"a.sock", "r1.sock", "r2.sock"}
    assert first.direct.told()["direct"] == {"answered": 0, "ongoing": 0}, "it was not disturbed"
    async with asking(folder / "r1.sock") as client:
        assert (await client.post(ROUTE, json="")).status_code == 200
    assert not second.direct.told()["direct_error"]


async def test_one_whose_folder_was_made_anew_opens_its_socket_again(opened):
    async with asking(opened.path) as client:
        kept = asyncio.create_task(client.post(ROUTE, json="x"))
        await until(lambda: "in x" in opened.module.gates)
        shutil.rmtree(opened.path.parent)
        opened.path.parent.mkdir(0o700)
        await until(opened.path.exists)
        async with asking(opened.path) as other:
            assert (await other.post(ROUTE, json="")).status_code == 200
        opened.module.gate("x").set()
        assert (await kept).headers["connection"] == "close"


# -- its end -------------------------------------------------------------------------------------


async def test_it_is_turned_off_and_on_and_moved_while_requests_are_under_way(opened, replicas):
    async with asking(opened.path) as client:
        under_way = asyncio.create_task(client.post(ROUTE, json="x"))
        await until(lambda: "in x" in opened.module.gates)
        await opened.replica.reconfigure({})
        await until(lambda: not opened.path.exists())
        with pytest.raises(httpx.ConnectError):
            await client.post(ROUTE, json="")
        await opened.replica.reconfigure({"direct": str(opened.path.parent)})
        await until(opened.path.exists)
        assert (await client.post(ROUTE, json="")).status_code == 200
        with tempfile.TemporaryDirectory(prefix="ww-") as elsewhere:
            await opened.replica.reconfigure({"direct": elsewhere})
            moved = Path(elsewhere, "r1.sock")
            await until(moved.exists)
            await until(lambda: not opened.path.exists())
            opened.module.gate("x").set()
            assert (await under_way).status_code == 200
            async with asking(moved) as other:
                assert (await other.post(ROUTE, json="")).status_code == 200
            assert opened.replica.direct.told()["direct"]["answered"] == 3
            await opened.replica.reconfigure({})
            await until(lambda: not moved.exists())
    assert opened.module.unloaded == []


async def test_one_that_ends_refuses_first_and_unloads_after_the_last_request(opened):
    async with asking(opened.path) as client, asking(opened.path) as idle:
        assert (await idle.post(ROUTE, json="")).status_code == 200
        under_way = asyncio.create_task(client.post(ROUTE, json="x"))
        await until(lambda: "in x" in opened.module.gates)
        opened.replica.direct.refuse()
        assert not opened.path.exists()
        opened.replica.direct.want(str(opened.path.parent))
        last = await idle.post(ROUTE, json="")
        assert (last.status_code, last.headers["connection"]) == (200, "close")
        with pytest.raises(httpx.ConnectError):
            await idle.post(ROUTE, json="")
        ending = asyncio.create_task(opened.replica.unload())
        await asyncio.sleep(0.3)
        assert not ending.done()
        assert opened.module.unloaded == []
        opened.module.gate("x").set()
        answer = await under_way
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        await asyncio.wait_for(ending, 60)
    assert opened.module.unloaded == [1]
    assert not opened.path.exists()


async def test_a_request_that_never_ends_keeps_it_for_the_time_that_serve_gives(opened):
    opened.replica.grace = 0.3
    async with asking(opened.path) as client:
        under_way = asyncio.create_task(client.post(ROUTE, json="x"))
        await until(lambda: "in x" in opened.module.gates)
        await asyncio.wait_for(opened.replica.unload(), 60)
        assert opened.module.unloaded == [1]
        opened.module.gate("x").set()
        await under_way


async def test_connections_without_a_request_are_closed_at_last(opened, monkeypatch):
    monkeypatch.setattr(direct, "IDLE", 0.2)
    reader, writer = await asyncio.open_unix_connection(str(opened.path))
    await asyncio.wait_for(opened.replica.unload(), 60)
    assert await reader.read() == b""
    writer.close()


async def test_who_came_before_it_refused_is_answered_even_if_not_accepted_yet(opened):
    body = json.dumps("").encode()
    head = f"POST {ROUTE} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    clients = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for client in clients:  # the loop does not turn meanwhile
        client.connect(str(opened.path))
        client.sendall(head + body)
    opened.replica.direct.refuse()
    for client in clients:
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        said = await asyncio.wait_for(loop.sock_recv(client, 4096), 60)
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close\r\n" in said
        client.close()


async def test_one_that_is_told_to_open_while_it_ends_leaves_nothing(replicas, folder):
    replica, _ = await replicas({"direct": str(folder)})
    await replica.unload()  # perhaps before there is a socket
    assert list(folder.iterdir()) == []


# -- uvicorn -------------------------------------------------------------------------------------


async def test_where_there_is_no_uvicorn_it_says_so_and_goes_on(replicas, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    replica, _ = await replicas({"direct": str(folder)})
    assert "no usable uvicorn in this environment" in await error_of(replica)
    async with serves_way(replica.application) as client:
        assert (await client.post(ROUTE, json="")).status_code == 200
    assert list(folder.iterdir()) == []


async def test_another_uvicorn_does_not_hurt_serves_way(replicas, folder, monkeypatch, caplog):
    monkeypatch.setattr("uvicorn.Config", lambda *_, **__: SimpleNamespace())
    replica, _ = await replicas({"direct": str(folder)})
    assert "AttributeError" in await error_of(replica)
    assert "Traceback" in caplog.text
    async with serves_way(replica.application) as client:
        assert (await client.post(ROUTE, json="")).status_code == 200
    assert list(folder.iterdir()) == []
