"""Bodies that a client compressed (RFC 9110, 8.4), within the limits of those that are not.

What a codec of the standard library understands is decoded, whatever the content type: a pipeline
of raw bytes gets the client's bytes, not their wrapping.
"""

from __future__ import annotations

import zlib
from typing import Final

ACCEPTED: Final = b"gzip, deflate"
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
