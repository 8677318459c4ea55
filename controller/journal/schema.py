"""The journal's file: how it is opened and migrated, the daemon's lock, and what damage leads to.

`PRAGMA user_version` holds the schema's version (`migrations`). `meta.written_by` stays where it
is in every schema: with it an older program says who wrote what it cannot read.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from packaging.utils import canonicalize_version

from controller.errors import JournalError, Waiting, WheelwayError
from controller.journal.permissions import not_permitted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from controller.model import Tracked

SAME = (
    "cluster = ?1 AND pipeline = ?2 AND digest = ?4 "
    "AND canonical_version(version) = canonical_version(?3)"
)
"""Whether a row is a release's: 1.0 and 1.0.0 are one version, spelled as it was first written."""

FILE = "journal.sqlite"
LOCK = "journal.lock"
_GLANCES, _GLANCE = 100, 0.02
"""How often the lock is tried while it is only looked at, and seconds between."""
BUSY_TIMEOUT = 10.0
"""Seconds a write waits for another process's write, which takes milliseconds."""

TO_START = (
    "start it with `systemctl start wheelway` where it is a service, else with `wheelway up` or "
    "`wheelway run`"
)
"""Advice where no daemon has run."""


def lock(folder: Path) -> int:
    """Take the daemon's lock, which holds as long as the returned file descriptor is open.

    It is an advisory `flock(2)`, which ends with the process. The file stays: if it were deleted,
    two daemons could lock two different files of this name.

    Raises:
        JournalError: another daemon holds it ("JournalLocked"), or the folder cannot be used.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise JournalError(
            "JournalUnwritable",
            f"{folder}: the daemon cannot keep its journal there ({error.strerror}); make the "
            "folder writable for its user, or set `state` in [paths]",
        ) from error
    if not _taken(descriptor):
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise JournalError(
            "JournalLocked",
            f"{folder} is in use by another wheelway daemon, process {holder or '(unknown)'}; "
            "stop that one first: two daemons on one cluster undo each other's work",
        )
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _taken(descriptor: int) -> bool:
    """Take the lock; False where a daemon has it. Who only looks (`holder`) shares it for an
    instant, which is waited for.
    """
    for _ in range(_GLANCES):
        if _flocked(descriptor, fcntl.LOCK_EX):
            return True
        if not _flocked(descriptor, fcntl.LOCK_SH):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        time.sleep(_GLANCE)
    return False


def _flocked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock for what precedes opening the journal and takes long; raises as `lock`."""
    descriptor = lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def require_unlocked(folder: Path) -> None:
    """Raise as `lock` does, which is not held afterwards: for what precedes opening the journal."""
    with held(folder):
        pass


class Holder(NamedTuple):
    """Who holds the daemon's lock of a folder."""

    process: str
    """Its id, as it wrote it."""
    since: float
    """Seconds since the epoch."""


def holder(folder: Path) -> Holder | None:
    """The daemon that runs with a folder, anybody's. None when none does, or nothing can be seen
    of the folder from here.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _flocked(descriptor, fcntl.LOCK_SH):
            return None
        process = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        return Holder(process, os.fstat(descriptor).st_mtime)
    finally:
        os.close(descriptor)


def open_writable(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open and migrate the journal, creating it when missing; only under the daemon's lock.

    Raises:
        JournalError: "JournalNewer", "JournalCorrupt" (it may be set aside), or unusable otherwise.
        Waiting: a shortage, such as a full disk.
    """
    with translated(path), _opened(f"file:{quote(str(path))}?mode=rwc") as connection:
        version = _version(connection)
        if version > len(migrations):
            raise _newer(connection, path, version, len(migrations))
        _check(connection)
        if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise JournalError(
                "JournalUnusable",
                f"{path}: SQLite cannot use a write-ahead log there, as on network file systems; "
                "set `state` in [paths] to a folder on a local disk",
            )
        connection.execute("PRAGMA journal_size_limit = 8388608")
        _migrate(connection, migrations, version)
        return connection


def open_beside(path: Path, migrations: Sequence[str], *, write: bool) -> sqlite3.Connection:
    """Open a journal that a daemon made, whether it runs or not; create and migrate nothing.

    Raises:
        JournalError: "JournalMissing", "JournalNewer", "JournalOlder", "JournalCorrupt".
        NotPermitted: this user may not.
    """
    _require_access(path, write=write)
    mode = "mode=rw" if write else _reading_mode(path)
    with translated(path), _opened(f"file:{quote(str(path))}?{mode}") as connection:
        version = _version(connection)
        if version == 0:
            raise _missing(path)
        if version > len(migrations):
            raise _newer(connection, path, version, len(migrations))
        if version < len(migrations):
            raise JournalError(
                "JournalOlder",
                f"{path} has schema {version}, this is a program for schema {len(migrations)}; "
                "restart the daemon, which upgrades it",
            )
        return connection


def _require_access(path: Path, *, write: bool) -> None:
    """Raise when there is no file, or this user may not use it."""
    what = "write into the daemon's journal" if write else "read the daemon's journal"
    try:
        path.stat()
    except FileNotFoundError as error:
        raise _missing(path) from error
    except PermissionError as error:
        raise not_permitted(path, what) from error
    if not os.access(path, os.W_OK if write else os.R_OK):
        raise not_permitted(path, what)


def _reading_mode(path: Path) -> str:
    """How to open the file for someone who may only read the folder.

    A reader makes `-wal` and `-shm` where they are absent, which this one cannot. They are absent
    once the last writer closed: then nothing changes the file, and SQLite is told so. A daemon that
    starts within the milliseconds of the reading could spoil that reading, never the journal.
    """
    closed = not path.with_name(path.name + "-wal").exists()
    return "mode=ro&immutable=1" if closed and not os.access(path.parent, os.W_OK) else "mode=ro"


def set_aside(path: Path, moment: datetime, what: str = "corrupt") -> Path:
    """Rename a journal and its log to a name that says what is wrong with it, and since when (in
    UTC); returns the new path. The names stay a set, so that `sqlite3 FILE .recover` can be tried.
    """
    stem = f"journal.{what}-{moment:%Y%m%dT%H%M%SZ}"
    backup, number = path.with_name(stem), 1
    while backup.exists():
        number += 1
        backup = path.with_name(f"{stem}-{number}")
    for suffix in ("-wal", "-shm", ""):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(backup.with_name(backup.name + suffix))
    return backup


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite raises about the file into the project's own errors. What it raises about a
    statement of ours (programming, integrity) is a bug and passes through.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.InterfaceError):
        raise
    except sqlite3.DatabaseError as error:
        raise _meaning(error, path) from error


def _meaning(error: sqlite3.DatabaseError, path: Path) -> WheelwayError:
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return JournalError(
                "JournalCorrupt",
                f"{path} is damaged ({error}); restart the daemon, which sets it aside and "
                "rebuilds its record by observing",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Waiting(
                "JournalBusy",
                f"{path} was locked by another process for {BUSY_TIMEOUT:g} s; if this lasts, "
                "find the holder with `fuser`",
            )
        case sqlite3.SQLITE_FULL:
            return Waiting("DiskFull", f"{path} cannot be written: no space left; free some")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return JournalError(
                "JournalUnwritable",
                f"{path}: {error}; check the owner and the mode of the file and its folder",
            )
        case _:
            return JournalError("JournalUnusable", f"{path}: {error}; check the disk under it")


@contextmanager
def _opened(uri: str) -> Iterator[sqlite3.Connection]:
    """A connection that outlives the block, unless an error ends it."""
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,  # transactions begin where the code says so
        check_same_thread=False,  # SQLite is built serialised, `Reader` keeps transactions apart
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.create_function("canonical_version", 1, canonicalize_version, deterministic=True)
        yield connection
    except BaseException:
        connection.close()
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        damage = sqlite3.DatabaseError(verdict)
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage


def _newer(connection: sqlite3.Connection, path: Path, version: int, known: int) -> JournalError:
    row = connection.execute("SELECT value FROM meta WHERE key = 'written_by'").fetchone()
    writer = f"wheelway {row[0]}" if row else "a newer wheelway"
    return JournalError(
        "JournalNewer",
        f"{path} was written by {writer} (schema {version}; this is {program_version()}, which "
        f"knows up to {known}); install that version again, or move the file away: the daemon "
        "rebuilds its record by observing",
    )


def _migrate(connection: sqlite3.Connection, migrations: Sequence[str], version: int) -> None:
    for number, script in enumerate(migrations[version:], start=version + 1):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{script};\nPRAGMA user_version = {number};\nCOMMIT;"
            )
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    connection.execute(
        "INSERT INTO meta VALUES ('written_by', ?1) "
        "ON CONFLICT DO UPDATE SET value = excluded.value WHERE value != excluded.value",
        (program_version(),),
    )


def _missing(path: Path) -> JournalError:
    if (starting := holder(path.parent)) is not None:
        return JournalError(
            "JournalMissing",
            f"{path} does not exist yet: the daemon (process {starting.process}) is starting, and "
            "makes it once a Ray head answers; ask again then",
        )
    return JournalError(
        "JournalMissing",
        f"{path} does not exist: the daemon has not run here yet; {TO_START}, or point `state` in "
        "[paths] to where it keeps its journal",
    )


def program_version() -> str:
    """The version of wheelway that is running."""
    from importlib import metadata  # noqa: PLC0415 - slow to import, and only who writes says it

    return metadata.version("wheelway")


def key_of(cluster: str, subject: Tracked) -> tuple[str, str, str, str]:
    """What `SAME` compares with."""
    return cluster, subject.name, str(subject.version), subject.digest


def matching(**columns: str | None) -> tuple[str, list[str]]:
    """A condition of SQL that these columns are as given, and its values; None is any. A condition
    such as `? IS NULL OR column = ?` would use no index and read every row.
    """
    given = {name: value for name, value in columns.items() if value is not None}
    return " AND ".join(f"{name} = ?" for name in given) or "TRUE", list(given.values())
