"""Where a replica's Unix socket is: a folder that nobody else may write into (see direct.py)."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

LONGEST: Final = 107
"""Bytes of a path in `sockaddr_un` (unix(7)), without its end."""
SUFFIX: Final = ".sock"
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class UnusableError(Exception):
    """There can be no socket there, for a reason that a person has to mend."""


def path_of(folder: str, name: str) -> Path:
    """Where the socket of the replica of that name is; raises UnusableError."""
    path = Path(folder, f"{name}{SUFFIX}")
    if not path.is_absolute():
        raise UnusableError(f"the folder for its socket, {folder!r}, is no absolute path")
    if not _NAME.fullmatch(name):
        raise UnusableError(f"the replica's id, {name!r}, cannot be the name of a file")
    if (size := len(os.fsencode(path))) > LONGEST:
        raise UnusableError(
            f"the path of its socket has {size} bytes, of which at most {LONGEST} can be: {path}; "
            "name a folder with a shorter path"
        )
    return path


def bound_to(path: Path) -> socket.socket:
    """A socket that is bound to `path` and does not listen yet; raises UnusableError or OSError."""
    _check(path.parent)
    _sweep(path.parent)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            bound.bind(os.fspath(path))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UnusableError(f"there is something else at {path}: remove it") from error
            raise
        path.chmod(0o660)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _check(folder: Path) -> None:
    """Raise UnusableError if another user could put a file there, or a stranger open one."""
    try:
        found = folder.lstat()
    except FileNotFoundError as error:
        raise UnusableError(f"there is no folder {folder} on this machine") from error
    mine, mode = os.geteuid(), stat.S_IMODE(found.st_mode)
    how = f"`install -d -m 2750 -o {mine} -g GATEWAY-GROUP {folder}` makes one as it must be"
    if not stat.S_ISDIR(found.st_mode):
        raise UnusableError(f"{folder} is no folder; {how}")
    if found.st_uid != mine:
        raise UnusableError(f"{folder} belongs to the user {found.st_uid}, not to {mine}; {how}")
    if mode & 0o027:
        raise UnusableError(
            f"others may write into {folder} or open what is in it (mode {mode:04o}); {how}"
        )
    if mode & 0o010 and found.st_gid != os.getegid() and not mode & stat.S_ISGID:
        raise UnusableError(f"{folder} does not hand its group on (mode {mode:04o}); {how}")


def _sweep(folder: Path) -> None:
    """Remove the sockets that processes of this user have left behind when they were killed."""
    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if entry.name.endswith(SUFFIX)]
    for path in found:
        with suppress(FileNotFoundError):  # another replica came first
            about = path.lstat()
            if stat.S_ISSOCK(about.st_mode) and about.st_uid == os.geteuid() and _is_dead(path):
                remove(path)


def _is_dead(path: Path) -> bool:
    """Whether no process has that socket any more. Who has it does not notice the question: it is
    one of datagrams, which a stream never gets as far as answering.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(os.fspath(path))
        except OSError as error:
            return error.errno == errno.ECONNREFUSED  # a stream's: EPROTOTYPE
    return False


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of the same name; None where none is."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def remove(path: Path) -> None:
    """Take a socket's name away; one that cannot be stays, and refuses once nobody listens."""
    with suppress(OSError):
        path.unlink()
