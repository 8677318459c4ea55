"""Credentials for an index: a user with a password, a bearer token, or a netrc entry.

All of it lies in files, read for every request, so a token can be renewed under a running daemon.
No secret ever becomes part of a message; the files' own errors are left out where they might quote
one.
"""

from __future__ import annotations

import base64
import netrc
from typing import TYPE_CHECKING

from controller.errors import Stalled

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from controller.config.sources import IndexSource as Options


class Credentials:
    """The `Authorization` header for one index, and for no other place."""

    def __init__(self, options: Options, origin: httpx.URL) -> None:
        """`origin` is any URL of the index: its scheme, host and port are the index's."""
        self._options = options
        self._origin = _origin(origin)
        self._host = origin.host
        self._path = options.password_file or options.token_file or options.netrc

    @property
    def described(self) -> str:
        """Where they come from, for a person; empty when there are none."""
        options = self._options
        if options.password_file is not None:
            return f"user {options.username!r} with the password in {options.password_file}"
        if options.token_file is not None:
            return f"the token in {options.token_file}"
        return f"the entry for {self._host} in {options.netrc}" if options.netrc else ""

    def header(self, url: httpx.URL) -> str | None:
        """The header's value for a request to `url`; None where it must not be sent.

        RFC 7617 (basic, in UTF-8) and RFC 6750 (bearer).

        Raises:
            Stalled: "CredentialsUnreadable", the file cannot be read or does not hold them.
        """
        if self._path is None or _origin(url) != self._origin:
            return None
        try:
            return self._read(self._path)
        except OSError as error:
            raise self._unreadable(self._path, str(error.strerror)) from error

    def _read(self, path: Path) -> str:
        if self._options.netrc is not None:
            return _basic(*self._entry(path))
        try:
            secret = path.read_text(encoding="utf-8").strip("\r\n")
        except UnicodeDecodeError:
            secret = ""
        if self._options.token_file is not None:
            secret = secret.strip()
        if not secret or not secret.isprintable():
            raise self._unreadable(path, "it must hold one line of text and nothing else")
        if self._options.token_file is None:
            return _basic(str(self._options.username), secret)
        if not secret.isascii():
            raise self._unreadable(path, "a bearer token is plain ASCII")
        return f"Bearer {secret}"

    def _entry(self, path: Path) -> tuple[str, str]:
        try:
            found = netrc.netrc(str(path)).authenticators(self._host)
        except netrc.NetrcParseError as error:  # its message may quote the password
            raise self._unreadable(path, f"line {error.lineno} is no netrc") from None
        except UnicodeDecodeError:
            raise self._unreadable(path, "it is no text") from None
        if found is None or not found[2]:
            raise self._unreadable(path, f"it has no `machine {self._host}` with a password")
        return found[0], found[2]

    def _unreadable(self, path: Path, why: str) -> Stalled:
        return Stalled(
            "CredentialsUnreadable",
            f"{path}, the credentials of source {self._options.name}, cannot be used: {why}",
        )


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    """Scheme, host and port, as RFC 6454 has it."""
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)
