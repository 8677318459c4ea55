"""Requests that `infer_batch` answers together: who is in a batch, and whom its failures reach."""

import asyncio
import pickle
import random
import threading
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import asdict, replace
from typing import ClassVar

import pytest

import wheelway
from tests.support.asking import (
    LOGGER,
    RELEASE,
    ROUTE,
    acquire,
    application,
    asking,
    assert_problem,
    client_of,
    until,
)
from tests.support.head import eventually
from tests.support.strict import refused
from tests.support.wheels import make_wheel, tree_of
from wheelway import Pipeline
from wheelway.execution import Runtime, context_of
from wheelway.failure import StartFailure
from wheelway.inbound import Request, several
from wheelway.limits import Limits
from wheelway.local import loaded, run
from wheelway.remote import PartReplica, RemotePart
from wheelway.replica import Arguments
from wheelway.schema import interface_of

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

SEEN: ContextVar[str] = ContextVar("SEEN", default="")


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Doubled(Pipeline):
    """Answers with the double and the size of the batch; its batches wait for the test."""

    def load(self, context):
        self.sizes, self.entered = [], threading.Semaphore(0)
        self.gate = context.settings.get("gate", threading.Event())
        context.settings.get("instances", []).append(self)

    def infer_batch(self, requests: list[int]) -> list[int]:
        self.sizes.append(len(requests))
        self.entered.release()
        assert self.gate.wait(60)
        return [2 * request for request in requests]


class AsyncDoubled(Doubled):
    async def infer_batch(self, requests: list[int]) -> list[int]:
        self.sizes.append(len(requests))
        self.entered.release()
        while not self.gate.is_set():  # noqa: ASYNC110 - the tests of both kinds open the same gate
            await asyncio.sleep(0.001)
        return [2 * request for request in requests]


PAIRS = Limits(max_batch_size=2, batch_wait_timeout=30)
BOTH = pytest.mark.parametrize("pipeline", [Doubled, AsyncDoubled])


async def start(pipeline, limits=None, **options):
    """A runtime, and the instance that it made."""
    instances = []
    settings = {"instances": instances, "gate": threading.Event(), "seed": 1}
    runtime = Runtime(
        pipeline,
        context_of(pipeline, RELEASE, settings, LOGGER),
        limits=limits or Limits(),
        **options,
    )
    await runtime.start()
    return runtime, next(iter(instances), None)


def ask(runtime, *requests):
    return [asyncio.ensure_future(runtime.run(request)) for request in requests]


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
    assert await asyncio.wait_for(asyncio.gather(*early), 20) == [2, 4, 6]
    runtime.batches.limits = Limits(max_batch_size=3, batch_wait_timeout=0.05)
    assert await asyncio.wait_for(runtime.run(4), 20) == 8
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
    assert await asyncio.wait_for(asyncio.gather(*first, *second), 20) == [2, 4]
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
    assert await asyncio.wait_for(later[0], 20) == 3
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


# -- a request that is alone ---------------------------------------------------------------------


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
        assert (await asyncio.wait_for(runtime.run("other"), 20))[2] == 1
    instance.gate.set()
    assert (await asyncio.wait_for(waiting[0], 20))[2] == 1
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
    assert await asyncio.wait_for(asyncio.gather(*others), 20) == [4, 6]
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


# -- over HTTP -----------------------------------------------------------------------------------


class Errors(Pipeline):
    """Each request says what its batch, or only its own item, does."""

    ITEMS: ClassVar = {
        "error": KeyError("mine alone"),
        "leave": SystemExit(1),
        "cancel": asyncio.CancelledError(),
        "stopped": StopIteration(),
        "lazy": iter(["a"]),
        "number": 1,
    }

    def infer_batch(self, requests: list[str]) -> list[str | Exception]:
        results = []
        for request in requests:
            match request:
                case "raise":
                    raise ValueError("all of them")
                case "exit":
                    raise SystemExit(3)
                case "short":
                    return results
                case "generator":
                    return (one for one in requests)
                case "text":
                    return "x" * len(requests)
                case "stop":
                    raise StopIteration
                case _:
                    results.append(self.ITEMS.get(request, request))
        return results


async def together(pipeline, *requests):
    """Answers to requests that come into one batch."""
    limits = Limits(max_batch_size=len(requests), batch_wait_timeout=30)
    app, runtime = await application(pipeline, None, limits)
    async with client_of(app) as client:
        answers = await asyncio.gather(*(client.post(ROUTE, json=request) for request in requests))
        app.serve(runtime, Limits())
        after = await client.post(ROUTE, json="after")
        assert after.json() == "after", "nothing stays behind"
    await runtime.unload()
    return answers


@pytest.mark.parametrize(
    ("bad", "reason", "told"),
    [
        ("raise", "PipelineFailed", "ValueError: all of them"),
        ("exit", "PipelineFailed", "`infer_batch` ended with SystemExit(3)"),
        ("stop", "PipelineFailed", "raised StopIteration"),
        ("short", "ResultInvalid", "was given 3 requests and returned 1 results"),
        ("generator", "ResultInvalid", "returned a generator instead of a list"),
        ("text", "ResultInvalid", "returned a str instead of a list"),
    ],
)
async def test_what_fails_a_batch_fails_each_of_its_requests_and_no_other(
    bad, reason, told, caplog
):
    for answer in await together(Errors, "good", bad, "fine"):
        assert_problem(answer, 500, reason)
    assert len(caplog.records) == 3
    assert told in caplog.text
    async with asking(Errors) as client:  # also where it is alone
        assert_problem(await client.post(ROUTE, json=bad), 500, reason)
        assert (await client.post(ROUTE, json="after")).json() == "after"


@pytest.mark.parametrize(
    ("bad", "reason", "told"),
    [
        ("error", "PipelineFailed", "KeyError: 'mine alone'"),
        ("leave", "PipelineFailed", "`infer_batch` ended with SystemExit(1)"),
        ("cancel", "PipelineFailed", "`infer_batch` ended with CancelledError()"),
        ("stopped", "PipelineFailed", "`infer_batch` ended with StopIteration()"),
        ("lazy", "ResultInvalid", "returned a list_iterator for a request"),
        ("number", "ResultInvalid", "Input should be a valid string"),
    ],
)
async def test_what_fails_an_item_fails_its_request_alone(bad, reason, told, caplog):
    good, failed, fine = await together(Errors, "good", bad, "fine")
    assert (good.json(), fine.json()) == ("good", "fine")
    assert_problem(failed, 500, reason)
    assert told in caplog.text
    caplog.clear()
    async with asking(Errors) as client:
        assert_problem(await client.post(ROUTE, json=bad), 500, reason)
    assert told in caplog.text


async def test_a_batch_that_cancels_itself_is_a_failure_and_not_the_end_of_its_requests():
    class Cancelled(Pipeline):
        async def infer_batch(self, requests: list[str]) -> list[str]:
            if "bad" in requests:
                raise asyncio.CancelledError
            return requests

    for answer in await together(Cancelled, "bad", "good"):
        assert_problem(answer, 500, "PipelineFailed")


async def test_what_does_not_fit_is_refused_before_it_is_in_a_batch():
    sizes = []

    class Sized(Pipeline):
        def infer_batch(self, requests: list[str]) -> list[str]:
            sizes.append(len(requests))
            return requests

    async with asking(Sized) as client:
        bad, good = await asyncio.gather(*(client.post(ROUTE, json=one) for one in (1, "good")))
    assert_problem(bad, 422, "InputInvalid")
    assert good.json() == "good"
    assert sizes == [1]


async def test_a_hung_batch_is_504_and_those_behind_it_are_answered(caplog):
    class Hanging(Doubled):
        def infer_batch(self, requests: list[int]) -> list[int]:
            if 1 in requests:
                self.entered.release()
                self.gate.wait(60)
            return requests

    instances = []
    settings = {"instances": instances, "gate": threading.Event()}
    limits = Limits(request_timeout=1.0, max_ongoing_requests=5)
    app, runtime = await application(Hanging, settings, limits)
    async with client_of(app) as client:
        hung = asyncio.create_task(client.post(ROUTE, json=1))
        await acquire(instances[0].entered)
        await asyncio.sleep(0.5)
        waiting = client.post(ROUTE, json=2)
        late, answered = await asyncio.gather(hung, waiting)
        assert_problem(late, 504, "TimedOut")
        assert answered.json() == 2
        assert runtime.calls.abandoned == 1
    assert caplog.records[0].getMessage().endswith("within 1 s: it was in `infer_batch`")
    settings["gate"].set()
    await until(lambda: runtime.calls.abandoned == 0)
    await runtime.unload()


async def test_the_metadata_tells_how_large_batches_were():
    settings = {"gate": threading.Event(), "instances": []}
    app, runtime = await application(Doubled, settings)
    async with client_of(app) as client:
        assert "batches" not in (await client.get(ROUTE)).json()
        first = asyncio.create_task(client.post(ROUTE, json=1))
        await acquire(settings["instances"][0].entered)
        others = [asyncio.create_task(client.post(ROUTE, json=n)) for n in range(5)]
        await until(lambda: len(runtime.batches._waiting) == 5)
        settings["gate"].set()
        await asyncio.gather(first, *others)
        told = (await client.get(ROUTE)).json()["batches"]
    assert told == {"count": 2, "requests": 6, "largest": 5}
    await runtime.unload()


async def test_the_limits_of_batches_change_while_it_serves():
    app, runtime = await application(Doubled, {}, Limits(max_batch_size=2))
    assert runtime.batches.limits.max_batch_size == 2
    app.serve(runtime, replace(Limits(), max_batch_size=7, batch_wait_timeout=0.25))
    assert runtime.batches.limits.max_batch_size == 7
    assert runtime.batches.limits.batch_wait_timeout == 0.25
    await runtime.unload()


async def test_a_batch_knows_nothing_that_is_known_of_one_of_its_requests():
    class Asking(Pipeline):
        async def pre_process(self, request: str) -> str:
            SEEN.set(request)
            return request

        def infer_batch(self, requests: list[str]) -> list[str]:
            return [SEEN.get() + request for request in requests]

        async def post_process(self, result: str) -> str:
            return SEEN.get() + result

    async with asking(Asking) as client:
        answers = [await client.post(ROUTE, json="-")]
        answers += await asyncio.gather(*(client.post(ROUTE, json=one) for one in "abc"))
    assert [answer.json() for answer in answers] == ["--", "aa", "bb", "cc"]


async def test_of_what_its_requests_brought_a_batch_is_told_ids_and_the_earliest_deadline():
    told = []

    class Curious(Pipeline):
        def pre_process(self, number: int) -> int:
            assert wheelway.request().headers["x-request-id"] == f"id-{number}"
            return number

        def infer_batch(self, numbers: list[int]) -> list[float]:
            told.append(wheelway.request())
            return [wheelway.request().remaining] * len(numbers)

        async def post_process(self, remaining: float) -> float:
            assert "," not in wheelway.request().id
            return remaining

    limits = Limits(request_timeout=60, max_batch_size=20, batch_wait_timeout=30)
    async with asking(Curious, None, limits) as client:
        asked = [client.post(ROUTE, json=n, headers={"x-request-id": f"id-{n}"}) for n in range(40)]
        answers = await asyncio.gather(*asked)
    assert all(0 < answer.json() <= 60 for answer in answers)
    ids = [one.id.split(",") for one in told]
    assert [len(batch) for batch in ids] == [20, 20]
    assert {name for batch in ids for name in batch} == {f"id-{n}" for n in range(40)}


@pytest.mark.parametrize(
    ("given", "most", "expected"),
    [
        ([1, 2, 3], 32, [[1], [2], [3], [1, 2, 3]]),
        ([1], 32, [[1], [1, 1]]),
        ([1, 2, 3], 2, [[1], [2], [3], [1, 2]]),
        ([1, 2], 1, [[1], [2]]),
        ([], 32, []),
    ],
)
async def test_examples_run_one_by_one_and_then_as_a_batch(given, most, expected):
    seen = []

    class Seeing(Pipeline):
        examples = given

        def pre_process(self, request: int) -> int:
            return request

        def infer_batch(self, requests: list[int]) -> list[int]:
            seen.append(sorted(requests))
            return requests

    for isolated in (False, True):
        seen.clear()
        runtime, _ = await start(Seeing, Limits(max_batch_size=most), isolated=isolated)
        assert seen == expected
        assert runtime.batches.limits == Limits(max_batch_size=most)
        await runtime.unload()


async def test_what_cannot_answer_several_at_once_does_not_start():
    class Alone(Pipeline):
        examples = ([1, 2], [3])

        def infer_batch(self, requests: list[list[int]]) -> list[int]:
            assert len({len(request) for request in requests}) == 1
            return [sum(request) for request in requests]

    with pytest.raises(StartFailure) as caught:
        await start(Alone)
    assert caught.value.reason == "ExampleFailed"
    assert "Alone, in a batch of 2, failed: AssertionError" in caught.value.message


def test_calls_of_parts_form_batches_of_the_part_and_end_with_the_batch_that_made_them():
    ended = []

    class Part(Doubled):
        def infer_batch(self, requests: list[int]) -> list[int]:
            return [request + 100 * len(requests) for request in requests]

    class Endless(Pipeline):
        async def infer(self, request: int) -> int:
            try:
                await asyncio.sleep(600)
            finally:
                ended.append(request)

    class Whole(Pipeline):
        def load(self, context):
            self.parts = context.parts

        async def infer_batch(self, requests: list[int]) -> list[int]:
            self.left = [self.parts["endless"](request) for request in requests]
            await asyncio.sleep(0.1)
            return await asyncio.gather(*map(self.parts["part"], requests))

    parts = {"part": Part, "endless": Endless}
    with loaded(Whole, parts=parts) as whole:
        assert [whole(request) for request in (7, 8)] == [107, 108]
        eventually(lambda: 7 in ended)


BATCHED_PART = """
from wheelway import Pipeline

class Demo(Pipeline):
    pass

class Part(Pipeline):
    examples = (1, 2, 3)

    def load(self, context):
        self.sizes = []

    def infer_batch(self, requests: list[int]) -> list[list[int]]:
        self.sizes.append(len(requests))
        return [self.sizes] * len(requests)
"""


async def test_a_part_in_replicas_of_its_own_keeps_to_its_limits(tmp_path, monkeypatch):
    monkeypatch.setattr("wheelway.memory.limit", lambda _, **_more: None)
    tree, digest = tree_of(make_wheel(tmp_path, "batchpart", code=BATCHED_PART))
    part = {"target": "batchpart.pipeline:Part", "inline": False, "threads": 2, "max_memory": None}
    arguments = {
        "release": {"pipeline": "batchpart", "version": "1.0", "digest": "ab" * 32},
        "target": "batchpart.pipeline:Demo",
        "tree": str(tree),
        "record_digest": digest,
        "parts": {"part": part},
    }
    told = Arguments.of_part("part", arguments, "app", accelerated=False)
    replica = PartReplica("part", told, LOGGER)
    await replica.reconfigure({"settings": {}, "limits": {"max_batch_size": 2}})
    call = RemotePart("part", replica.answer)
    assert await call(1) == [1, 1, 1, 2, 1]
    assert replica._runtime.batches.limits == Limits(max_batch_size=2)
    await replica.reconfigure({"settings": {}, "limits": {"batch_wait_timeout": 0.5}})
    assert replica._runtime.batches.limits == Limits(batch_wait_timeout=0.5)
    assert (await asyncio.gather(call(1), call(2), call(3)))[0][-1] == 3
    await replica.unload()


async def test_headers_of_a_batch_are_nobodys():
    class Asking(Pipeline):
        examples = (1,)

        def infer_batch(self, requests: list[int]) -> list[int]:
            return [wheelway.request().headers.get("x-tenant", "public") for _ in requests]

    with pytest.raises(StartFailure, match="have `pre_process` put what is needed of them into"):
        await start(Asking)


def test_the_log_tells_no_more_ids_than_one_can_look_at():
    arrivals = [(b"id-%d" % n, {}, 100.0 - n) for n in range(40)]
    told = several(arrivals)
    assert told.id == ",".join([*(f"id-{n}" for n in range(32)), "+8"])
    assert (told.due, told.client) == (61.0, "")
    assert several([None, None]).id == ""
    one = several([None, Request(id="x", due=5)])
    assert (one.id, one.due) == ("x", 5)
    for lost in (len, list, dict, lambda headers: headers["x"], lambda headers: headers.get("x")):
        with pytest.raises(LookupError, match="each with headers of its own"):
            lost(told.headers)
    assert pickle.loads(pickle.dumps(told)).id == told.id


# -- types ---------------------------------------------------------------------------------------


class Typed(Pipeline):
    def infer_batch(self, requests: Sequence[int]) -> Sequence[float | ValueError | None]:
        return [request / 2 for request in requests]


class Around(Typed):
    def pre_process(self, request: str) -> int:
        return int(request)

    def post_process(self, result: float) -> bytes:
        return str(result).encode()


class Untyped(Pipeline):
    def infer_batch(self, requests):
        return requests


class Tuples(Pipeline):
    def infer_batch(self, requests: list) -> tuple[int, ...]:
        return tuple(map(len, requests))


def test_a_client_sends_and_gets_what_is_in_the_lists():
    assert interface_of(Typed).schemas == (
        {"type": "integer"},
        {"anyOf": [{"type": "number"}, {"type": "null"}]},
    )
    assert interface_of(Around).schemas[0] == {"type": "string"}
    assert interface_of(Around).result is None
    assert interface_of(Untyped).schemas == ({}, {})
    assert interface_of(Tuples).schemas == ({}, {"type": "integer"})


def test_a_batch_of_one_is_what_a_test_gets():
    assert run(Typed, 3) == 1.5
    with loaded(Around) as around:
        assert around("5") == b"2.5"


# -- what is no batch function -------------------------------------------------------------------


class Both(Typed):
    def infer(self, request: int) -> int:
        return request


class Neither(Pipeline):
    def pre_process(self, request: int) -> int:
        return request


class TakenBack(Both):
    infer = Pipeline.infer


@pytest.mark.parametrize(
    ("pipeline", "reason", "told"),
    [
        (Both, "AmbiguousPipeline", "Both defines both `infer` and `infer_batch`"),
        (Neither, "AbstractPipeline", "Neither defines neither `infer` nor `infer_batch`"),
    ],
)
def test_there_is_one_way_to_answer(pipeline, reason, told):
    with pytest.raises(StartFailure) as caught, loaded(pipeline):
        pytest.fail("it must not start")
    assert caught.value.reason == reason
    assert told in caught.value.message


def test_what_is_inherited_may_be_taken_back():
    assert run(TakenBack, 3) == 1.5


class Yielding(Pipeline):
    def infer_batch(self, requests: list[int]):
        yield from requests


class YieldingLater(Pipeline):
    async def infer_batch(self, requests: list[int]):
        yield requests


class DeclaresStream(Pipeline):
    def infer_batch(self, requests: list[int]) -> Iterator[int]:
        return iter(requests)


class TakesOne(Pipeline):
    def infer_batch(self, request: int) -> list[int]:
        return [request]


class ReturnsOne(Pipeline):
    def infer_batch(self, requests: list[int]) -> dict[int, int]:
        return {request: request for request in requests}


class TakesTwo(Pipeline):
    def infer_batch(self, requests: list[int], sizes: list[int]) -> list[int]:
        return requests


@pytest.mark.parametrize(
    ("pipeline", "told"),
    [
        (Yielding, "is a generator; a batch cannot be streamed"),
        (YieldingLater, "is a generator; a batch cannot be streamed"),
        (DeclaresStream, "Iterator[int]; a batch cannot be streamed"),
        (TakesOne, "takes <class 'int'>; annotate it as `list[...]`"),
        (ReturnsOne, "returns dict[int, int]; annotate it as `list[...]`"),
        (TakesTwo, "it is given one positional argument, the requests"),
    ],
)
def test_what_cannot_be_given_a_list_or_return_one_is_refused(pipeline, told):
    message = refused(pipeline)
    assert f"`{pipeline.__name__}.infer_batch`" in message
    assert told in message
