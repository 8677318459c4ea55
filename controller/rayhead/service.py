"""A Ray head as a service of its own: the process of `wheelway ray-head` becomes the head.

The command and its environment are those of `head.py`, where a head is tuned for serving; here is
what differs when a service manager owns it. Ports are always Ray's defaults: a head that moved
elsewhere by itself would not be found.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from controller.config.credentials import RAY_TOKEN, credential
from controller.errors import Stalled
from controller.rayhead.head import Tuning, command, environment
from controller.rayhead.ports import Ports

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SESSIONS_KEPT = 3
"""Ray's folders of earlier heads, to find out why one ended; Ray keeps them all."""


@dataclass(frozen=True, slots=True)
class HeadFolders:
    """Where a head keeps its files; both are made when they are missing."""

    run: Path
    """HAProxy's configuration and sockets: one folder for each head on a machine."""
    storage: Path | None = None
    """Ray's state, so that a killed head brings its applications back (RocksDB); None for none."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """The command that the process becomes."""

    arguments: list[str]
    environment: dict[str, str]
    """The whole environment."""
    set: dict[str, str]
    """Variables that differ from what was inherited."""


def invocation(
    tuning: Tuning, folders: HeadFolders, *, dashboard_port: int, inherited: Mapping[str, str]
) -> Invocation:
    """The head's command and environment. `RAY_*` of the inherited environment win."""
    asked: dict[str, str] = {}
    if token := credential(RAY_TOKEN, inherited):  # handed over by systemd, systemd.exec(5)
        asked |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    if folders.storage is not None:
        asked |= {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(folders.storage)}
    chosen = {name: value for name, value in inherited.items() if name.startswith("RAY_")}
    # An address is another head's. And chosen or not, the binary is started by the script that
    # keeps it on loopback.
    chosen.pop("RAY_ADDRESS", None)
    chosen.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    tuning = replace(tuning, environment={**asked, **tuning.environment, **chosen})
    ports = Ports()
    made = environment(tuning, ports, folders.run, inherited)
    changed = {name: value for name, value in made.items() if inherited.get(name) != value}
    return Invocation(command(tuning, ports, dashboard_port), made, changed)


def become(made: Invocation, tuning: Tuning, folders: HeadFolders) -> None:
    """Make the folders, forget old sessions, and replace this process by the head.

    Raises:
        Stalled: a folder cannot be made, or the interpreter cannot be run.
    """
    try:
        for folder in (folders.run / "ha", folders.storage, tuning.temp_dir):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        if tuning.temp_dir is not None:
            forget_sessions(tuning.temp_dir)
        os.execve(  # noqa: S606 - becoming the head is the purpose
            made.arguments[0], made.arguments, made.environment
        )
    except OSError as error:
        raise Stalled("HeadNotStarted", f"the Ray head cannot be started: {error}") from error


def forget_sessions(temp_dir: Path, keep: int = SESSIONS_KEPT) -> None:
    """Remove Ray's session folders but the newest; only when no head runs on this folder.

    Raises:
        OSError: the folder cannot be read.
    """
    sessions = [path for path in temp_dir.glob("session_2*") if not path.is_symlink()]
    for old in sorted(sessions, key=lambda path: path.name)[:-keep]:
        with contextlib.suppress(OSError):  # it belongs to another user
            shutil.rmtree(old)
