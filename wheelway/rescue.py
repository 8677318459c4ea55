"""Answers a request past its event loop, while a pipeline holds that.

Nothing on a held loop can answer: not the timer that ends late requests, not the server. Another
thread can, if it has the request's own connection. That is taken from the server's transport, to
which uvicorn binds `receive`, and from nothing that a client could choose: the `client` of an ASGI
scope may come from X-Forwarded-For. In doubt nobody is answered.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

_SERVER = "uvicorn.protocols.http."


@dataclass(frozen=True, slots=True)
class Connection:
    """A second handle of a connection on which a request waits for its answer."""

    socket: socket.socket
    cycle: Any
    """What uvicorn knows of that request."""

    @property
    def is_free(self) -> bool:
        """Whether nothing of an answer was sent, nor can be without this changing."""
        return not self.cycle.response_started and not self.cycle.disconnected

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """Send a whole answer (HTTP/1.1, RFC 9112) and end the connection; `headers` are whole
        lines. It is small, so the kernel takes it at once; who has left meanwhile gets nothing.
        """
        with self.socket, contextlib.suppress(OSError):
            if not self.is_free:
                return
            self.cycle.disconnected = True  # from now on uvicorn itself writes nothing
            if self.cycle.response_started:
                return
            line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
            whole = b"%s%sconnection: close\r\n\r\n%s" % (line, headers, body)
            self.socket.send(whole, socket.MSG_DONTWAIT)
            self.socket.shutdown(socket.SHUT_RDWR)


def connection_of(receive: object, loop: asyncio.AbstractEventLoop) -> Connection | None:
    """The connection of the request to which an ASGI `receive` belongs, whose server runs on
    `loop`. None where that cannot be known for certain, or the next bytes on it may not be those
    of this request's answer.
    """
    cycle: Any = getattr(receive, "__self__", None)
    if not type(cycle).__module__.startswith(_SERVER):
        return None
    try:
        transport, protocol = cycle.transport, cycle.transport.get_protocol()
        if (
            protocol.loop is not loop
            or protocol.cycle is not cycle
            or getattr(protocol, "pipeline", None)  # the next request is there already
            or transport.get_extra_info("sslcontext") is not None
            or transport.get_write_buffer_size()
        ):
            return None
        connection = Connection(transport.get_extra_info("socket").dup(), cycle)
        try:
            # A descriptor that was closed may be somebody else's by now. A transport is closing
            # before it closes its own, and no two connections by TCP have the same ends.
            ends = _ends(connection.socket)
            ours = not transport.is_closing() and ends == (protocol.server, protocol.client)
        except OSError:
            ours = False
        if ours and connection.is_free:
            return connection
        connection.socket.close()
    except (AttributeError, OSError):  # another uvicorn, or closed meanwhile
        pass
    return None


def _ends(connection: socket.socket) -> tuple[Any, Any]:
    """This one and the other, as uvicorn tells them; those of a Unix socket have no other name."""
    here, there = connection.getsockname(), connection.getpeername()
    return ((here, None), None) if isinstance(here, str) else (here[:2], there[:2])


def close(receive: object) -> None:
    """On the loop: let the server drop the connection of a request that was answered past it."""
    receive.__self__.transport.close()  # type: ignore[attr-defined] # connection_of has seen it
