"""A folder belongs to who holds its lock (flock(2)), which ends with its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, once nobody else does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sweep(leftover: Path) -> None:
    """Delete an owner's folder unless its owner lives: the kernel frees a lock with its process."""
    try:
        descriptor = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        leftover.unlink(missing_ok=True)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(leftover, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)


def release(own: Path, lock: int) -> None:
    """Delete an owner's folder and let go of its lock, a descriptor."""
    shutil.rmtree(own, ignore_errors=True)
    os.close(lock)
