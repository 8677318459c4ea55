"""Durable writing: what must survive a power cut once it was reported as done.

https://man7.org/linux/man-pages/man2/fsync.2.html: a new name is durable only after its folder was
synchronised too.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, and have it on the disk."""
    with path.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Also when the umask is stricter: Ray's user must be able to read here."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)


def publish_dir(folder: Path, path: Path) -> None:
    """Rename a complete folder into its place; another process that was first is as good."""
    try:
        folder.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    sync_folder(path.parent)
