"""Durable writing, for what must survive a power cut once it was reported as done.

https://man7.org/linux/man-pages/man2/fsync.2.html: a new name is durable only after its folder was
synchronised too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from typing import TYPE_CHECKING

from controller.errors import Stalled, Transient, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class NoRoomError(OSError):
    """A disk has less room than what is about to be written needs."""

    def __init__(self, size: int) -> None:
        # Not how much is free: that is another number each time, and this is told until it is over.
        super().__init__(errno.ENOSPC, f"it needs {-(-size // 2**20)} MiB, which are not free")


def expect_room(folder: Path, size: int) -> None:
    """Make sure that so many bytes are free on the disk of a folder.

    Raises:
        NoRoomError: they are not.
    """
    if size > shutil.disk_usage(folder).free:
        raise NoRoomError(size)


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
    """Make a folder that Ray's user can read, whatever the umask."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)


def walk(folder: Path, *, without: str = "") -> Iterator[os.DirEntry[str]]:
    """All that lies in a folder and below it, but for folders of the name `without`. Links are not
    followed; what vanishes meanwhile, or cannot be read, is left out.
    """
    left = [str(folder)]
    while left:
        with contextlib.suppress(OSError), os.scandir(left.pop()) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    yield entry
                elif entry.name != without:
                    left.append(entry.path)
                    yield entry


@contextlib.contextmanager
def opening(root: Path) -> Iterator[None]:
    """While a cache is opened.

    Raises:
        Stalled: `CacheUnusable`, when the file system fails.
    """
    try:
        yield
    except OSError as error:
        raise Stalled(
            "CacheUnusable",
            f"the cache {root} cannot be used: {error.strerror or error}; make the folder writable "
            "for this user or set `paths.cache` to another one",
        ) from error


def publish_dir(folder: Path, path: Path) -> None:
    """Rename a complete folder into its place, unless another process did so first."""
    try:
        folder.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    sync_folder(path.parent)


def unusable(cache: Path, what: str, error: OSError) -> Transient | Waiting:
    """What an error of the file system is to a person, who is told of `what` in the cache."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        lacks = f" ({error.strerror})" if isinstance(error, NoRoomError) else ""
        return Waiting(
            "DiskFull",
            f"no space left for {what} in {cache}{lacks}; free some there, or set "
            "`paths.cache` to a larger disk",
        )
    return Transient(
        "CacheUnusable",
        f"{what} could not be read or written in {cache}: {error.strerror or error}; check"
        " that disk and the folder's owner",
    )
