"""Bodies of requests: received whole, and without the coding that a client gave them.

What a codec of the standard library understands (RFC 9110, 8.4) is decoded, whatever the content
type: a pipeline of raw bytes gets the client's bytes, not their wrapping. The limits are those of
bodies that are not compressed.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Final

from wheelway import problem

if TYPE_CHECKING:
    from wheelway.asgi import Message, Receive
    from wheelway.problem import Problem

_WINDOWS: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # `wbits` of zlib.decompressobj
_IDENTITY: Final = frozenset((b"", b"identity"))
_MEMBERS = 1024
"""A gzip file may be several in a row; as many empty ones as fit would only cost time."""
_SLICE = 8 << 10
"""Bytes at a time: a part copies what follows it within its last slice, hence not the whole rest
for each part of many."""


def is_known(coding: bytes) -> bool:
    """Whether `decoded` understands what a `content-encoding` says; several codings it does not."""
    name = coding.strip().lower()
    return name in _WINDOWS or name in _IDENTITY


async def received(
    message: Message, receive: Receive, most: int, coding: bytes | None
) -> bytes | Problem | None:
    """The whole body that begins with `message`, without its coding; None when the client left.

    `most` is in bytes, of the body as sent and as decoded.
    """
    parts, size = [], 0
    while message["type"] != "http.disconnect":
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            return problem.too_large(most)
        if not message.get("more_body"):
            body = b"".join(parts)
            return body if coding is None else await _decoded(body, coding, most)
        message = await receive()
    return None


async def _decoded(body: bytes, coding: bytes, most: int) -> bytes | Problem:
    """A body without its coding, decoded in a thread: a small one may stand for a large one."""
    try:
        plain = await asyncio.to_thread(decoded, body, coding, most)
    except ValueError as error:
        return problem.coding_broken(coding.decode("latin-1"), str(error))
    return problem.too_large(most) if plain is None else plain


def decoded(body: bytes, coding: bytes, most: int) -> bytes | None:
    """A body without its coding; None when it would have more than `most` bytes.

    Raises:
        ValueError: it does not have this coding, or is not complete.
    """
    window = _WINDOWS.get(coding.strip().lower())
    if window is None:
        return body
    parts: list[bytes] = []
    left, at, view = most + 1, 0, memoryview(body)
    for _ in range(_MEMBERS):
        member = zlib.decompressobj(window)
        while not member.eof:
            if at >= len(body):
                raise ValueError("it ends too early")
            given = view[at : at + _SLICE]
            try:
                parts.append(member.decompress(given, left))
            except zlib.error as error:
                raise ValueError(str(error)) from error
            left -= len(parts[-1])
            if left <= 0:
                return None
            at += len(given) - len(member.unused_data)
        if at >= len(body):
            return b"".join(parts)
    raise ValueError(f"it has more than {_MEMBERS} parts")
