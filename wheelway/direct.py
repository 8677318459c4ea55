"""Serves a replica's application on a Unix socket as well, past Serve's wrapper around a request.

A gateway on the same machine asks there first, and Ray's ingress where the socket refuses: nothing
was sent then. `user_config["direct"]` names the folder, so that to turn it on or off restarts
nothing; without that key nothing here happens. Both ways lead to one application on one loop:
limits, deadlines, weights and settings are the same, and count both.

Who may ask: whoever may open the socket. The folder belongs to the user that replicas run as and
to the gateway's group, is closed to everybody else, and hands its group on:

    install -d -m 2750 -o RAY-USER -g GATEWAY-GROUP FOLDER

so nobody else can put a file there, and each socket (0660) is that group's. X-Forwarded-For is
believed here alone (inbound.py). The name is `<Serve's id of the replica>.sock`, which the
dashboard tells.

What a killed replica leaves behind refuses, as nobody listens, and is removed by the next one that
opens its own in that folder. One whose file has gone, with a folder that was made anew, say, opens
it again.

A replica that ends takes its file away first, so that whoever comes is refused, and says
`connection: close` with each further answer on the connections that are kept. It ends after the
last request on them (host.py says when it is told).

uvicorn comes with Ray Serve. What is used of it is what its `Server.startup` uses, without the
signals and the lifespan of a server of its own; Serve's server goes on whatever goes wrong here.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wheelway.sockets import UnusableError, bound_to, identity, path_of, remove

if TYPE_CHECKING:
    import logging
    import socket
    from collections.abc import Callable

    from wheelway.asgi import Application

TICK: Final = 1.0
"""Seconds between two looks whether the socket is still there."""
RETRY: Final = 30.0
"""Seconds between two tries to open it, at most; they begin with `TICK`."""
OPENING: Final = 5.0
"""Seconds for which one that is being opened is waited for when the replica ends."""
SETTLE: Final = 0.5
"""Seconds for which a socket without a name still takes who had come before that."""
IDLE: Final = 10.0
"""Seconds that connections without a request are kept then: the gateway may be about to use one.
HAProxy gives up those that it does not need in about that time (`pool-purge-delay`)."""
KEPT: Final = 3600.0
"""Seconds that they are kept otherwise: the gateway closes them, which then never asks on one that
is closed in the same moment."""
LOOK: Final = 0.05
"""Seconds between two looks whether a request is still under way."""
BACKLOG: Final = 512
"""Connections that wait to be accepted; beyond them the kernel refuses."""


class Direct:
    """The socket of one replica, on the loop that `want` is called on.

    Args:
        application: what it serves.
        name: the replica's, as Serve has it.
        logger: is told when it opens, and why it does not.
    """

    def __init__(self, application: Application, name: str, logger: logging.Logger) -> None:
        self._application = application
        self._name = name
        self._logger = logger
        self._wanted = ""
        self._listener: Listener | None = None
        self._error = ""
        self._answered = 0
        """Requests that former listeners answered."""
        self._changed = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._leaving: dict[asyncio.Task[None], Listener] = {}
        self._ended = 0.0
        """When the replica began to end (monotonic); 0: it does not."""

    def want(self, folder: object) -> None:
        """Listen in that folder, as soon as that can be; in none, if it is empty or None."""
        if self._ended:
            return
        self._wanted = str(folder or "")
        self._changed.set()
        if self._wanted and (self._keeping is None or self._keeping.done()):
            self._keeping = asyncio.create_task(self._keep())

    def told(self) -> dict[str, Any]:
        """For the release's metadata: how many requests it answered, and how many are under way."""
        listeners = [*self._leaving.values(), *filter(None, [self._listener])]
        answered = self._answered + sum(one.answered for one in listeners)
        ongoing = sum(one.ongoing for one in listeners)
        counts = {"answered": answered, "ongoing": ongoing} if listeners or answered else None
        return {"direct": counts, "direct_error": self._error}

    def refuse(self) -> None:
        """From now on refuse connections: the replica is about to end."""
        self._ended = self._ended or time.monotonic()
        self._wanted = ""
        self._changed.set()
        self._leave()

    async def close(self, seconds: float) -> None:
        """Wait until the last request has ended, for so many seconds at most since `refuse`."""
        self.refuse()
        end = self._ended + seconds
        if self._keeping is not None:  # it may be about to open one
            await asyncio.wait({self._keeping}, timeout=OPENING)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=max(0.0, end - time.monotonic()))

    # -- opening ---------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Have a socket in the folder that is wanted, until none is."""
        pause = TICK
        while self._wanted:
            self._changed.clear()
            if self._listener is not None and not self._listener.is_at(self._wanted):
                self._leave()
            if self._listener is None:
                await self._open(self._wanted)
            if self._listener is not None:
                self._listener.tell_time()
            pause = TICK if self._listener is not None else min(2 * pause, RETRY)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()
        self._error = ""
        self._leave()

    async def _open(self, folder: str) -> None:
        try:
            path = path_of(folder, self._name)
            listening = await asyncio.to_thread(bound_to, path)
            self._listener = await Listener.of(listening, path, self._application)
        except ImportError as error:
            self._refused(f"there is no usable uvicorn in this environment ({error})")
        except (UnusableError, OSError) as error:
            self._refused(str(error))
        # Another uvicorn may be another in any way, and Serve's own way has to go on.
        except Exception as error:  # noqa: BLE001 - logged, with its traceback
            self._refused(repr(error), error)
        else:
            self._error = ""
            self._logger.info("also answers at %s, for a gateway on this machine", path)

    def _refused(self, why: str, error: Exception | None = None) -> None:
        if why != self._error:
            self._error = why
            self._logger.warning(
                "does not answer directly, only by way of Serve: %s", why, exc_info=error
            )

    # -- leaving ---------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Refuse connections, and end those that there are with their last request."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.refuse()
            task = asyncio.create_task(self._finish(listener))
            self._leaving[task] = listener
            task.add_done_callback(self._left)

    async def _finish(self, listener: Listener) -> None:
        end = time.monotonic() + IDLE
        await asyncio.sleep(SETTLE)
        listener.close()
        while listener.ongoing or (  # noqa: ASYNC110 - no event: requests would pay
            listener.connections and time.monotonic() < end
        ):
            await asyncio.sleep(LOOK)
        listener.hang_up()

    def _left(self, task: asyncio.Task[None]) -> None:
        self._answered += self._leaving.pop(task).answered


class Listener:
    """A socket on which an application is served by uvicorn's protocol."""

    def __init__(self, path: Path, state: Any, headers: list[tuple[bytes, bytes]]) -> None:
        self._path = path
        self._file = identity(path)
        self._state = state
        # One list for all requests, also those that have begun.
        self._headers = state.default_headers = [(b"date", b""), *headers]
        self._server: asyncio.AbstractServer | None = None
        self.tell_time()

    @classmethod
    async def of(cls, listening: socket.socket, path: Path, application: Application) -> Listener:
        """Serve the application on a socket that is bound to `path`; raises ImportError."""
        try:
            protocols, state, headers = _protocols(application)
            listener = cls(path, state, headers)
            loop = asyncio.get_running_loop()
            listener._server = await loop.create_unix_server(
                protocols, sock=listening, backlog=BACKLOG
            )
        except BaseException:
            listening.close()
            remove(path)
            raise
        return listener

    @property
    def answered(self) -> int:
        """Requests until now."""
        return int(self._state.total_requests)

    @property
    def ongoing(self) -> int:
        """Requests that have not ended."""
        return len(self._state.tasks)

    @property
    def connections(self) -> int:
        """Those that are open."""
        return len(self._state.connections)

    def is_at(self, folder: str) -> bool:
        """Whether it can be found there."""
        return self._path.parent == Path(folder) and identity(self._path) == self._file

    def tell_time(self) -> None:
        """Have answers bear the date (RFC 9110, 6.6.1)."""
        self._headers[0] = (b"date", formatdate(usegmt=True).encode())

    def refuse(self) -> None:
        """Take the name away, so that nobody finds it any more, and end each connection with its
        next answer.
        """
        self._headers.append((b"connection", b"close"))
        if identity(self._path) == self._file:
            remove(self._path)

    def close(self) -> None:
        """Accept nobody any more."""
        if self._server is not None:
            self._server.close()

    def hang_up(self) -> None:
        """Close the connections on which nothing is under way."""
        for connection in list(self._state.connections):
            connection.shutdown()


def _protocols(
    application: Application,
) -> tuple[Callable[[], asyncio.Protocol], Any, list[tuple[bytes, bytes]]]:
    """What makes a protocol for each connection, what these share, and uvicorn's own headers."""
    import uvicorn  # noqa: PLC0415 - a replica has it, an author's machine may not
    from uvicorn.server import ServerState  # noqa: PLC0415 - as above

    config = uvicorn.Config(
        application,
        interface="asgi3",
        lifespan="off",  # Serve's server, and it alone, begins and ends the application's life
        proxy_headers=False,
        log_config=None,
        access_log=False,  # the gateway's own
        timeout_keep_alive=int(KEPT),
    )
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()

    def protocol() -> asyncio.Protocol:
        kind: Any = config.http_protocol_class
        made: asyncio.Protocol = kind(config=config, server_state=state, app_state={}, _loop=loop)
        return made

    return protocol, state, config.encoded_headers
