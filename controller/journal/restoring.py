"""The journal's files while they are open: what is deleted, moved or replaced under the daemon is
written anew, for an open connection still has all that was in it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from controller.cache import files
from controller.journal import schema
from controller.journal.migrations import MIGRATIONS
from controller.journal.reading import Reader
from controller.model import DEFAULT_CLUSTER

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Restorable(Reader):
    """A journal that its daemon has open: `lock` is the descriptor of its lock. Beside it there is
    none, and the file is followed (`reopen`).
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        *,
        cluster: str = DEFAULT_CLUSTER,
        lock: int | None = None,
        reopen: Callable[[], sqlite3.Connection] | None = None,
    ) -> None:
        super().__init__(connection, path, cluster=cluster, reopen=reopen)
        self._lock = lock
        self._files = _identities(path)

    def close(self) -> None:
        """Let go of the file and of the daemon's role; a second call does nothing."""
        super().close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def lost(self) -> str:
        """Which of its files is not there any more, or is another; empty for none."""
        now = _identities(self.path)
        return ", ".join(name for name, before in self._files.items() if now[name] != before)

    def write_anew(self, at: float) -> Path | None:
        """Write what the connection has to the journal's path, and go on with that file. Returns
        where another file that lay there was put, if one did.

        Raises:
            JournalError, Waiting, OSError: it cannot be written; nothing changed.
        """
        folder = self.path.parent
        folder.mkdir(exist_ok=True)
        if _identities(self.path)[schema.LOCK] != self._files[schema.LOCK]:
            taken = schema.lock(folder)  # of the new file, or another daemon begins beside us
            self._lock, before = taken, self._lock
            self._files[schema.LOCK] = _identity(folder / schema.LOCK)  # however the rest goes
            if before is not None:
                os.close(before)
        new, other = self.path.with_name(f"{schema.FILE}.new"), None
        with self._mutex, self._alone():
            try:
                with schema.translated(self.path):
                    files.write(new, self._connection.serialize())
                if self.path.exists() and self._files[schema.FILE] != _identity(self.path):
                    other = schema.set_aside(self.path, datetime.fromtimestamp(at, UTC), "other")
                for suffix in ("-wal", "-shm"):  # of the old file, which are not the new one's
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
                new.replace(self.path)
            finally:
                new.unlink(missing_ok=True)
            # The old connection goes by itself: whose file was moved, deletes no `-wal` at its end.
            self._connection = schema.open_writable(self.path, MIGRATIONS)
            self._version = None
            self._files = _identities(self.path)
            files.sync_folder(folder)
        return other

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from writing to the old file, which is given up at the end: whoever orders
        something meanwhile waits, and then finds the new one (`Keeping.transaction`).
        """
        before = self._connection
        self._run("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            before.rollback()


def _identities(path: Path) -> dict[str, tuple[int, int] | None]:
    names = (schema.FILE, f"{schema.FILE}-wal", schema.LOCK)
    return {name: _identity(path.with_name(name)) for name in names}


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
