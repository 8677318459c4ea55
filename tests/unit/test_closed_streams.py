"""Where pipelines that stream run, and how their generators are closed."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar

import pytest

from tests.support.asking import until
from tests.support.streaming import (
    AsyncWatched,
    Counts,
    Held,
    Watched,
    none_abandoned,
    read,
    started,
)
from wheelway import Pipeline, trials
from wheelway.local import loaded, run

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


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
