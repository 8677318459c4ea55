"""Routes that a client percent-encoded: a second, tiny application below `/predict`.

The ingress compares raw paths. A local version's route, `/predict/x/1.0+cu1`, is therefore found as
typed but not as `/predict/x/1.0%2Bcu1`, which many clients send and which means the same (RFC 3986,
6.2.2.2). Whatever no longer route matched ends up here: a path that has a plainer spelling is
forwarded to the ingress under that, anything else does not exist. The plainer spelling of a plain
path is itself, so nothing is forwarded twice. aiohttp, which forwards, comes with Ray.
"""

from __future__ import annotations

import re
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from wheelway.problem import Problem, sane_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wheelway.asgi import Headers, Receive, Scope, Send

_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")
_PLAIN = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@"
)
"""What a path segment may hold as it is (RFC 3986, `pchar`)."""
_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Headers that concern one connection only (RFC 9110, 7.6.1)."""

_OF_THIS_SERVER = (b"date", b"server", b"x-request-id", b"x-wheelway-encoded")
"""Response headers that are added here, or by the server in front, anyway."""


_CONNECT_TIMEOUT = 5.0
_READ_TIMEOUT = 3600.0
"""Seconds between two pieces of a forwarded answer; the release's own timeout is what ends it."""


def plain(raw: bytes) -> bytes:
    """The plainest spelling of a path that means the same: what need not be encoded is not."""

    def decode(match: re.Match[bytes]) -> bytes:
        byte = int(match[1], 16)
        return bytes((byte,)) if byte in _PLAIN else match[0].upper()

    return _ENCODED.sub(decode, raw)


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    """What trusts the public authorities, and those of a PEM bundle if there is one.

    Raises:
        ConnectionError: the bundle cannot be used.
    """
    context = ssl.create_default_context()
    try:
        if ca_file is not None:
            context.load_verify_locations(ca_file)
    except OSError as error:  # ssl.SSLError is one
        why = f"ray.ca_file {ca_file}: {error}; replicas must be able to read it, too"
        raise ConnectionError(why) from error
    return context


class EncodedRoutes:
    """The ASGI application. Its own answers and those it passes on carry `x-wheelway-encoded` with
    wheelway's version, so that a reader of headers sees the detour.

    Args:
        url: of the ingress.
        version: wheelway's.
        ca_file: a PEM bundle to trust besides the public authorities.
    """

    def __init__(self, url: str, version: str, ca_file: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._ca_file = ca_file
        self._session: aiohttp.ClientSession | None = None
        self._mark = (b"x-wheelway-encoded", version.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward or refuse one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            if self._session is not None:
                await self._session.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        raw = scope.get("raw_path") or scope["path"].encode()
        path = plain(raw)
        if path == raw:
            detail = (
                f"No release is served at {scope['path']!r}; `wheelway status` lists the routes."
            )
            await self._refuse(scope, send, Problem(404, "NotFound", detail))
            return
        query = scope.get("query_string", b"")
        await self._forward(scope, receive, send, path + b"?" * bool(query) + query)

    async def _forward(self, scope: Scope, receive: Receive, send: Send, target: bytes) -> None:
        headers = _end_to_end(scope["headers"], without=(b"host",))
        names = {name for name, _ in scope["headers"]}
        has_body = bool(names & {b"content-length", b"transfer-encoding"})
        started = False
        try:
            async with self._asked(
                scope["method"], target, headers, _body(receive) if has_body else None
            ) as response:
                headers = [*_end_to_end(response.raw_headers, without=_OF_THIS_SERVER), self._mark]
                await send(
                    {"type": "http.response.start", "status": response.status, "headers": headers}
                )
                started = True
                async for chunk in response.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except _GoneError:
            return
        except (ConnectionError, TimeoutError) as error:
            if started:  # too late for another status: the server must cut the connection
                raise
            detail = f"The ingress could not be asked under {target.decode('latin-1')!r} ({error})."
            await self._refuse(scope, send, Problem(502, "IngressUnreachable", detail))

    async def _refuse(self, scope: Scope, send: Send, what: Problem) -> None:
        await what.send(scope, send, sane_id(scope), self._mark)

    @asynccontextmanager
    async def _asked(
        self, method: str, target: bytes, headers: Headers, body: AsyncIterator[bytes] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The ingress's answer to a request for `target`, a path and query. Neither are redirects
        followed, nor paths, bodies or headers touched.

        Raises:
            ConnectionError: there is none, or it ends early.
            TimeoutError: it does not come.
        """
        if self._session is None:  # needs a running loop
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                connector=aiohttp.TCPConnector(limit=0, ssl=_trusting(self._ca_file)),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=_READ_TIMEOUT
                ),
            )
        try:
            async with self._session.request(
                method,
                URL(self._url + target.decode("latin-1"), encoded=True),
                headers=[(name.decode("latin-1"), v.decode("latin-1")) for name, v in headers],
                data=body,
                allow_redirects=False,
            ) as response:
                yield response
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error) or type(error).__name__) from error


class _GoneError(Exception):
    """The client went away while it was sending."""


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


def _end_to_end(headers: Any, without: tuple[bytes, ...] = ()) -> Headers:
    """Headers that may be passed on: not those of the connection, nor what `connection` names."""
    pairs = [(name.lower(), value) for name, value in headers]
    named = {
        token.strip().lower()
        for name, value in pairs
        if name == b"connection"
        for token in value.split(b",")
    }
    return [
        (name, value)
        for name, value in pairs
        if name not in _HOP_BY_HOP and name not in named and name not in without
    ]
