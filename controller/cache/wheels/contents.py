"""What is in a file of a wheel: read once, and hashed and written on the way."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import zipfile
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

_CHUNK: Final = 1 << 20
"""Bytes. Hashing, reading and writing leave the interpreter to others: the larger the piece, the
seldomer all wait for each other."""
_LARGE: Final = 1 << 16
"""Bytes of a file that is read beside `zipfile`, which takes long for many of them."""
_HEADER: Final = struct.Struct("<26x2H")
"""A local file header: the lengths of the name and the extra field (APPNOTE.TXT 4.3.7), which come
after it, and then the file."""


class Content(NamedTuple):
    """What a file holds."""

    hash: str
    """In RECORD's form: algorithm, "=", urlsafe base64 without padding."""
    size: int
    """Bytes."""


NO_CONTENT: Final = Content("", 0)


def read(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, algorithm: str, to: FileIO | None = None
) -> Content:
    """Read a file of an archive, and write what was hashed `to` another.

    Args:
        archive: open.
        info: one of its files, whose hash is known: one that is not compressed has no other
            checksum compared.
        algorithm: of `hashlib`.
        to: not buffered.

    Raises:
        BadZipFile, zlib.error, EOFError: it is damaged.
    """
    digest, size = hashlib.new(algorithm), 0
    plain = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
    pieces = _stored if plain and info.file_size >= _LARGE else _inflated
    for piece in pieces(archive, info):
        digest.update(piece)
        size += len(piece)
        if to is not None:
            write(to, piece)
    encoded = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
    return Content(f"{algorithm}={encoded}", size)


def write(to: FileIO, piece: bytes | memoryview) -> None:
    """Write all of it."""
    rest = memoryview(piece)
    while rest:
        rest = rest[to.write(rest) :]


def _inflated(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(info) as stream:
        while piece := stream.read(_CHUNK):
            yield piece


def _stored(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[memoryview]:
    """The bytes as they lie in the archive; each piece is good until the next."""
    with archive.open(info):  # which judges the header
        pass
    assert archive.fp is not None  # noqa: S101 - it is open
    descriptor = archive.fp.fileno()
    header = os.pread(descriptor, _HEADER.size, info.header_offset)
    at = info.header_offset + _HEADER.size + sum(_HEADER.unpack(header))
    left, buffer = info.file_size, memoryview(bytearray(_CHUNK))
    while left:
        got = os.preadv(descriptor, [buffer[: min(left, _CHUNK)]], at)
        if not got:
            raise EOFError(f"{info.filename} ends too early")
        yield buffer[:got]
        at, left = at + got, left - got
