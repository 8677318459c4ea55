"""Notices code of a pipeline that holds an event loop, while it does so.

An `async def` stage that blocks (a synchronous HTTP client, a long computation) holds up its whole
replica: Serve runs it on the same loop as the answers to health checks when it is tuned for
throughput. By the defaults of Ray 2.60 (ray/serve/_private/constants.py) the ingress takes a
replica out of rotation after two unanswered checks, 5 s apart, and Serve's controller replaces it
after three of 30 s each. Tried with a timeout of 3 s instead: a stage that blocked for 15 s had its
replica replaced, a synchronous one that did the same did not. So one block that outlasts all three
checks still costs a replica: nothing can take a running call off its thread.

A thread looks at the loop's heartbeat. When that stops, the loop thread's stack says who is to
blame; only a frame of the pipeline's own files counts, since a busy machine or the garbage
collector also makes loops late.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HELD_AFTER = 1.0
"""Seconds without a heartbeat after which the loop counts as held."""
_COROUTINE = CO_COROUTINE | CO_ASYNC_GENERATOR | CO_ITERABLE_COROUTINE


@dataclass(frozen=True, slots=True)
class Hold:
    """One time that a loop was held."""

    stack: str
    """From the pipeline's outermost frame on."""
    by_coroutine: bool
    """Whether that is a coroutine's, which another loop can run; of validators and serialisers,
    which are called wherever bodies are read and written, it is not."""


class Watchdog:
    """Watches the running loop of the thread that makes it, until `stop`.

    `on_held` is called once for each hold, on that loop as soon as it is free again; `while_held`
    again and again until then, in a thread of its own.
    """

    def __init__(
        self,
        files: Path,
        on_held: Callable[[Hold], None],
        while_held: Callable[[], None] = lambda: None,
        *,
        held_after: float = HELD_AFTER,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._prefix = f"{files}/"
        self._on_held = on_held
        self._while_held = while_held
        self._held_after = held_after
        self._stopped = threading.Event()
        self._beat()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._timer.cancel()

    def _beat(self) -> None:
        self._last = time.monotonic()
        self._timer = self._loop.call_later(self._held_after / 2, self._beat)

    def _watch(self) -> None:
        told = 0.0
        while not self._stopped.wait(self._held_after / 4):
            last = self._last
            if time.monotonic() - last <= self._held_after or (hold := self._hold()) is None:
                continue
            if told != last:
                told = last
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    self._loop.call_soon_threadsafe(self._on_held, hold)
            if last == self._last:
                self._while_held()

    def _hold(self) -> Hold | None:
        """What the loop's thread does right now, if that is the pipeline's doing."""
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - documented, no other way
        try:
            stack = [] if frame is None else list(traceback.walk_stack(frame))
        except AttributeError:  # what went on meanwhile: CPython 3.11 has no frames there any more
            return None
        stack.reverse()
        for depth, (entry, _) in enumerate(stack):
            if entry.f_code.co_filename.startswith(self._prefix):
                text = "".join(traceback.StackSummary.extract(iter(stack[depth:])).format())
                return Hold(text, by_coroutine=bool(entry.f_code.co_flags & _COROUTINE))
        return None
