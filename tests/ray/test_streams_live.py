"""Streams as clients get them through HAProxy and Serve, and what becomes of them in an upgrade."""

import json
import socket
import time
from contextlib import contextmanager

import httpx
import pytest

from controller.model import Phase
from tests.support.head import eventually

pytestmark = pytest.mark.ray

CODE = """
import asyncio, time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

from wheelway import Pipeline

class Gates:
    def __init__(self, folder):
        self.folder = Path(folder)
        (self.folder / "begun").touch()

    def open(self, number):
        gate = self.folder / str(number)
        return gate.exists() and gate.read_text()

    def closed(self):
        (self.folder / "closed").touch()


class Lines(Pipeline):
    async def infer(self, request: str) -> AsyncIterator[int]:
        gates = Gates(request)
        try:
            for number in count():
                while not (what := gates.open(number)):
                    await asyncio.sleep(0.02)
                if what == "end":
                    return
                if what == "raise":
                    raise RuntimeError("broken on purpose")
                yield number
        except (GeneratorExit, asyncio.CancelledError):
            gates.closed()
            raise


class Raw(Pipeline):
    def infer(self, request: str) -> Iterator[bytes]:
        gates = Gates(request)
        try:
            for number in count():
                while not (what := gates.open(number)):
                    time.sleep(0.02)
                if what == "end":
                    return
                if what == "raise":
                    raise RuntimeError("broken on purpose")
                if what == "flood":
                    for done in count(1):
                        yield bytes(65536)
                        (gates.folder / "flooded").write_text(str(done))
                yield b"%d\\n" % number
        except GeneratorExit:
            gates.closed()
            raise
"""
SOON = 45
"""Seconds: less than `request_timeout` and `stream_timeout`, which end a stream in any case."""
VERSION, ENCODED = "1.0+cu1", "1.0%2Bcu1"
TOML = """
[options]
graceful_shutdown_timeout = 60
"""


def publish(site, code):
    pipelines = {"lines": "streams_live.pipeline:Lines", "raw": "streams_live.pipeline:Raw"}
    site.drop("streams-live", VERSION, code=code, pipelines=pipelines, wheelway_toml=TOML)


@pytest.fixture(scope="module")
def site(at_work):
    publish(at_work, CODE)
    for name in ("lines", "raw"):
        release = at_work.wait_for(f"/predict/{name}/{VERSION}")
        at_work.wait_for_phase(release, Phase.LIVE)
        at_work.wait_for(f"/predict/{name}/{ENCODED}")
    return at_work


class Stream:
    """One stream whose pipeline goes on as the test says."""

    def __init__(self, folder, response):
        self.folder = folder
        self.response = response
        self.lines = response.iter_lines()

    def go(self, number, what="go"):
        gate(self.folder, number, what)

    def next(self):
        return next(self.lines)

    @property
    def closed(self):
        return (self.folder / "closed").exists()


def gate(folder, number, what="go"):
    aside = folder / "aside"
    aside.write_text(what)
    aside.rename(folder / str(number))


@contextmanager
def streaming(site, folder, route, **headers):
    folder.mkdir()
    gate(folder, 0)
    ask = {"json": str(folder), "headers": headers, "timeout": 60}
    with site.client.stream("POST", f"{site.ingress}{route}", **ask) as response:
        assert response.status_code == 200, response.read()
        yield Stream(folder, response)


@contextmanager
def asked(site, name, folder):
    """A connection whose request was sent, and whose answer nobody reads; closed at the end."""
    body = json.dumps(str(folder)).encode()
    head = f"POST /predict/{name}/{VERSION} HTTP/1.1\r\nhost: x\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    port = int(site.ingress.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head.encode() + body)
        yield


@pytest.mark.parametrize("version", [VERSION, ENCODED])
def test_items_come_as_they_are_yielded_and_what_breaks_off_is_seen_to(site, tmp_path, version):
    with streaming(site, tmp_path / "a", f"/predict/lines/{version}") as stream:
        assert stream.response.headers["x-wheelway-release"].startswith(f"lines@{VERSION}")
        for number in range(3):
            stream.go(number)
            assert stream.next() == str(number)
        stream.go(3, "raise")
        problem = json.loads(stream.next())["problem"]
        assert problem["reason"] == "PipelineFailed"
        assert problem["instance"] == stream.response.headers["x-request-id"]
        assert list(stream.lines) == []
    with streaming(site, tmp_path / "b", f"/predict/raw/{version}") as stream:
        for number in range(3):
            stream.go(number)
            assert stream.next() == str(number)
        stream.go(3, "raise")
        with pytest.raises(httpx.RemoteProtocolError):
            stream.next()
    with streaming(
        site, tmp_path / "c", f"/predict/lines/{version}", accept="text/event-stream"
    ) as stream:
        assert (stream.next(), stream.next()) == ("data: 0", "")
        stream.go(1, "end")
        assert list(stream.lines) == []


@pytest.mark.parametrize("version", [VERSION, ENCODED])
@pytest.mark.parametrize("name", ["lines", "raw"])
def test_a_client_that_leaves_closes_the_generator(site, tmp_path, name, version):
    with streaming(site, tmp_path / "a", f"/predict/{name}/{version}") as stream:
        assert stream.next() == "0"
    if name == "raw":  # it is waiting, in a thread: nothing can be raised there
        time.sleep(1)
        assert not stream.closed
        stream.go(1)
    eventually(lambda: stream.closed, SOON)


def test_one_that_leaves_before_the_first_item_closes_it_too(site, tmp_path):
    with asked(site, "lines", tmp_path):
        eventually((tmp_path / "begun").exists)
    eventually((tmp_path / "closed").exists, SOON)


def test_a_client_that_does_not_read_holds_the_generator_back(site, tmp_path):
    gate(tmp_path, 0, "flood")
    flooded = tmp_path / "flooded"
    with asked(site, "raw", tmp_path):
        eventually(flooded.exists)
        seen = -1
        while seen != (now := int(flooded.read_text() or 0)):
            seen = now
            time.sleep(1)
        # Kernels and HAProxy buffer some megabytes of what is 64 KiB each.
        assert 0 < seen < 500
    eventually((tmp_path / "closed").exists, SOON)


def test_an_upgrade_lets_a_stream_finish_on_the_release_that_it_began_on(site, tmp_path):
    route = f"/predict/lines/{VERSION}"
    before, idle = site.wait_for(route), site.wait_for(f"/predict/raw/{VERSION}")
    with streaming(site, tmp_path / "a", route) as stream:
        assert stream.next() == "0"
        publish(site, f"{CODE}\nOTHER = True\n")
        release = site.wait_for(route, other_than=before)
        site.wait_for_phase(release, Phase.LIVE)
        site.wait_for_phase(before, Phase.RETIRING)
        # One without anything to finish drains meanwhile, and goes.
        eventually(lambda: idle not in {str(app.release) for app in site.dashboard.applications()})
        for number in (1, 2):
            stream.go(number)
            assert stream.next() == str(number)
        stream.go(3, "end")
        assert list(stream.lines) == []
