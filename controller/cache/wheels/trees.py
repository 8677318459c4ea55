"""A wheel unpacked for `sys.path`: made from the wheel, verified by the RECORD inside it.

How a tree is laid out and checked is decided here, where it lies in the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from controller.cache import files
from wheelway import loading
from wheelway.failure import StartFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = 0o755  # Ray's user reads here; nobody but the owner writes
FILE = 0o444  # not by its owner either, where Ray is the same user
EXECUTABLE = 0o555


def matches(tree: Path, record_digest: str) -> bool:
    """Whether a replica would take the tree: that RECORD, the bytes it lists, and no importable
    file beside them.
    """
    try:
        loading.verify(tree, record_digest)
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


def unpack(wheel: Path, folder: Path) -> None:
    """Unpack a wheel. Files are not synced, for a tree is hashed whole after every start."""
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            path = Path(archive.extract(info, folder))  # drops `..` and roots, were there any
            if not info.is_dir():
                executable = info.external_attr >> 16 & 0o100
                path.chmod(EXECUTABLE if executable else FILE)
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(FOLDER)
