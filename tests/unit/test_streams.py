"""Pipelines that stream: what they may be made of, what fails them, and how authors read them."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from tests.support.streaming import (
    AsyncCounts,
    AsyncWatched,
    Counts,
    Watched,
    read,
    started,
)
from tests.support.strict import refused
from wheelway import Pipeline
from wheelway.execution import Items
from wheelway.failure import StartFailure
from wheelway.local import loaded, run
from wheelway.results import ResultInvalid
from wheelway.schema import interface_of

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Token(BaseModel):
    text: str


class Returned(Pipeline):
    def infer(self, request: int) -> Generator[int, None, None]:
        return (number for number in range(request))


class AsyncReturned(Pipeline):
    async def infer(self, request: int) -> AsyncIterable[int]:
        return AsyncCounts().infer(request)


class Unannotated(Pipeline):
    def infer(self, request):
        yield from range(request)


class UnannotatedReturned(Pipeline):
    async def infer(self, request):
        return (number for number in range(request))


class AnyIterator(Pipeline):
    def infer(self, request):
        return map(int, range(request))


class MaybeMany(Pipeline):
    def infer(self, request: int) -> Iterable[int]:
        return iter(range(request))


class PostProcessed(Pipeline):
    def infer(self, request: int) -> int:
        return request

    async def post_process(self, result: int) -> AsyncIterator[int]:
        for number in range(result):
            yield number


class Whole(Pipeline):
    """`post_process` says that it takes all of them."""

    def infer(self, request: int) -> Iterator[int]:
        yield from range(2 * request)

    def post_process(self, numbers: Iterator[int]) -> Iterator[int]:
        yield from (number // 2 for number in numbers if number % 2 == 0)


EVERY_WAY = (
    Counts,
    AsyncCounts,
    Returned,
    AsyncReturned,
    Unannotated,
    UnannotatedReturned,
    AnyIterator,
    MaybeMany,
    PostProcessed,
    Whole,
)


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("pipeline", EVERY_WAY)
async def test_whatever_the_generator_its_items_come_one_by_one(pipeline, isolated):
    runtime = await started(pipeline, isolated=isolated)
    assert await read(await runtime.answer(b"3")) == [0, 1, 2]
    assert await read(await runtime.answer(b"0")) == []
    await runtime.unload()


class SyncThenSync(Pipeline):
    def infer(self, request: int) -> Iterator[int]:
        yield from range(request)

    def post_process(self, number: int) -> Token:
        return Token(text=str(number))


class AsyncThenSync(SyncThenSync):
    async def infer(self, request: int) -> AsyncIterator[int]:  # type: ignore[override]
        for number in range(request):
            yield number


class SyncThenAsync(SyncThenSync):
    async def post_process(self, number: int) -> Token:  # type: ignore[override]
        await asyncio.sleep(0)
        return Token(text=str(number))


class AsyncThenAsync(AsyncThenSync, SyncThenAsync):
    pass


class FoundOut(SyncThenSync):
    """Only when it is called."""

    def infer(self, request: int):
        return (number for number in range(request))


class AsyncFoundOut(SyncThenAsync):
    async def infer(self, request: int):
        return AsyncCounts().infer(request)


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize(
    "pipeline",
    [SyncThenSync, AsyncThenSync, SyncThenAsync, AsyncThenAsync, FoundOut, AsyncFoundOut],
)
async def test_post_process_gets_each_item_of_what_infer_streams(pipeline, isolated):
    runtime = await started(pipeline, isolated=isolated)
    assert await read(await runtime.answer(b"2")) == [{"text": "0"}, {"text": "1"}]
    await runtime.unload()


def test_a_stage_after_one_that_does_not_stream_gets_what_it_returned():
    class Plain(FoundOut):
        def infer(self, request: int):
            return request

    assert run(Plain, 7) == {"text": "7"}


def test_the_schema_is_that_of_an_item():
    for pipeline in (Counts, AsyncCounts, Returned, AsyncReturned, PostProcessed, Whole):
        assert interface_of(pipeline).schemas[1] == {"type": "integer"}
        assert interface_of(pipeline).result_types == ("application/x-ndjson", "text/event-stream")
    assert interface_of(SyncThenSync).schemas[1]["properties"]["text"] == {
        "title": "Text",
        "type": "string",
    }
    assert interface_of(Unannotated).schemas[1] == {}
    for pipeline in (UnannotatedReturned, FoundOut, MaybeMany):
        assert interface_of(pipeline).result_type == "application/json"


def test_an_iterable_that_is_a_list_stays_one():
    class Many(Pipeline):
        def infer(self, request: int) -> Iterable[int]:
            return list(range(request))

    assert run(Many, 2) == [0, 1]


# -- what is refused -----------------------------------------------------------------------------


class BadAnnotation(Pipeline):
    def infer(self, request: int) -> list[int]:
        yield 1


class PreStreams(Pipeline):
    def pre_process(self, request: int):
        yield request

    def infer(self, request):
        return request


class BothStream(Pipeline):
    def infer(self, request: int) -> Iterator[int]:
        yield request

    def post_process(self, number: int) -> Iterator[int]:
        yield number


@pytest.mark.parametrize(
    ("pipeline", "what"),
    [
        (BadAnnotation, "`BadAnnotation.infer` is a generator, but returns list[int] by its"),
        (PreStreams, "`PreStreams.pre_process` is a generator; only `infer` and `post_process`"),
        (BothStream, "annotate its argument as `Iterator[...]` to get the stream as a whole"),
    ],
)
def test_what_cannot_be_a_stream_is_refused_at_the_start(pipeline, what):
    assert what in refused(pipeline)


@pytest.mark.parametrize(
    ("result", "what"),
    [
        (7, "result: is a int, and it is declared as a stream"),
        ("text", "result: is a str, and it is declared as a stream"),
        ({"a": 1}, "result: is a dict, and it is declared as a stream"),
    ],
)
def test_a_declared_stream_must_be_one(result, what):
    class Liar(Pipeline):
        def infer(self, request: int) -> Iterator[Any]:
            return result

    class ByItem(Liar):
        def post_process(self, item: int) -> int:
            return item

    for pipeline in (Liar, ByItem):
        with loaded(pipeline) as ask, pytest.raises(ResultInvalid, match=what):
            ask(1)


def test_bytes_that_are_no_text_get_advice():
    class Whole(Pipeline):
        def infer(self, request: int):
            return b"\xff"

    class Chunks(Pipeline):
        def infer(self, request: int):
            yield b"\xff"

    for pipeline in (Whole, Chunks):
        with pytest.raises(ResultInvalid, match=r"annotated as `bytes`, or as `Iterator\[bytes\]`"):
            run(pipeline, 1)


def test_an_item_of_another_type_is_told_by_its_number():
    class Wrong(Pipeline):
        def infer(self, request: int) -> Iterator[int]:
            yield 1
            yield "two"

    class Nested(Pipeline):
        def infer(self, request: int):
            yield (number for number in range(3))

    with loaded(Wrong) as ask:
        items = ask(1)
        assert next(items) == 1
        with pytest.raises(ResultInvalid, match="item 2 of a stream: result: Input should be"):
            next(items)
        assert list(items) == []
    with loaded(Nested) as ask, pytest.raises(ResultInvalid, match="item 1 of a stream is a gen"):
        next(ask(1))


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration, ValueError, SystemExit])
@pytest.mark.parametrize("isolated", [False, True])
async def test_what_a_stage_raises_is_never_an_end(error, isolated):
    class Fails(Pipeline):
        def infer(self, request: int) -> Iterator[int]:
            yield 1
            raise error

    class AsyncFails(Pipeline):
        async def infer(self, request: int) -> AsyncIterator[int]:
            yield 1
            raise error

    class PostFails(Counts):
        def post_process(self, number: int) -> int:
            if number:
                raise error
            return 1

    class AsyncPostFails(AsyncCounts):
        post_process = PostFails.post_process

    for pipeline in (Fails, AsyncFails, PostFails, AsyncPostFails):
        pipeline.examples = ()
        runtime = await started(pipeline, isolated=isolated)
        items = await runtime.answer(b"3")
        assert await items.next() == b"1"
        with pytest.raises(RuntimeError if "Iteration" in error.__name__ else error):
            await items.next()
        await items.aclose()
        await runtime.unload()


# -- examples, and the author's own tests --------------------------------------------------------


async def test_an_example_fails_by_any_of_its_items():
    class Late(Pipeline):
        examples = (1,)

        def infer(self, request: int) -> Iterator[int]:
            yield 1
            raise ValueError("late")

    class Wrong(Late):
        def infer(self, request: int) -> Iterator[int]:
            yield 1
            yield "one"

    class Own(Late):
        async def infer(self, request: int) -> AsyncIterator[int]:  # type: ignore[override]
            yield 1
            raise TimeoutError("of its own")

    found = []
    for pipeline in (Late, Wrong, Own):
        with pytest.raises(StartFailure) as caught:
            await started(pipeline)
        found.append((caught.value.reason, caught.value.message))
    assert [reason for reason, _ in found] == [
        "ExampleFailed",
        "ExampleResultInvalid",
        "ExampleFailed",
    ]
    assert "ValueError: late" in found[0][1]
    assert "item 2 of a stream" in found[1][1]
    assert "of its own" in found[2][1]


def test_an_author_reads_a_stream_as_a_generator_that_ends_with_the_pipeline():
    closed = threading.Event()
    with loaded(AsyncWatched, settings={"closed": closed}) as ask:
        items = ask(1)
        assert list(itertools.islice(items, 3)) == [0, 1, 2]
        assert not closed.is_set()
    assert closed.is_set()
    closed.clear()
    with loaded(Watched, settings={"closed": closed}) as ask:
        items = ask(1)
        next(items)
        items.close()
        assert closed.is_set()
        assert next(ask(1)) == 0
    assert run(Counts, 2) == [0, 1]


def test_streams_of_bytes_and_text_are_read_as_such():
    class Raw(Pipeline):
        def infer(self, request: int) -> Iterator[bytes]:
            yield from (b"\xff" * n for n in range(request))

    class Text(Pipeline):
        def infer(self, request: int) -> Iterator[str]:
            yield from ("ä" * n for n in range(request))

    assert run(Raw, 3) == [b"", b"\xff", b"\xff\xff"]
    assert run(Text, 3) == ["", "ä", "ää"]


async def test_what_answers_by_items_is_told_apart():
    runtime = await started(Counts)
    assert isinstance(await runtime.answer(b"1"), Items)
    await runtime.unload()
