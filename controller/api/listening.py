"""The sockets: a Unix socket for its group, a loopback port for this machine, and the servers.

Each is served by uvicorn in a thread and a loop of its own, without handling signals. A socket that
cannot be opened is a condition, not the end of the daemon; it is tried again now and then.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from controller.api.application import open_part, whole
from controller.errors import Stalled
from controller.model import Condition

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send
    from uvicorn.server import ServerState

    from controller.api.seam import ApiContext
    from controller.config.api import ApiOptions

BACKLOG: Final = 100
MOST: Final = 64
"""Connections of one server; beyond these a silent one is closed."""
BUSY: Final = 100
"""Connections of one server from which on requests are refused with status 503. Silent ones are
closed before that, so these have requests that are being answered.
"""
MODE: Final = 0o660
"""Of the Unix socket: its owner and its group."""
AGAIN_AFTER: Final = 10.0
"""Seconds until what could not be opened is tried again."""
GRACE: Final = 2.0
"""Seconds that requests have to end when the server ends."""
RENEWAL_GRACE: Final = 60.0
"""The same when another takes its place: the order to reload, one of them, waits for a pass."""


Listening = tuple[Path, str | None] | tuple[str, int]
"""A Unix socket with its group, or a host with a port."""


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
        self._servers: dict[Listening, Server] = {}
        self._due = float("-inf")
        self._conditions: tuple[Condition, ...] = ()

    def apply(self, options: ApiOptions) -> tuple[Condition, ...]:
        """Open what the options say; returns why something could not be opened. Called now and
        then, it also mends what broke.
        """
        wanted: list[Listening] = [(options.path(self._state), options.socket_group)]
        if options.address is not None:
            wanted.append(options.address)
        if options != self._options:
            self._options, self._due = options, float("-inf")
            for listening in self._servers.keys() - wanted:
                server = self._servers.pop(listening)
                server.withdraw()  # its requests are not waited for
                threading.Thread(target=server.close, args=(RENEWAL_GRACE,), daemon=True).start()
        sound = {listening for listening, server in self._servers.items() if server.sound()}
        if sound.issuperset(wanted) or self._clock() < self._due:
            return self._conditions
        self._due = self._clock() + AGAIN_AFTER
        self._conditions = ()
        for listening in wanted:
            if listening not in sound:
                self._open(listening)
        return self._conditions

    def _open(self, listening: Listening) -> None:
        """Begin to listen there, again if what did is broken."""
        if (broken := self._servers.pop(listening, None)) is not None:
            broken.close()
        try:
            match listening:
                case (Path() as path, group):
                    made = unix_socket(path, group)
                    self._servers[listening] = Server(whole(self._context), made, path)
                case (str() as host, int() as port):
                    made = loopback_socket(host, port)
                    self._servers[listening] = Server(open_part(self._context), made)
        except Stalled as error:
            self._conditions += (Condition("api", error.reason, error.message),)

    def close(self) -> None:
        """End the servers; requests have a moment to end."""
        self._context.closing.set()
        while self._servers:
            self._servers.popitem()[1].close()


class _Connections:
    """An application whose connections go when they are silent and others need their place: any
    user of the machine may connect to the port, and must not keep monitoring out by it.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self._open: dict[H11Protocol, None] = {}
        """The one that was made, or whose last request ended, the longest ago comes first."""

    def protocol(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> H11Protocol:
        """One more connection, as uvicorn makes it; the state is found in the scope of each of its
        requests.
        """
        state = {**app_state}
        state["connection"] = connection = H11Protocol(config, server_state, state, _loop)
        # asyncio makes up to BACKLOG of them before it connects the first. Called by the loop, each
        # finds those before it connected, and so none is overlooked.
        asyncio.get_running_loop().call_soon(self._add, connection)
        return connection

    def _add(self, connection: H11Protocol) -> None:
        """Count one more, in the place of the one that has been silent for longest."""
        connected = connection.connections
        self._open = {one: None for one in self._open if one in connected}
        if len(self._open) >= MOST:
            silent = (one for one in self._open if one.cycle is None or one.cycle.response_complete)
            if (longest := next(silent, None)) is not None:
                # At once: uvicorn counts an aborted one until the loop comes round to it.
                connected.discard(longest)
                del self._open[longest]
                longest.transport.abort()
        self._open[connection] = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        try:
            await self._application(scope, receive, send)
        finally:
            connection: H11Protocol = scope["state"]["connection"]
            if connection in self._open:
                del self._open[connection]
                self._open[connection] = None


class Server:
    """An application on one listening socket, in a thread."""

    def __init__(
        self, application: ASGIApp, listening: socket.socket, path: Path | None = None
    ) -> None:
        connections = _Connections(application)
        config = uvicorn.Config(
            connections,
            http=connections.protocol,  # type: ignore[arg-type]  # it is called, whatever it is
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
        """Remove its socket, unless it is another's by now, so that nobody new connects."""
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
