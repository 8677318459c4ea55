"""The instance that serves, the one that is to take its place, and those that still finish.

A release changes its instance in a running replica for two reasons: it gets other weights, or its
asynchronous stages hold the loop and need one of their own. Both go the same way. A second instance
is loaded beside the first, with the settings in force, and takes every example through all stages;
then requests go to it. Those that began on the former end there, and after the last of them it is
unloaded. A second instance that fails changes nothing. While its weights are wanted they are tried
again, after pauses that grow, for what they failed by may pass: a service, say, that `load` asks.

What is wanted may change at any time, and only the latest counts. A load that nobody waits for any
more cannot be interrupted: it ends by itself, and what it made is unloaded.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from wheelway import memory
from wheelway.deadlines import Cause
from wheelway.failure import (
    LASTING,
    LOAD_FAILED,
    START_TIMEOUT,
    StartFailure,
    blame,
    ends_the_caller,
)
from wheelway.underway import followed
from wheelway.weights import Refusal, Weights

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from wheelway.execution import Runtime

DEADLINE: Final = 300.0
"""Seconds for the bytes, `load` and the examples of a second instance when nobody says how many."""
FINISH: Final = 300.0
"""Seconds at least that requests get to end on a former instance."""
BREAK_OFF: Final = 5.0
"""Seconds that streams get which are broken off then."""
TURN: Final = 10.0
"""Seconds that the next instance waits for former ones to be gone, before there are three."""
LOOK: Final = 0.05
"""Seconds between two looks whether a former instance is still used."""
RETRY: Final = (2.0, 60.0)
"""Seconds until weights that were refused are tried again: at first, and at most; up to a quarter
longer, so that not all replicas ask for the same thing at once."""
REST: Final = 4.0
"""The pause is at least so many times what the last try took: requests pay for each."""
TICK: Final = 0.02
"""Seconds between two looks at a load and at what it does to the event loop."""
STALL: Final = 0.25
"""Seconds that requests may wait for a second instance to load before somebody should know."""


@dataclass(frozen=True, slots=True)
class Form:
    """What tells an instance from others of the same pipeline."""

    weights: Weights | None = None
    isolated: bool = False
    """Its coroutines run on a loop of their own."""

    def __str__(self) -> str:
        """For the log."""
        loop = " and a loop of its own" if self.isolated else ""
        return f"with {f'the weights {self.weights}' if self.weights else 'no weights'}{loop}"


class Instances:
    """The instances of one replica.

    Args:
        start: makes one of a form with these settings, loaded and warm, or raises StartFailure.
        serve: has requests go to it from now on.
        room: how much they may allocate.
        logger: is told of each change.
    """

    def __init__(
        self,
        start: Callable[[Form, Mapping[str, Any]], Awaitable[Runtime]],
        serve: Callable[[Runtime], None],
        room: memory.Room,
        logger: logging.Logger,
    ) -> None:
        self.running: Runtime | None = None
        self.refusal: Refusal | None = None
        """Of the weights that are wanted, if they are not served."""
        self.deadline = DEADLINE
        self.finish = FINISH
        self._start = start
        self._serve = serve
        self._room = room
        self._logger = logger
        self._form = self._wanted = Form()
        self._moved = False
        """Whether the running one's loop has to be its own."""
        self._apart = False
        """Whether one that loads holds its loop; those to come load on a loop of their own then."""
        self._settings: Mapping[str, Any] = {}
        self._loading: Form | None = None
        self._retry = RETRY[0]
        self._replacing: asyncio.Task[None] | None = None
        self._handing: asyncio.Task[None] | None = None
        self._retired: dict[Form, tuple[Runtime, asyncio.Task[None]]] = {}
        """Those on which requests still end, and what waits for that; each may be taken back."""
        self._leaving: set[asyncio.Task[None]] = set()
        """What unloads them, and what nobody waits for any more."""

    def begin(
        self,
        runtime: Runtime,
        form: Form,
        refusal: Refusal | None = None,
        *,
        apart: bool = False,
    ) -> None:
        """Serve by the first instance; `refusal` is of the weights that it should have had. It held
        its loop while it started if others are to start `apart`.
        """
        self.running, self._form, self._wanted = runtime, form, form
        self._moved, self._apart = form.isolated, apart
        self._settings = runtime.settings
        self._serve(runtime)
        if refusal is not None:
            self._refuse(Form(refusal.weights, form.isolated), refusal.failure)

    def told(self) -> dict[str, Any]:
        """For the release's metadata, as far as something is going on."""
        loading = self._loading and self._loading.weights
        return {
            "weights_loading": str(loading) if loading else "",
            "weights_error": self.refusal and self.refusal.told(),
            "settings_pending": self._handing is not None and not self._handing.done(),
        }

    # -- what is wanted --------------------------------------------------------------------------

    def take_settings(self, settings: Mapping[str, Any]) -> None:
        """Have the pipeline take new settings, in the background."""
        self._settings = settings
        if self._handing is None or self._handing.done():
            self._handing = asyncio.create_task(self._hand_over())

    def take_weights(self, weights: Weights | None) -> None:
        """Serve by an instance with these weights, once there is one. To say again that those are
        wanted which were refused changes nothing.
        """
        if self.refusal is not None:
            if self.refusal.weights == weights:
                return
            self.refusal = None
        self._retry = RETRY[0]
        self._want(self._with(weights))

    def isolate(self) -> None:
        """Serve by an instance whose coroutines have a loop of their own: what the former one holds
        (locks, HTTP clients) belongs to the loop that it was made on and cannot move.
        """
        self._moved = True
        self._want(replace(self._wanted, isolated=True))

    async def settled(self) -> None:
        """Wait until all that is wanted is in force or refused, and former instances are gone."""
        while tasks := {t for t in (self._handing, self._replacing) if t and not t.done()} | (
            self._leaving
        ):
            await asyncio.wait(tasks)

    async def unload(self) -> None:
        """End all: nothing is served any more."""
        for task in (self._handing, self._replacing, *self._leaving):
            if task is not None:
                task.cancel()
        self.refusal = None  # nor tried again
        ending = [runtime for runtime, _ in self._retired.values()]
        self._retired.clear()
        if self.running is not None:
            ending.append(self.running)
        await asyncio.gather(*(runtime.unload() for runtime in ending))

    def _with(self, weights: Weights | None) -> Form:
        """How to serve these: by one that is there, if one is."""
        form = Form(weights, self._moved)
        if self._apart and form != self._form and form not in self._retired:
            form = replace(form, isolated=True)
        return form

    def _want(self, form: Form) -> None:
        if form == self._wanted:
            return
        self._wanted = form
        if self._replacing is None or self._replacing.done():
            self._replacing = asyncio.create_task(self._replace())

    # -- settings --------------------------------------------------------------------------------

    async def _hand_over(self) -> None:
        runtime, settings = None, None
        while runtime is not self.running or settings is not self._settings:
            runtime, settings = self.running, self._settings
            assert runtime is not None  # noqa: S101 - only called once there is one
            await runtime.reconfigure(settings)

    # -- replacing -------------------------------------------------------------------------------

    async def _replace(self) -> None:
        while (form := self._wanted) != self._form:
            began = time.monotonic()
            try:
                runtime = self._taken_back(form) or await self._second(form)
            except StartFailure as failure:
                if form == self._wanted:
                    self._refuse(form, failure, time.monotonic() - began)
                continue
            if runtime is None:
                continue
            settings = None
            while settings is not self._settings:
                settings = self._settings
                await runtime.reconfigure(settings)
            if form == self._wanted:
                self._swap(runtime, form)
            else:
                self._retire(runtime, form)

    def _taken_back(self, form: Form) -> Runtime | None:
        """A former instance of this form, if requests still end on one."""
        runtime, waiting = self._retired.pop(form, (None, None))
        if waiting is not None:
            waiting.cancel()
        return runtime

    async def _second(self, form: Form) -> Runtime | None:
        """Another instance, ready to serve; None: another form is wanted by now.

        Raises:
            StartFailure: it does not start.
        """
        self._loading = form
        try:
            if self._leaving:
                await asyncio.wait(self._leaving, timeout=TURN)
            self._room.widen()
            with followed() as underway:
                starting = asyncio.create_task(self._started(form))
            began = now = time.monotonic()
            stall = 0.0
            while form == self._wanted and not starting.done() and now < began + self.deadline:
                await asyncio.wait({starting}, timeout=TICK)
                stall = max(stall, time.monotonic() - now - TICK)
                now = time.monotonic()
        finally:
            self._loading = None
        if not starting.done() or starting.exception() is not None:
            self._leave(self._abandon(starting))
        if starting.done():
            self._tell(form, now - began, stall)
            return starting.result()
        if form != self._wanted:
            return None
        raise StartFailure(
            START_TIMEOUT,
            f"a second instance was not ready within {self.deadline:g} s, it was at {underway}; "
            "load faster, or ask for longer (`rollout.ready_deadline`)",
        )

    async def _started(self, form: Form) -> Runtime:
        assert self.running is not None  # noqa: S101 - there is none to replace else
        try:
            return await self._start(form, self.running.settings)
        except StartFailure:
            raise
        # Whatever it is, who waits must be told.
        except BaseException as error:
            if ends_the_caller(error):
                raise
            raise blame(LOAD_FAILED, "a second instance failed", error, None) from error

    def _tell(self, form: Form, seconds: float, stall: float) -> None:
        level, advice = logging.INFO, ""
        if stall > STALL:
            level = logging.WARNING
            advice = (
                ": `load` keeps the interpreter to itself (as unpickling many small objects does) "
                "or, being `async def`, the event loop; or the machine is busy. If that is too "
                'long, set `weights_swap = "restart"`'
            )
        self._logger.log(
            level,
            "a second instance %s took %.2f s; requests waited for it up to %.2f s at once%s",
            *(form, seconds, stall, advice),
        )

    def _swap(self, runtime: Runtime, form: Form) -> None:
        former, former_form = self.running, self._form
        assert former is not None  # noqa: S101 - see _started
        self.running, self._form = runtime, form
        if self.refusal is not None and self.refusal.weights == form.weights:
            self.refusal = None
        self._serve(runtime)
        self._logger.info("now served by an instance %s, formerly by one %s", form, former_form)
        self._retire(former, former_form)

    def _refuse(self, form: Form, failure: StartFailure, took: float = 0.0) -> None:
        """Go on as before; `took` is how many seconds went into it."""
        self._logger.error(
            "an instance %s does not start; it goes on %s", form, self._form, exc_info=failure
        )
        if form.weights == self._form.weights:  # the loop that it holds stays its own
            self._wanted, self._moved = self._form, False
            return
        self._wanted = self._with(self._form.weights)
        # Without the traceback, whose frames would keep what was loaded.
        told = StartFailure(failure.reason, failure.message, failure.tail)
        self.refusal = Refusal(form.weights, told)
        # Whether it can do without any weights is up to its code, which stays as it is.
        if form.weights is not None and failure.reason not in LASTING:
            self._try_later(self.refusal, max(self._retry, REST * took))
            self._retry = min(2 * self._retry, RETRY[1])

    def _try_later(self, refusal: Refusal, pause: float) -> None:
        pause *= 1 + random.random() / 4  # noqa: S311 - spreads load, keeps no secret
        asyncio.get_running_loop().call_later(pause, self._try_again, refusal)

    def _try_again(self, refusal: Refusal) -> None:
        if refusal is not self.refusal:
            return
        if self._leaving:  # a load that hangs, say: none beside it until it ended
            self._try_later(refusal, self._retry)
            return
        self._logger.info("the weights %s are tried again", refusal.weights)
        self._want(self._with(refusal.weights))

    # -- former instances ------------------------------------------------------------------------

    def _retire(self, runtime: Runtime, form: Form) -> None:
        self._retired[form] = runtime, self._leave(self._finish(runtime, form))

    def _leave(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    async def _finish(self, runtime: Runtime, form: Form) -> None:
        """Unload it after the last request that began on it."""
        await _end_of_use(runtime, self.finish)
        del self._retired[form]
        if runtime.streams:
            for stream in list(runtime.streams):
                stream.cancel(Cause.REPLACED)
            await _end_of_use(runtime, BREAK_OFF)
        if runtime.in_use:
            self._logger.warning(
                "the instance %s is unloaded while requests still run on it: they did not end "
                "within %g s",
                *(form, self.finish),
            )
        await runtime.unload()
        del runtime  # or it could not be collected
        await self._tidy()

    async def _abandon(self, starting: asyncio.Task[Runtime]) -> None:
        """Unload what nobody waits for, once it was loaded."""
        with suppress(StartFailure):  # it was unloaded again then
            await (await starting).unload()
        del starting  # see _finish
        await self._tidy()

    async def _tidy(self) -> None:
        await asyncio.sleep(LOOK)  # threads let go of what they ran a moment after they said so
        await asyncio.to_thread(memory.give_back)
        if self._loading is None:
            self._room.narrow()


async def _end_of_use(runtime: Runtime, seconds: float) -> None:
    """Wait until no request runs on it, for so many seconds at most."""
    end = time.monotonic() + seconds
    while runtime.in_use and time.monotonic() < end:  # noqa: ASYNC110 - no event: requests pay
        await asyncio.sleep(LOOK)
