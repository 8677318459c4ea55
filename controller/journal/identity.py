"""The mark by which a daemon is known to others on the same cluster; it goes with the state folder.

It is not in the journal, so that a daemon whose journal is corrupt or lost remains the same one.
"""

from __future__ import annotations

import json
import secrets
import socket
import time
from typing import TYPE_CHECKING

from controller.cache import files
from controller.errors import JournalError
from controller.journal.permissions import owner_name
from controller.planning.daemons import DaemonMark

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE = "daemon.json"


def identity(
    folder: Path, *, make: bool, wall_clock: Callable[[], float] = time.time
) -> DaemonMark | None:
    """The mark of the daemon whose state the folder holds. Where none can be read, the daemon
    itself, which alone holds the folder's lock, has one made (`make`); for others it is None.

    Raises:
        JournalError: it cannot be written.
    """
    path = folder / FILE
    try:
        kept = json.loads(path.read_text())
        user = str(kept.get("user") or _owner(folder))  # former versions did not write it
        where = str(kept["host"]), user, str(folder.resolve())
        return DaemonMark(str(kept["id"]), float(kept["since"]), *where)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        if not make:
            return None
    kept = {
        "id": secrets.token_hex(4),
        "since": round(wall_clock(), 3),
        "host": socket.gethostname(),
        "user": _owner(folder),
    }
    staging = path.with_suffix(".new")
    try:
        files.write(staging, json.dumps(kept) + "\n")
        staging.replace(path)
    except OSError as error:
        raise JournalError(
            "JournalUnwritable", f"{path} cannot be written ({error.strerror}); see [paths] state"
        ) from error
    return identity(folder, make=False)


def _owner(folder: Path) -> str:
    return owner_name(folder.stat().st_uid)
