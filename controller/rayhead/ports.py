"""Which ports a Ray head takes, and how two heads on one machine keep out of each other's way."""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass

from controller.errors import Stalled


@dataclass(frozen=True, slots=True)
class Ports:
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


def free(wanted: Ports, first: int) -> Ports:
    """The ports wanted where they are free, else those of the block that begins at `first`."""

    def single(port: int, offset: int) -> int:
        return port if port and is_free(port) else first + offset

    def several(ports: tuple[int, int], offset: int) -> tuple[int, int]:
        low, _ = ports
        return ports if low and is_free(low) else (first + offset, first + offset + 199)

    return Ports(
        gcs=single(wanted.gcs, 1),
        client=single(wanted.client, 2),
        agent=single(wanted.agent, 3),
        stats=single(wanted.stats, 4),
        metrics=single(wanted.metrics, 5),
        fallback_http=single(wanted.fallback_http, 6),
        fallback_grpc=single(wanted.fallback_grpc, 7),
        ingress=single(wanted.ingress, 8),
        replica_http=several(wanted.replica_http, 100),
        replica_grpc=several(wanted.replica_grpc, 300),
    )


def is_free(port: int) -> bool:
    """Whether the port can be bound on all interfaces, as some of Ray's servers do."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
