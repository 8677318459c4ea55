"""The sockets: a Unix socket for its group, a loopback port for this machine, and the servers.

Each is served by uvicorn in a thread of its own, with a loop of its own and no say in signals. What
cannot be opened is a condition, not the end of the daemon: it is tried again now and then.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import stat
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from controller.api.application import open_part, whole
from controller.errors import Stalled
from controller.model import Condition

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp

    from controller.api.seam import ApiContext
    from controller.config.api import ApiOptions

BACKLOG: Final = 100
MOST: Final = 64
"""Connections of one server, beyond which one that asks for nothing has to go."""
BUSY: Final = 100
"""Connections at work, from which on requests are refused."""
MODE: Final = 0o660
"""Of the Unix socket: its owner and its group."""
AGAIN_AFTER: Final = 10.0
"""Seconds until what could not be opened is tried again."""
GRACE: Final = 2.0
"""Seconds that requests have to end when the server ends."""
RENEWAL_GRACE: Final = 60.0
"""The same when another takes its place: the order to reload may be one, and waits for a pass."""


class Api:
    """The control socket and the port, as the configuration in force has them."""

    def __init__(
        self, context: ApiContext, *, state: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Opens nothing yet: `apply` does. `state` is the journal's folder."""
        self._context = context
        self._state = state
        self._clock = clock
        self._options: ApiOptions | None = None
        self._unix: Server | None = None
        self._port: Server | None = None
        self._due = float("-inf")
        self._conditions: tuple[Condition, ...] = ()

    def apply(self, options: ApiOptions) -> tuple[Condition, ...]:
        """Have open what the options say; returns why something is not. Call it now and then, it
        mends what broke.
        """
        path = options.path(self._state)
        if options != self._options:
            self._leave(options)
            self._options, self._due = options, float("-inf")
        broken = [s for s in (self._unix, self._port) if s is not None and not s.sound()]
        missing = self._unix is None or (self._port is None and options.listen is not None)
        if not (broken or missing) or self._clock() < self._due:
            return self._conditions
        self._due = self._clock() + AGAIN_AFTER
        troubles = []
        if self._unix is None or self._unix in broken:
            self._unix, trouble = _opened(self._unix, lambda: self._on_socket(path, options))
            troubles.append(trouble)
        if options.address is not None and (self._port is None or self._port in broken):
            address = options.address
            self._port, trouble = _opened(self._port, lambda: self._on_port(address))
            troubles.append(trouble)
        self._conditions = tuple(filter(None, troubles))
        return self._conditions

    def _leave(self, options: ApiOptions) -> None:
        """End the servers whose place is another now, without waiting for their requests."""
        before = self._options
        if before is None:
            return
        if (before.socket, before.socket_group) != (options.socket, options.socket_group):
            _leave_behind(self._unix)
            self._unix = None
        if before.address != options.address:
            _leave_behind(self._port)
            self._port = None

    def _on_socket(self, path: Path, options: ApiOptions) -> Server:
        listening = unix_socket(path, options.socket_group)
        return Server(whole(self._context), listening, path)

    def _on_port(self, address: tuple[str, int]) -> Server:
        return Server(open_part(self._context), loopback_socket(*address))

    def close(self) -> None:
        """End the servers; requests have a moment to end."""
        self._context.closing.set()
        self._close_servers()

    def _close_servers(self) -> None:
        for server in (self._unix, self._port):
            if server is not None:
                server.close()
        self._unix = self._port = None


def _leave_behind(server: Server | None) -> None:
    if server is not None:
        server.withdraw()
        threading.Thread(target=server.close, args=(RENEWAL_GRACE,), daemon=True).start()


def _opened(
    before: Server | None, opening: Callable[[], Server]
) -> tuple[Server | None, Condition | None]:
    if before is not None:
        before.close()
    try:
        return opening(), None
    except Stalled as error:
        return None, Condition("api", error.reason, error.message)


class _Connection(H11Protocol):
    """One that goes when it is silent and others need its place: any user of the machine may
    connect to the port, and must not keep monitoring out by it.
    """

    since = 0.0
    """When it was made, on the loop's clock."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As asyncio calls it."""
        super().connection_made(transport)
        self.since = self.loop.time()
        open_ones = [one for one in self.connections if isinstance(one, _Connection)]
        silent = [one for one in open_ones if one is not self and one.is_silent()]
        if len(open_ones) > MOST and silent:
            # At once: what is merely closed keeps its place until the loop comes round to it.
            longest = min(silent, key=lambda one: one.since)
            longest.connections.discard(longest)
            longest.transport.abort()

    def is_silent(self) -> bool:
        """Whether no request of it is being answered."""
        return self.cycle is None or self.cycle.response_complete


class Server:
    """An application on one listening socket, in a thread."""

    def __init__(
        self, application: ASGIApp, listening: socket.socket, path: Path | None = None
    ) -> None:
        config = uvicorn.Config(
            application,
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            limit_concurrency=BUSY,
            timeout_graceful_shutdown=int(GRACE),
        )
        self._server = uvicorn.Server(config)
        self._path = path
        self._own = path.stat().st_ino if path is not None else 0
        self._listening = listening
        self._thread = threading.Thread(target=self._run, name="wheelway-api", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # Outside the main thread uvicorn leaves signals alone.
        asyncio.run(self._server.serve(sockets=[self._listening]))

    def sound(self) -> bool:
        """Whether it serves, and its socket can still be found where it should be."""
        return self._thread.is_alive() and self._is_ours()

    def _is_ours(self) -> bool:
        if self._path is None:
            return True
        try:
            return self._path.stat().st_ino == self._own
        except OSError:
            return False

    def withdraw(self) -> None:
        """Take its socket away, unless another took the place: nobody new finds it."""
        if self._path is not None and self._is_ours():
            with suppress(OSError):
                self._path.unlink()
        self._path = None

    def close(self, grace: float = GRACE) -> None:
        """End it; requests have `grace` seconds."""
        self._server.config.timeout_graceful_shutdown = int(grace)
        self._server.should_exit = True
        self._thread.join(grace + 5)
        self.withdraw()
        self._listening.close()


# -- sockets -------------------------------------------------------------------------------------


def unix_socket(path: Path, group: str | None) -> socket.socket:
    """A listening Unix socket for its owner and a group; one that a dead daemon left is replaced.

    Nobody can connect before its mode and group are set, for it listens only then.

    Raises:
        Stalled: another process listens there ("SocketInUse"), the group is unknown or not
            permitted ("SocketGroupUnusable"), or there can be no socket ("SocketUnusable").
    """
    _clear(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        path.chmod(MODE)
        if group is not None:
            _give(path, group)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise Stalled(
            "SocketUnusable",
            f"{path}: no control socket can be made there ({error.strerror or error}); make its "
            "folder writable for the daemon's user, or set `socket` in [api] (at most 107 bytes)",
        ) from error
    except Stalled:
        listening.close()
        raise
    return listening


def _clear(path: Path) -> None:
    """Remove a socket on which nobody listens."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Stalled(
                "SocketUnusable",
                f"{path} is in the way of the control socket: it is no socket; move it, or set "
                "`socket` in [api]",
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            trial.settimeout(1)
            trial.connect(str(path))
    except (FileNotFoundError, PermissionError, TimeoutError):
        return  # nothing there; or what follows says why there can be none
    except ConnectionRefusedError:
        with suppress(OSError):
            path.unlink()
        return
    except OSError:
        return
    raise Stalled(
        "SocketInUse",
        f"another process listens at {path}: stop it (`fuser {path}`), or set `socket` in [api]",
    )


def _give(path: Path, group: str) -> None:
    try:
        shutil.chown(path, group=group)
    except (LookupError, PermissionError) as error:
        with suppress(OSError):
            path.unlink()
        raise Stalled(
            "SocketGroupUnusable",
            f"the control socket {path} cannot be given to the group {group!r} ({error}): create "
            "the group, make the daemon's user a member, or correct `socket_group` in [api]",
        ) from error


def loopback_socket(host: str, port: int) -> socket.socket:
    """A listening socket of this machine alone.

    Raises:
        Stalled: it cannot be had ("ListenUnusable").
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise Stalled(
            "ListenUnusable",
            f"{host} port {port} cannot be listened at ({error.strerror}): another process has it "
            "(`ss -ltnp`), or the address is not this machine's; correct `listen` in [api]",
        ) from error
    return listening
