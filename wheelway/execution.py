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
from itertools import cycle, islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from wheelway.batches import Batches
from wheelway.calling import THREADS, Caller, is_async
from wheelway.contract import Context, Pipeline
from wheelway.failure import (
    EXAMPLE_FAILED,
    EXAMPLE_REFUSED,
    EXAMPLE_RESULT_INVALID,
    LOAD_EXITED,
    LOAD_FAILED,
    StartFailure,
    blame,
    describe,
    tail_of,
)
from wheelway.limits import Limits
from wheelway.loading import files_of
from wheelway.parts import ending_calls
from wheelway.refusals import refusal_in
from wheelway.results import ResultInvalid
from wheelway.schema import body_of, interface_of
from wheelway.stages import STAGES, examples_of, own

if TYPE_CHECKING:
    import logging
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from wheelway.contract import Release
    from wheelway.inline import PartGroup
    from wheelway.schema import Interface

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
        self.marks: list[tuple[bytes, bytes]] = []
        """Headers that say who answers; set by who sends them, as those of a result."""
        self.result_headers: list[tuple[bytes, bytes]] = []
        self.settings: Mapping[str, Any] = context.settings
        self.settings_error = ""
        self.examples: Sequence[Any] = ()
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
        self.batches: Batches | None = None
        """Where requests come together, if the pipeline answers them so."""
        self._limits = limits
        self._reconfiguring = asyncio.Lock()
        self._undoing: asyncio.Task[None] | None = None

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
            StartFailure: SchemaInvalid, LoadFailed, LoadExited or OutOfMemory.
        """
        try:
            context = self._context
            if self._parts is not None:
                context = replace(context, parts=await self._parts.load())
            self._instance = instance = await self.calls.call(self._pipeline)
            self.examples = examples_of(instance)
            await self.calls.call(instance.load, context)
        except StartFailure:
            raise
        # `load` is the author's: it may raise anything, also leave by sys.exit().
        except BaseException as error:
            if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
                raise
            exited = isinstance(error, SystemExit)
            what = "`load` left by sys.exit(); raise an exception instead" if exited else "`load`"
            reason = LOAD_EXITED if exited else LOAD_FAILED
            raise blame(reason, f"{what} of {self._name} failed", error, self._tree) from error
        stages = {stage: getattr(instance, stage) for stage in own(self._pipeline, STAGES)}
        if "infer_batch" in stages:
            self.batches = Batches(self.calls, stages["infer_batch"], self._limits)
            stages["infer_batch"] = self.batches.infer
        self.run = self.calls.chain(list(stages.values()))
        if self._parts is not None:
            self.run = ending_calls(self.run)

    async def warm_up(self) -> None:
        """Take every example through all stages, as requests take them, and all of them as one
        batch where there are batches: what answers one request may not be able to answer several.

        Raises:
            StartFailure: ExampleFailed, ExampleRefused, ExampleResultInvalid or OutOfMemory.
        """
        if self._parts is not None:
            await self._parts.warm_up()
        begin = time.monotonic()
        for number in range(1, len(self.examples) + 1):
            await self._try(number)
        if self.batches is not None and self.examples:
            await self._try_together(self.batches)
        self.warm_up_seconds = time.monotonic() - begin

    async def _try_together(self, batches: Batches) -> None:
        count = min(max(len(self.examples), 2), batches.limits.max_batch_size)
        if count == 1:
            return
        numbers = islice(cycle(range(1, len(self.examples) + 1)), count)
        with batches.gathering(count):
            tries = (self._try(number, f", in a batch of {count},") for number in numbers)
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
        for failure in filter(None, outcomes):
            raise failure

    async def _try(self, number: int, how: str = "") -> None:
        what = f"example {number} of {len(self.examples)} of {self._name}{how}"
        try:
            await self.take_example(self.examples[number - 1])
        except ValidationError as error:
            what = f"{what} does not match the declared request type"
            raise blame(EXAMPLE_FAILED, what, error, self._tree) from error
        except ResultInvalid as error:
            what = f"the result of {what} violates the declared result type"
            raise blame(EXAMPLE_RESULT_INVALID, what, error, self._tree) from error
        # The stages are the author's: they may raise anything.
        except BaseException as error:
            if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
                raise
            if refused := refusal_in(error):
                what = f"{what} was refused by it ({refused}); examples are what is answered"
                raise StartFailure(EXAMPLE_REFUSED, what, tail_of(error, self._tree)) from error
            raise blame(EXAMPLE_FAILED, f"{what} failed", error, self._tree) from error

    async def take_example(self, example: Any) -> None:
        """Take one through all stages; raises as `answer` does."""
        await self.answer(body_of(example))

    async def answer(self, body: bytes) -> bytes:
        """One request from body to body; raises ValidationError, ResultInvalid, or whatever the
        pipeline raises.
        """
        value = self.interface.decode(body)
        return self.interface.encode(await self.run(value))

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
                if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
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
            if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
                raise
            self._context.logger.exception("the former settings could not be put back")

    async def unload(self) -> None:
        """Call the pipeline's `unload` and give back threads; errors are logged, not raised."""
        instance, self._instance = self._instance, None
        try:
            if instance is not None:
                await self.calls.call(instance.unload)
        # See reconfigure.
        except BaseException as error:
            if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
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
    return any(is_async(getattr(pipeline, stage)) for stage in own(pipeline, STAGES))
