"""One HTTP exchange, bounded in bytes and in time, whatever the other side does.

httpx has a timeout for each wait and reads a body whole: a server that sends a byte now and then is
waited for without end, and one that never stops fills the memory. Every client of the daemon goes
through here; only an index's pages and wheels, which may be large, are read by `sources.web` at a
least pace.
"""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
import itertools
import logging
import os
import socket
import ssl
import threading
import time
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
from pydantic_core import from_json

from controller.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

log = logging.getLogger("wheelway")

_FRAMING: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})
NO_REUSE: Final = httpx.Limits(max_keepalive_connections=0)
"""For clients that use `exchange`: a deadline can end only a connection that it saw begin."""
ASKING: Final = "exchange"
"""The name of threads that wait for a name to be resolved."""
_PROXIES: Final = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
_AUTHORITIES: Final = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR"})
"""Variables that httpx heeds: https://www.python-httpx.org/environment_variables/."""


class BodyTooLarge(httpx.HTTPError):
    """A body had more bytes than anybody expects."""


class ExchangeTimeout(httpx.TimeoutException):
    """The answer was not complete when its time was up."""


# -- clients -------------------------------------------------------------------------------------


def own_client(**options: Any) -> httpx.Client:
    """A client for `exchange` with the cluster, for which neither proxies nor credentials of the
    environment are meant.
    """
    return httpx.Client(trust_env=False, limits=NO_REUSE, **options)


def outward_client(**options: Any) -> httpx.Client:
    """A client for servers outside of the cluster, by the environment's proxies and authorities.

    Raises:
        ConfigError: the environment names some that cannot be used.
    """
    with _environment():
        return httpx.Client(**options)


def outward_authorities() -> ssl.SSLContext:
    """The authorities that such a client trusts; loading them takes megabytes and milliseconds.

    Raises:
        ConfigError: the environment names some that cannot be used.
    """
    with _environment():
        return httpx.create_ssl_context()


@contextmanager
def _environment() -> Iterator[None]:
    """Raise ConfigError where httpx cannot use the environment."""
    try:
        yield
    except (ValueError, OSError, ImportError, httpx.InvalidURL) as error:
        heeded = _AUTHORITIES if isinstance(error, OSError) else _PROXIES
        given = " or ".join(sorted(name for name in os.environ if name.upper() in heeded))
        raise ConfigError(f"environment variable {given}: cannot be used: {error}") from error


# -- exchanges -----------------------------------------------------------------------------------


def exchange(
    client: httpx.Client, method: str, url: str, *, seconds: float, limit: int, **content: Any
) -> httpx.Response:
    """A request and its whole answer; `client` keeps no connection (`NO_REUSE`).

    Args:
        client: what to ask with.
        method: of HTTP.
        url: where to.
        seconds: from resolving the name to the end of the answer.
        limit: bytes of the decoded body.
        content: as `httpx.Client.request` takes it.

    Raises:
        httpx.HTTPError: no answer; `ExchangeTimeout`, `BodyTooLarge`.
        httpx.InvalidURL: `url` is none.
    """
    deadline = Deadline(seconds)
    ask = partial(_exchange, client, method, url, deadline, limit, content)
    host = httpx.URL(url).host or client.base_url.host
    return ask() if _is_address(host) else _beside(ask, deadline)


def answer(client: httpx.Client, url: str, *, seconds: float, limit: int) -> httpx.Response | None:
    """What a GET brings, as `exchange` does it; None when nothing answers."""
    try:
        return exchange(client, "GET", url, seconds=seconds, limit=limit)
    except (httpx.HTTPError, httpx.InvalidURL):
        return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _beside(ask: Callable[[], httpx.Response], deadline: Deadline) -> httpx.Response:
    """The answer of a host with a name. Nothing can end the resolving of a name, so another thread
    waits for it; after the deadline that thread sends nothing any more.
    """
    found: Future[httpx.Response] = Future()

    def run() -> None:
        try:
            found.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            found.set_exception(error)

    threading.Thread(target=run, name=ASKING, daemon=True).start()
    if not wait([found], deadline.seconds).done:
        deadline.expire()
        raise deadline.missed()
    return found.result()


def _exchange(
    client: httpx.Client,
    method: str,
    url: str,
    deadline: Deadline,
    limit: int,
    content: Mapping[str, Any],
) -> httpx.Response:
    with deadline:
        extensions = {"trace": deadline.watch}
        try:
            with client.stream(
                method, url, timeout=deadline.seconds, extensions=extensions, **content
            ) as response:
                body = list(at_most(response.iter_bytes(), limit))
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise
        except httpx.TransportError as error:
            # Each read has the same limit, and may meet it first: that is told alike.
            if deadline.over or isinstance(error, httpx.TimeoutException):
                raise deadline.missed() from error
            raise
    if deadline.over:  # a body that ends with its connection looks whole
        raise deadline.missed()
    return _whole(response, body)


async def exchange_async(
    client: httpx.AsyncClient, method: str, url: str, *, seconds: float, limit: int, **content: Any
) -> httpx.Response:
    """The same, awaited.

    Raises:
        httpx.HTTPError: as `exchange`.
    """
    body, size = [], 0
    try:
        async with (
            asyncio.timeout(seconds),
            client.stream(method, url, timeout=seconds, **content) as response,
        ):
            async for chunk in response.aiter_bytes():
                size = _within(limit, size + len(chunk))
                body.append(chunk)
    except TimeoutError as error:
        raise ExchangeTimeout(f"not complete within {seconds:g} s") from error
    return _whole(response, body)


def at_most(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """The chunks as they come; raises BodyTooLarge when they have more bytes than `limit`."""
    size = 0
    for chunk in chunks:
        size = _within(limit, size + len(chunk))
        yield chunk


def _within(limit: int, size: int) -> int:
    if size > limit:
        raise BodyTooLarge(f"more than {limit} bytes")
    return size


def _whole(response: httpx.Response, body: list[bytes]) -> httpx.Response:
    headers = [(k, v) for k, v in response.headers.multi_items() if k not in _FRAMING]
    return httpx.Response(
        response.status_code, headers=headers, content=b"".join(body), request=response.request
    )


def document(response: httpx.Response) -> Any:
    """The value of a body of strict JSON in UTF-8 (RFC 8259), so that it can be written again.

    Raises:
        ValueError: it is something else, or nested too deep.
    """
    return from_json(response.content, allow_inf_nan=False)


def is_untrusted(error: BaseException | None) -> bool:
    """Whether the cause was a certificate that is not trusted here."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


# -- deadlines -----------------------------------------------------------------------------------


class Deadline:
    """Shuts a request's connection down when its time is up.

    `otherwise` is called instead, in a thread of its own, when the request goes over a connection
    that was there before. Before there is one, the system resolves a name, which nothing can end:
    `exchange` stops waiting for it, jobs in threads of their own wait for the half minute or so
    that resolv.conf(5) allows.
    """

    def __init__(self, seconds: float, otherwise: Callable[[], None] | None = None) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._otherwise = otherwise
        self._ended = False
        self.over = False
        """Whether the time was up before the end."""

    def __enter__(self) -> Self:
        _WATCH.add(time.monotonic() + self.seconds, self)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ended, self._connection, self._otherwise = True, None, None

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Learn of the connection, once it is made and once it is encrypted: the `trace` of
        https://www.python-httpx.org/advanced/extensions/.
        """
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                self._connection = info["return_value"].get_extra_info("socket")
            if self.over:
                self.expire()

    def missed(self) -> ExchangeTimeout:
        """The error for a request whose time was up."""
        return ExchangeTimeout(f"not complete within {self.seconds:g} s")

    def expire(self) -> None:
        """Shut the connection down: the time is up."""
        with self._lock:
            if self._ended:
                return
            self.over = True
            if self._connection is not None:
                with suppress(OSError):  # it is closed already
                    # Of the plain class: an encrypted one would say goodbye, and wait for it.
                    socket.socket.shutdown(self._connection, socket.SHUT_RDWR)
            elif self._otherwise is not None:
                threading.Thread(target=self._otherwise, daemon=True).start()


class _Watch:
    """One thread for all deadlines: one each would cost more than the requests."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Deadline]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def add(self, at: float, deadline: Deadline) -> None:
        """Have a deadline expire at a time of the monotonic clock."""
        with self._changed:
            heapq.heappush(self._due, (at, next(self._numbers), deadline))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif self._due[0][2] is deadline:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                _, _, deadline = heapq.heappop(self._due)
            try:
                deadline.expire()
            except Exception:
                # Every other request's deadline hangs on this thread: one that fails is told.
                log.exception("a request could not be ended when its time was up")


_WATCH: Final = _Watch()
