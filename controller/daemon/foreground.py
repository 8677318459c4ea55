"""The daemon as a process in the foreground: ended and hastened by signals."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from controller.daemon.loop import Daemon
from controller.daemon.signals import acted_upon
from controller.daemon.supervisor import supervisor

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from controller.config.settings import Config
    from controller.reconcile.report import Report


def signals(daemon: Daemon) -> AbstractContextManager[None]:
    """SIGTERM and SIGINT end the daemon, SIGHUP makes it read its file and look now."""
    return acted_upon(
        {
            signal.SIGTERM: daemon.end,
            signal.SIGINT: daemon.end,
            signal.SIGHUP: daemon.reload,
        }
    )


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
