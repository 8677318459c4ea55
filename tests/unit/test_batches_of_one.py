"""A request that is alone in its batch: it waits for nobody, and nobody for it."""

import asyncio
import threading
from collections.abc import Awaitable
from dataclasses import asdict

import pytest

import wheelway
from tests.support.asking import (
    acquire,
    until,
)
from tests.support.batching import Doubled, ask, start
from wheelway import Pipeline

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Staged(Pipeline):
    """Says in which threads its stages ran."""

    def load(self, context):
        self.gate = context.settings["gate"]
        self.entered = threading.Semaphore(0)
        context.settings["instances"].append(self)

    def pre_process(self, request: str) -> list:
        if request == "wait":
            self.entered.release()
            self.gate.wait(60)
        return [threading.get_ident()]

    def infer_batch(self, requests: list) -> list:
        return [[*request, threading.get_ident(), len(requests)] for request in requests]

    def post_process(self, result: list) -> list:
        return [*result, threading.get_ident()]


async def test_a_request_that_is_alone_takes_all_stages_in_one_hop():
    runtime, _ = await start(Staged)
    before, during, count, after = await runtime.run("alone")
    assert (before, after, count) == (during, during, 1)
    await runtime.unload()


async def test_what_holds_up_one_request_before_its_batch_holds_up_no_other():
    runtime, instance = await start(Staged, threads=2)
    waiting = ask(runtime, "wait")
    await acquire(instance.entered)
    for _ in range(2):
        assert (await asyncio.wait_for(runtime.run("other"), 60))[2] == 1
    instance.gate.set()
    assert (await asyncio.wait_for(waiting[0], 60))[2] == 1
    await runtime.unload()


async def test_what_nobody_waits_for_any_more_takes_no_turn():
    runtime, instance = await start(Staged, threads=2)
    waiting = ask(runtime, "wait")
    await acquire(instance.entered)
    waiting[0].cancel()
    await asyncio.wait(waiting)
    assert runtime.calls.abandoned == 1
    instance.gate.set()
    await until(lambda: runtime.calls.abandoned == 0)
    assert (await runtime.run("other"))[2] == 1
    assert asdict(runtime.batches.sizes) == {"count": 1, "requests": 1, "largest": 1}
    await runtime.unload()


async def test_one_that_was_alone_joins_the_others_where_a_batch_runs_when_its_turn_comes():
    class Preparing(Doubled):
        def pre_process(self, request: int) -> int:
            if request == 1:
                self.entered.release()
                self.settled.wait(60)
            return request

        def load(self, context):
            super().load(context)
            self.settled = threading.Event()

    runtime, instance = await start(Preparing)
    alone = ask(runtime, 1)
    await acquire(instance.entered)  # it prepares
    other = ask(runtime, 2)
    await acquire(instance.entered)  # a batch runs
    third = ask(runtime, 3)
    instance.settled.set()
    await until(lambda: len(runtime.batches._waiting) == 2)
    instance.gate.set()
    assert await asyncio.gather(*alone, *other, *third) == [2, 4, 6]
    assert instance.sizes == [1, 2]
    await runtime.unload()


async def test_those_that_come_while_one_is_alone_wait_for_its_batch_and_not_for_what_follows():
    class Late(Doubled):
        def post_process(self, result: int) -> int:
            if result == 2:
                assert self.done.wait(60)
            return result

        def load(self, context):
            super().load(context)
            self.done = threading.Event()

    runtime, instance = await start(Late)
    alone = ask(runtime, 1)
    await acquire(instance.entered)
    others = ask(runtime, 2, 3)
    await until(lambda: len(runtime.batches._waiting) == 2)
    instance.gate.set()
    assert await asyncio.wait_for(asyncio.gather(*others), 60) == [4, 6]
    instance.done.set()
    assert await alone[0] == 2
    assert instance.sizes == [1, 2]
    await runtime.unload()


async def test_infer_batch_may_return_what_is_to_be_awaited():
    class Later(Pipeline):
        examples = (1, 2)

        def infer_batch(self, requests: list[int]) -> Awaitable[list[int]]:
            async def later():
                await asyncio.sleep(0)
                with pytest.raises(LookupError):
                    wheelway.request().headers["x"]
                return [2 * request for request in requests]

            return later()

    runtime, _ = await start(Later)
    assert await runtime.run(3) == 6
    assert await asyncio.gather(*ask(runtime, 4, 5, 6)) == [8, 10, 12]
    await runtime.unload()
