"""A load generator in a process of its own: HTTP/1.1 keep-alive, one request a connection at once.

    python benchmarks/load.py http://127.0.0.1:8000/predict/x/1.0 -c 16 -s 10 -d '{"x": 1}'

prints one JSON object: requests, failed, seconds, rate (1/s), p50, p99 and worst (milliseconds). A
request has failed when its status is not 200 or its connection broke. Connections are opened and
the server is warmed up before the clock starts. It is a raw asyncio protocol (on uvloop where there
is one): an HTTP library would cost more than the servers that are measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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


def measure(url: str, *, connections: int, seconds: float, body: bytes) -> Result:
    """Run this module in a process of its own and wait for its result."""
    done = subprocess.run(
        [
            *(sys.executable, __file__, url, "-c", str(connections), "-s", str(seconds)),
            *("-d", body.decode()),
        ],
        stdout=subprocess.PIPE,
        timeout=seconds + 60,
        check=True,
    )
    return Result(**json.loads(done.stdout))


@dataclass(slots=True)
class Tally:
    """What all connections report to."""

    ends: float = 0.0
    counting: bool = False
    failed: int = 0


class Connection(asyncio.Protocol):
    """Sends the same request as soon as the answer to the last one is complete."""

    def __init__(self, request: bytes, tally: Tally, on_end: Callable[[], None]) -> None:
        self._request = request
        self._tally = tally
        self._on_end = on_end
        self._buffer = b""
        self._need = 0
        self._ok = False
        self.latencies: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer = data = self._buffer + data if self._buffer else data
        if not self._need:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = data[:end].lower()
            at = head.find(b"content-length:")
            if at < 0:
                raise ValueError(f"an answer without content-length: {data[:200]!r}")
            self._need = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
            self._ok = head[9:12] == b"200"
        if len(data) < self._need:
            return
        self._buffer, self._need = b"", 0
        now = time.perf_counter()
        tally = self._tally
        if tally.counting:
            if self._ok:
                self.latencies.append(now - self._sent)
            else:
                tally.failed += 1
        if tally.counting and now >= tally.ends:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        tally = self._tally
        if exc is not None or not tally.counting or time.perf_counter() < tally.ends:
            tally.failed += 1
        self._on_end()


async def drive(url: str, connections: int, seconds: float, body: bytes) -> Result:
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    request = (
        f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    loop, tally = asyncio.get_running_loop(), Tally()
    over, left = asyncio.Event(), connections

    def ended() -> None:
        nonlocal left
        left -= 1
        if not left:
            over.set()

    made = [
        await loop.create_connection(lambda: Connection(request, tally, ended), host, port)
        for _ in range(connections)
    ]
    await asyncio.sleep(min(2.0, seconds / 3))  # warm-up: nothing is counted yet
    start = time.perf_counter()
    tally.ends, tally.counting = start + seconds, True
    await asyncio.wait_for(over.wait(), seconds + 30)
    took = time.perf_counter() - start
    latencies = sorted(value for _, connection in made for value in connection.latencies)
    if not latencies:
        raise SystemExit(f"not one request to {url} succeeded, {tally.failed} failed")
    count = len(latencies)
    return Result(
        requests=count,
        failed=tally.failed,
        seconds=took,
        rate=count / took,
        p50=latencies[count // 2] * 1000,
        p99=latencies[min(count - 1, int(count * 0.99))] * 1000,
        worst=latencies[-1] * 1000,
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Ask one URL as fast as it answers.")
    parser.add_argument("url")
    parser.add_argument("-c", "--connections", type=int, default=16)
    parser.add_argument("-s", "--seconds", type=float, default=10.0)
    parser.add_argument("-d", "--body", default="{}")
    options = parser.parse_args(argv)
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ModuleNotFoundError:
        run = asyncio.run
    else:
        run = uvloop.run
    result = run(drive(options.url, options.connections, options.seconds, options.body.encode()))
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
