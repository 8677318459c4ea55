"""What the daemon tells the service manager: sd_notify(3), by hand.

One datagram of `NAME=value` lines goes to the socket that systemd names in NOTIFY_SOCKET. Without
the variable every call does nothing, so callers need not know whether anybody listens:
https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import logging
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

log = logging.getLogger("wheelway")

STATUS_LENGTH = 500
"""Characters of a status line: `systemctl status` shows one line of it."""


@dataclass(frozen=True, slots=True)
class Supervisor:
    """The service manager that started the daemon; none, by default."""

    address: str = ""
    """Of its datagram socket, with a leading NUL in the abstract name space; empty for none."""
    watchdog: float | None = None
    """Seconds after which a silent daemon is killed; None when no watchdog is set."""
    clock: Callable[[], float] = time.monotonic
    """CLOCK_MONOTONIC, in seconds."""

    @property
    def ping_interval(self) -> float | None:
        """Seconds between two signs of life at most: half the watchdog's time, as sd_notify(3)
        asks; None when no watchdog is set.
        """
        return None if self.watchdog is None else self.watchdog / 2

    def starting(self, what: str, seconds: float) -> None:
        """The start goes on with something that may take `seconds`, whatever TimeoutStartSec is."""
        self._tell(STATUS=what, EXTEND_TIMEOUT_USEC=_microseconds(seconds))

    def ready(self, status: str = "") -> None:
        """The start, or the reload, is done."""
        self._tell(READY="1", **({"STATUS": status} if status else {}))

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._tell(RELOADING="1", MONOTONIC_USEC=_microseconds(self.clock()))

    def stopping(self, seconds: float) -> None:
        """The end begins, and may take `seconds`, whatever TimeoutStopSec is."""
        self._tell(
            STOPPING="1",
            STATUS="ending; what is served stays",
            EXTEND_TIMEOUT_USEC=_microseconds(seconds),
        )

    def progressed(self) -> None:
        """A part of a pass ended: the watchdog's time begins anew."""
        if self.watchdog:
            self._tell(WATCHDOG="1")

    def passed(self, status: str, *, well: bool = True) -> None:
        """A pass is over. Only one that went `well` is a sign of life: a daemon whose every pass
        fails is worth a restart.
        """
        self._tell(STATUS=status, **({"WATCHDOG": "1"} if well and self.watchdog else {}))

    def _tell(self, **lines: str) -> None:
        if not self.address:
            return
        text = "\n".join(f"{name}={_line(value)}" for name, value in lines.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(1.0)  # a service manager that does not read must not stop a pass
                channel.sendto(text.encode(), self.address)
        except OSError as error:
            log.warning("the service manager could not be told %r: %s", text, error)


def supervisor(environ: MutableMapping[str, str]) -> Supervisor:
    """The supervisor that the environment names; its variables are taken out.

    A process that this one starts must not speak in its name, nor feed its watchdog.
    """
    address = environ.pop("NOTIFY_SOCKET", "")
    interval = environ.pop("WATCHDOG_USEC", "")
    meant_for = environ.pop("WATCHDOG_PID", "")
    if address.startswith("@"):
        address = "\0" + address[1:]
    elif not address.startswith("/"):  # such as vsock:, which is for machines, not for services
        address = ""
    watched = interval.isdecimal() and int(interval) > 0 and meant_for in {"", str(os.getpid())}
    return Supervisor(address, int(interval) / 1e6 if watched and address else None)


def _microseconds(seconds: float) -> str:
    return str(int(seconds * 1e6))


def _line(value: str) -> str:
    """Printable text in one line: a new one would be read as another variable."""
    return " ".join(value.split())[:STATUS_LENGTH]
