"""A load generator in a process of its own: HTTP/1.1 keep-alive, one request a connection at once.

    python benchmarks/load.py http://127.0.0.1:8000/predict/x/1.0 -c 16 -s 10 -d '{"x": 1}'

prints one JSON object: requests, failed, seconds, rate (1/s), p50, p99 and worst (milliseconds). A
request has failed when its status is not 200; a connection that breaks ends the run. The server is
warmed up before the clock starts. It is sockets and epoll(7) by hand: on few cores the generator
competes with what it measures, and an HTTP library would cost more than the servers do.
"""

from __future__ import annotations

import argparse
import json
import re
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Result:
    requests: int
    failed: int
    seconds: float
    rate: float
    """Successful requests a second."""
    p50: float
    """Milliseconds, as the two below."""
    p99: float
    worst: float


def measure(url: str, *, connections: int, seconds: float, body: bytes, unix: str = "") -> Result:
    """Run this module in a process of its own and wait for its result; `unix` is the socket to ask
    `url` by, if it is none of TCP.
    """
    done = subprocess.run(
        [
            *(sys.executable, __file__, url, "-c", str(connections), "-s", str(seconds)),
            *("-d", body.decode(), "--unix", unix),
        ],
        stdout=subprocess.PIPE,
        timeout=seconds + 60,
        check=True,
    )
    return Result(**json.loads(done.stdout))


@dataclass(slots=True)
class Connection:
    """One connection and the request it waits for."""

    socket: socket.socket
    sent: float = 0.0
    buffer: bytes = b""
    need: int = 0
    """Bytes of the whole answer; 0 until its head was read."""


def drive(url: str, connections: int, seconds: float, body: bytes, unix: str = "") -> Result:
    """Ask `url` over all connections until the time is over; see `measure`."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    request = (
        f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    poll, made = select.epoll(), {}
    for _ in range(connections):
        one = connected(host, port, unix)
        poll.register(one, select.EPOLLIN)
        made[one.fileno()] = Connection(one)
    latencies: list[float] = []
    failed = 0
    for connection in made.values():
        send(connection, request)
    start = time.perf_counter() + min(2.0, seconds / 3)  # warm-up: nothing is counted before
    end = start + seconds
    while (now := time.perf_counter()) < end:
        for number, _ in poll.poll(end - now):
            connection = made[number]
            status = receive(connection)
            if not status:
                continue
            now = time.perf_counter()
            if status != b"200":
                failed += 1
            elif now >= start:
                latencies.append(now - connection.sent)
            send(connection, request)
    took = time.perf_counter() - start
    if not latencies:
        raise SystemExit(f"not one request to {url} succeeded, {failed} failed")
    latencies.sort()
    count = len(latencies)
    return Result(
        requests=count,
        failed=failed,
        seconds=took,
        rate=count / took,
        p50=latencies[count // 2] * 1000,
        p99=latencies[min(count - 1, int(count * 0.99))] * 1000,
        worst=latencies[-1] * 1000,
    )


def connected(host: str, port: int, unix: str) -> socket.socket:
    """A new connection."""
    if unix:
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(10)
        one.connect(unix)
        return one
    one = socket.create_connection((host, port), timeout=10)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def send(connection: Connection, request: bytes) -> None:
    """Send the next request; small enough for any socket buffer."""
    connection.buffer, connection.need = b"", 0
    connection.sent = time.perf_counter()
    connection.socket.sendall(request)


def receive(connection: Connection) -> bytes:
    """Take what has come; the status once the answer is complete, until then nothing."""
    data = connection.socket.recv(65536)
    if not data:
        raise SystemExit("the server closed a connection that was to be kept alive")
    connection.buffer = data = connection.buffer + data if connection.buffer else data
    if not connection.need:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return b""
        found = _LENGTH.search(data, 0, end + 2)
        if found is None:
            raise SystemExit(f"an answer without content-length: {data[:200]!r}")
        connection.need = end + 4 + int(found[1])
    return data[9:12] if len(data) >= connection.need else b""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Ask one URL as fast as it answers.")
    parser.add_argument("url")
    parser.add_argument("-c", "--connections", type=int, default=16)
    parser.add_argument("-s", "--seconds", type=float, default=10.0)
    parser.add_argument("-d", "--body", default="{}")
    parser.add_argument("--unix", default="", help="a Unix socket to ask by")
    options = parser.parse_args(argv)
    result = drive(
        options.url, options.connections, options.seconds, options.body.encode(), options.unix
    )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
