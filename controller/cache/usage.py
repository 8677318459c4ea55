"""How much room the cache takes on its file system."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def usage(root: Path) -> dict[str, int]:
    """Bytes on disk of each folder in the cache, by its name.

    What several of them share by hard links counts for the first by name. Files that come and go
    meanwhile are counted or not; what cannot be read is not.
    """
    seen: set[tuple[int, int]] = set()
    found = {}
    for folder in sorted(entry.name for entry in _entries(str(root)) if _is_folder(entry)):
        found[folder] = size_of(str(root / folder), seen)
    return found


def size_of(folder: str, seen: set[tuple[int, int]]) -> int:
    """Bytes on disk of what lies in one folder, but for files in `seen`, by device and inode."""
    total, left = 0, [folder]
    while left:
        for entry in _entries(left.pop()):
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:  # removed since
                continue
            if (status.st_dev, status.st_ino) in seen:
                continue
            if status.st_nlink > 1 and not _is_folder(entry):
                seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512  # stat(2): in units of 512 bytes, whatever the disk has
            if _is_folder(entry):
                left.append(entry.path)
    return total


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)
