"""Folders with an owner: the process that holds the folder's lock (flock(2)), which ends
with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from controller.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Iterator


TIMEOUT = 120.0
"""Seconds to wait for a lock; it is held while a wheel's files are hashed or counted."""
_POLL = 0.005


@contextlib.contextmanager
def locked(folder: Path, *, timeout: float = TIMEOUT) -> Iterator[None]:
    """Hold the lock of a folder, once nobody else does.

    Raises:
        Transient: `CacheBusy` when somebody holds it all the time: flock(2) has no deadline, and a
            command that was stopped (Ctrl-Z) would keep the daemon's threads for ever.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    until = time.monotonic() + timeout
    try:
        while not _try(descriptor):
            if time.monotonic() >= until:
                raise Transient(
                    "CacheBusy",
                    f"somebody has held {folder} for {timeout:.0f} s: a `wheelway plan` that was "
                    f"stopped, or this process, at a slow disk; `fuser {folder}` tells who",
                )
            time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_own(parent: Path, owner: object, prefix: str = "") -> Path:
    """A folder of this process's own, as long as the owner lives. Those beside it, with a name that
    begins so, whose owners are gone are deleted.
    """
    with locked(parent):  # nobody sweeps between an owner's folder and its lock
        for leftover in parent.glob(f"{prefix}*"):
            _sweep(leftover)
        own = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent))
        lock = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    weakref.finalize(owner, _release, own, lock)
    return own


def _sweep(leftover: Path) -> None:
    """Delete an owner's folder unless its owner lives: the kernel frees a lock with its process."""
    try:
        descriptor = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        leftover.unlink(missing_ok=True)
        return
    try:
        if _try(descriptor):
            shutil.rmtree(leftover, ignore_errors=True)
    finally:
        os.close(descriptor)


def _release(own: Path, lock: int) -> None:
    shutil.rmtree(own, ignore_errors=True)
    os.close(lock)
