"""One loaded pipeline: what happens to an instance from `load` to `unload`, without any server.

Stages that are `async def` run on an event loop, all others in a pool of threads, where neighbours
share one hop. `load`, `reconfigure` and `unload`, when synchronous, have a thread of their own, so
that busy stages do not hold them up.

They run on the caller's own loop, as long as nothing goes wrong. An asynchronous stage that blocks
would hold up health checks and other requests, so a `Runtime` can be `isolated` (`watchdog` decides
when): its coroutines then run on a loop in a thread of their own, at the price of a hop a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from wheelway.contract import Context, Pipeline
from wheelway.failure import (
    EXAMPLE_FAILED,
    EXAMPLE_RESULT_INVALID,
    LOAD_EXITED,
    LOAD_FAILED,
    StartFailure,
    blame,
    describe,
)
from wheelway.loading import files_of
from wheelway.results import ResultInvalid
from wheelway.schema import body_of, interface_of
from wheelway.stages import STAGES, examples_of, own

if TYPE_CHECKING:
    import logging
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from pathlib import Path

    from wheelway.contract import Release

    Stage = Callable[[Any], Any]

THREADS = 4
"""Threads for synchronous stages when nobody says how many."""
RECONFIGURE_DEADLINE = 60.0
"""Seconds that a pipeline gets to take new settings; Serve waits for it meanwhile."""


def context_of(
    pipeline: type[Pipeline], release: Release, settings: Mapping[str, Any], logger: logging.Logger
) -> Context:
    """What a release's pipeline is told when it is loaded."""
    return Context(
        pipeline=release.pipeline,
        version=release.version,
        digest=release.digest,
        settings=MappingProxyType(dict(settings)),
        files=files_of(pipeline),
        logger=logger,
    )


class Runtime:
    """One instance of a pipeline class, from `load` to `unload`.

    `run` takes a decoded request through all stages. `settings` are those in force,
    `settings_error` says why the latest ones are not. `abandoned` counts stages that still run in
    a thread though nobody waits for them any more: a thread cannot be interrupted.

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
    ) -> None:
        self.interface = interface_of(pipeline)
        self.settings: Mapping[str, Any] = context.settings
        self.settings_error = ""
        self.examples: Sequence[Any] = ()
        self.isolated = isolated
        self.warm_up_seconds = 0.0
        self.abandoned = 0
        self.on_return: Callable[[], None] = lambda: None
        """Called on the loop when `abandoned` has changed."""
        self.run: Callable[[Any], Awaitable[Any]]
        self.runs_on_loop = not isolated and any(
            _is_async(getattr(pipeline, stage)) for stage in own(pipeline, STAGES)
        )
        """Whether code of the pipeline can hold up the caller's event loop."""
        self._pipeline = pipeline
        self._context = context
        self._tree = tree
        self._instance: Pipeline | None = None
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="stage")
        self._control = ThreadPoolExecutor(1, thread_name_prefix="control")
        self._loop = _LoopThread() if isolated else None
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
        self._home = asyncio.get_running_loop()
        try:
            self._instance = instance = await self._call(self._pipeline)
            self.examples = examples_of(instance)
            await self._call(instance.load, self._context)
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
        stages = [getattr(instance, stage) for stage in own(self._pipeline, STAGES)]
        self.run = self._chain(stages)

    async def warm_up(self) -> None:
        """Take every example through all stages, as requests take them.

        Raises:
            StartFailure: ExampleFailed, ExampleResultInvalid or OutOfMemory.
        """
        begin = time.monotonic()
        for number, example in enumerate(self.examples, start=1):
            what = f"example {number} of {len(self.examples)} of {self._name}"
            try:
                await self.answer(body_of(example))
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
                raise blame(EXAMPLE_FAILED, f"{what} failed", error, self._tree) from error
        self.warm_up_seconds = time.monotonic() - begin

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
            try:
                async with asyncio.timeout(RECONFIGURE_DEADLINE) as deadline:
                    await self._call(self._loaded.reconfigure, fresh)
            # The author's code may raise anything, and nothing of it may make the replica fail.
            except BaseException as error:
                if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
                    raise
                late = f"`reconfigure` did not end within {RECONFIGURE_DEADLINE:g} s"
                self.settings_error = late if deadline.expired() else describe(error)
                self._context.logger.exception("new settings refused, the former stay in force")
                if deadline.expired():
                    self._undoing = asyncio.create_task(self._put_back())
            else:
                self.settings, self.settings_error = fresh, ""

    async def _put_back(self) -> None:
        """Hand the settings in force over again, after whatever still takes those refused: a thread
        cannot be interrupted, and there is one for all that changes an instance.
        """
        try:
            await self._call(self._loaded.reconfigure, self.settings)
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
                await self._call(instance.unload)
        # See reconfigure.
        except BaseException as error:
            if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
                raise
            self._context.logger.exception("`unload` failed")
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._control.shutdown(wait=False, cancel_futures=True)
            if self._loop is not None:
                self._loop.stop()

    # -- how stages are called -------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return f"{self._pipeline.__module__}:{self._pipeline.__qualname__}"

    @property
    def _loaded(self) -> Pipeline:
        if self._instance is None:
            raise RuntimeError(f"{self._name} is not loaded")
        return self._instance

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call what is not a stage: in the control thread, unless it is a coroutine function."""
        if _is_async(function):
            return await self._on_loop(function(*args))
        future = self._control.submit(_guarded, function, *args)
        result = await asyncio.wrap_future(future)
        return await self._on_loop(result) if inspect.isawaitable(result) else result

    async def _on_loop(self, awaitable: Awaitable[Any]) -> Any:
        return await (awaitable if self._loop is None else self._loop.run(awaitable))

    def _chain(self, stages: Sequence[Stage]) -> Callable[[Any], Awaitable[Any]]:
        """The stages as one coroutine function; a lone asynchronous stage is that itself."""
        if all(map(_is_async, stages)):
            chain: Callable[[Any], Awaitable[Any]] = _sequence(stages)
        else:
            chain = self._mixed(stages)
        loop = self._loop
        return chain if loop is None else lambda value: loop.run(chain(value))

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
                    if inspect.isawaitable(value):
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
                self._count(1)
                future.add_done_callback(lambda _: self._count(-1))
            raise

    def _count(self, change: int) -> None:
        """Change `abandoned`, from any thread, on the loop that reads it."""

        def count() -> None:
            self.abandoned += change
            self.on_return()

        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody reads it
            self._home.call_soon_threadsafe(count)


def _is_async(function: Callable[..., Any]) -> bool:
    function = inspect.unwrap(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object whose call is `async def`
    )


def _runs(stages: Sequence[Stage]) -> list[tuple[bool, list[Stage]]]:
    """Neighbouring stages of one kind together: (asynchronous?, stages)."""
    runs: list[tuple[bool, list[Stage]]] = []
    for stage in stages:
        if runs and runs[-1][0] == _is_async(stage):
            runs[-1][1].append(stage)
        else:
            runs.append((_is_async(stage), [stage]))
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
    """Call it, but let no StopIteration out: a future cannot hold one, its waiter would hang."""
    try:
        return function(*args)
    except StopIteration as error:
        raise RuntimeError(f"{function!r} raised StopIteration") from error


class _LoopThread:
    """An event loop in a daemon thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name="isolated", daemon=True).start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def run(self, awaitable: Awaitable[Any]) -> asyncio.Future[Any]:
        """Run it there; the returned future belongs to the calling loop."""

        async def outcome() -> Any:
            try:
                return await awaitable
            except (SystemExit, KeyboardInterrupt) as error:  # would end the loop for everybody
                raise RuntimeError(f"a pipeline must not leave by {error!r}") from error

        future: Future[Any] = asyncio.run_coroutine_threadsafe(outcome(), self._loop)
        return asyncio.wrap_future(future)

    def stop(self) -> None:
        """Let it end once it is idle."""
        self._loop.call_soon_threadsafe(self._loop.stop)
