"""One loaded pipeline: what happens to an instance from `load` to `unload`, without any server.

calling.py says where its methods run. Its coroutines run on the caller's own loop, as long as
nothing goes wrong. An asynchronous stage that blocks would hold up health checks and other
requests, so a `Runtime` can be `isolated` (`watchdog` decides when): its coroutines then run on a
loop in a thread of their own.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from inspect import isasyncgenfunction, unwrap
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from wheelway.batches import Batches
from wheelway.calling import THREADS, Caller, is_async, settling
from wheelway.contract import Context, Pipeline
from wheelway.failure import (
    LOAD_EXITED,
    LOAD_FAILED,
    PART_CIRCULAR,
    StartFailure,
    blame,
    describe,
    ends_the_caller,
)
from wheelway.limits import Limits
from wheelway.loading import files_of
from wheelway.parts import PartOfPartError, call_ender, ending_calls
from wheelway.results import ResultInvalid
from wheelway.results import stream as stream_of
from wheelway.schema import body_of, interface_of
from wheelway.stages import STAGES, examples_of, own
from wheelway.streams import Streamed
from wheelway.trials import WARM_UP, first_of, try_examples
from wheelway.underway import begin

if TYPE_CHECKING:
    import logging
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from wheelway.contract import Release
    from wheelway.deadlines import Watched
    from wheelway.inline import PartGroup
    from wheelway.results import Encoder
    from wheelway.schema import Interface
    from wheelway.streams import Stream

_DEFAULTS = Limits()
RECONFIGURE_DEADLINE = 60.0
"""Seconds that a pipeline gets to take new settings; Serve waits for it meanwhile."""


def context_of(
    pipeline: type[Pipeline],
    release: Release,
    settings: Mapping[str, Any],
    logger: logging.Logger,
    weights: Path | None = None,
) -> Context:
    """What a release's pipeline is told when it is loaded."""
    return Context(
        pipeline=release.pipeline,
        version=release.version,
        digest=release.digest,
        settings=MappingProxyType(dict(settings)),
        files=files_of(pipeline),
        logger=logger,
        weights=weights,
    )


class Items:
    """The items of one stream, encoded. It has to be closed; see `Stream.aclose`."""

    def __init__(self, stream: Stream, encode: Encoder) -> None:
        self.count = 0
        """Items until now."""
        self.maker = stream.maker
        self.aclose = stream.aclose
        self._stream = stream
        self._encode = encode

    async def next(self) -> bytes | None:
        """The next one, None at the end; raises ResultInvalid, or whatever the pipeline raises."""
        try:
            item = await anext(self._stream)
        except StopAsyncIteration:
            return None
        self.count += 1
        try:
            body = self._encode(item)
        except ResultInvalid as error:
            raise ResultInvalid(f"item {self.count} of a stream: {error}") from error
        if body is None:
            what = f"is a {type(item).__qualname__}: yield what is in it, one by one"
            raise ResultInvalid(f"item {self.count} of a stream {what}")
        return body


class Runtime:
    """One instance of a pipeline class, from `load` to `unload`.

    `run` takes a decoded request through all stages. `settings` are those in force,
    `settings_error` says why the latest ones are not. `calls` is how its methods are called. Its
    `parts` are loaded before it, and unloaded after it.
    `weights` names those of its context; `interface` saves reading the class's types once more.

    Raises:
        StartFailure: SchemaInvalid, from the class's annotations.
    """

    def __init__(
        self,
        pipeline: type[Pipeline],
        context: Context,
        *,
        tree: Path | None = None,
        threads: int = THREADS,
        isolated: bool = False,
        weights: str = "",
        interface: Interface | None = None,
        limits: Limits = _DEFAULTS,
        parts: PartGroup | None = None,
    ) -> None:
        self.interface = interface or interface_of(pipeline)
        self.weights = weights
        self.in_flight = 0
        """Requests that began on it and have not ended; counted by who takes them."""
        self.streams: set[Watched] = set()
        """Of these, those whose answer has begun and goes on item by item."""
        self.marks: list[tuple[bytes, bytes]] = []
        """Headers that say who answers; set by who sends them, as those of a result."""
        self.result_headers: list[tuple[bytes, bytes]] = []
        self.settings: Mapping[str, Any] = context.settings
        self.settings_error = ""
        self.examples: Sequence[Any] = ()
        self.first_items: list[list[bytes]] = []
        """Of each example that was answered by a stream, the first items."""
        self.isolated = isolated
        self.warm_up_seconds = 0.0
        self.run: Callable[[Any], Awaitable[Any]]
        self.runs_on_loop = not isolated and has_coroutines(pipeline)
        """Whether code of the pipeline can hold up the caller's event loop."""
        self._pipeline = pipeline
        self._context = context
        self._tree = tree
        self._parts = parts
        self._instance: Pipeline | None = None
        self.calls = Caller(threads, isolated=isolated)
        self.calls.on_stray = self._on_stray
        self._each: list[Callable[[Any], Any]] = []
        """What gets each item of a stream of `infer`."""
        self.batches: Batches | None = None
        """Where requests come together, if the pipeline answers them so."""
        self.keep_to(limits)
        self._reconfiguring = asyncio.Lock()
        self._undoing: asyncio.Task[None] | None = None

    @property
    def in_use(self) -> bool:
        """Whether a request still runs on it, be it that nobody waits for that any more."""
        return self.in_flight > 0 or self.calls.abandoned > 0

    # -- start -----------------------------------------------------------------------------------

    @classmethod
    async def started(cls, pipeline: type[Pipeline], context: Context, **options: Any) -> Self:
        """A runtime that is loaded and warm; options are those of the class. One that does not
        start is unloaded again.
        """
        runtime = cls(pipeline, context, **options)
        try:
            await runtime.start()
        except BaseException:
            await runtime.unload()
            raise
        return runtime

    async def start(self) -> None:
        """`load` and `warm_up`."""
        await self.load()
        await self.warm_up()

    async def load(self) -> None:
        """Make the instance and call its `load`.

        Raises:
            StartFailure: SchemaInvalid, LoadFailed, LoadExited, PartCircular or OutOfMemory.
        """
        try:
            context = self._context
            if self._parts is not None:
                context = replace(context, parts=await self._parts.load())
            begin(f"`load` of {self._name}")
            self._instance = instance = await self.calls.call(self._pipeline)
            self.examples = examples_of(instance)
            await self.calls.call(instance.load, context)
        except StartFailure:
            raise
        # `load` is the author's: it may raise anything, also leave by sys.exit().
        except BaseException as error:
            if ends_the_caller(error):
                raise
            exited = isinstance(error, SystemExit)
            what = "`load` left by sys.exit(); raise an exception instead" if exited else "`load`"
            circular = isinstance(error, PartOfPartError)
            reason = LOAD_EXITED if exited else PART_CIRCULAR if circular else LOAD_FAILED
            raise blame(reason, f"{what} of {self._name} failed", error, self._tree) from error
        stages = {stage: getattr(instance, stage) for stage in own(self._pipeline, STAGES)}
        if self._parts is not None:
            stages = {name: settling(stage) for name, stage in stages.items()}
        if "infer_batch" in stages:
            self.batches = Batches(self.calls, stages, self._limits)
            self.run = self.batches.run
        else:
            by_item = self.interface.said.by_item
            self._each = [stages["post_process"]] if by_item is not False else []
            self.run = self.calls.chain(list(stages.values()), by_item=by_item)
        if self._parts is not None:
            self.run = ending_calls(self.run)

    async def warm_up(self) -> None:
        """Take every example through all stages, as requests take them, and all of them as one
        batch where there are batches: what answers one request may not be able to answer several.

        Raises:
            StartFailure: ExampleFailed, ExampleRefused, ExampleResultInvalid, ExampleTimeout or
                OutOfMemory.
        """
        if self._parts is not None:
            await self._parts.warm_up()
        began = time.monotonic()
        self.first_items = await try_examples(self, self._name, self._tree)
        self.warm_up_seconds = time.monotonic() - began

    @property
    def example_seconds(self) -> float | None:
        """Seconds that an example gets; None: parts elsewhere may still start, and it waits."""
        if self._parts is not None and self._parts.are_elsewhere:
            return None
        return self._limits.request_timeout + WARM_UP

    async def take_example(self, example: Any, deadline: asyncio.Timeout) -> list[bytes] | None:
        """Take one through all stages; of a stream the first items. Raises as `answer` does."""
        answer = await self.answer(body_of(example))
        return await first_of(answer, deadline) if isinstance(answer, Items) else None

    async def answer(self, body: bytes) -> bytes | Items:
        """One request from body to body, or to the items of a stream; raises ValidationError,
        ResultInvalid, or whatever the pipeline raises.
        """
        result = await self.run(self.interface.decode(body))
        encoded = self.interface.encode(result)
        return self.items(result) if encoded is None else encoded

    def items(self, result: Any) -> Items:
        """The items of what `run` returned, where `interface.encode` said that it is a stream."""
        # What turned out to be one only now: each item is what `post_process` says of a result.
        by_result = isinstance(result, Streamed) and not self.interface.said.streams
        encode = self.interface.encode if by_result else self.interface.encode_item
        return Items(self.stream(result), encode)

    def stream(self, result: Any) -> Stream:
        """The same, as they are."""
        each: list[Callable[[Any], Any]] = []
        if isinstance(result, Streamed):
            result, each = result.source, self._each
            stream_of(result)
        stream = self.calls.stream(result, each)
        if self._parts is not None:
            stream.on_close = call_ender()
        return stream

    def _on_stray(self, error: BaseException) -> None:
        self._context.logger.error("closing a stream of %s failed", self._name, exc_info=error)

    # -- later -----------------------------------------------------------------------------------

    async def reconfigure(self, settings: Mapping[str, Any]) -> None:
        """Hand new settings to the pipeline; never raises on its account.

        When it refuses them (or takes more than RECONFIGURE_DEADLINE seconds), `settings` stay as
        they were and `settings_error` says why; what ends too late all the same is followed by the
        former ones. Settings already in force are not handed over again.
        """
        async with self._reconfiguring:
            if settings == self.settings:
                self.settings_error = ""
                return
            fresh = MappingProxyType(dict(settings))
            if self._parts is not None and (refusal := await self._parts.reconfigure(fresh)):
                self.settings_error = refusal
                return
            try:
                async with asyncio.timeout(RECONFIGURE_DEADLINE) as deadline:
                    await self.calls.call(self._loaded.reconfigure, fresh)
            # The author's code may raise anything, and nothing of it may make the replica fail.
            except BaseException as error:
                if ends_the_caller(error):
                    raise
                late = f"`reconfigure` did not end within {RECONFIGURE_DEADLINE:g} s"
                self.settings_error = late if deadline.expired() else describe(error)
                self._context.logger.exception("new settings refused, the former stay in force")
                if self._parts is not None:
                    await self._parts.reconfigure(self.settings)
                if deadline.expired():
                    self._undoing = asyncio.create_task(self._put_back())
            else:
                self.settings, self.settings_error = fresh, ""

    async def _put_back(self) -> None:
        """Hand the settings in force over again, after whatever still takes those refused: a thread
        cannot be interrupted, and there is one for all that changes an instance.
        """
        try:
            await self.calls.call(self._loaded.reconfigure, self.settings)
        # See reconfigure.
        except BaseException as error:
            if ends_the_caller(error):
                raise
            self._context.logger.exception("the former settings could not be put back")

    def keep_to(self, limits: Limits) -> None:
        """Have batches be bounded by these from now on, those of inline parts by their own."""
        self._limits = limits
        if self.batches is not None:
            self.batches.limits = limits
        if self._parts is not None:
            self._parts.keep_to(limits)

    async def unload(self) -> None:
        """Call the pipeline's `unload` and give back threads; errors are logged, not raised."""
        instance, self._instance = self._instance, None
        try:
            if instance is not None:
                await self.calls.call(instance.unload)
        # See reconfigure.
        except BaseException as error:
            if ends_the_caller(error):
                raise
            self._context.logger.exception("`unload` failed")
        finally:
            self.calls.stop()
            if self._parts is not None:
                await self._parts.unload()

    @property
    def _name(self) -> str:
        return f"{self._pipeline.__module__}:{self._pipeline.__qualname__}"

    @property
    def _loaded(self) -> Pipeline:
        if self._instance is None:
            raise RuntimeError(f"{self._name} is not loaded")
        return self._instance


def has_coroutines(pipeline: type[Pipeline]) -> bool:
    """Whether a stage is one, and so runs on an event loop."""
    stages = [getattr(pipeline, stage) for stage in own(pipeline, STAGES)]
    return any(is_async(stage) or isasyncgenfunction(unwrap(stage)) for stage in stages)
