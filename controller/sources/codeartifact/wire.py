"""HTTP under botocore: its own sessions, with answers bounded in bytes and in time.

Botocore has a timeout for each wait and reads a body whole: a server that sends a byte now and then
is waited for without end, and one that never stops fills the memory. A handler of its `before-send`
event may give the answer itself. This one sends the request as botocore would (proxies,
authorities, connections kept alive, its own exceptions), over connections whose every read is
counted and timed. Clients that the chain of credentials makes (STS, SSO) send their requests here
too; the metadata of an instance or container come from this machine's own host and keep botocore's
timeouts.
"""

from __future__ import annotations

import http.client
import io
import os
import socket
import threading
import time
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from botocore import exceptions as boto
from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError
from urllib3.util.ssltransport import SSLTransport

from controller.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

    from controller.config.sources import CodeArtifactSource

LIMIT: Final = 16 * 2**20
"""Bytes of an answer; the largest page of a listing has some hundred thousand."""


class AnswerTooLarge(boto.BotoCoreError):
    """An answer had more bytes than anybody expects."""

    fmt = "an answer of more than {limit} bytes"


class Wire:
    """The requests of one source are sent here. Any method may be called from any thread.

    Args:
        options: the source, whose timeouts count.
        closing: set when the source ends; see `interrupt`.
        connections: kept alive, for each host.
    """

    def __init__(
        self, options: CodeArtifactSource, closing: threading.Event, connections: int
    ) -> None:
        self._options = options
        self._closing = closing
        self._made: dict[str, URLLib3Session] = {}
        self._making = threading.Lock()
        self._reading: weakref.WeakSet[_Bounded] = weakref.WeakSet()
        self._verify: str | bool = True
        self._common: Mapping[str, Any] = {
            "timeout": (options.connect_timeout, options.read_timeout),
            "max_pool_connections": connections,
            "socket_options": [
                (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            ],
        }

    def begin(self, authorities: str | None) -> None:
        """Send by new connections, through the proxies that the environment names now.

        `authorities` is a file of them; None for those that botocore takes by itself.
        """
        self._verify = authorities or os.environ.get("REQUESTS_CA_BUNDLE") or True
        self.close()

    def send(self, *, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        """The answer to a request; a wheel's body is still to be read, any other is there.

        Raises:
            botocore.exceptions.BotoCoreError: as botocore; `AnswerTooLarge`.
            Transient: `SourceClosed`.
        """
        try:
            answer = self._session(request.url).send(request)
        except boto.HTTPClientError as error:
            if self._closing.is_set():
                raise Transient(
                    "SourceClosed", f"source {self._options.name} was closed"
                ) from error
            if isinstance(error.__context__, AnswerTooLarge):
                raise error.__context__ from error
            raise
        if request.stream_output:
            self._opened(answer)
        return answer

    def interrupt(self) -> None:
        """After `closing` was set: nothing more comes of any answer."""
        with self._making:
            for answer in tuple(self._reading):
                answer.shut()

    def _began(self, answer: _Bounded) -> None:
        with self._making:
            self._reading.add(answer)
        if self._closing.is_set():
            answer.shut()

    def close(self) -> None:
        """Close the connections that are kept alive."""
        with self._making:
            made, self._made = self._made, {}
        for session in made.values():
            session.close()

    def _opened(self, answer: AWSResponse) -> None:
        """Bound the body of an error now; that of a wheel is bounded while it is read."""
        if answer.status_code < 300:
            under: Any = answer.raw._original_response  # noqa: SLF001 - no other way to it
            under.bounded.lasts(self._options.download_timeout)
            return
        try:
            answer.content  # noqa: B018 - read here, where its failures are told by its kind
        except HTTPError as error:
            raise boto.ResponseStreamingError(error=error) from error

    def _session(self, url: str) -> URLLib3Session:
        """The session for a host, which may have a proxy of its own."""
        parts = urlsplit(url)
        host = f"{parts.scheme}://{parts.netloc}"
        with self._making:
            if host not in self._made:
                self._made[host] = _Session(
                    self._began,
                    proxies=get_environ_proxies(url),
                    verify=self._verify,
                    **self._common,
                )
            return self._made[host]


class _Answer(http.client.HTTPResponse):
    """An answer that is complete within the connection's seconds, and within `LIMIT` bytes."""

    def __init__(
        self, began: Callable[[_Bounded], None], sock: socket.socket, *args: Any, **how: Any
    ) -> None:
        super().__init__(sock, *args, **how)
        self.bounded = _Bounded(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self.bounded)
        began(self.bounded)


class _Session(URLLib3Session):
    """Botocore's own, over connections whose answers are bounded; each that `began` is told."""

    def __init__(self, began: Callable[[_Bounded], None], **how: Any) -> None:
        super().__init__(**how)
        answers = {"response_class": staticmethod(partial(_Answer, began))}
        # One mapping, of the manager and of those that there will be for proxies.
        self._pool_classes_by_scheme: dict[str, Any]
        for scheme, pool, connection in (
            ("http", AWSHTTPConnectionPool, AWSHTTPConnection),
            ("https", AWSHTTPSConnectionPool, AWSHTTPSConnection),
        ):
            over = {"ConnectionCls": type("_Connection", (connection,), answers)}
            self._pool_classes_by_scheme[scheme] = type("_Pool", (pool,), over)


class _Bounded(io.RawIOBase):
    """The bytes of a connection, bounded in number and in seconds."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket) -> None:
        self._raw = raw
        self._connection = connection
        self._wait = self._seconds = connection.gettimeout() or 0.0
        self._until = time.monotonic() + self._seconds
        self._left = float(LIMIT)

    def lasts(self, seconds: float) -> None:
        """Allow so many seconds from now on, and any number of bytes."""
        self._seconds, self._until = seconds, time.monotonic() + seconds
        self._left = float("inf")

    def shut(self) -> None:
        """End it; may be called from any thread."""
        under: Any = self._connection
        while isinstance(under, SSLTransport):  # TLS in a proxy's TLS: it is no socket, it has one
            under = under.socket
        with suppress(OSError):  # it is closed already
            # Of the plain class: an encrypted one would say goodbye, and wait for it.
            socket.socket.shutdown(under, socket.SHUT_RDWR)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Raises TimeoutError, AnswerTooLarge."""
        remaining = self._until - time.monotonic()
        if remaining <= 0:
            raise TimeoutError(f"not complete within {self._seconds:g} s")
        self._connection.settimeout(min(self._wait, remaining))
        try:
            got = self._raw.readinto(buffer)
        except TimeoutError:
            waited = min(self._wait, self._seconds)
            raise TimeoutError(f"nothing more came within {waited:g} s") from None
        self._left -= got or 0
        if self._left < 0:
            raise AnswerTooLarge(limit=LIMIT)
        return got

    def close(self) -> None:
        self._raw.close()
        super().close()
