"""The daemon as a process in the foreground: ended and hastened by signals.

They are acted upon in a thread: a handler comes between any two instructions of the main thread,
which may hold the very lock that the handler would wait for.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING

from controller.daemon.loop import Daemon
from controller.daemon.supervisor import supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from controller.config.settings import Config
    from controller.reconcile.report import Report


@contextmanager
def signals(daemon: Daemon) -> Iterator[None]:
    """SIGTERM and SIGINT end the daemon, SIGHUP makes it read its file and poll now. For the main
    thread.
    """
    acts = {
        signal.SIGTERM: daemon.end,
        signal.SIGINT: daemon.end,
        signal.SIGHUP: daemon.reload,
    }
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


def run(
    path: Path,
    *,
    watcher: Callable[[Report], None] | None = None,
    renewed: Callable[[Config], None] | None = None,
) -> int:
    """The daemon in the foreground, until a signal ends it; a service manager is kept informed.
    `watcher` and `renewed` are as for `Daemon`.

    Raises:
        WheelwayError: it cannot start.
    """
    daemon = Daemon(path, watcher=watcher, supervisor=supervisor(os.environ), renewed=renewed)
    with signals(daemon):
        daemon.run()
    return 0
