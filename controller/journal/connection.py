"""A connection to the journal's file, which remembers what it read until somebody writes.

Its own writes say what they change; of those of others, through connections of their own, SQLite
tells (`PRAGMA data_version`). A file that the daemon wrote anew is followed.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from copy import copy
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Self, TypeVar

from controller.journal.schema import translated
from controller.model import DEFAULT_CLUSTER

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

_C = TypeVar("_C", bound="Connected")
_T = TypeVar("_T")


class Connected:
    """A connection for several threads. Close it, or use `with`.

    Every method that reads or writes raises JournalError when the file turns out damaged or
    unusable and Waiting ("JournalBusy") when another process keeps it locked.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        *,
        cluster: str = DEFAULT_CLUSTER,
        reopen: Callable[[], sqlite3.Connection] | None = None,
    ) -> None:
        """Of what runs on clusters only one's rows are read and written. With `reopen` the file is
        followed when the daemon writes it anew.
        """
        self._connection = connection
        self._mutex = threading.RLock()
        self._reopen = reopen
        self._inode = path.stat().st_ino
        self._known: dict[str, Any] = {}
        """What was read, by its table."""
        self._version: int | None = None
        self.path, self.cluster = path, cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        self._connection.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Inside, all queries see the journal as at one moment."""
        with self._mutex:
            if self._connection.in_transaction:
                yield
                return
            self._run("BEGIN")
            try:
                yield
            finally:
                self._run("COMMIT")

    def _run(self, statement: str, *values: object) -> list[Any]:
        if not self._connection.in_transaction:
            self._follow()
        with translated(self.path):
            return self._connection.execute(statement, [_storable(v) for v in values]).fetchall()

    def _follow(self) -> None:
        """Go on with the file that is there now. The old connection ends with its last query."""
        if self._successor() is None:
            return
        with self._mutex:
            if self._reopen is not None and (inode := self._successor()) is not None:
                self._connection, self._inode = self._reopen(), inode
                self._forget()

    def _successor(self) -> int | None:
        """The inode of another file that is there now; None for the daemon, which follows none.

        A file that was deleted has no successor until the daemon notices: what is open has it all.
        """
        if self._reopen is None:
            return None
        try:
            inode = self.path.stat().st_ino
        except OSError:
            return None
        return None if inode == self._inode else inode

    def _remembered(self, table: str, query: Callable[[], _T]) -> _T:
        with self._mutex:
            ((version,),) = self._run("PRAGMA data_version")
            if version != self._version:
                self._forget()
                self._version = version
            if table not in self._known:
                self._known[table] = query()
            found: _T = self._known[table]
            return found

    def _forget(self, *tables: str) -> None:
        """Read these tables anew when they are asked for; all, if none is given."""
        for table in tables or tuple(self._known):
            self._known.pop(table, None)


def remembered(query: Callable[[_C], _T]) -> Callable[[_C], _T]:
    """Make a query once, then answer from memory until its table changes. The method is named as
    the table is. Each caller gets a copy.
    """

    @wraps(query)
    def asked(journal: _C) -> _T:
        return copy(journal._remembered(query.__name__, partial(query, journal)))  # noqa: SLF001 - a method of it

    return asked


def _storable(value: object) -> object:
    """Undecodable bytes of a file name or a log become escapes: SQLite's text is UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value
