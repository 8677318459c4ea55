"""A wheel as a zip file of unknown origin: bounded before it is read, refused unless it is plain.

Every size is checked before the bytes behind it are read, and whatever a parser trips over while
the archive is open rejects the file. The format is PKWARE's APPNOTE.TXT; `zipfile` reads it.
"""

from __future__ import annotations

import contextlib
import email.errors
import errno
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from installer.exceptions import InstallerError

from controller.errors import Rejected, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from controller.config.settings import InspectionLimits

REBUILD = "rebuild the wheel with its build backend"

_COMPRESSIONS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED = 0x1  # of the general purpose flags, APPNOTE.TXT 4.4.4
_UNICODE_PATH = 0x7075  # an extra field with another name for the entry, APPNOTE.TXT 4.6.9
_SMALL = 1 << 20  # bytes that are no bomb, whatever their ratio
_MAX_NAME = 255  # bytes of one path segment, on every file system we know


@contextlib.contextmanager
def opened(wheel: Path, name: str, limits: InspectionLimits) -> Iterator[zipfile.ZipFile]:
    """The archive, of which only the size of its directory is checked; `name` is for messages.

    Raises, also for what goes wrong in its block:
        Rejected: NotAZip, Truncated, ZipDamaged, TooManyFiles.
        Transient: `CacheUnusable`, when the file system fails.
        OSError: there is no space left where the block writes.
    """
    with _translated(name), wheel.open("rb") as stream:
        _check_ends(name, stream.read(4), _central_directory_size(wheel), limits)
        with zipfile.ZipFile(wheel) as archive:
            archive.filename = name
            yield archive


def holds(
    archive: zipfile.ZipFile, path: re.Pattern[str], text: re.Pattern[bytes], at_most: int
) -> bool:
    """Whether a file whose path matches has such a text in it. A file that is encrypted, or longer
    than `at_most` bytes, may have it. For an archive that is not checked yet.
    """
    for entry in archive.infolist():
        if path.fullmatch(entry.filename):
            if entry.flag_bits & _ENCRYPTED:
                return True
            with archive.open(entry) as stream:
                body = stream.read(at_most + 1)
            if text.search(body) or len(body) > at_most:
                return True
    return False


def check(name: str, archive: zipfile.ZipFile, packed: int, limits: InspectionLimits) -> None:
    """Judge the entries; `packed` is the size of the file in bytes.

    Raises:
        Rejected: TooManyFiles, PathEscape, PathTooLong, SpecialEntry, EncryptedEntry,
            CompressionUnsupported, DuplicateEntry, TooLarge, RatioTooHigh.
    """
    _check_entries(name, archive.infolist(), limits)
    _check_sizes(name, archive.infolist(), packed, limits)


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turn whatever hostile bytes can raise into Rejected, but not the failure of a disk."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:  # of the disk that it is unpacked to
            raise
        if error.errno not in {None, errno.EINVAL}:  # EINVAL: an offset that cannot be
            raise Transient(
                "CacheUnusable", f"{name} cannot be read from the cache: {error}; check that disk"
            ) from error
        raise _damaged(name, error) from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        email.errors.MessageError,
        InstallerError,
        EOFError,
        LookupError,
        NotImplementedError,  # of zipfile: features that it does not read
        OverflowError,
        RuntimeError,  # of zipfile: encrypted entries, and recursion of a parser
        ValueError,
    ) as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> Rejected:
    return Rejected(
        "ZipDamaged",
        f"{name} is a damaged zip file ({error}); publish it again, and check that "
        "the upload ended before the file got its name",
    )


def _check_ends(name: str, start: bytes, directory: int | None, limits: InspectionLimits) -> None:
    if start != b"PK\x03\x04":
        raise Rejected(
            "NotAZip", f"{name} is not a zip file, so no wheel; build one (`uv build --wheel`)"
        )
    if directory is None:
        raise Rejected(
            "Truncated",
            f"{name} starts like a zip file and lacks its end; publish it again, and check that the"
            " upload ended before the file got its name",
        )
    # Before zipfile reads it into memory: header, name in UTF-8 and a generous extra field each.
    if directory > limits.max_files * (1024 + 4 * limits.max_path_length):
        raise _too_many(name, "far too many", limits)


def _too_many(name: str, count: object, limits: InspectionLimits) -> Rejected:
    return Rejected(
        "TooManyFiles",
        f"{name} holds {count} files, the limit is {limits.max_files}; leave data out of the wheel "
        "or raise `inspection.max_files`",
    )


def _central_directory_size(wheel: Path) -> int | None:
    """Bytes of the zip's directory, as zipfile will read it; None when there is no end record."""
    with wheel.open("rb") as stream:
        end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]  # noqa: SLF001 - the one way to ask it
    return None if end is None else int(end[5])


def _check_entries(name: str, entries: Sequence[zipfile.ZipInfo], limits: InspectionLimits) -> None:
    if len(entries) > limits.max_files:
        raise _too_many(name, len(entries), limits)
    seen: dict[str, str] = {}
    files: set[str] = set()
    for entry in entries:
        path = entry.filename
        _check_path(name, entry, limits)
        _check_kind(name, entry)
        folded = unicodedata.normalize("NFC", path.rstrip("/")).casefold()
        if folded in seen:
            raise Rejected(
                "DuplicateEntry",
                f"{name} holds both {seen[folded]!r} and {path!r}: one name, or the same but for "
                f"case; {REBUILD} after renaming one",
            )
        seen[folded] = path
        if not entry.is_dir():
            files.add(folded)
    for folded, path in seen.items():
        for parent in PurePosixPath(folded).parents:
            if str(parent) in files:
                raise Rejected(
                    "DuplicateEntry",
                    f"{name} holds {seen[str(parent)]!r} both as a file and as the folder of "
                    f"{path!r}; {REBUILD} after renaming one",
                )


def _check_path(name: str, entry: zipfile.ZipInfo, limits: InspectionLimits) -> None:
    path = entry.orig_filename
    segments = path.removesuffix("/").split("/")
    if (
        not all(segments)  # absolute, doubled or no slashes
        or {".", ".."} & set(segments)
        or "\\" in path
        or re.match(r"[A-Za-z]:", path)
        or not path.isprintable()
    ):
        raise Rejected(
            "PathEscape",
            f"{name} holds an entry {path[:200]!r}: paths in a wheel are relative, with single "
            f"slashes and without `..`, backslashes, drives or control characters; {REBUILD}",
        )
    # From Python 3.12 on zipfile takes the name from there, and would extract another path than the
    # one that was judged: who reads an entry must not decide what it is called.
    if entry.filename != path or _UNICODE_PATH in _extra_fields(entry.extra):
        raise Rejected(
            "PathEscape",
            f"{name} holds an entry {path[:200]!r} with a second name (zip extra field "
            f"{_UNICODE_PATH:#x}), and it depends on the reader which one counts; {REBUILD}",
        )
    longest = max(len(segment.encode(errors="surrogatepass")) for segment in segments)
    if len(path) > limits.max_path_length or longest > _MAX_NAME:
        raise Rejected(
            "PathTooLong",
            f"{name} holds a path of {len(path)} characters ({path[:60]!r}...), the limit is "
            f"{limits.max_path_length} and {_MAX_NAME} bytes between two slashes; shorten it or "
            "raise `inspection.max_path_length`",
        )


def _extra_fields(extra: bytes) -> Iterator[int]:
    """The kinds of an entry's extra fields; each is its kind, its length and that many bytes."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        yield kind
        at += 4 + length


def _check_kind(name: str, entry: zipfile.ZipInfo) -> None:
    mode = entry.external_attr >> 16
    expected = {0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG}
    if stat.S_IFMT(mode) not in expected:
        kind = "a symlink" if stat.S_ISLNK(mode) else "neither a file nor a folder"
        raise Rejected(
            "SpecialEntry",
            f"{name}: {entry.filename!r} is {kind}; put a plain file in its place and rebuild the "
            "wheel",
        )
    if entry.flag_bits & _ENCRYPTED:
        raise Rejected("EncryptedEntry", f"{name}: {entry.filename!r} is encrypted; {REBUILD}")
    if entry.compress_type not in _COMPRESSIONS:
        raise Rejected(
            "CompressionUnsupported",
            f"{name}: {entry.filename!r} is packed with method {entry.compress_type}; wheels are "
            f"stored or deflated; {REBUILD}",
        )


def _check_sizes(
    name: str, entries: Sequence[zipfile.ZipInfo], packed: int, limits: InspectionLimits
) -> None:
    """By the declared sizes: zipfile never yields more of an entry than these, so they bound the
    reading as well, and one that declares less than it holds fails its checksum.
    """
    total = sum(entry.file_size for entry in entries)
    if total > limits.max_unpacked_size:
        raise Rejected(
            "TooLarge",
            f"{name} unpacks to {total} bytes, the limit is {limits.max_unpacked_size}; leave data "
            "out of the wheel or raise `inspection.max_unpacked_size`",
        )
    ratios = [(e.file_size, e.compress_size, repr(e.filename)) for e in entries]
    for unpacked, compressed, what in [*ratios, (total, packed, "the whole wheel")]:
        if unpacked > _SMALL and unpacked > limits.max_ratio * compressed:
            raise Rejected(
                "RatioTooHigh",
                f"{name}: {what} unpacks from {compressed} to {unpacked} bytes, more than "
                f"{limits.max_ratio:g} times; if that is no zip bomb, store it uncompressed or "
                "raise `inspection.max_ratio`",
            )
