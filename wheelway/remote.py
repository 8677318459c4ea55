"""Parts in processes of their own: how a pipeline's replica calls one, and what it answers there.

Nothing here knows Ray: `host.py` brings bytes from one to the other. An answer is a stream of
frames, a byte that says what follows and then a pickle (crossing.py), in pieces where it is long.
A result is one `_VALUE`; a stream begins by `_STREAM` and only ends by `_END`, so that one that
broke off is never taken for a whole one. What was raised is a frame as well: it arrives as it was.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from wheelway import memory
from wheelway.crossing import pack, packed_error, raised, unpack
from wheelway.execution import context_of
from wheelway.failure import StartFailure, ends_the_caller
from wheelway.inbound import AT_HAND, Request
from wheelway.inbound import request as request_at_hand
from wheelway.inline import naming, part_runtime
from wheelway.limits import limits_of
from wheelway.loading import load_class, verify
from wheelway.parts import PartOverloaded, PartUnavailable
from wheelway.streams import Stream
from wheelway.underway import begin, reminding
from wheelway.weights import verified, with_weights

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence

    from wheelway.contract import Pipeline
    from wheelway.inline import PartRuntime
    from wheelway.limits import Limits
    from wheelway.replica import Arguments

    Send = Callable[[bytes, Request | None], AsyncIterator[bytes]]
    """Has a replica of a part answer a pickled request, in frames; closing it ends the call."""
    Ask = Callable[[], Awaitable[Sequence[str | None]]]
    """`PartReplica.settings_error` of each replica of a part; None of one that did not answer."""

PIECE = 2**20
"""Bytes of a frame: Serve's gRPC takes at most 4 MiB (RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH in
ray/serve/_private/constants.py, Ray 2.60)."""
WITHOUT_REQUEST = 900.0
"""Seconds for a call that no request waits for."""

_VALUE, _STREAM, _ITEM, _END, _RAISED, _MORE = b"V", b"S", b"I", b"E", b"X", b"M"


class RemotePart:
    """Calls a part that has replicas of its own; an `Invoke`."""

    def __init__(self, name: str, send: Send, ask: Ask | None = None) -> None:
        self._name = name
        self._send = send
        self._ask = ask

    async def __call__(self, request: Any) -> Any:
        """Its result, or its items; raises what it raised, or `PartFailed`."""
        data = await pack(request, f"the request to the part {self._name!r}")
        carried = None if AT_HAND.get() is None else request_at_hand()
        answer = _Answer(self._name, self._send(data, carried))
        try:
            # A request ends what it has begun; see parts.py.
            async with asyncio.timeout(None if carried else WITHOUT_REQUEST):
                kind, content = await answer.next()
                if kind == _VALUE:
                    await answer.end()
        except BaseException:
            await answer.aclose()
            raise
        return answer if kind == _STREAM else await unpack(content)

    async def settings_error(self) -> str | None:
        """Why one of its replicas refuses the latest settings; empty where none does, None where
        that is unknown, for not all of them answered, or none is there.
        """
        if self._ask is None:
            return ""
        told = await self._ask()
        if error := next(filter(None, told), ""):
            return f"the part {self._name!r}: {error}"
        return "" if told and None not in told else None


class _Answer(AsyncIterator[Any]):
    """The frames of an answer; the items, of one that streams."""

    def __init__(self, part: str, frames: AsyncIterator[bytes]) -> None:
        self._part = part
        self._frames = frames
        self._ended = False

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        try:
            kind, content = await self.next()
        except BaseException:
            await self.aclose()
            raise
        if kind == _END:
            await self.end()
            raise StopAsyncIteration
        return await unpack(content)

    async def next(self) -> tuple[bytes, bytes]:
        """The next whole frame; raises what the part raised."""
        pieces: list[memoryview] = []
        async for frame in self._frames:
            kind = frame[:1]
            pieces.append(memoryview(frame)[1:])
            if kind == _MORE:
                continue
            content = b"".join(pieces)
            if kind == _RAISED:
                await self.end()
                raise raised(content)
            return kind, content
        raise PartUnavailable(f"the part {self._part!r} broke off in the middle of its answer")

    async def end(self) -> None:
        """Let the call end by itself: all was said."""
        self._ended = True
        async for _ in self._frames:
            pass

    async def aclose(self) -> None:
        """End the call."""
        self._ended = True
        if (aclose := getattr(self._frames, "aclose", None)) is not None:
            await aclose()


class PartReplica:
    """One replica of a part. Where its stages are coroutines they have a loop of their own: one
    that blocks holds up the part's calls, and nobody who asks whether the replica is healthy.
    """

    def __init__(self, part: str, arguments: Arguments, logger: logging.Logger) -> None:
        self._part = part
        self._arguments = arguments
        self._logger = logger
        self._runtime: PartRuntime | None = None
        self._turns = Turns()
        self._closings: set[asyncio.Future[None]] = set()
        """Kept from the garbage collector."""
        self._changing = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether the part is loaded and its examples passed."""
        return self._runtime is not None

    @property
    def settings_error(self) -> str:
        """Why the latest settings are not in force; empty when they are."""
        return "" if self._runtime is None else self._runtime.settings_error

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """The first time start the part, later hand over settings and limits.

        Raises:
            StartFailure: the part cannot start, and so its release cannot; it names the part. Never
                once it has: one that refuses new settings keeps the former ones, and says why.
        """
        settings = user_config.get("settings") or {}
        limits = limits_of(user_config)
        self._turns.allow(limits.max_ongoing_requests)
        async with self._changing:
            if self._runtime is not None:
                self._runtime.keep_to(limits)
                await self._runtime.reconfigure(settings)
                return
            try:
                async with reminding(self._logger, self._arguments.release):
                    with naming(self._part):
                        self._runtime = await self._started(settings, limits)
            except StartFailure as failure:  # what Serve reports of it is cut short
                self._logger.error("%s does not start", self._arguments.release, exc_info=failure)
                raise
        self._logger.info(
            "the part %r of %s started from %s, examples passed: %d",
            *(self._part, self._arguments.release, self._arguments.tree),
            len(self._runtime.examples),
        )

    async def answer(self, data: bytes, carried: Request | None) -> AsyncGenerator[bytes, None]:
        """Answer a call; `carried` is the request that it is made for."""
        AT_HAND.set(carried)
        try:
            async with asyncio.timeout(carried.remaining if carried else WITHOUT_REQUEST):
                end_turn = await self._turns.begin()
        except TimeoutError:
            for frame in self._raised(PartOverloaded(self._busy)):
                yield frame
            return
        _when_task_ends(end_turn)
        try:
            async with aclosing(self._frames(data, carried)) as frames:
                async for frame in frames:
                    yield frame
        # Stages are the author's and may raise anything; the caller is told.
        except BaseException as error:
            if isinstance(error, GeneratorExit) or ends_the_caller(error):
                raise
            for frame in self._raised(error):
                yield frame
        finally:
            end_turn()

    async def _frames(self, data: bytes, carried: Request | None) -> AsyncGenerator[bytes, None]:
        if self._runtime is None:
            raise PartUnavailable(f"the part {self._part!r} is not loaded")
        async with asyncio.timeout(carried.remaining if carried else WITHOUT_REQUEST):
            outcome = await self._runtime.call(await unpack(data))
        if not isinstance(outcome, Stream):
            for frame in _framed(_VALUE, await pack(outcome, self._what("the result"))):
                yield frame
            return
        _when_task_ends(lambda: self._close(outcome))
        try:
            yield _STREAM
            async for item in outcome:
                for frame in _framed(_ITEM, await pack(item, self._what("an item"))):
                    yield frame
            yield _END
        finally:
            await outcome.aclose()

    async def unload(self) -> None:
        """End it: nothing is answered any more."""
        if self._runtime is not None:
            await self._runtime.unload()

    def _raised(self, error: BaseException) -> Iterator[bytes]:
        return _framed(_RAISED, packed_error(error, self._part))

    @property
    def _busy(self) -> str:
        return (
            f"the part {self._part!r} was too busy to begin with a call in the time that there was "
            "for it: it needs more replicas, or more `max_ongoing_requests`"
        )

    def _close(self, stream: Stream) -> None:
        closing = asyncio.ensure_future(stream.aclose())
        self._closings.add(closing)
        closing.add_done_callback(self._closings.discard)

    def _what(self, of: str) -> str:
        return f"{of} of the part {self._part!r}"

    async def _started(self, settings: Mapping[str, Any], limits: Limits) -> PartRuntime:
        arguments = self._arguments
        # Off the loop: reading, hashing and importing may take seconds.
        pipeline = await asyncio.to_thread(self._load_class)
        with with_weights(arguments.weights):
            folder = await asyncio.to_thread(verified, arguments.weights)
            context = context_of(pipeline, arguments.release, settings, self._logger, folder)
            runtime = part_runtime(self._part, pipeline, context, arguments.tree, arguments.threads)
            runtime.keep_to(limits)
            try:
                await runtime.start()
            except BaseException:
                await runtime.unload()
                raise
        return runtime

    def _load_class(self) -> type[Pipeline]:
        arguments = self._arguments
        begin(f"its files in {arguments.tree}")
        verify(arguments.tree, arguments.record_digest)
        begin(f"the import of {arguments.target}")
        memory.limit(arguments.max_memory, accelerated=arguments.accelerated)
        return load_class(arguments.target, arguments.tree)


class Turns:
    """So many calls at the same time; all others wait, in their order."""

    def __init__(self) -> None:
        self._most = 1
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def allow(self, most: int) -> None:
        """From now on so many."""
        self._most = most
        self._wake()

    async def begin(self) -> Callable[[], None]:
        """Wait for a turn; what comes back ends it, and may be called twice."""
        if self._running < self._most and not self._waiting:
            self._running += 1
            return self._ender()
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # the turn came in the same moment: pass it on
                self._ender()()
            raise
        return self._ender()

    def _ender(self) -> Callable[[], None]:
        held = [True]

        def end() -> None:
            if held:
                held.clear()
                self._running -= 1
                self._wake()

        return end

    def _wake(self) -> None:
        while self._waiting and self._running < self._most:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._running += 1
                waiter.set_result(None)


def _when_task_ends(do: Callable[[], object]) -> None:
    """A task that is cancelled while it sends an item leaves the generator that made the item to
    the garbage collector, which may come late.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - coroutines run in tasks
    task.add_done_callback(lambda _: do())


def _framed(kind: bytes, content: bytes) -> Iterator[bytes]:
    whole = memoryview(content)
    start = 0
    while len(content) - start > PIECE:
        yield _MORE + whole[start : start + PIECE]
        start += PIECE
    yield kind + whole[start:]
