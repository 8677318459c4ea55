"""Requests that `infer_batch` answers together: who is in a batch, and who waits for whom."""

import asyncio
import gc
import random
import threading
import time
import weakref

import pytest

from tests.support.asking import (
    acquire,
    until,
)
from tests.support.batching import BOTH, PAIRS, AsyncDoubled, Doubled, ask, start
from wheelway import Pipeline
from wheelway.limits import Limits

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


# -- who is in a batch ---------------------------------------------------------------------------


@BOTH
async def test_while_one_batch_runs_the_next_one_fills(pipeline):
    runtime, instance = await start(pipeline)
    first = ask(runtime, 1)
    await acquire(instance.entered)
    rest = ask(runtime, *range(2, 8))
    await asyncio.sleep(0)
    assert instance.sizes == [1], "one batch at a time"
    instance.gate.set()
    assert await asyncio.gather(*first, *rest) == [2, 4, 6, 8, 10, 12, 14]
    assert instance.sizes == [1, 6]
    await runtime.unload()


@BOTH
async def test_no_batch_is_larger_than_it_may_be_and_all_are_answered_in_their_order(pipeline):
    runtime, instance = await start(pipeline, Limits(max_batch_size=4))
    first = ask(runtime, 0)
    await acquire(instance.entered)
    rest = ask(runtime, *range(1, 11))
    instance.gate.set()
    assert await asyncio.gather(*first, *rest) == [2 * n for n in range(11)]
    assert instance.sizes == [1, 4, 4, 2]
    await runtime.unload()


async def test_a_batch_of_a_loop_of_its_own_is_collected_there():
    runtime, instance = await start(AsyncDoubled, isolated=True)
    first = ask(runtime, 1)
    await acquire(instance.entered)
    rest = ask(runtime, 2, 3, 4)
    await until(lambda: len(runtime.batches._waiting) == 3)
    instance.gate.set()
    assert await asyncio.gather(*first, *rest) == [2, 4, 6, 8]
    assert instance.sizes == [1, 3]
    await runtime.unload()


@BOTH
async def test_a_request_waits_for_others_for_no_longer_than_it_was_told_to(pipeline):
    runtime, instance = await start(pipeline, Limits(max_batch_size=3, batch_wait_timeout=30))
    instance.gate.set()
    early = ask(runtime, 1)
    for _ in range(5):
        await asyncio.sleep(0)
    early += ask(runtime, 2, 3)  # the batch is full
    assert await asyncio.wait_for(asyncio.gather(*early), 60) == [2, 4, 6]
    runtime.batches.limits = Limits(max_batch_size=3, batch_wait_timeout=0.05)
    assert await asyncio.wait_for(runtime.run(4), 60) == 8
    assert instance.sizes == [3, 1]
    await runtime.unload()


async def test_a_request_that_waited_while_another_batch_ran_has_waited_already():
    runtime, instance = await start(Doubled)
    first = ask(runtime, 1)
    await acquire(instance.entered)
    runtime.batches.limits = Limits(batch_wait_timeout=60)
    second = ask(runtime, 2)
    await until(lambda: runtime.batches._waiting)
    next(iter(runtime.batches._waiting)).since -= 60
    instance.gate.set()
    assert await asyncio.wait_for(asyncio.gather(*first, *second), 60) == [2, 4]
    await runtime.unload()


@BOTH
async def test_who_leaves_is_out_of_the_batch_before_it_starts(pipeline):
    runtime, instance = await start(pipeline)
    first = ask(runtime, 1)
    await acquire(instance.entered)
    second, third, fourth = ask(runtime, 2, 3, 4)
    await asyncio.sleep(0)
    third.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await third
    assert caught.value.__notes__ == ["it waited for the batch before its own"]
    instance.gate.set()
    assert await asyncio.gather(*first, second, fourth) == [2, 4, 8]
    assert instance.sizes == [1, 2]
    await runtime.unload()


async def test_who_leaves_while_the_batch_waits_for_a_thread_is_not_in_it_either():
    class Preparing(Doubled):
        def pre_process(self, request: int) -> int:
            if request == 9:
                self.entered.release()
                self.gate.wait(60)
            return request

    runtime, instance = await start(Preparing, threads=2)
    busy = ask(runtime, 9, 9)
    await acquire(instance.entered, 2)
    rest = [asyncio.ensure_future(runtime.batches.infer(n)) for n in (1, 2, 3)]
    await until(lambda: runtime.calls._pool._work_queue.qsize() == 1)
    rest[1].cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await rest[1]
    assert caught.value.__notes__ == ["its batch waited for a thread"]
    instance.gate.set()
    assert await asyncio.gather(rest[0], rest[2]) == [2, 6]
    assert instance.sizes[0] == 2
    assert await asyncio.gather(*busy) == [18, 18]
    await runtime.unload()


@BOTH
async def test_who_leaves_a_batch_that_runs_takes_nobody_along(pipeline):
    runtime, instance = await start(pipeline, PAIRS)
    first, second = ask(runtime, 1, 2)
    await acquire(instance.entered)
    first.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await first
    assert caught.value.__notes__ == ["it was in `infer_batch`"]
    instance.gate.set()
    assert await second == 4
    assert (instance.sizes, runtime.calls.abandoned) == ([2], 0)
    await runtime.unload()


@pytest.mark.parametrize("limits", [Limits(), PAIRS])
async def test_a_batch_that_nobody_waits_for_holds_up_no_other_as_long_as_there_are_threads(limits):
    runtime, instance = await start(Doubled, limits, threads=2)
    hung = ask(runtime, 1, 2) if limits is PAIRS else ask(runtime, 1)
    await acquire(instance.entered)
    runtime.batches.limits = Limits()
    later = ask(runtime, 3)
    await asyncio.sleep(0)
    for task in hung:
        task.cancel()
    await acquire(instance.entered)
    assert instance.sizes == [len(hung), 1]
    await until(lambda: runtime.calls.abandoned == 1)
    instance.gate.set()
    assert await asyncio.gather(*later) == [6]
    await until(lambda: runtime.calls.abandoned == 0)
    await runtime.unload()


async def test_a_coroutine_that_nobody_waits_for_is_ended():
    ended = []

    class Endless(Doubled):
        async def infer_batch(self, requests: list[int]) -> list[int]:
            self.entered.release()
            try:
                if requests != [3]:
                    await asyncio.sleep(600)
            finally:
                ended.append(requests)
            return requests

    runtime, instance = await start(Endless)
    tasks = ask(runtime, 1, 2)
    await acquire(instance.entered)
    later = ask(runtime, 3)
    for task in tasks:
        task.cancel()
    assert await asyncio.wait_for(later[0], 60) == 3
    assert ended == [[1, 2], [3]]
    await runtime.unload()


class Hasty(Pipeline):
    def load(self, context):
        self.random = random.Random(context.settings["seed"])
        self.sizes = []
        context.settings["instances"].append(self)

    def pre_process(self, request: int) -> int:
        time.sleep(self.random.choice([0, 0, 0.001]))
        return request

    def infer_batch(self, requests: list[int]) -> list[int]:
        self.sizes.append(len(requests))
        time.sleep(self.random.choice([0, 0, 0.002]))
        return [2 * request for request in requests]


class AsyncHasty(Hasty):
    async def infer_batch(self, requests: list[int]) -> list[int]:
        self.sizes.append(len(requests))
        await asyncio.sleep(self.random.choice([0, 0, 0.002]))
        return [2 * request for request in requests]


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("wait", [0, 0.002])
@pytest.mark.parametrize("pipeline", [Hasty, AsyncHasty])
async def test_whoever_comes_and_goes_gets_an_answer_of_its_own(pipeline, wait, isolated):
    chance = random.Random(f"{pipeline.__name__} {wait} {isolated}")
    most = chance.choice([3, 8, 32])
    runtime, instance = await start(
        pipeline, Limits(max_batch_size=most, batch_wait_timeout=wait), isolated=isolated
    )
    tasks, left = [], set()
    for number in range(300):
        tasks += ask(runtime, number)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.003]))
        if chance.random() < 0.1:
            goes = chance.randrange(len(tasks))
            tasks[goes].cancel()
            left.add(goes)
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    for number, answer in enumerate(answers):
        gone = number in left and isinstance(answer, asyncio.CancelledError)
        assert gone or answer == 2 * number
    assert 1 < max(instance.sizes) <= most
    batches = runtime.batches
    await until(lambda: batches._turn is None and runtime.calls.abandoned == 0)
    assert (batches._inside, batches._waiting) == (0, {})
    await runtime.unload()


class Large:
    pass


class Keeping(Pipeline):
    def load(self, context):
        self.entered, self.gate = threading.Semaphore(0), context.settings["gate"]
        context.settings["instances"].append(self)

    def infer_batch(self, requests):
        self.entered.release()
        self.gate.wait(60)
        return self.results(requests)

    def results(self, requests):
        return [1 for _ in requests]


class KeepingLoop(Keeping):
    async def infer_batch(self, requests):
        self.entered.release()
        while not self.gate.is_set():  # noqa: ASYNC110 - see Doubled
            await asyncio.sleep(0.001)
        return self.results(requests)


@pytest.mark.parametrize("limits", [PAIRS, Limits()], ids=["together", "alone"])
@pytest.mark.parametrize("what", ["answered", "failed", "left"])
@pytest.mark.parametrize("pipeline", [Keeping, KeepingLoop])
async def test_a_batch_keeps_nothing_of_its_requests_once_it_has_ended(pipeline, what, limits):
    runtime, instance = await start(pipeline, limits)
    if what == "failed":
        instance.results = lambda _: 1 / 0
    gc.collect()
    gc.disable()  # what it alone would find may stay for long
    try:
        requests = [Large() for _ in range(2 if limits is PAIRS else 1)]
        kept = list(map(weakref.ref, requests))
        tasks = ask(runtime, *requests)
        del requests
        await acquire(instance.entered)
        while tasks:
            task = tasks.pop()
            if what == "left":
                task.cancel()
            else:
                instance.gate.set()
            await asyncio.wait([task])
            assert task.cancelled() == (what == "left")
            assert task.cancelled() or (task.exception() is not None) == (what == "failed")
            del task
        instance.gate.set()
        await until(lambda: runtime.calls.abandoned == 0)
        await until(lambda: not any(one() for one in kept))
    finally:
        gc.enable()
    await runtime.unload()
