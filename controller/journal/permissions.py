"""What to tell a user who may not use a file of the daemon: whose permission it takes."""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING

from controller.errors import NotPermitted

if TYPE_CHECKING:
    from pathlib import Path


def not_permitted(path: Path, what: str) -> NotPermitted:
    """The error that this user may not do `what`, such as "read the journal", at a path; it names
    the group to join, or else whose permission it takes.
    """
    status = _status(path)
    bit = stat.S_IXGRP if stat.S_ISDIR(status.st_mode) else stat.S_IRGRP
    me = user_name()
    if status.st_mode & bit and status.st_gid not in {os.getegid(), *os.getgroups()}:
        group = group_name(status.st_gid)
        cure = (
            f"that is for members of the group {group}: `sudo usermod -aG {group} {me}`, then log "
            "in anew"
        )
    else:
        cure = f"that is for {owner_name(status.st_uid)} alone: use `sudo -u`, or ask who may"
    return NotPermitted("NotPermitted", f"{me} may not {what} {path}: {cure}")


def _status(path: Path) -> os.stat_result:
    """Of the path, or of the folder that hides it."""
    for one in (path, *path.parents):
        try:
            return one.stat()
        except OSError:
            continue
    return os.stat_result((0,) * 10)


def user_name() -> str:
    """Who runs this."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return f"user {os.geteuid()}"


def owner_name(uid: int) -> str:
    """A user's name, or number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def group_name(gid: int) -> str:
    """A group's name, or number."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"number {gid}"
