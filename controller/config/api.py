"""`[api]`: where the daemon listens, and for whom; always on this machine alone."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path  # noqa: TC003 - pydantic reads the annotation

from pydantic import field_validator

from controller.config.sources import Section


class ApiOptions(Section):
    """`[api]`: who may look at the daemon and tell it what to do."""

    socket: Path | None = None
    """The Unix socket of the control API, mode 0660; default: `control.sock` in `paths.state`."""
    socket_group: str | None = None
    """The group that may use the socket; default: the group that new files get in its folder."""
    listen: str | None = None
    """HOST:PORT of this machine's loopback, for monitoring: health, metrics and status, read-only,
    for every user of the machine; default: none."""

    @field_validator("listen")
    @classmethod
    def _is_loopback(cls, value: str | None) -> str | None:
        if value is not None and _loopback(value) is None:
            raise ValueError(
                f"{value!r} is no loopback address with a port, such as 127.0.0.1:9180; nothing "
                "authenticates there, so other machines must not reach it: use a proxy of yours"
            )
        return value

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port to listen at."""
        return None if self.listen is None else _loopback(self.listen)

    def path(self, state: Path) -> Path:
        """Where the control socket is, given the journal's folder."""
        return self.socket or state / "control.sock"


def _loopback(text: str) -> tuple[str, int] | None:
    """Host and port of this machine alone; None when the text names anything else."""
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    if not address.is_loopback or (address.version == 6) != (bare != host):
        return None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        return None
    return bare, int(port)
