"""Instances that other weights replaced: they finish what they began, and nothing keeps them."""

import asyncio
import gc
import json
import weakref

import httpx
import pytest

from tests.support.asking import LOGGER, ROUTE, client_of, serving, until
from tests.support.reading import made, mark, weights_of
from wheelway import instances

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def unlimited(monkeypatch):
    """The limit holds for the process: here that is the test run's. What is refused is only tried
    again where a test says so.
    """
    monkeypatch.setattr("wheelway.memory.limit", lambda *_, **_more: None)
    monkeypatch.setattr(instances, "RETRY", (3600.0, 3600.0))


STREAMING = """
import json, threading
from collections.abc import Iterator
from wheelway import Pipeline

gate, unloaded = threading.Event(), []

class Demo(Pipeline):
    def load(self, context):
        self.add = 0
        if context.weights is not None:
            self.add = json.loads((context.weights / "model.json").read_text())["add"]

    def infer(self, request: int) -> Iterator[int]:
        yield self.add
        assert gate.wait(60)
        yield self.add

    def unload(self):
        unloaded.append(self.add)
"""


async def test_a_stream_under_way_ends_on_the_former_instance(tmp_path):
    replica, module = made(tmp_path, "streaming", STREAMING)
    one, two = (weights_of(tmp_path, f"{n}.0", {"add": n}) for n in (1, 2))
    limits = {"request_timeout": 0.5}  # of its first item alone
    await replica.reconfigure({"weights": one, "limits": limits})
    async with serving(replica.application) as port, httpx.AsyncClient(timeout=60) as client:
        url = f"http://127.0.0.1:{port}/predict/streaming/1.0"
        async with client.stream("POST", url, json=1) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "1"
            await replica.reconfigure({"weights": two, "limits": limits})
            await until(lambda: replica._instances.running.weights == mark(two))
            assert module().unloaded == []
            module().gate.set()
            assert [line async for line in lines] == ["1"]
            assert stream.headers["x-wheelway-weights"] == mark(one)
        await replica.settled()
        assert module().unloaded == [1]
        assert (await client.post(url, json=1)).text.split() == ["2", "2"]


LASTING = """
import asyncio
from collections.abc import AsyncIterator, Iterator
from wheelway import Pipeline

unloaded = []

class Demo(Pipeline):
    async def infer(self, request: int) -> AsyncIterator[int]:
        while not unloaded:
            await asyncio.sleep(0.01)
            yield 1

    def unload(self):
        unloaded.append(1)
"""


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_stream_that_outlasts_its_instance_is_broken_off_and_says_why(
    tmp_path, monkeypatch, caplog, kind
):
    monkeypatch.setattr("wheelway.replica.FINISH", 0.3)
    code = LASTING
    if kind == "def":
        code = code.replace("async def", "def").replace("-> Async", "-> ")
        code = code.replace("await asyncio", "time").replace("import asyncio", "import time")
    replica, module = made(tmp_path, f"outlasting{kind}", code)
    limits = {"request_timeout": 0.1, "stream_timeout": 0.2}
    await replica.reconfigure({"limits": limits})
    async with serving(replica.application) as port, httpx.AsyncClient(timeout=60) as client:
        url = f"http://127.0.0.1:{port}/predict/outlasting{kind}/1.0"
        async with client.stream("POST", url, json=1) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "1"
            two = weights_of(tmp_path, "2.0", {})
            await replica.reconfigure({"limits": limits, "weights": two})
            told = [json.loads(line) async for line in lines][-1]["problem"]
        assert (told["status"], told["reason"]) == (503, "Replaced")
        assert f"request {told['instance']} of" in caplog.text
        assert "Traceback" not in caplog.text
        await replica.settled()
        assert module().unloaded == [1]
        assert "unloaded while requests still run" not in caplog.text
        assert replica.application._outcomes.recent == 0, "it is no failure of the release"
    await replica.unload()


async def test_a_former_instance_is_kept_for_as_long_as_its_requests_may_take(tmp_path):
    replica, _ = made(tmp_path, "kept_long")
    waits = [replica._instances.finish]
    for limits, replica.grace in (({}, 0), ({"stream_timeout": 400}, 0), ({}, 500)):
        await replica.reconfigure({"limits": limits})
        waits.append(replica._instances.finish)
    assert waits == [300, 300, 400, 500]
    await replica.unload()


async def test_a_stage_that_nobody_waits_for_any_more_still_holds_its_instance(tmp_path, caplog):
    replica, module = made(tmp_path, "lingering")
    two = weights_of(tmp_path, "2.0", {"add": 2})
    limits = {"request_timeout": 0.2}
    await replica.reconfigure({"limits": limits})
    async with client_of(replica.application) as client:
        assert (await client.post(ROUTE, json="slow")).status_code == 504
        await replica.reconfigure({"limits": limits, "weights": two})
        await until(lambda: replica._instances._retired)
        for _ in range(10):
            await asyncio.sleep(instances.LOOK / 4)
        assert module().unloaded == []
        replica._instances.finish = 0  # of those that are retired later
        module().gates["slow"].set()
        await replica.settled()
        assert module().unloaded == [0]
    await replica.unload()


async def test_a_request_that_never_ends_does_not_hold_its_instance_for_ever(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("wheelway.replica.FINISH", 0.1)
    replica, module = made(tmp_path, "endless")
    two = weights_of(tmp_path, "2.0", {"add": 2})
    limits = {"request_timeout": 0.1, "stream_timeout": 0.1}
    await replica.reconfigure({"limits": limits})
    async with client_of(replica.application) as client:
        assert (await client.post(ROUTE, json="slow")).status_code == 504
        await replica.reconfigure({"limits": limits, "weights": two})
        await replica.settled()
        assert module().unloaded == [0]
        assert "unloaded while requests still run on it" in caplog.text
        module().gates["slow"].set()
    await replica.unload()


HELD = """
import gc
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (1,)

    def load(self, context):
        self.itself = self  # as many are
        if (context.weights / "model.json").read_text() == '"bad"':
            self.big = [self]
            raise ValueError("bad")

    def infer(self, request: int) -> int:
        return request
"""


async def test_nothing_keeps_an_instance_that_was_replaced_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(LOGGER, "disabled", True)  # pytest keeps tracebacks with all their frames
    gc.freeze()  # as Serve does
    replica, module = made(tmp_path, "kept", HELD)
    one, two = (weights_of(tmp_path, f"{n}.0", n) for n in (1, 2))
    bad = weights_of(tmp_path, "3.0", "bad")
    await replica.reconfigure({"weights": one})
    first = weakref.ref(replica._instances.running._instance)
    gc.freeze()
    await replica.reconfigure({"weights": two})
    await replica.settled()
    assert first() is None
    await replica.reconfigure({"weights": bad, "former_weights": two})
    await replica.settled()
    assert replica._instances.refusal
    gc.unfreeze()  # or they would not be found
    there = [o for o in gc.get_objects() if isinstance(o, module().Demo)]
    assert there == [replica._instances.running._instance]
    await replica.unload()
