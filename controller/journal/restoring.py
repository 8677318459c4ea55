"""The journal's files while they are open: deleted, moved or replaced under the daemon, they are
noticed and written anew, since an open connection still has all that was in them.

What may change here: what counts as lost. What the files hold is `schema`'s business.
"""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from controller.errors import JournalError, Waiting
from controller.journal import schema
from controller.journal.remembering import Remembering

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

AGAIN_AFTER: Final = 10.0
"""Seconds until it is tried again to write them anew."""
_WAL: Final = "-wal"


class Restorable(Remembering):
    """A journal that its daemon has open: `lock` is the descriptor of its lock. Beside it there is
    none, and the file is followed (`reopen`).
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        *,
        lock: int | None = None,
        reopen: Callable[[], sqlite3.Connection] | None = None,
    ) -> None:
        super().__init__(connection, path, reopen=reopen)
        self._lock = lock
        self._files = _identities(path)
        self._tried_at, self._trouble = 0.0, ""

    def close(self) -> None:
        """Let go of the file and of the daemon's role; a second call does nothing."""
        super().close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def lost(self) -> str:
        """Which of its files is not there any more, or is another; empty for none."""
        now = _identities(self.path)
        gone = [name for name, before in self._files.items() if now[name] != before]
        return ", ".join(gone)

    def write_anew(self, at: float) -> tuple[Path | None, str]:
        """Write what the connection has to where it should be, and go on with that. Returns where a
        file that lay in the way was put, None when none did; and how it went, empty for well.
        """
        if self._trouble and 0 <= at - self._tried_at < AGAIN_AFTER:
            return None, self._trouble
        self._tried_at = at
        try:
            aside, self._trouble = self._written_anew(at), ""
        except (JournalError, Waiting) as error:
            aside, self._trouble = None, error.message
        except OSError as error:
            aside, self._trouble = None, f"{error.filename or self.path}: {error.strerror}"
        return aside, self._trouble

    def _written_anew(self, at: float) -> Path | None:
        folder = self.path.parent
        folder.mkdir(exist_ok=True)
        if _identities(self.path)[schema.LOCK] != self._files[schema.LOCK]:
            taken = schema.lock(folder)  # of the new file, or another daemon begins beside us
            self._lock, before = taken, self._lock
            self._files[schema.LOCK] = _identity(folder / schema.LOCK)  # however the rest goes
            if before is not None:
                os.close(before)
        new = self.path.with_name(f"{schema.FILE}.new")
        with self._mutex, self._alone():
            try:
                self._copy(new)
                aside = None
                if self.path.exists() and self._files[schema.FILE] != _identity(self.path):
                    aside = schema.set_aside(self.path, datetime.fromtimestamp(at, UTC), "other")
                _remove_beside(self.path)
                new.replace(self.path)
            finally:
                new.unlink(missing_ok=True)
            # The old connection goes by itself: whose file was moved, deletes no `-wal` at its end.
            self._connection = schema.open_writable(self.path, schema.MIGRATIONS)
            self._version = None
            self._forget()
            self._files = _identities(self.path)
            _sync(folder)
        return aside

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody writes to what is open now, which ends with the block: what others order meanwhile
        waits, and finds another file in its place (`Keeping.transaction`).
        """
        before = self._connection
        self._run("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            before.rollback()

    def _copy(self, path: Path) -> None:
        """Write all that is here to a new file, and that to the disk. SQLite's own ways of copying
        (VACUUM, backup) refuse to while their connection keeps others from writing.
        """
        path.unlink(missing_ok=True)
        _remove_beside(path)
        with closing(schema.open_writable(path, schema.MIGRATIONS)) as new, schema.translated(path):
            new.execute("PRAGMA foreign_keys = OFF")  # tables come in any order
            new.execute("BEGIN")
            for (table,) in self._run("SELECT name FROM sqlite_schema WHERE type = 'table'"):
                rows = self._connection.execute(f"SELECT * FROM {table}")  # noqa: S608 - ours
                values = ", ".join("?" * len(rows.description))
                written = f"INSERT OR REPLACE INTO {table} VALUES ({values})"  # noqa: S608 - ours
                new.executemany(written, rows)
            new.execute("COMMIT")
            new.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # with an fsync of the file


def _remove_beside(path: Path) -> None:
    """What SQLite would take for parts of a file that is new at this path."""
    for suffix in (_WAL, "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable: fsync(2)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _identities(path: Path) -> dict[str, tuple[int, int] | None]:
    names = (schema.FILE, schema.FILE + _WAL, schema.LOCK)
    return {name: _identity(path.with_name(name)) for name in names}


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
