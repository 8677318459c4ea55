"""Putting a table in force, in an order in which nothing is lost whenever one is killed.

First the file, which HAProxy reads when it starts or reloads; then the map at run time; then it is
read back. Killed before the rename, nothing has changed; after it, the file is ahead of the map and
the next look finds the map's digest another. The map is never ahead of its file.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from controller.errors import Waiting
from controller.gateway.routing import DIGEST
from controller.gateway.runtime import GatewayRefused

if TYPE_CHECKING:
    from pathlib import Path

    from controller.gateway.routing import Table
    from controller.gateway.runtime import Runtime

MAP: Final = "routes.map"
"""The table's file in the gateway's folder, and its name in HAProxy."""


def commit(table: Table, folder: Path, runtime: Runtime) -> None:
    """Put a table in force: in the file, at run time, and read back.

    Raises:
        GatewayUnreachable: the file is written, and HAProxy starts with it; what runs is not known.
        GatewayRefused: HAProxy has not taken it.
        Waiting: the file cannot be written; nothing has changed.
    """
    write(folder / MAP, table.text)
    runtime.replace(MAP, table.entries)
    if (found := runtime.value(MAP, DIGEST)) != table.digest:
        raise GatewayRefused(
            f"HAProxy at {runtime.socket} has the table {str(found)[:12]} after it took "
            f"{table.digest[:12]}: somebody else changes its routes, or two gateways share a folder"
        )


def drift(table: Table, folder: Path, runtime: Runtime, *, whole: bool) -> str:
    """What differs from the table, for a person; empty when all is as it was committed.

    Asking for the digest is cheap and tells a restart and a stale file; somebody's `set map` shows
    only when the `whole` map is read, which costs milliseconds for ten thousand entries. Raises as
    `commit`.
    """
    if not _is_written(folder / MAP, table.text):
        return f"the file {folder / MAP} is not the one that was written"
    if runtime.value(MAP, DIGEST) != table.digest:
        return f"HAProxy at {runtime.socket} has another table, such as after a restart"
    if whole and (found := sorted(runtime.entries(MAP))) != sorted(table.entries):
        names = sorted({key for key, _ in set(found) ^ set(table.entries)}) or ["entries twice"]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"somebody changed {', '.join(names[:3])}{more} in HAProxy at {runtime.socket}"
    return ""


def correct(table: Table, folder: Path, runtime: Runtime, *, whole: bool) -> str:
    """Put the table in force again where something differs; returns and raises as `drift`."""
    found = drift(table, folder, runtime, whole=whole)
    if found:
        commit(table, folder, runtime)
    return found


def write(path: Path, content: str | bytes) -> None:
    """Replace a file that only this user may read, durably: beside it, then renamed.

    Raises:
        Waiting: the file system does not take it; the former file is still there.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()  # of one that was killed; it may be anybody's
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.rename(path)
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise Waiting(
            "GatewayFolderUnusable",
            f"{path} cannot be written: {error.strerror or error}; make room, or the folder "
            "writable for this user",
        ) from error


def _is_written(path: Path, content: str) -> bool:
    try:
        return path.read_bytes() == content.encode()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Waiting(
            "GatewayFolderUnusable", f"{path} cannot be read: {error.strerror or error}"
        ) from error
