"""Whose a configuration is that nobody named: one that lies in the folder or above it.

A configuration says which interpreter is run. In a folder that others may write to, as /tmp,
anybody could leave one for whoever comes by. git asks the same of a repository (`safe.directory`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from controller.errors import ConfigError
from controller.journal.permissions import owner_name

if TYPE_CHECKING:
    from pathlib import Path


def require_own(path: Path) -> None:
    """Have a configuration, and its own folder, belong to whoever runs this, or to root.

    Raises:
        ConfigError: it is another user's.
    """
    trusted = {os.geteuid(), 0}
    behind = os.environ.get("SUDO_UID", "")
    if os.geteuid() == 0 and behind.isdecimal():
        trusted.add(int(behind))
    for part in (path.parent, path):
        # Links too: whoever made one says where it leads.
        owners = {part.stat().st_uid, part.lstat().st_uid} if part.exists() else set()
        if strangers := owners - trusted:
            who = owner_name(strangers.pop())
            raise ConfigError(
                f"{part.absolute()} belongs to {who}, not to you, so it is not used: it says which "
                f"interpreter is run. If you trust {who}, name it: --config {path.absolute()}"
            )
