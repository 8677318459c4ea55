"""Routes that a client percent-encoded: a second, tiny application below `/predict`.

The ingress compares raw paths. A local version's route, `/predict/x/1.0+cu1`, is therefore found as
typed but not as `/predict/x/1.0%2Bcu1`, which many clients send and which means the same (RFC 3986,
6.2.2.2). Whatever no longer route matched ends up here: a path that has a plainer spelling is
forwarded to the ingress under that, anything else does not exist. The plainer spelling of a plain
path is itself, so nothing is forwarded twice.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any, Protocol

from wheelway.problem import PROBLEM_TYPE, Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from wheelway.asgi import Receive, Scope, Send

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


class Response(Protocol):
    """What came back: status, headers as received, body in pieces."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """All of them, in order."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body; raises ConnectionError when it ends early."""
        ...


class Client(Protocol):
    """An HTTP client that neither follows redirects nor touches paths, bodies or headers."""

    def request(
        self,
        method: str,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: AsyncIterator[bytes] | None,
    ) -> AbstractAsyncContextManager[Response]:
        """Send one request; `target` is path and query. Raises ConnectionError, TimeoutError."""
        ...


def plain(raw: bytes) -> bytes:
    """The plainest spelling of a path that means the same: what need not be encoded is not."""

    def decode(match: re.Match[bytes]) -> bytes:
        byte = int(match[1], 16)
        return bytes((byte,)) if byte in _PLAIN else match[0].upper()

    return _ENCODED.sub(decode, raw)


def trusting(ca_file: str | None) -> ssl.SSLContext:
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
    """

    def __init__(self, client: Client, version: str) -> None:
        self._client = client
        self._mark = (b"x-wheelway-encoded", version.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward or refuse one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
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
            await self._complain(scope, send, Problem(404, "NotFound", detail))
            return
        query = scope.get("query_string", b"")
        await self._forward(scope, receive, send, path + b"?" * bool(query) + query)

    async def _forward(self, scope: Scope, receive: Receive, send: Send, target: bytes) -> None:
        headers = _end_to_end(scope["headers"], without=(b"host",))
        names = {name for name, _ in scope["headers"]}
        has_body = bool(names & {b"content-length", b"transfer-encoding"})
        started = False
        try:
            async with self._client.request(
                scope["method"], target, headers, _body(receive) if has_body else None
            ) as response:
                headers = [*_end_to_end(response.headers, without=_OF_THIS_SERVER), self._mark]
                await send(
                    {"type": "http.response.start", "status": response.status, "headers": headers}
                )
                started = True
                async for chunk in response.chunks():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except _GoneError:
            return
        except (ConnectionError, TimeoutError) as error:
            if started:  # too late for another status: the server must cut the connection
                raise
            detail = f"The ingress could not be asked under {target.decode('latin-1')!r} ({error})."
            await self._complain(scope, send, Problem(502, "IngressUnreachable", detail))

    async def _complain(self, scope: Scope, send: Send, what: Problem) -> None:
        request_id = next((v for k, v in scope["headers"] if k == b"x-request-id"), b"")
        body = what.body(request_id.decode("latin-1"))
        headers = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            self._mark,
        ]
        await send({"type": "http.response.start", "status": what.status, "headers": headers})
        await send(
            {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body}
        )


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


def _end_to_end(headers: Any, without: tuple[bytes, ...] = ()) -> list[tuple[bytes, bytes]]:
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


async def _live(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})
