"""Pipelines that stream: what they may be made of, where they run, and how they are closed."""

import asyncio
import itertools
import json
import logging
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from pydantic import BaseModel

from tests.support.asking import LOGGER, RELEASE, until
from tests.support.strict import refused
from wheelway import Pipeline, trials
from wheelway.execution import Items, Runtime, context_of
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


class Counts(Pipeline):
    """Synchronous."""

    examples = (3,)

    def infer(self, request: int) -> Iterator[int]:
        yield from range(request)


class AsyncCounts(Pipeline):
    examples = (3,)

    async def infer(self, request: int) -> AsyncIterator[int]:
        for number in range(request):
            await asyncio.sleep(0)
            yield number


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


async def started(pipeline, settings=None, **options):
    context = context_of(pipeline, RELEASE, settings or {}, LOGGER)
    return await Runtime.started(pipeline, context, **options)


async def none_abandoned(runtime):
    await until(lambda: runtime.calls.abandoned == 0)


async def read(items):
    found = []
    try:
        while (item := await items.next()) is not None:
            found.append(json.loads(item))
    finally:
        await items.aclose()
    return found


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


# -- where it runs, and how it is closed ---------------------------------------------------------


class Watched(Pipeline):
    """Tells when it is closed."""

    def load(self, context) -> None:
        self.closed = context.settings["closed"]

    def infer(self, request: int) -> Iterator[int]:
        try:
            yield from itertools.count()
        except GeneratorExit:
            self.closed.set()
            raise


class AsyncWatched(Watched):
    async def infer(self, request: int) -> AsyncIterator[int]:  # type: ignore[override]
        try:
            for number in itertools.count():
                await asyncio.sleep(0)
                yield number
        except GeneratorExit:
            self.closed.set()
            raise


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("pipeline", [Watched, AsyncWatched])
async def test_one_that_is_not_read_to_its_end_is_closed(pipeline, isolated):
    closed = threading.Event()
    runtime = await started(pipeline, {"closed": closed}, isolated=isolated)
    items = await runtime.answer(b"1")
    assert [await items.next() for _ in range(3)] == [b"0", b"1", b"2"]
    assert not closed.is_set()
    await items.aclose()
    assert closed.is_set()
    await none_abandoned(runtime)
    await runtime.unload()


class Held(Pipeline):
    """Blocks within its second item."""

    def load(self, context) -> None:
        self.closed, self.gate = context.settings["closed"], context.settings["gate"]

    def infer(self, request: int) -> Iterator[int]:
        try:
            yield 0
            self.gate.wait(60)
            yield 1
        except GeneratorExit:
            self.closed.set()
            raise


async def test_one_that_is_busy_in_a_thread_is_closed_when_it_yields_and_counted_until_then():
    closed, gate = threading.Event(), threading.Event()
    runtime = await started(Held, {"closed": closed, "gate": gate})
    items = await runtime.answer(b"1")
    assert await items.next() == b"0"
    waiting = asyncio.ensure_future(items.next())
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await waiting
    assert caught.value.__notes__ == ["it was making an item"]
    await items.aclose(0)
    await until(lambda: runtime.calls.abandoned == 1)
    assert not closed.is_set()
    gate.set()
    await until(lambda: runtime.calls.abandoned == 0)
    assert closed.is_set()
    await runtime.unload()


async def test_closing_waits_for_no_stage_thread():
    closed, gate = threading.Event(), threading.Event()
    settings = {"closed": closed, "gate": gate}
    runtime = await started(Held, settings, threads=1)
    items, other = await runtime.answer(b"1"), await runtime.answer(b"1")
    assert [await items.next(), await other.next()] == [b"0", b"0"]
    busy = asyncio.ensure_future(other.next())  # has the only thread
    await asyncio.sleep(0.05)
    await items.aclose()
    assert closed.is_set()
    gate.set()
    assert await busy == b"1"
    await other.aclose()
    await runtime.unload()


async def test_streams_that_nobody_reads_hold_no_thread():
    runtime = await started(Counts, threads=1)
    streams = [await runtime.answer(b"3") for _ in range(50)]
    assert [await items.next() for items in streams] == [b"0"] * 50
    assert [await items.next() for items in reversed(streams)] == [b"1"] * 50
    for items in streams:
        await items.aclose()
    await runtime.unload()


VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="unset")


async def test_context_variables_last_from_item_to_item_and_reach_no_other_stream():
    class Contextual(Pipeline):
        def infer(self, request: str) -> Iterator[str]:
            token = VARIABLE.set(request)
            yield VARIABLE.get()
            yield VARIABLE.get()
            VARIABLE.reset(token)
            yield VARIABLE.get()

    runtime = await started(Contextual)
    one, two = await runtime.answer(b'"a"'), await runtime.answer(b'"b"')
    found = [(await one.next(), await two.next()) for _ in range(3)]
    assert found == [(b'"a"', b'"b"'), (b'"a"', b'"b"'), (b'"unset"', b'"unset"')]
    await one.aclose()
    await two.aclose()
    await runtime.unload()


class Grouped(Pipeline):
    async def infer(self, request: int) -> AsyncIterator[int]:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for number in range(request):
                yield await group.create_task(asyncio.sleep(0, number))


def test_an_author_goes_through_an_asynchronous_generator_in_one_task():
    with loaded(Grouped) as ask:
        assert list(ask(2)) == [0, 1]
        next(ask(2))


@pytest.mark.parametrize("isolated", [False, True])
async def test_an_asynchronous_generator_is_gone_through_in_one_task(isolated, caplog):
    runtime = await started(Grouped, isolated=isolated)
    items = await runtime.answer(b"3")
    assert await read(items) == [0, 1, 2]
    items = await runtime.answer(b"3")
    await items.next()
    await items.aclose()
    assert "closing" not in caplog.text
    await runtime.unload()


@pytest.mark.parametrize("isolated", [False, True])
async def test_what_closing_raises_is_logged_and_breaks_nothing(isolated, caplog):
    class Stubborn(Pipeline):
        def infer(self, request: int) -> Iterator[int]:
            try:
                yield 0
            finally:
                raise OSError("not now")

    class AsyncStubborn(Pipeline):
        async def infer(self, request: int) -> AsyncIterator[int]:
            try:
                yield 0
            finally:
                raise OSError("not now")

    for pipeline in (Stubborn, AsyncStubborn):
        runtime = await started(pipeline, isolated=isolated)
        items = await runtime.answer(b"1")
        await items.next()
        with caplog.at_level(logging.ERROR):
            await items.aclose()
        assert "closing a stream of" in caplog.text
        assert "OSError: not now" in caplog.text
        caplog.clear()
        await none_abandoned(runtime)
        await runtime.unload()


async def test_one_that_does_not_end_is_left_after_a_second(caplog):
    class Clinging(Pipeline):
        async def infer(self, request: int) -> AsyncIterator[int]:
            try:
                yield 0
            finally:
                await asyncio.sleep(60)

    runtime = await started(Clinging)
    items = await runtime.answer(b"1")
    await items.next()
    with caplog.at_level(logging.ERROR):
        await items.aclose()
    assert "it did not end within 1 s, and was cancelled" in caplog.text
    await runtime.unload()


def test_a_file_is_closed_at_its_end(tmp_path):
    path = tmp_path / "lines"
    path.write_text("a\nb\n")
    opened = []

    class Lines(Pipeline):
        def infer(self, request: int) -> Iterator[str]:
            opened.append(path.open())
            return opened[-1]

    assert run(Lines, 1) == ["a\n", "b\n"]
    with loaded(Lines) as ask:
        items = ask(1)
        assert next(items) == "a\n"
        assert not opened[-1].closed
    assert all(file.closed for file in opened)


# -- examples, and the author's own tests --------------------------------------------------------


@pytest.mark.parametrize("pipeline", [Watched, AsyncWatched])
async def test_an_example_that_never_ends_lets_the_release_start(pipeline):
    class Endless(pipeline):
        examples = (1,)

    closed = threading.Event()
    runtime = await started(Endless, {"closed": closed})
    assert runtime.first_items == [[b"0", b"1", b"2"]]
    assert closed.is_set()
    await runtime.unload()


async def test_an_example_that_falls_silent_lets_it_start_too(monkeypatch):
    class Silent(Held):
        examples = (1,)

    monkeypatch.setattr(trials, "EXAMPLE_SECONDS", 0.1)
    closed, gate = threading.Event(), threading.Event()
    begin = time.monotonic()
    runtime = await started(Silent, {"closed": closed, "gate": gate})
    assert runtime.first_items == [[b"0"]]
    assert time.monotonic() - begin < 30
    gate.set()
    await until(closed.is_set)
    await runtime.unload()


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
