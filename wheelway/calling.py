"""How the methods of a pipeline are called: in which thread, on which loop, with how many hops.

Stages that are `async def` run on an event loop, all others in a pool of threads, where neighbours
share one hop. `load`, `reconfigure` and `unload`, when synchronous, have a thread of their own, so
that busy stages do not hold them up.

Coroutines run on the caller's own loop, or, when `isolated`, on a loop in a thread of its own, at
the price of a hop a request (see execution.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from wheelway.parts import Call
from wheelway.streams import GENERATORS, ForeignStream, LoopStream, Streamed, ThreadStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from wheelway.streams import Stream

    Stage = Callable[[Any], Any]

THREADS = 4
"""Threads for synchronous stages when nobody says how many."""


class Caller:
    """Calls the methods of one instance, `load` before any stage, all from the same loop.

    `abandoned` counts stages that still run in a thread though nobody waits for them any more: a
    thread cannot be interrupted.
    """

    def __init__(self, threads: int = THREADS, *, isolated: bool = False) -> None:
        self.abandoned = 0
        self.on_return: Callable[[], None] = lambda: None
        """Called on the loop when `abandoned` has changed."""
        self.on_stray: Callable[[BaseException], None] = lambda _: None
        """Called, in any thread, with what the closing of a stream raised."""
        self._home: asyncio.AbstractEventLoop
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="stage")
        self._control = ThreadPoolExecutor(1, thread_name_prefix="control")
        self._loop = _LoopThread() if isolated else None

    def stop(self) -> None:
        """Give back the threads; what runs in them ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._control.shutdown(wait=False, cancel_futures=True)
        if self._loop is not None:
            self._loop.stop()

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call what is not a stage: in the control thread, unless it is a coroutine function."""
        self._home = asyncio.get_running_loop()
        if is_async(function):
            return await self.on_loop(function(*args))
        future = self._control.submit(_guarded, function, *args)
        result = await asyncio.wrap_future(future)
        return await self.on_loop(result) if inspect.isawaitable(result) else result

    def chain(
        self, stages: Sequence[Stage], *, by_item: bool | None = False
    ) -> Callable[[Any], Awaitable[Any]]:
        """The stages as one coroutine function; a lone asynchronous stage is that itself.

        `by_item` as in `stages.Result`: where it says so the last one is left out, and the result
        is a `Streamed`.
        """
        chain, loop = self.steps(stages, by_item=by_item), self._loop
        return chain if loop is None else lambda value: loop.run(lambda: chain(value))

    def steps(
        self, stages: Sequence[Stage], *, by_item: bool | None = False
    ) -> Callable[[Any], Awaitable[Any]]:
        """`chain`, for who is on the stages' loop already."""
        stages = [_opening(stage) if _only_opens(stage) else stage for stage in stages]
        if by_item is not False:
            stages[-1] = _streamed if by_item else _unless_streamed(stages[-1])
        return _sequence(stages) if all(map(is_async, stages)) else self._mixed(stages)

    def stream(self, source: Any, each: Sequence[Stage] = ()) -> Stream:
        """Go through what a stage returned; `each`, one stage at most, gets every item."""
        if not hasattr(source, "__aiter__"):
            inside = each[0] if each and not is_async(each[0]) else None
            outside = self.chain(each) if each and inside is None else None
            return ThreadStream(self, iter(source), inside, outside)
        items = aiter(source)
        stages = self.steps(each) if each else None
        if self._loop is None:
            return LoopStream(self, items, stages)
        return ForeignStream(self, items, stages, self._loop.loop)

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Call it in a thread of stages."""
        return self._pool.submit(function, *args)

    async def on_loop(self, awaitable: Awaitable[Any]) -> Any:
        """Await it where the pipeline's coroutines run."""
        return await (awaitable if self._loop is None else self._loop.run(lambda: awaitable))

    def _mixed(self, stages: Sequence[Stage]) -> Callable[[Any], Awaitable[Any]]:
        runs = _runs(stages)

        async def run(value: Any) -> Any:
            for is_async, neighbours in runs:
                if is_async:
                    for stage in neighbours:
                        value = await stage(value)
                    continue
                rest: Sequence[Stage] = neighbours
                while rest:
                    value, rest = await self._hop(rest, value)
                    if isinstance(value, Call):  # of a stream perhaps, not to be awaited
                        value = await value.outcome()
                    elif inspect.isawaitable(value):
                        value = await value
            return value

        return run

    async def _hop(self, stages: Sequence[Stage], value: Any) -> tuple[Any, Sequence[Stage]]:
        """Run synchronous neighbours in a thread, with the caller's context variables."""
        begun: list[Stage] = []
        future = self._pool.submit(copy_context().run, _advance, stages, value, begun)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError as error:
            stage = getattr(begun[-1], "__name__", "a stage") if begun else ""
            error.add_note(f"it was in `{stage}`" if stage else "it waited for a thread")
            if not future.cancel() and not future.done():
                self.count(1)
                future.add_done_callback(lambda _: self.count(-1))
            raise
        finally:
            del future  # its exception knows this frame: together they would keep the request

    def count(self, change: int) -> None:
        """Change `abandoned`, from any thread, on the loop that reads it."""

        def count() -> None:
            self.abandoned += change
            self.on_return()

        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody reads it
            self._home.call_soon_threadsafe(count)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it makes a coroutine, as far as can be told without calling it."""
    function = inspect.unwrap(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object whose call is `async def`
    )


def settling(stage: Stage) -> Stage:
    """The same stage of a pipeline with parts; where it returns the call of one, that part's result
    comes instead, or its items. One in a thread leaves that to the loop, see `Caller`.
    """
    if not is_async(stage):
        return stage

    @functools.wraps(stage)
    async def run(value: Any) -> Any:
        value = await stage(value)
        return await value.outcome() if isinstance(value, Call) else value

    return run


def _only_opens(stage: Stage) -> bool:
    """Whether calling it runs none of its code, which takes no thread."""
    return inspect.isgeneratorfunction(stage) or inspect.isasyncgenfunction(stage)


def _opening(stage: Stage) -> Stage:
    async def opened(value: Any) -> Any:
        return stage(value)

    return opened


async def _streamed(value: Any) -> Streamed:
    return Streamed(value)


def _unless_streamed(stage: Stage) -> Stage:
    """`post_process`, left out where it is to get the items of a generator."""
    if is_async(stage):

        async def run(value: Any) -> Any:
            return Streamed(value) if isinstance(value, GENERATORS) else await stage(value)

        return functools.wraps(stage)(run)

    def call(value: Any) -> Any:
        return Streamed(value) if isinstance(value, GENERATORS) else stage(value)

    return functools.wraps(stage)(call)


def _runs(stages: Sequence[Stage]) -> list[tuple[bool, list[Stage]]]:
    """Neighbouring stages of one kind together: (asynchronous?, stages)."""
    runs: list[tuple[bool, list[Stage]]] = []
    for stage in stages:
        if runs and runs[-1][0] == is_async(stage):
            runs[-1][1].append(stage)
        else:
            runs.append((is_async(stage), [stage]))
    return runs


def _sequence(stages: Sequence[Stage]) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    if len(stages) == 1:
        return stages[0]

    async def run(value: Any) -> Any:
        for stage in stages:
            value = await stage(value)
        return value

    return run


def _advance(
    stages: Sequence[Stage], value: Any, begun: list[Stage]
) -> tuple[Any, Sequence[Stage]]:
    """Run stages up to the first that returns something to be awaited; what is left comes back."""
    for done, stage in enumerate(stages, start=1):
        begun.append(stage)
        value = _guarded(stage, value)
        if inspect.isawaitable(value):
            return value, stages[done:]
    return value, ()


def _guarded(function: Callable[..., Any], *args: Any) -> Any:
    """Call it, but let no StopIteration out: a future cannot hold one, its waiter would hang. Nor
    a GeneratorExit: it would look as if the waiter itself were closed.
    """
    try:
        return function(*args)
    except (StopIteration, GeneratorExit) as error:
        raise RuntimeError(f"{function!r} raised {type(error).__qualname__}") from error


class _LoopThread:
    """An event loop in a daemon thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name="isolated", daemon=True).start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def run(self, begin: Callable[[], Awaitable[Any]]) -> asyncio.Future[Any]:
        """Begin it there and await it; the returned future belongs to the calling loop. What is
        cancelled before its turn never begins.
        """

        async def outcome() -> Any:
            try:
                return await begin()
            except (SystemExit, KeyboardInterrupt) as error:  # would end the loop for everybody
                raise RuntimeError(f"a pipeline must not leave by {error!r}") from error

        future: Future[Any] = asyncio.run_coroutine_threadsafe(outcome(), self.loop)
        return asyncio.wrap_future(future)

    def stop(self) -> None:
        """Let it end once it is idle."""
        self.loop.call_soon_threadsafe(self.loop.stop)
