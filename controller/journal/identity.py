"""By what a daemon is known to others on the same cluster; it goes with the state folder.

Not in the journal: one that is corrupt and set aside, or lost, makes no other daemon of this.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from typing import TYPE_CHECKING

from controller.errors import JournalError
from controller.model import DaemonMark

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE = "daemon.json"


def identity(
    folder: Path, *, make: bool, wall_clock: Callable[[], float] = time.time
) -> DaemonMark | None:
    """The mark of the daemon whose state the folder holds. The daemon itself, which alone holds the
    folder's lock, has one made where there is none that can be read; for others there is None.

    Raises:
        JournalError: it cannot be written.
    """
    path = folder / FILE
    try:
        said = json.loads(path.read_text())
        return DaemonMark(str(said["id"]), float(said["since"]), str(said["host"]))
    except (OSError, ValueError, KeyError, TypeError):
        if not make:
            return None
    mark = DaemonMark(secrets.token_hex(4), round(wall_clock(), 3), socket.gethostname())
    said = {"id": mark.id, "since": mark.since, "host": mark.host}
    staging = path.with_suffix(".new")
    try:
        with staging.open("w") as file:
            file.write(json.dumps(said) + "\n")
            file.flush()
            os.fsync(file.fileno())
        staging.replace(path)
    except OSError as error:
        raise JournalError(
            "JournalUnwritable", f"{path} cannot be written ({error.strerror}); see [paths] state"
        ) from error
    return mark
