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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 1.0
"""Seconds without a heartbeat after which the loop counts as held."""


class Watchdog:
    """Watches the running loop of the thread that makes it, until `stop`.

    `on_held` is called once, on that loop as soon as it is free again, with the stack that held it;
    `while_held` again and again until then, in a thread of its own.
    """

    def __init__(
        self,
        files: Path,
        on_held: Callable[[str], None],
        while_held: Callable[[], None] | None = None,
        *,
        patience: float = PATIENCE,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._prefix = f"{files}/"
        self._on_held = on_held
        self._while_held = while_held
        self._patience = patience
        self._stopped = threading.Event()
        self._beat()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._timer.cancel()

    def _beat(self) -> None:
        self._last = time.monotonic()
        self._timer = self._loop.call_later(self._patience / 4, self._beat)

    def _watch(self) -> None:
        while not self._stopped.wait(self._patience / 2):
            if time.monotonic() - self._last > self._patience and (stack := self._culprit()):
                last = self._last
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    self._loop.call_soon_threadsafe(self._on_held, stack)
                while self._while_held is not None and self._last == last:
                    self._while_held()
                    if self._stopped.wait(self._patience / 4):
                        break
                return

    def _culprit(self) -> str:
        """The stack below the pipeline's outermost frame on the loop's thread; "" without one."""
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - documented, no other way
        stack = traceback.extract_stack(frame)
        own = [n for n, entry in enumerate(stack) if entry.filename.startswith(self._prefix)]
        return "".join(traceback.StackSummary(stack[own[0] :]).format()) if own else ""
