"""How much room the cache takes on its file system."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from controller.cache import files

if TYPE_CHECKING:
    from pathlib import Path


def usage(root: Path) -> dict[str, int]:
    """Bytes on disk of each folder in the cache, by its name.

    Hard links that several of them share count for the first by name. Files that come or go
    meanwhile may be missed; what cannot be read is.
    """
    names: list[str] = []
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        names += sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    seen: set[tuple[int, int]] = set()
    return {name: size_of(root / name, seen) for name in names}


def size_of(folder: Path, seen: set[tuple[int, int]]) -> int:
    """Bytes on disk of what lies in one folder, but for files in `seen`, by device and inode."""
    total = 0
    for entry in files.walk(folder):
        with contextlib.suppress(FileNotFoundError):  # removed since
            status = entry.stat(follow_symlinks=False)
            inode = status.st_dev, status.st_ino
            if inode not in seen:
                total += status.st_blocks * 512  # stat(2): in units of 512 bytes, on any disk
            if status.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                seen.add(inode)
    return total
