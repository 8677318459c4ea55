"""Signals of the process, acted upon in a thread.

A handler comes between any two instructions of the main thread, which may hold the very lock that
the handler would wait for.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@contextmanager
def acted_upon(acts: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Inside, each of these signals has its act done instead of what it did before; for the main
    thread.
    """
    came: SimpleQueue[int] = SimpleQueue()  # whose `put` may come in between itself

    def act() -> None:
        while number := came.get():
            acts[signal.Signals(number)]()

    acting = threading.Thread(target=act, name="wheelway-signals", daemon=True)
    acting.start()
    before = {number: signal.signal(number, lambda number, _: came.put(number)) for number in acts}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        came.put(0)
        acting.join()
