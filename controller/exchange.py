"""One HTTP exchange, bounded in bytes and in time, whatever the other side does.

httpx has a timeout for each wait and reads a body whole: who sends a byte now and then is waited
for without end, and who never stops fills the memory. Every client of the daemon goes through here;
only an index's pages and wheels, which may be large, are read by `sources.web` at a least pace.
"""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
import itertools
import json
import logging
import math
import os
import re
import socket
import threading
import time
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from controller.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

log = logging.getLogger("wheelway")

_FRAMING: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
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


def outward_client(**settings: Any) -> httpx.Client:
    """A client for what is out in the world: by the environment's proxies and authorities.

    Raises:
        ConfigError: the environment names some that cannot be used.
    """
    with _environment():
        return httpx.Client(**settings)


def outward_authorities() -> ssl.SSLContext:
    """Those that such a client trusts; loading them takes megabytes and milliseconds.

    Raises:
        ConfigError: the environment names some that cannot be used.
    """
    with _environment():
        return httpx.create_ssl_context()


@contextmanager
def _environment() -> Iterator[None]:
    """Say so, when it is the environment that httpx cannot use."""
    try:
        yield
    except (ValueError, OSError, ImportError, httpx.InvalidURL) as error:
        heeded = _AUTHORITIES if isinstance(error, OSError) else _PROXIES
        given = " or ".join(sorted(name for name in os.environ if name.upper() in heeded))
        raise ConfigError(f"environment variable {given}: cannot be used: {error}") from error


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


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _beside(ask: Callable[[], httpx.Response], deadline: Deadline) -> httpx.Response:
    """The answer of who is asked by name: the system resolves it, which nobody can end, so that
    another thread waits for that. What comes of it too late sends nothing any more.
    """
    answer: Future[httpx.Response] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            answer.set_exception(error)

    threading.Thread(target=run, name=ASKING, daemon=True).start()
    if not wait([answer], deadline.seconds).done:
        deadline.expire()
        raise deadline.missed()
    return answer.result()


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
                body = b"".join(at_most(response.iter_bytes(), limit))
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
                body.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise BodyTooLarge(f"more than {limit} bytes")
    except TimeoutError as error:
        raise ExchangeTimeout(f"not complete within {seconds:g} s") from error
    return _whole(response, b"".join(body))


def _whole(response: httpx.Response, body: bytes) -> httpx.Response:
    headers = [(k, v) for k, v in response.headers.multi_items() if k not in _FRAMING]
    return httpx.Response(
        response.status_code, headers=headers, content=body, request=response.request
    )


def at_most(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """The chunks as they come.

    Raises:
        BodyTooLarge: together they have more than `limit` bytes.
    """
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"more than {limit} bytes")
        yield chunk


def document(response: httpx.Response) -> Any:
    """What a body of JSON says, in strict JSON and UTF-8 (RFC 8259), so that it can be said again.

    Raises:
        ValueError: it is something else, or nested deeper than Python can read.
    """
    text = response.content.decode("utf-8").strip(" \t\n\r")
    value, end = value_at(text, 0)
    if end != len(text):
        raise ValueError(f"at character {end}: more than one value")
    return value


def value_at(text: str, begin: int) -> tuple[Any, int]:
    """The value that begins there in a text of strict JSON, and where it ends.

    Raises:
        ValueError: there is none, or it is nested deeper than Python can read.
    """
    value, end = _decoded(_STRICT, text, begin)
    if _SURROGATE.search(text, begin, end):  # half a character cannot be written in UTF-8
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value, end


def any_value_at(text: str, begin: int) -> tuple[Any, int]:
    """The same in what Python writes as JSON: with NaN, infinities, and halves of characters. A
    NaN is one object, so that what holds it is equal to itself.

    Raises:
        ValueError: as `value_at`.
    """
    try:
        return value_at(text, begin)
    except ValueError:
        return _decoded(_PYTHONS, text, begin)


def _decoded(decoder: json.JSONDecoder, text: str, begin: int) -> tuple[Any, int]:
    try:
        return decoder.raw_decode(text, begin)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _refused(constant: str) -> object:
    raise ValueError(f"{constant} is not a number of JSON")


_STRICT: Final = json.JSONDecoder(parse_constant=_refused)
_PYTHONS: Final = json.JSONDecoder(
    parse_constant={"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.__getitem__
)


class Deadline:
    """Shuts a request's connection down when its time is up.

    `otherwise` is called instead, in a thread of its own, when the request goes over a connection
    that was there before. Until there is one, a request waits for the system to resolve a name,
    which nothing here can end: `exchange` waits no longer, jobs in threads of their own do, for the
    half minute or so that resolv.conf(5) allows.
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
        """What is raised when it is over."""
        return ExchangeTimeout(f"not complete within {self.seconds:g} s")

    def expire(self) -> None:
        """The time is up: nothing more comes, unless all has come."""
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
    """One thread for the deadlines of all: one each would cost more than the requests."""

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
