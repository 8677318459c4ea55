"""Where a configuration says that the daemon is: its journal and its control socket, and no more.

Reading a whole configuration takes longer than asking a daemon, which knows its own. What can be
said of these two keys without that is said here; `None` sends the caller to the whole reading.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STATE: Final = Path("/var/lib/wheelway")
"""As `config.settings.PathOptions` has it."""
SOCKET: Final = "control.sock"
"""In the journal's folder, as `config.api.ApiOptions` has it."""
_SET_ELSEWHERE: Final = ("WHEELWAY_PATHS", "WHEELWAY_API")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Of one daemon."""

    state: Path
    """The folder of its journal."""
    socket: Path


def whereabouts(file: Path) -> Whereabouts | None:
    """What a configuration file says; None when that needs the whole of it to be read: it cannot be
    parsed, says something else than a path, or the environment says it instead.
    """
    if any(name.upper().startswith(_SET_ELSEWHERE) for name in os.environ):
        return None
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8"))
        paths, api = said.get("paths", {}), said.get("api", {})
        state, socket = paths.get("state", str(STATE)), api.get("socket")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    if not all(_is_plain(value) for value in (state, socket or STATE.name)):
        return None
    folder = file.resolve().parent
    return Whereabouts(folder / state, folder / (socket or Path(state, SOCKET)))


def _is_plain(value: object) -> bool:
    return isinstance(value, str) and not value.startswith("~") and "\0" not in value
