"""Which ports a Ray head takes, and how two heads on one machine keep out of each other's way."""

from __future__ import annotations

import errno
import random
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from controller.errors import Stalled

if TYPE_CHECKING:
    from collections.abc import Iterable


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


def require_ingress(host: str, port: int, *, dashboard: int) -> None:
    """Make sure that a head which is started now can serve routes at an address of this machine.

    Raises:
        Stalled: another process listens there ("IngressPortTaken"), or its own dashboard will.
    """
    if port == dashboard:
        raise Stalled(
            "PortsEqual",
            f"the routes and Ray's dashboard cannot both be at port {port}: give one of them "
            "another, by --port or --dashboard-port, or in the configuration",
        )
    if _is_held(host, port):
        raise Stalled(
            "IngressPortTaken",
            f"another process holds port {port}, where the routes are to be; it may be an HAProxy "
            f"that a former `ray stop` left behind (`ss -ltnp 'sport = :{port}'` names it): end "
            "it, or choose another port by --port (`make run PORT=...`)",
        )


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
