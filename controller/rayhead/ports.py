"""Which ports a Ray head takes, and how two heads on one machine keep out of each other's way."""

from __future__ import annotations

import errno
import random
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from controller.errors import Stalled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Ports(NamedTuple):
    """Every port of a head that two heads on one machine could fight about."""

    gcs: int = 6379
    client: int = 10001
    agent: int = 52365
    stats: int = 8404
    metrics: int = 9101
    fallback_http: int = 8500
    fallback_grpc: int = 9500
    ingress: int = 8000
    """Where Serve should be told to listen (`http_options.port`)."""
    replica_http: tuple[int, int] = (30000, 31000)
    """First and last port on which replicas take requests from the ingress."""
    replica_grpc: tuple[int, int] = (40000, 41000)


_LISTEN: Final = "0A"
"""As /proc/net/tcp has it."""
_SHOWN: Final = 80
"""Characters of a process's command that are shown."""
_BLOCKS = range(20_000, 30_000, 500)
"""Below the ports that Linux gives to outgoing connections (ip_local_port_range)."""


def claim_block() -> tuple[socket.socket, int]:
    """A block of 500 ports that is no other head's: its first one, bound and kept, marks it.

    Raises:
        Stalled: all blocks are taken.
    """
    for first in random.sample(_BLOCKS, len(_BLOCKS)):
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", first))
        except OSError:
            claim.close()
            continue
        if all(is_free(port) for port in range(first + 1, first + 12)):
            return claim, first
        claim.close()
    raise Stalled("PortsTaken", "no free block of ports between 20000 and 30000")


def free(first: int, *, isolated: bool) -> Ports:
    """Ray's default ports where they are free, else those of the block that begins at `first`; of
    an isolated head all are the block's.
    """
    block = Ports._make([*range(first + 1, first + 9), _range(first + 100), _range(first + 300)])
    if isolated:
        return block
    pairs: Iterable[tuple[Any, Any]] = zip(Ports(), block, strict=True)
    return Ports._make(
        port if is_free(port[0] if isinstance(port, tuple) else port) else other
        for port, other in pairs
    )


def _range(first: int) -> tuple[int, int]:
    return first, first + 199


def require_apart(port: int, dashboard: int) -> None:
    """Make sure that routes and dashboard are not to be at one port.

    Raises:
        Stalled: they are ("PortsEqual").
    """
    if port == dashboard:
        raise Stalled(
            "PortsEqual",
            f"the routes and Ray's dashboard cannot both be at port {port}: give one of them "
            "another, by --port or --dashboard-port (`make run PORT=... DASHBOARD_PORT=...`), or "
            "in the configuration",
        )


def require_ingress(host: str, port: int) -> None:
    """Make sure that a head which is started now can serve routes at an address of this machine.

    Raises:
        Stalled: another process listens there ("IngressPortTaken").
    """
    if _is_held(host, port):
        raise Stalled(
            "IngressPortTaken",
            f"{_holder(port)} holds port {port}, where the routes are to be: end it, or choose "
            "another port by --port (`make run PORT=...`)",
        )


def require_dashboard(port: int) -> None:
    """Make sure that a head which is started now can have its dashboard at a port.

    Raises:
        Stalled: another process has it, which is no dashboard ("DashboardPortTaken").
    """
    if not is_free(port):
        raise Stalled(
            "DashboardPortTaken",
            f"{_holder(port)} holds port {port}, where Ray's dashboard is to be, and is none: end "
            "it, or choose another port by --dashboard-port (`make run DASHBOARD_PORT=...`), or "
            "as ray.dashboard_url",
        )


def _holder(port: int) -> str:
    """Who listens at a port, for a person. Another user's process shows itself to root alone."""
    wanted = {f"socket:[{inode}]" for inode in _listening(port)}
    for process in Path("/proc").glob("[0-9]*"):
        if not wanted.isdisjoint(_opened(process)):
            with suppress(OSError):  # it has just ended
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                command = words.decode(errors="replace").strip()
                return f"process {process.name} (`{command[:_SHOWN]}`)"
    return (
        "another process, which cannot be seen from here (maybe an HAProxy that a former `ray "
        f"stop` left behind; `sudo ss -ltnp 'sport = :{port}'` names it),"
    )


def _opened(process: Path) -> Iterator[str]:
    """What a process has open, as /proc has it; nothing of one that ended, or is another user's."""
    with suppress(OSError):
        for one in (process / "fd").iterdir():
            with suppress(OSError):  # it was closed meanwhile
                yield str(one.readlink())


def _listening(port: int) -> Iterator[str]:
    """Inodes of the sockets that listen at a port (proc_net_tcp in the kernel's documentation)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if state == _LISTEN and local.endswith(f":{port:04X}"):
                    yield rest[5]


def _is_held(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:  # another one: it is no IPv4 address of this machine
            return error.errno == errno.EADDRINUSE
    return False


def is_free(port: int) -> bool:
    """Whether the port can be bound on all interfaces, as some of Ray's servers do."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
