"""Parts of a pipeline, as the pipeline sees them: found in `context.parts`, called like functions.

    def load(self, context):
        self.risk, self.churn = context.parts["risk"], context.parts["churn"]

    async def infer(self, customer):
        risk, churn = await asyncio.gather(self.risk(customer), self.churn(customer))

In a `def` stage `self.risk(customer).result()`. A call begins at once, so of two that are begun
before either is waited for, both run at the same time. A part that streams is iterated, by `async
for` or `for`. Where a part runs makes no difference here: inline.py and remote.py know.

A call belongs to the request that it is made for, and ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from wheelway.failure import Mistake, ends_the_caller
from wheelway.streams import Streamed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
    from concurrent.futures import Future
    from contextvars import Context

    Invoke = Callable[[Any], Awaitable[Any]]
    """Calls a part, on the loop that its pipeline was started on; gives its result, or an
    asynchronous iterator where the part streams."""

_CALLS: ContextVar[set[Call] | None] = ContextVar("_CALLS", default=None)
"""The calls of the request at hand; threads have the same set."""


class PartFailed(RuntimeError):  # noqa: N818 - told as what happened, like the reasons of problems
    """A part could not be asked, or its answer not be had: nothing that the part itself raised.

    What a part raises reaches the caller as it is.
    """


class PartUnavailable(PartFailed):
    """No replica of the part is there to answer, or the one that worked on the call has died."""


class PartOverloaded(PartFailed):
    """The part was too busy to begin with the call in the time that there was for it."""


class Parts(Mapping[str, "Part"]):
    """The parts of a pipeline by their names."""

    def __init__(self, parts: Mapping[str, Part] | None = None, *, of_part: str = "") -> None:
        """`of_part` names the part that these would be the parts of; it has none."""
        self._parts = dict(parts or {})
        self._of_part = of_part

    def __getitem__(self, name: str) -> Part:
        """A part; the KeyError says which there are."""
        try:
            return self._parts[name]
        except KeyError:
            missing = PartOfPartError if self._of_part else _NoSuchPartError
            raise missing(self._missing(name)) from None

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self._parts)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._parts)

    def __repr__(self) -> str:
        """Their names."""
        return f"Parts({', '.join(self._parts) or 'none'})"

    def _missing(self, name: str) -> str:
        if self._of_part:
            return (
                f"{name!r} is no part of {self._of_part!r}, which is a part itself and has none: "
                "have the pipeline call both"
            )
        has = f"it has {', '.join(map(repr, self._parts))}" if self._parts else "it has none"
        return (
            f"the pipeline has no part {name!r}, {has}; a part is an entry point "
            '"<pipeline>.<part>" = "module:Class" in the group wheelway.parts; '
            f"tests may give it by `parts={{{name!r}: Class}}`"
        )


class _NoSuchPartError(Mistake, KeyError):
    def __str__(self) -> str:  # a KeyError shows the text quoted, as if it were a key
        return str(self.args[0])


class PartOfPartError(_NoSuchPartError):
    """A part has no parts: each of two could wait for the other."""


class Part:
    """One part, ready to be called from any stage."""

    def __init__(self, name: str, invoke: Invoke, home: asyncio.AbstractEventLoop) -> None:
        """`home` is the loop that `invoke` runs on."""
        self.name = name
        self._invoke = invoke
        self._home = home

    def __call__(self, request: Any, /) -> Call:
        """Begin a call: await it, take its `result()` in a `def` stage, or iterate it."""
        return Call(self.name, self._invoke, request, self._home)

    def __repr__(self) -> str:
        """Its name."""
        return f"Part({self.name!r})"


class Call:
    """A call of a part that has begun.

    Raises, where it is waited for, what the part raised; `PartFailed` when it has no answer.
    """

    def __init__(
        self, part: str, invoke: Invoke, request: Any, home: asyncio.AbstractEventLoop
    ) -> None:
        self._part = part
        self._home = home
        self._task: asyncio.Task[Any] | None = None
        self._future: Future[Any] | None = None
        self._stream: AsyncIterator[Any] | None = None
        self._asked: Future[Any] | None = None
        """The item that another thread waits for."""
        self._request_calls = _CALLS.get()
        """Those of its request, which ends all that are in there: it is, until it is over."""
        if self._request_calls is not None:
            self._request_calls.add(self)
        if _running_loop() is home:
            self._task = home.create_task(self._run(invoke, request))
        else:
            self._future = self._there(self._run(invoke, request))

    def __await__(self) -> Generator[Any, None, Any]:
        """The result; of a part that streams there is none to be awaited."""
        if self._task is not None and _running_loop() is self._home:
            outcome = yield from self._task.__await__()
        else:
            outcome = yield from asyncio.wrap_future(self._elsewhere()).__await__()
        return self._single(outcome)

    def result(self, timeout: float | None = None) -> Any:
        """The result, waited for in a `def` stage, `timeout` seconds at most (TimeoutError).

        Raises:
            RuntimeError: called on an event loop, which would be held by it.
        """
        self._refuse_on_loop("result()", "await the call instead")
        return self._single(self._elsewhere().result(timeout))

    async def __aiter__(self) -> AsyncIterator[Any]:
        """The items of a part that streams."""
        if self._task is not None and _running_loop() is self._home:
            items = self._items(await self._task)
            try:
                while (item := await self._next(items)) is not _END:
                    yield item
            finally:
                self._over()
                await self._close(items)
            return
        items = self._items(await asyncio.wrap_future(self._elsewhere()))
        try:
            while (item := await asyncio.wrap_future(self._ask(items))) is not _END:
                yield item
        finally:
            self._over()
            self._there(self._close(items))

    def __iter__(self) -> Iterator[Any]:
        """The items of a part that streams, in a `def` stage."""
        self._refuse_on_loop("for", "use `async for`")
        items = self._items(self._elsewhere().result())
        try:
            while (item := self._ask(items).result()) is not _END:
                yield item
        finally:
            self._over()
            self._there(self._close(items))

    async def outcome(self) -> Any:
        """The result, or the items of a part that streams, whichever it is."""
        if self._task is not None and _running_loop() is self._home:
            outcome = await self._task
        else:
            outcome = await asyncio.wrap_future(self._elsewhere())
        return aiter(self) if isinstance(outcome, AsyncIterator) else outcome

    def cancel(self) -> None:
        """End it, stream or not; from any thread."""
        if _running_loop() is self._home:
            self._cancel()
            return
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._home.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        for begun in (self._task, self._future, self._asked):
            if begun is not None:
                begun.cancel()
        if self._stream is not None:
            self._closing = self._home.create_task(self._close(self._stream))
            # It may be busy, and is then closed by what was cancelled above.
            self._closing.add_done_callback(lambda task: task.cancelled() or task.exception())

    def __repr__(self) -> str:
        """What it is, for those who find it where they expected a result."""
        return f"<a call of the part {self._part!r} that was not awaited>"

    def _over(self) -> None:
        """Nothing of it is left to be ended."""
        self._stream = None
        if self._request_calls is not None:
            self._request_calls.discard(self)

    def _elsewhere(self) -> Future[Any]:
        """The outcome, for a thread other than that of the loop it runs on."""
        if self._future is None:
            assert self._task is not None  # noqa: S101 - one of both, see __init__
            self._future = self._there(_settled(self._task))
        return self._future

    def _there(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._home)

    def _single(self, outcome: Any) -> Any:
        if isinstance(outcome, AsyncIterator):
            raise TypeError(
                f"the part {self._part!r} streams its results: iterate the call, by `async for`, "
                "or by `for` in a `def` stage"
            )
        return outcome

    def _items(self, outcome: Any) -> AsyncIterator[Any]:
        if not isinstance(outcome, AsyncIterator):
            raise TypeError(
                f"the part {self._part!r} gives one result: await the call, or take its "
                "`result()` in a `def` stage"
            )
        return outcome

    async def _run(self, invoke: Invoke, request: Any) -> Any:
        try:
            with self._staying():
                outcome = await invoke(request)
            if isinstance(outcome, AsyncIterator):  # to be closed, even if nobody goes through it
                self._stream = outcome
            return outcome
        finally:
            if self._stream is None:
                self._over()

    def _ask(self, items: AsyncIterator[Any]) -> Future[Any]:
        self._asked = self._there(self._next(items))
        return self._asked

    async def _next(self, items: AsyncIterator[Any]) -> Any:
        with self._staying():
            return await anext(items, _END)

    async def _close(self, items: AsyncIterator[Any]) -> None:
        if (aclose := getattr(items, "aclose", None)) is not None:
            with self._staying():
                await aclose()

    @contextmanager
    def _staying(self) -> Iterator[None]:
        """Out of a task, some of what leaves here would end the whole loop, and some would look as
        if the caller had ended the call.
        """
        try:
            yield
        except asyncio.CancelledError as error:
            if ends_the_caller(error):
                raise
            raise PartFailed(
                f"the part {self._part!r} raised CancelledError: something that it awaited was "
                "cancelled, and not by its caller"
            ) from error
        except (SystemExit, KeyboardInterrupt) as error:
            raise PartFailed(f"the part {self._part!r} left by {error!r}") from error

    def _refuse_on_loop(self, what: str, instead: str) -> None:
        if _running_loop() is not None:
            raise RuntimeError(
                f"`{what}` of a call of the part {self._part!r} would hold the event loop, where "
                f"`async def` stages run: {instead}"
            )


def ending_calls(run: Invoke) -> Invoke:
    """The same, but calls of parts that a request has begun end with it: now, or where it is
    answered by a stream with that, see `call_ender`. A call that is returned is its result.
    """

    async def run_then_end(value: Any) -> Any:
        calls: set[Call] = set()
        token = _CALLS.set(calls)
        streams = False
        try:
            outcome = await run(value)
            if isinstance(outcome, Call):
                outcome = await outcome.outcome()
            kind = type(outcome)
            streams = kind is Streamed or hasattr(kind, "__anext__") or hasattr(kind, "__next__")
            return outcome
        finally:
            _CALLS.reset(token)
            if streams:  # it goes on in this context, the request's own, or in copies of it
                _CALLS.set(calls)
            else:
                _end(calls)

    return run_then_end


def call_ender() -> Callable[[], None]:
    """Ends the calls that were begun, and are to be begun, for the request at hand."""
    calls = _CALLS.get()
    return partial(_end, () if calls is None else calls)


def hand_over_calls(context: Context) -> None:
    """Have calls that are begun in that context end with the request of this one."""
    context.run(_CALLS.set, _CALLS.get())


def _end(calls: Iterable[Call]) -> None:
    for call in list(calls):
        call.cancel()


_END = object()


async def _settled(task: asyncio.Task[Any]) -> Any:
    return await task


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
