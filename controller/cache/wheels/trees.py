"""A wheel unpacked for `sys.path`: made from the wheel, verified by the RECORD inside it.

How a tree is laid out and checked is decided here, where it lies in the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from controller.cache import files
from controller.cache.wheels.contents import NO_CONTENT, Content, read
from wheelway import loading
from wheelway.failure import StartFailure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = 0o755  # Ray's user reads here; nobody but the owner writes
FILE = 0o444  # not by its owner either, where Ray is the same user
EXECUTABLE = 0o555

Identity = tuple[int, int, int, int]
"""Inode, size, mtime_ns, ctime_ns of a file: while these stay, so did the bytes."""


@dataclass(frozen=True, slots=True)
class Unpacking:
    """A tree in the making. Its files are hashed as they are written."""

    folder: Path
    """Empty at first."""
    wheel: Identity | None = None
    """The wheel's, as it was verified before it was unpacked."""
    hashes: dict[Path, str] = field(default_factory=dict)
    """Of its files, in RECORD's form."""

    def add(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, algorithm: str) -> Content:
        """Unpack one file, or folder; returns what was written."""
        # As zipfile does; inspection refuses wheels with such paths.
        inside = [name for name in info.filename.split("/") if name not in {"", ".", ".."}]
        path = self.folder.joinpath(*inside)
        if info.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            return NO_CONTENT
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb", buffering=0) as file:
            content = read(archive, info, algorithm, file)
            os.fchmod(file.fileno(), EXECUTABLE if info.external_attr >> 16 & 0o100 else FILE)
        self.hashes[path] = content.hash
        return content

    def end(self) -> None:
        """Give the folders the rights that they keep."""
        for parent, _, _ in os.walk(self.folder):
            Path(parent).chmod(FOLDER)


def matches(tree: Path, record_digest: str, known: Mapping[Path, str] | None = None) -> bool:
    """Whether a replica would take the tree: that RECORD, the bytes it lists, and no importable
    file beside them. What is `known` of files that were hashed as they were written is not read
    again.
    """
    try:
        loading.verify(tree, record_digest, known or {})
    except (StartFailure, OSError):
        return False
    return True


def signature(tree: Path) -> bytes:
    """A digest of each file's path, inode, size and times. While it stays the same, so do the
    bytes. Empty without a file.
    """
    found = sorted(
        (path, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in _files(tree)
    )
    return hashlib.sha256(repr(found).encode()).digest() if found else b""


def _files(tree: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file outside `__pycache__`; one that vanishes meanwhile is left out."""
    for entry in files.walk(tree, without="__pycache__"):
        if not entry.is_dir(follow_symlinks=False):
            with contextlib.suppress(FileNotFoundError):
                yield entry.path, entry.stat(follow_symlinks=False)


def unpack(wheel: Path, into: Unpacking) -> None:
    """Unpack a wheel. Files are not synced, for a tree is hashed whole after every start.

    Raises:
        NoRoomError: the disk has not enough of it.
    """
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
        files.expect_room(into.folder, sum(info.file_size for info in entries))
        for info in entries:
            into.add(archive, info, "sha256")
    into.end()
