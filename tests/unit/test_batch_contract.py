"""What a pipeline with `infer_batch` is given, what it may return, and what is refused."""

import asyncio
import pickle
from collections.abc import Iterator, Sequence

import pytest

import wheelway
from tests.support.asking import (
    LOGGER,
    ROUTE,
    asking,
)
from tests.support.batching import Doubled, start
from tests.support.head import eventually
from tests.support.strict import refused
from tests.support.wheels import make_wheel, tree_of
from wheelway import Pipeline
from wheelway.failure import StartFailure
from wheelway.inbound import Request, several
from wheelway.limits import Limits
from wheelway.local import loaded, run
from wheelway.remote import PartReplica, RemotePart
from wheelway.replica import Arguments
from wheelway.schema import interface_of

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


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
    arrivals = [(b"id-%d" % n, {}, Request(due=100.0 - n)) for n in range(40)]
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
