"""Digests of files in a folder. Those of large ones are made beside the listings, so that a small
wheel which comes at the same moment is not listed later for them.
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

LARGE: Final = 32 << 20
"""Bytes that take some hundredths of a second to read."""
CHUNK: Final = 1 << 20
"""Bytes."""
_COARSE, _FINE = 2.0, 0.05
"""Seconds within which a file can change unnoticed: by the coarsest clock of a file system in use
(FAT), and by the kernel's clock, which ticks at least a hundred times a second."""


class NotWholeError(Exception):
    """The file is still being written, or may be, or is being read."""


class Stamp(NamedTuple):
    """What changes when a file does; times in nanoseconds."""

    device: int
    inode: int
    size: int
    mtime: int
    ctime: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """That of a file."""
        return cls(
            *(status.st_dev, status.st_ino, status.st_size),
            *(status.st_mtime_ns, status.st_ctime_ns),
        )

    @property
    def changed_at(self) -> float:
        """When it changed last, or got its name; seconds since the epoch."""
        return max(self.mtime, self.ctime) / 1e9

    @property
    def granularity(self) -> float:
        """Seconds after `changed_at` within which it can change again under the same stamp. Only
        fine clocks tell parts of a millisecond, and nobody sets the time of the last change.
        """
        return _FINE if self.ctime % 1_000_000 else _COARSE


def opened(path: Path) -> FileIO:
    """Open for reading what was just seen as a regular file, without waiting if it no longer is."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    return FileIO(os.open(path, flags))


def digest_of(file: FileIO, stamp: Stamp, is_wanted: Callable[[], bool] = lambda: True) -> str:
    """SHA-256 of a file, from its beginning.

    Raises:
        NotWholeError: it changed meanwhile, or is not wanted any more.
    """
    file.seek(0)
    digest, buffer = hashlib.sha256(), memoryview(bytearray(min(CHUNK, stamp.size + 1)))
    while got := file.readinto(buffer):
        digest.update(buffer[:got])
        if not is_wanted():
            raise NotWholeError("is not read to its end")
    if Stamp.of(os.fstat(file.fileno())) != stamp:
        raise NotWholeError("changed while it was read; it is read again")
    return digest.hexdigest()


class Digest(NamedTuple):
    """What a file was found to hold."""

    sha256: str
    final: bool
    """It was read late enough that no change can hide behind the same stamp."""


class LargeFiles:
    """Reads large files, one after another, in a thread of its own, and calls `done` after each.

    `age_of` is the seconds for which a file was seen to be unchanged, given its stamp and since
    when it was seen so.
    """

    def __init__(self, done: Callable[[], None], age_of: Callable[[Stamp, float], float]) -> None:
        self._done = done
        self._age_of = age_of
        self._pool = ThreadPoolExecutor(1, "wheelway-digest")
        self._lock = threading.Lock()
        self._wanted: dict[str, Stamp] = {}
        self._found: dict[str, Future[Digest]] = {}
        self._closed = threading.Event()

    def has(self, name: str, stamp: Stamp) -> bool:
        """Whether it was asked for this file's digest, and has not given it yet."""
        return self._wanted.get(name) == stamp

    def digest(self, name: str, path: Path, stamp: Stamp, since: float) -> Digest | None:
        """The digest of a file that was seen like this `since` then; None while it is being read.

        Raises:
            NotWholeError: it changed meanwhile.
            OSError: it cannot be read.
        """
        with self._lock:
            if self.has(name, stamp):
                return self._found.pop(name).result() if self._is_found(name) else None
            if self._closed.is_set():
                return None
            self._wanted[name] = stamp
            future = self._found[name] = self._pool.submit(self._read, name, path, stamp, since)
        future.add_done_callback(self._tell)
        return None

    def keep_only(self, names: Collection[str]) -> None:
        """Forget the files of other names."""
        with self._lock:
            for name in self._wanted.keys() - names:
                del self._wanted[name]
                self._found.pop(name, None)

    def close(self) -> None:
        """Read nothing any more; returns when its thread ended."""
        with self._lock:
            self._closed.set()
        self._pool.shutdown(cancel_futures=True)

    def _is_found(self, name: str) -> bool:
        """Whether it was read; then it is not wanted any more. The lock is held."""
        done = self._found[name].done()
        if done:
            del self._wanted[name]
        return done

    def _tell(self, _: Future[Digest]) -> None:
        if not self._closed.is_set():
            self._done()

    def _read(self, name: str, path: Path, stamp: Stamp, since: float) -> Digest:
        age = self._age_of(stamp, since)
        if age < _FINE == stamp.granularity:  # later it need not be read once more for that
            self._closed.wait(_FINE - age)
        final = self._age_of(stamp, since) >= stamp.granularity
        with opened(path) as file:
            return Digest(digest_of(file, stamp, lambda: self._is_wanted(name, stamp)), final)

    def _is_wanted(self, name: str, stamp: Stamp) -> bool:
        return not self._closed.is_set() and self.has(name, stamp)
