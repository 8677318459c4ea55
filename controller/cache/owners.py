"""Folders with an owner: the process that holds the folder's lock (flock(2)), which ends
with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from controller.cache import files
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


class Own:
    """A folder of this process's own, as long as this object lives. Those beside it, with a name
    that begins so, whose owners are gone are deleted. Several threads may ask for it at once.

    Raises, as `path` does:
        OSError: the folder cannot be made.
        Transient: `CacheBusy`.
    """

    def __init__(self, parent: Path, prefix: str = "") -> None:
        self._parent = parent
        self._prefix = prefix
        self._mutex = threading.Lock()
        self._make()

    def path(self) -> Path:
        """The folder. It is made again if somebody deleted it: the lock went with it, and without
        one the next owner would delete what is in it.
        """
        with self._mutex:
            if not self._path.is_dir():
                self._release()
                if not self._parent.is_dir():
                    files.make_folder(self._parent)
                self._make()
            return self._path

    def _make(self) -> None:
        with locked(self._parent):  # nobody sweeps between an owner's folder and its lock
            for leftover in self._parent.glob(f"{self._prefix}*"):
                _sweep(leftover)
            name = f"{self._prefix}{os.getpid()}-"
            self._path = Path(tempfile.mkdtemp(prefix=name, dir=self._parent))
            lock = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._path.chmod(0o755)  # another user's process that sweeps must be able to open it
        self._release = weakref.finalize(self, _release, self._path, lock)


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
