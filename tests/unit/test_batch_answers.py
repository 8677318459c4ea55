"""Answers to requests that are in a batch: whom its failures reach, and what is told of it."""

import asyncio
import dataclasses
import pickle
import threading
from collections.abc import AsyncIterator, Awaitable
from contextvars import ContextVar
from typing import ClassVar

import pytest

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
from tests.support.batching import PAIRS, Doubled
from wheelway import Pipeline
from wheelway.faults import explain, share
from wheelway.limits import Limits

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


SEEN: ContextVar[str] = ContextVar("SEEN", default="")


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
                case "close":
                    raise GeneratorExit
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
        ("close", "PipelineFailed", "raised GeneratorExit"),
        ("short", "ResultInvalid", "was given 3 requests and returned 1 results"),
        ("generator", "ResultInvalid", "returned a generator instead of a list"),
        ("text", "ResultInvalid", "returned a str instead of a list"),
    ],
)
async def test_what_fails_a_batch_fails_each_of_its_requests_and_no_other(
    bad, reason, told, caplog
):
    answers = await together(Errors, "good", bad, "fine")
    ids = [assert_problem(answer, 500, reason)["instance"] for answer in answers]
    (record,) = caplog.records
    message = f"requests {', '.join(ids)} of greeter@1.0+cu1+abababab failed in one batch"
    assert record.getMessage() == message
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


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818 - what it is about is that no attribute of it can be set
    what: str


async def test_an_exception_that_is_raised_again_and_again_is_told_of_each_time(caplog):
    error = Frozen("worn out")

    class Broken(Errors):
        def infer_batch(self, requests: list[str]) -> list[str | Exception]:
            if "bad" in requests:
                raise error
            return [error if request == "item" else request for request in requests]

    limits = Limits(max_batch_size=2, batch_wait_timeout=30)
    app, runtime = await application(Broken, None, limits)
    async with client_of(app) as client:
        for requests in (("bad", "good"), ("bad", "bad"), ("item", "item")):
            await asyncio.gather(*(client.post(ROUTE, json=request) for request in requests))
        app.serve(runtime, Limits())
        await client.post(ROUTE, json="bad")
    told = [record.getMessage().split(" ", 1)[0] for record in caplog.records]
    assert told == ["requests", "requests", "request", "request", "request"]
    await runtime.unload()


def test_in_another_process_an_exception_fails_one_request(caplog):
    error = ValueError("secret")
    share(error, ["a", "b"])
    for name in (b"a", b"b"):
        explain(RELEASE, LOGGER, pickle.loads(pickle.dumps(error)), name)
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"request {name} of greeter@1.0+cu1+abababab failed" for name in "ab"]


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt])
async def test_a_batch_that_ends_itself_is_a_failure_and_not_the_end_of_its_requests(error):
    class Ending(Pipeline):
        async def infer_batch(self, requests: list[str]) -> list[str]:
            if "bad" in requests:
                raise error
            return requests

    async with asyncio.timeout(60):
        for answer in await together(Ending, "bad", "good"):
            assert_problem(answer, 500, "PipelineFailed")


async def test_what_a_batch_returned_to_be_awaited_leaves_by_ends_no_loop(caplog):
    class Leaving(Pipeline):
        def infer_batch(self, requests: list[str]) -> Awaitable[list[str]]:
            async def leave():
                if "bad" in requests:
                    raise SystemExit(4)
                return requests

            return leave()

    async with asking(Leaving) as client:
        assert_problem(await client.post(ROUTE, json="bad"), 500, "PipelineFailed")
        assert "`infer_batch` ended with SystemExit(4)" in caplog.text
        assert (await client.post(ROUTE, json="after")).json() == "after"
    for answer in await together(Leaving, "bad", "good"):
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
    limits = Limits(request_timeout=60, max_ongoing_requests=5)
    app, runtime = await application(Hanging, settings, limits)
    async with client_of(app) as client:
        hung = asyncio.create_task(client.post(ROUTE, json=1))
        await acquire(instances[0].entered)
        (watched,) = app._deadlines._watched
        waiting = asyncio.create_task(client.post(ROUTE, json=2))
        await until(lambda: runtime.batches._waiting)
        watched.due -= 60
        late, answered = await asyncio.wait_for(asyncio.gather(hung, waiting), 20)
        assert_problem(late, 504, "TimedOut")
        assert answered.json() == 2
        assert runtime.calls.abandoned == 1
    assert caplog.records[0].getMessage().endswith("within 60 s: it was in `infer_batch`")
    settings["gate"].set()
    await until(lambda: runtime.calls.abandoned == 0)
    await runtime.unload()


async def test_what_comes_out_of_a_batch_may_be_streamed_request_by_request():
    class Counting(Pipeline):
        examples = (2, 3)

        def infer_batch(self, requests: list[int]) -> list[range]:
            return [range(request, request + 2) for request in requests]

        async def post_process(self, numbers: range) -> AsyncIterator[int]:
            for number in numbers:
                yield number

    app, runtime = await application(Counting, None, PAIRS)
    async with client_of(app) as client:
        answers = await asyncio.gather(*(client.post(ROUTE, json=request) for request in (5, 7)))
    assert [answer.text for answer in answers] == ["5\n6\n", "7\n8\n"]
    assert runtime.batches.sizes.largest == 2
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
    app.serve(runtime, dataclasses.replace(Limits(), max_batch_size=7, batch_wait_timeout=0.25))
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
