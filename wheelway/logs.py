"""A replica's log, kept whatever the pipeline does to `logging`.

`logging.config.dictConfig` and `fileConfig` disable every logger that exists and close every
handler that exists, unless told otherwise; `logging.disable` mutes all of them. Pipelines call
these, or libraries that they use do. What the host has to say of a request that failed, and what
the pipeline says by `context.logger`, must reach the log all the same.
"""

from __future__ import annotations

import logging
import threading
from logging.handlers import MemoryHandler

FLUSH_EVERY = 1.0
"""Seconds that a line below ERROR may stay in memory: Serve buffers up to a thousand of them when
it is tuned for throughput, and whoever follows the log would wait for the next error."""


def logger_on(served: logging.Logger, name: str) -> logging.Logger:
    """A logger that writes where `served` does now, and that no configuration reaches.

    `served` itself is put right again within `FLUSH_EVERY` seconds.
    """
    places = [_Place(handler) for handler in served.handlers]
    # A tree of loggers of its own: `logging` configures that of `logging.root` alone.
    root = logging.RootLogger(served.getEffectiveLevel())
    root.addHandler(_Everywhere(places))
    threading.Thread(target=_keep, args=(served, places), name="log", daemon=True).start()
    return logging.Manager(root).getLogger(name)


class _Place:
    """One handler with what it writes to; closing it would make it forget that."""

    def __init__(self, handler: logging.Handler) -> None:
        self.handler = handler
        self.target = handler.target if isinstance(handler, MemoryHandler) else None

    def write(self, record: logging.LogRecord) -> None:
        """At once, behind what is buffered."""
        self.flush()
        if self.target is None:
            self.handler.handle(record)
        elif self.handler.filter(record):  # fills in the request's id as well
            self.target.handle(record)

    def flush(self) -> None:
        if isinstance(self.handler, MemoryHandler) and self.handler.target is None:
            self.handler.setTarget(self.target)
        self.handler.flush()


class _Everywhere(logging.Handler):
    def __init__(self, places: list[_Place]) -> None:
        super().__init__()
        self._places = places

    def emit(self, record: logging.LogRecord) -> None:
        for place in self._places:
            place.write(record)


def _keep(served: logging.Logger, places: list[_Place]) -> None:
    """Flush what is buffered, and undo what a configuration did, for as long as the process is."""
    pause = threading.Event()
    while not pause.wait(FLUSH_EVERY):
        served.disabled = False
        for place in places:
            if place.handler in served.handlers:  # else somebody put another in its place
                place.flush()
