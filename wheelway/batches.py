"""`infer_batch`: requests that wait are answered together.

`Batches.infer` stands where the stage `infer` would: each request passes it, is put with the others
that wait, and comes out with its own result. While one batch runs the next one fills, so batches
are as large as the load makes them, and a request that comes alone waits for nobody: where nothing
else is in the pipeline it takes all stages in one hop, as it would without batches.

One batch runs at a time, however many threads there are. A model that is fast in batches gains by
larger ones; two at once would be half as large, would compete for the same cores, and would have
authors guard what a batch changes. Only beside a batch that nobody waits for any more the next one
runs: what hangs must not take the replica with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextvars import Context, ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from wheelway.calling import is_async
from wheelway.faults import share
from wheelway.inbound import AT_HAND, id_of, several
from wheelway.parts import ending_calls, hand_over_calls
from wheelway.results import NotOneEach

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from wheelway.calling import Caller, Stage
    from wheelway.inbound import Arrival, Request
    from wheelway.limits import Limits

_PATIENCE: Final = 10.0
"""Seconds; stages before it may take their time, and one of them may have failed."""
_TEXTS: Final = (str, bytes, bytearray, memoryview)
"""Sequences that are one value."""
_FAILED: Final = (BaseException, Iterator, AsyncIterator)
"""What is not the result of a request."""


@dataclass(slots=True, eq=False)
class _Item:
    """One request, from its arrival until it has its result or its caller leaves."""

    request: Any
    since: float
    """When it came, on the loop's clock."""
    outcome: asyncio.Future[Any]
    arrival: Request | Arrival | None
    """What it brought besides; see inbound.py."""
    batch: _Batch | None = None
    """None: it waits for one."""


@dataclass(slots=True, eq=False)
class _Turn:
    """Whose holder may call `infer_batch`; there is one at a time."""

    over: bool = False
    """Nobody waits for what it is for: it has ended, or cannot begin any more."""


_ALONE: ContextVar[_Turn] = ContextVar("_ALONE")
"""The turn of a request that is alone in its pipeline, should it get one."""


@dataclass(slots=True, eq=False)
class _Batch(_Turn):
    """Requests that are given to `infer_batch` together."""

    items: list[_Item] = field(default_factory=list)
    awaited: int = 0
    """How many of them somebody still waits for."""
    begun: bool = False
    task: asyncio.Task[None] | None = None

    def begin(self) -> list[Any]:
        """The requests, at the last moment, maybe in a thread: who has left by now is not there."""
        self.begun = True
        self.items = [item for item in self.items if not item.outcome.done()]
        return [item.request for item in self.items]

    def answer(self, returned: Any) -> None:
        """Give each request its result; raises as `_results`."""
        for item, result in zip(self.items, _results(returned, len(self.items)), strict=True):
            if item.outcome.done():
                continue
            if isinstance(result, _FAILED):
                item.outcome.set_exception(_error_of(result))
            else:
                item.outcome.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Have it be the outcome of all that have none."""
        left = [item for item in self.items if not item.outcome.done()]
        share(error, [id_of(item.arrival) for item in left])
        for item in left:
            item.outcome.set_exception(error)


@dataclass(slots=True)
class Sizes:
    """How large batches were."""

    count: int = 0
    requests: int = 0
    largest: int = 0

    def add(self, size: int) -> None:
        """One more batch."""
        self.count += 1
        self.requests += size
        self.largest = max(self.largest, size)


class Batches:
    """The requests of one pipeline that defines `infer_batch`.

    `limits` may change at any time, and counts from the next batch on.

    Args:
        calls: how the pipeline's methods are called.
        stages: by name, in their order, `infer_batch` among them.
    """

    def __init__(self, calls: Caller, stages: Mapping[str, Stage], limits: Limits) -> None:
        self.limits = limits
        self.sizes = Sizes()
        infer_batch = stages["infer_batch"]
        self._call = ending_calls(calls.steps([_opening(infer_batch)]))
        self._together = calls.chain([*{**stages, "infer_batch": self.infer}.values()])
        self._alone = None
        if not is_async(infer_batch):
            stages = {**stages, "infer_batch": self._by_itself(infer_batch)}
            self._alone = calls.chain(list(stages.values()))
        self._inside = 0
        """Requests that are in any stage; of the caller's loop."""
        self._waiting: dict[_Item, None] = {}
        """In the order they came."""
        self._turn: _Turn | None = None
        """Of what runs; changed under `_guard`."""
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        """That of those who wait."""
        self._full: asyncio.Future[None] | None = None
        """There while a batch is given time to fill."""

    @contextlib.contextmanager
    def gathering(self, count: int) -> Iterator[None]:
        """Have the next `count` requests come into one batch, if they come within `_PATIENCE`."""
        before = self.limits
        self.limits = replace(before, max_batch_size=count, batch_wait_timeout=_PATIENCE)
        try:
            yield
        finally:
            self.limits = before

    async def run(self, request: Any) -> Any:
        """Take one request through all stages."""
        self._inside += 1
        try:
            if self._alone is None or self._inside > 1 or self.limits.batch_wait_timeout:
                return await self._together(request)
            turn = _Turn()
            _ALONE.set(turn)
            try:
                return await self._alone(request)
            finally:
                self._give_back(turn)
        finally:
            self._inside -= 1

    def _by_itself(self, infer_batch: Stage) -> Stage:
        """A stage, for a thread, that has a request be a batch if none runs at that moment."""

        def infer_alone(request: Any) -> Any:
            turn = _ALONE.get()
            if not self._claim(turn):
                if turn.over:
                    raise RuntimeError("nobody waits for it any more")
                return self.infer(request)
            context = _context_of([AT_HAND.get()])
            hand_over_calls(context)
            self.sizes.add(1)
            returned = context.run(infer_batch, [request])
            if inspect.isawaitable(returned):
                return _awaited(returned, context)
            self._give_back(turn)
            return _single(returned)

        infer_alone.__name__ = "infer_batch"  # as it is told where a request was
        return infer_alone

    async def infer(self, request: Any, /) -> Any:
        """One request's result, or what `infer_batch` raised or returned as its error."""
        self._loop = loop = asyncio.get_running_loop()
        item = _Item(request, loop.time(), loop.create_future(), AT_HAND.get())
        self._waiting[item] = None
        if self._full is None:
            self._go_on()
        elif len(self._waiting) >= self.limits.max_batch_size and not self._full.done():
            self._full.set_result(None)
        try:
            return await item.outcome
        except asyncio.CancelledError as error:
            error.add_note(self._leave(item))
            raise
        finally:
            # Each would keep the other, and an exception both, until the garbage collector comes.
            item.batch = None
            del item

    def _go_on(self) -> None:
        """Begin a batch, if one may, with the loop's next turn: all that came in this one are in
        it.
        """
        if self._turn is None and self._waiting and self._claim(batch := _Batch()):
            # A context of its own: what holds for one request holds for none of the others.
            batch.task = asyncio.get_running_loop().create_task(self._run(batch), context=Context())

    def _claim(self, turn: _Turn) -> bool:
        with self._guard:
            if self._turn is not None or turn.over:
                return False
            self._turn = turn
            return True

    def _give_back(self, turn: _Turn) -> None:
        """End a turn, in any thread, unless it was ended before."""
        with self._guard:
            turn.over = True
            if self._turn is not turn:
                return
            self._turn = None
        # Who came before that has seen it taken, and waits; who comes now sees it free.
        if self._waiting and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._go_on)

    async def _run(self, batch: _Batch) -> None:
        try:
            if self.limits.batch_wait_timeout:
                await self._fill()
            self._take(batch)
            if batch.items:
                AT_HAND.set(several([item.arrival for item in batch.items]))
                self.sizes.add(len(batch.items))
                batch.answer(await self._call(batch))
        # The author's, who may raise anything; out of a task some of it would end the loop.
        except BaseException as error:  # noqa: BLE001 - it reaches each request
            cancelled = isinstance(error, asyncio.CancelledError)
            if cancelled and batch.task is not None and batch.task.cancelling():
                return  # nobody waits for it any more, or the loop ends
            batch.fail(_error_of(error))
        finally:
            batch.items = []  # its errors know it by their tracebacks
            self._give_back(batch)

    async def _fill(self) -> None:
        """Wait for more requests, until the first has waited for as long as it may."""
        loop = asyncio.get_running_loop()
        first = next(iter(self._waiting), None)
        if first is None or len(self._waiting) >= self.limits.max_batch_size:
            return
        left = first.since + self.limits.batch_wait_timeout - loop.time()
        if left > 0:
            self._full = loop.create_future()
            await asyncio.wait((self._full,), timeout=left)
            self._full = None

    def _take(self, batch: _Batch) -> None:
        most = self.limits.max_batch_size
        batch.items = [item for item, _ in zip(self._waiting, range(most), strict=False)]
        batch.awaited = len(batch.items)
        for item in batch.items:
            del self._waiting[item]
            item.batch = batch

    def _leave(self, item: _Item) -> str:
        """Forget a request whose caller has gone; returns how far it came, for a person."""
        batch = item.batch
        if batch is None:
            self._waiting.pop(item, None)
            return "it waited for the batch before its own"
        if item.outcome.done() and not item.outcome.cancelled():
            item.outcome.exception()  # came in the same moment; asyncio logs what nobody looks at
        batch.awaited -= 1
        if not batch.awaited and batch.task is not None and not batch.task.done():
            batch.task.cancel()
            self._give_back(batch)
        return "it was in `infer_batch`" if batch.begun else "its batch waited for a thread"


def _opening(infer_batch: Stage) -> Callable[[_Batch], Any]:
    """`infer_batch` as a stage whose value is a batch."""

    async def on_loop(batch: _Batch) -> Any:
        requests = batch.begin()
        return await infer_batch(requests) if requests else []

    def in_thread(batch: _Batch) -> Any:
        requests = batch.begin()
        return infer_batch(requests) if requests else []

    return on_loop if is_async(infer_batch) else in_thread


def _results(returned: Any, count: int) -> Sequence[Any]:
    """What `infer_batch` returned, if that is one result for each request.

    Raises:
        NotOneEach: it is not.
    """
    if not isinstance(returned, Sequence) or isinstance(returned, _TEXTS):
        raise NotOneEach(
            f"`infer_batch` returned a {type(returned).__qualname__} instead of a list with a "
            "result for each request; of an array return `list(array)`, and leave streaming to "
            "`post_process`"
        )
    if len(returned) != count:
        raise NotOneEach(
            f"`infer_batch` was given {count} requests and returned {len(returned)} results; "
            "return one for each, in the same order"
        )
    return returned


def _single(returned: Any) -> Any:
    """The result of a request that was alone in its batch."""
    (result,) = _results(returned, 1)
    if isinstance(result, _FAILED):
        raise _error_of(result)
    return result


async def _awaited(returned: Awaitable[Any], context: Context) -> Any:
    async def outcome() -> Any:
        try:
            return await returned
        except (SystemExit, KeyboardInterrupt) as error:  # of a task, it would end the whole loop
            raise _error_of(error) from error

    return _single(await asyncio.get_running_loop().create_task(outcome(), context=context))


def _context_of(arrivals: Sequence[Request | Arrival | None]) -> Context:
    """What holds for several requests: nothing that one of them, or its stages, have set."""
    context = Context()
    context.run(AT_HAND.set, several(arrivals))
    return context


def _error_of(result: Any) -> BaseException:
    """What a request fails with; an exception keeps its kind unless it would do more than that."""
    if isinstance(result, Exception) and not isinstance(result, StopIteration):
        return result
    if not isinstance(result, BaseException):
        return NotOneEach(
            f"`infer_batch` returned a {type(result).__qualname__} for a request; a batch cannot "
            "be streamed: return what is whole, and stream in `post_process`"
        )
    error = RuntimeError(f"`infer_batch` ended with {result!r}")
    error.__cause__ = result
    return error
