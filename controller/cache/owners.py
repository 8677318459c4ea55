"""A folder belongs to who holds its lock (flock(2)), which ends with its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, once nobody else does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_own(incoming: Path) -> tuple[Path, int]:
    """A folder of this process's own, and the descriptor of its lock; those in `incoming` whose
    owners are gone are deleted.
    """
    with locked(incoming):  # nobody sweeps between an owner's folder and its lock
        for leftover in incoming.iterdir():
            _sweep(leftover)
        own = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=incoming))
        lock = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return own, lock


def _sweep(leftover: Path) -> None:
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
