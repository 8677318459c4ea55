"""Answers a request past its event loop, while a pipeline holds that.

Nothing on a held loop can answer: not the timer that ends late requests, not the server. Another
thread can, for the connection is a descriptor of this process: it is found by the client's address,
gets the bytes of an answer, and is ended. The server learns of that as of any client that leaves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_DESCRIPTORS = Path("/proc/self/fd")


def connection_of(client: Sequence[object] | None) -> socket.socket | None:
    """A second handle of the connection whose other end has this address (ASGI, `client`); None
    when it ends in another process, such as a proxy.
    """
    with contextlib.suppress(OSError):
        for entry in _DESCRIPTORS.iterdir() if client else ():
            found = _socket(int(entry.name))
            if found is None:
                continue
            with contextlib.suppress(OSError):
                if list(found.getpeername()[:2]) == list(client or ())[:2]:
                    return found
            found.close()
    return None


def finish(connection: socket.socket, status: int, headers: bytes, body: bytes) -> None:
    """Send a whole answer (HTTP/1.1, RFC 9112) and end the connection; `headers` are whole lines.
    It is small, so the kernel takes it at once; whoever has left meanwhile gets nothing.
    """
    line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
    with connection, contextlib.suppress(OSError):
        connection.send(b"%s%sconnection: close\r\n\r\n%s" % (line, headers, body))
        connection.shutdown(socket.SHUT_RDWR)


def _socket(descriptor: int) -> socket.socket | None:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        copy = os.dup(descriptor)
    except OSError:  # closed since it was listed
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return None
