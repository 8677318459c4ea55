"""A replica's log, kept whatever the pipeline does to `logging`, and Serve to its handlers.

`logging.config.dictConfig` and `fileConfig` disable every logger that exists and close every
handler that exists, unless told otherwise; `logging.disable` mutes all of them. Pipelines call
these, or libraries that they use do. What the host has to say of a request that failed, and what
the pipeline says by `context.logger`, must reach the log all the same.

Serve makes new handlers whenever a deployment's configuration reaches a running replica, as it does
with its route (`configure_component_logger` in ray/serve/_private/logging_utils.py, Ray 2.60). What
its old ones still hold in memory is lost unless somebody has kept them; and which request a line
belongs to is only told where Serve logs every request.
"""

from __future__ import annotations

import logging
import threading
from logging.handlers import MemoryHandler

from wheelway.inbound import request_id

FLUSH_EVERY = 1.0
"""Seconds that a line below ERROR may stay in memory: Serve buffers up to a thousand of them when
it is tuned for throughput, and whoever follows the log would wait for the next error."""


def logger_on(served: logging.Logger, name: str) -> logging.Logger:
    """A logger that writes where `served` does, and that no configuration reaches.

    `served` itself is put right again within `FLUSH_EVERY` seconds, and its lines have the id of
    their request from now on.
    """
    served.addFilter(_with_request)  # of the logger: its handlers come and go
    outputs = _Outputs(served)
    # A tree of loggers of its own: `logging` configures that of `logging.root` alone.
    root = logging.RootLogger(served.getEffectiveLevel())
    root.addHandler(_Everywhere(outputs))
    threading.Thread(target=_keep, args=(served, outputs), name="log", daemon=True).start()
    return logging.Manager(root).getLogger(name)


def flush(served: logging.Logger) -> None:
    """Write what a logger's handlers have in memory."""
    for handler in list(served.handlers):
        handler.flush()


def _with_request(record: logging.LogRecord) -> bool:
    """Serve's formats tell `request_id` of a record that has one."""
    if (found := request_id()) and not hasattr(record, "request_id"):
        record.request_id = found
    return True


class _Output:
    """One handler with what it writes to; closing it would make it forget that."""

    def __init__(self, handler: logging.Handler, target: logging.Handler | None = None) -> None:
        """`target` is what it wrote to if it was closed by now."""
        self.handler = handler
        self.target = handler.target or target if isinstance(handler, MemoryHandler) else None

    def write(self, record: logging.LogRecord) -> None:
        """At once, behind what is buffered."""
        self.flush()
        if self.target is None:
            self.handler.handle(record)
        elif self.handler.filter(record):
            self.target.handle(record)

    def flush(self) -> None:
        if isinstance(self.handler, MemoryHandler) and self.handler.target is None:
            self.handler.setTarget(self.target)
        self.handler.flush()


class _Outputs:
    """The handlers of Serve's logger, or its last own ones once others have replaced them."""

    def __init__(self, served: logging.Logger) -> None:
        self._served = served
        self._lock = threading.Lock()
        self._latest = [_Output(handler) for handler in served.handlers]

    def now(self) -> list[_Output]:
        """The outputs of now; what former ones still hold in memory is written first."""
        with self._lock:
            handlers = list(self._served.handlers)
            former = self._latest
            # Serve's own write by way of memory; others are the pipeline's, and none of ours.
            if handlers != [output.handler for output in former] and any(
                isinstance(handler, MemoryHandler) for handler in handlers
            ):
                for output in former:
                    output.flush()
                target = next(
                    (output.target for output in former if output.target is not None), None
                )
                self._latest = [_Output(handler, target) for handler in handlers]
            return self._latest


class _Everywhere(logging.Handler):
    def __init__(self, outputs: _Outputs) -> None:
        super().__init__()
        self.addFilter(_with_request)
        self._outputs = outputs

    def emit(self, record: logging.LogRecord) -> None:
        for output in self._outputs.now():
            output.write(record)


def _keep(served: logging.Logger, outputs: _Outputs) -> None:
    """Flush what is buffered, and undo what a configuration did, for as long as the process is."""
    pause = threading.Event()
    while not pause.wait(FLUSH_EVERY):
        served.disabled = False
        for output in outputs.now():
            if output.handler in served.handlers:  # else somebody put another in its stead
                output.flush()
