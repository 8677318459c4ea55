"""Streams: what a generator of a pipeline yields, item by item, and how it is closed.

A synchronous generator is asked for each item in a stage thread, and holds none between two: while
a client is slow to read, its stream costs memory alone. An asynchronous one is asked on the loop of
the pipeline's coroutines, always in the same task there, as `asyncio.timeout` and task groups need
it. Nobody asks for an item before the one before was taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from concurrent.futures import Future
from contextvars import copy_context
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from wheelway.calling import Caller

GENERATORS: Final = (GeneratorType, AsyncGeneratorType)
CLOSE_WITHIN: Final = 1.0
"""Seconds for which closing a stream is waited for; what takes longer goes on by itself."""
_WHOLE: Final = (str, bytes, bytearray, memoryview, Mapping)
"""What can be iterated and is one value all the same."""
_END: Final = object()


class Streamed:
    """What `infer` returned, where it streams and `post_process` gets each item."""

    __slots__ = ("source",)

    def __init__(self, source: Any) -> None:
        self.source = source


def can_stream(value: Any) -> bool:
    """Whether a value can be gone through item by item, and is not rather one itself."""
    return isinstance(value, (AsyncIterable, Iterable)) and not isinstance(value, _WHOLE)


class Stream:
    """An asynchronous iterator over the items of one source, for one task of the caller's loop.

    It has to be closed by `aclose`, whether it came to its end or not.
    """

    def __init__(self, calls: Caller, maker: str) -> None:
        """`maker` is the name of the function that yields the items, as far as it is known."""
        self.maker = maker
        self.on_close: Callable[[], None] = _nothing
        """Called before the source is closed."""
        self._calls = calls
        self._closed = False

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        if self._closed:
            raise StopAsyncIteration
        try:
            item = await self._next()
        except StopAsyncIteration as error:  # of the author's code; no end
            raise RuntimeError("a stage raised StopAsyncIteration") from error
        if item is _END:
            raise StopAsyncIteration
        return item

    async def aclose(self, patience: float = CLOSE_WITHIN) -> None:
        """Close the source: GeneratorExit is raised where it is, as soon as it has ended what it
        does right now. Returns after `patience` seconds, or a little later, if that takes longer.
        """
        if not self._closed:
            self._closed = True
            self.on_close()
            await self._close(patience)

    def _stray(self, error: BaseException) -> None:
        """What closing has raised: for a log, unless it is the very exception that closes, which a
        task group hands on as one of several.
        """
        group = isinstance(error, BaseExceptionGroup)
        if not (group and error.split(GeneratorExit)[1] is None):  # type: ignore[attr-defined]
            self._calls.on_stray(error)

    async def _next(self) -> Any:
        raise NotImplementedError

    async def _close(self, patience: float) -> None:
        raise NotImplementedError


class LoopStream(Stream):
    """Of an asynchronous iterator on the caller's own loop."""

    def __init__(
        self,
        calls: Caller,
        source: AsyncIterator[Any],
        each: Callable[[Any], Awaitable[Any]] | None,
    ) -> None:
        super().__init__(calls, getattr(source, "__name__", "a stage"))
        self._source = source
        self._each = each

    async def _next(self) -> Any:
        try:
            item = await anext(self._source)
        except StopAsyncIteration:
            return _END
        return item if self._each is None else await self._each(item)

    async def _close(self, patience: float) -> None:
        # In the task that went through it, which its own timeouts and task groups rely upon.
        try:
            async with asyncio.timeout(max(patience, CLOSE_WITHIN)) as deadline:
                await _aclose(self._source)
        except TimeoutError as error:
            late = f"it did not end within {CLOSE_WITHIN:g} s, and was cancelled"
            self._stray(TimeoutError(late) if deadline.expired() else error)
        # It is the author's and may raise anything; nobody is there to be told.
        except BaseException as error:
            if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
                raise
            self._stray(error)


class ThreadStream(Stream):
    """Of a synchronous iterator: one hop into a stage thread for each item, and a synchronous
    `post_process` in the same one.
    """

    def __init__(
        self,
        calls: Caller,
        source: Iterator[Any],
        inside: Callable[[Any], Any] | None,
        outside: Callable[[Any], Awaitable[Any]] | None,
    ) -> None:
        """`inside` gets each item in the thread; `outside` what comes of that, on the loop."""
        super().__init__(calls, getattr(source, "__name__", "a stage"))
        self._source = source
        self._inside = inside
        self._outside = outside
        self._context = copy_context()  # one for all items, as the generator sees it
        self._asked: Future[Any] | None = None
        self._over = False

    async def _next(self) -> Any:
        step = self._context.run, _step, self._source, self._inside
        asked = self._asked = self._calls.submit(*step)
        try:
            item = await asyncio.wrap_future(asked)
        except asyncio.CancelledError as error:
            waited = asked.cancel() or asked.cancelled()
            error.add_note("it waited for a thread" if waited else "it was making an item")
            raise
        finally:
            if asked.done():
                self._asked = None
        if item is _END:
            self._over = True
            return item
        if inspect.isawaitable(item):
            item = await self._calls.on_loop(item)
        return item if self._outside is None else await self._outside(item)

    async def _close(self, patience: float) -> None:
        if self._over or (self._asked is None and _has_ended(self._source)):
            return
        closed: Future[None] = Future()
        self._calls.count(1)

        def close() -> None:
            try:
                self._context.run(getattr(self._source, "close", _nothing))
            # See LoopStream.
            except BaseException as error:  # noqa: BLE001 - told where such errors go
                self._stray(error)
            finally:
                self._calls.count(-1)
                closed.set_result(None)

        # A thread of its own: those of stages may all be busy, and this must be soon.
        def begin(_: object = None) -> None:
            threading.Thread(target=close, name="closing", daemon=True).start()

        if self._asked is None:
            begin()
        else:  # a thread may still be in there
            self._asked.add_done_callback(begin)
        if patience:
            await asyncio.wait({asyncio.wrap_future(closed)}, timeout=patience)


class ForeignStream(Stream):
    """Of an asynchronous iterator on a loop in another thread, where one task goes through it."""

    def __init__(
        self,
        calls: Caller,
        source: AsyncIterator[Any],
        each: Callable[[Any], Awaitable[Any]] | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(calls, getattr(source, "__name__", "a stage"))
        self._source = source
        self._each = each
        self._loop = loop
        self._wanted: asyncio.Queue[Future[Any] | None] = asyncio.Queue()
        self._gone: Future[None] = Future()
        self._task: asyncio.Task[None] | None = None
        self._busy = self._ending = False
        """Both of the other loop alone."""
        loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._go())

    async def _next(self) -> Any:
        wanted: Future[Any] = Future()
        self._loop.call_soon_threadsafe(self._wanted.put_nowait, wanted)
        return await asyncio.wrap_future(wanted)

    async def _close(self, patience: float) -> None:
        self._calls.count(1)
        self._loop.call_soon_threadsafe(self._end)
        if patience:
            await asyncio.wait({asyncio.wrap_future(self._gone)}, timeout=patience)

    def _end(self) -> None:
        self._ending = True
        if self._busy and self._task is not None:
            self._task.cancel()
        else:
            self._wanted.put_nowait(None)

    async def _go(self) -> None:
        """Answer whoever wants an item, until it is to end."""
        try:
            while not self._ending and (wanted := await self._wanted.get()) is not None:
                self._busy = True
                if wanted.set_running_or_notify_cancel():
                    await self._answer(wanted)
                self._busy = False
        finally:
            try:
                await _aclose(self._source)
            # See LoopStream; what left here would end the loop for everybody.
            except BaseException as error:  # noqa: BLE001
                self._stray(error)
            finally:
                self._calls.count(-1)
                self._gone.set_result(None)

    async def _answer(self, wanted: Future[Any]) -> None:
        try:
            try:
                item = await anext(self._source)
            except StopAsyncIteration:
                item = _END
            if self._each is not None and item is not _END:
                item = await self._each(item)
        # It is the author's, and raised where the item was asked for.
        except BaseException as error:
            wanted.set_exception(error)
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            wanted.set_result(item)


def _step(source: Iterator[Any], inside: Callable[[Any], Any] | None) -> Any:
    """The next item, in a thread; no StopIteration may leave, as a future cannot hold one."""
    item = next(source, _END)
    if item is _END:
        with contextlib.suppress(AttributeError):  # a file has something to be closed still
            if not isinstance(source, GeneratorType):
                source.close()  # type: ignore[attr-defined] # hence the suppression
        return _END
    if inside is None:
        return item
    try:
        return inside(item)
    except StopIteration as error:
        raise RuntimeError(f"{inside!r} raised StopIteration") from error


def _has_ended(source: Iterator[Any]) -> bool:
    return isinstance(source, GeneratorType) and source.gi_frame is None


async def _aclose(source: AsyncIterator[Any]) -> None:
    name = "aclose" if hasattr(source, "aclose") else "close"
    outcome = getattr(source, name, _nothing)()
    if inspect.isawaitable(outcome):
        await outcome


def _nothing() -> Any:
    """The end of what cannot be closed."""
