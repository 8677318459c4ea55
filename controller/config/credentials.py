"""Secrets that the service manager hands over: files in a folder of its own (systemd.exec(5)).

CREDENTIALS_DIRECTORY names the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RAY_TOKEN = "wheelway.ray-token"  # noqa: S105 - the credential's name
"""Ray's token: the head asks for it, the daemon presents it."""


def credential(name: str, environ: Mapping[str, str]) -> Path | None:
    """The file of a credential; None when it was not handed over."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    path = Path(folder, name)
    try:
        return path if path.is_file() else None
    except PermissionError:  # systemd 252 keeps a folder without any credential to root
        return None
