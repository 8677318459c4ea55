"""RECORD of a wheel, which lists its files with their hashes (PEP 376, 427 and 627)."""

from __future__ import annotations

import csv
import io
import itertools
from typing import TYPE_CHECKING

from installer.records import InvalidRecordEntry, parse_record_file

from controller.cache.files import expect_room
from controller.cache.wheels import contents

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Collection, Iterator

    from controller.cache.wheels import trees

_HASHES = frozenset({"sha256", "sha384", "sha512"})  # PEP 427: sha256 or better


def faults(record: bytes, files: Collection[str]) -> Iterator[str]:
    """What `installer` lets pass: files that are not there, double lines, weak hashes. No more
    lines are read than there are files, for one beyond that has one of these faults.
    """
    if b"\\" in record:  # installer reads them as slashes, replicas and importlib do not
        yield "its paths have backslashes, where a wheel has slashes (PEP 427)"
    seen: set[str] = set()
    try:
        for path, value, _ in itertools.islice(_rows(record), len(files) + 1):
            if path not in files:
                yield f"{path[:200]!r} is listed and not in the wheel"
            if path in seen:
                yield f"{path[:200]!r} is listed twice"
            if value and value.partition("=")[0] not in _HASHES:
                yield f"{path!r} has a hash other than {', '.join(sorted(_HASHES))}"
            seen.add(path)
    except (UnicodeDecodeError, InvalidRecordEntry, csv.Error) as error:
        yield f"it cannot be read: {error}"


def differing(
    record: bytes, archive: zipfile.ZipFile, into: trees.Unpacking | None
) -> Iterator[str]:
    """The files that are not as RECORD, whose lines are in order, says; all are unpacked."""
    listed = {path: (value, size) for path, value, size in _rows(record)}
    entries = archive.infolist()
    if into is not None:
        expect_room(into.folder, sum(info.file_size for info in entries))
    for info in entries:
        value, size = listed.get(info.filename, ("", ""))
        algorithm = value.partition("=")[0] or "sha256"
        if into is not None:
            content = into.add(archive, info, algorithm)
        elif value:
            content = contents.read(archive, info, algorithm)
        if value and (content.hash, content.size) != (value, int(size)):
            yield f"hash / size of {info.filename} didn't match RECORD"
    if into is not None:
        into.end()


def _rows(record: bytes) -> Iterator[tuple[str, str, str]]:
    """The path, the hash and the size in each line of a RECORD."""
    lines = io.TextIOWrapper(io.BytesIO(record), encoding="utf-8", newline="")
    return parse_record_file(line.rstrip("\r\n") for line in lines)
