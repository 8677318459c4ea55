"""Secrets that nobody names in the configuration.

The service manager hands over files in a folder of its own (systemd.exec(5)), which
CREDENTIALS_DIRECTORY names. Ray keeps its token where its own clients look for it.
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


def ray_token(environ: Mapping[str, str]) -> Path | None:
    """The file with the token that Ray's own clients would present; None when they have none.

    Ray 2.60 turns authentication on by itself as soon as there is a token
    (ray/_private/authentication/authentication_token_setup.py), and any `ray.init()` that starts
    a cluster of its own makes one.
    """
    if environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return None
    home = environ.get("HOME")
    path = environ.get("RAY_AUTH_TOKEN_PATH") or (home and f"{home}/.ray/auth_token")
    return Path(path) if path and Path(path).is_file() else None
