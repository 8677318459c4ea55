"""How long an item of a stream is on its way, and how many streams one replica keeps up with.

    timeout 900 python benchmarks/stream_latency.py [--streams 200] [--clients 100] [--rate 50]
                                                    [--seconds 10] [--json FILE]

Wheels are dropped into a folder that a daemon watches, so that each item comes through replica,
Serve and HAProxy as in production. An item holds the moment it was yielded, by the clock that all
processes of a machine share; a client notes when it has read the whole item.

    first     one stream after the other, each on a connection of its own: from when its first item
              was yielded to when the client has it, of an `async def` and of a `def` generator
    together  so many streams at the same time through one replica, each of so many items a second:
              how late items come, how many were missed, and streams that failed or broke off
    left      clients that go away after the first item: from then to `GeneratorExit` in a generator
              that would go on for a minute

To reach: `first` at most 20 ms at the 99th percentile; none of `together` failed; each of `left`
closed within a second. The exit code is 0 whatever comes of it: machines are noisy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp
from served_folder import machine, served_folder

from tests.support.wheels import make_wheel

GOAL = 20.0
"""Milliseconds."""
MODEL = """
import asyncio, contextlib, os, time
from collections.abc import AsyncIterator, Iterator

from pydantic import BaseModel
from wheelway import Pipeline


class Request(BaseModel):
    count: int = 3
    period: float = 0.02
    note: str = ""


@contextlib.contextmanager
def noted(path):
    try:
        yield
    except (GeneratorExit, asyncio.CancelledError):
        if path:
            with open(path + ".part", "w") as file:
                file.write(repr(time.monotonic()))
            os.replace(path + ".part", path)
        raise


class Ticks(Pipeline):
    examples = ({},)

    async def infer(self, request: Request) -> AsyncIterator[float]:
        due = time.monotonic()
        with noted(request.note):
            for _ in range(request.count):
                due += request.period
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                yield time.monotonic()


class SyncTicks(Pipeline):
    examples = ({},)

    def infer(self, request: Request) -> Iterator[float]:
        with noted(request.note):
            for _ in range(request.count):
                time.sleep(request.period)
                yield time.monotonic()
"""
KINDS = {"async def": "ticks", "def": "sync-ticks"}


@dataclass
class Reading:
    """What clients saw; times in milliseconds."""

    first: list[float] = field(default_factory=list)
    all: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


async def read(url: str, asked: dict[str, float], reading: Reading) -> None:
    """One stream, from its request to its end."""
    timeout = aiohttp.ClientTimeout(total=120)
    count = 0
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, json=asked) as answer,
        ):
            answer.raise_for_status()
            async for line in answer.content:
                late = (time.monotonic() - float(json.loads(line))) * 1000
                if not count:
                    reading.first.append(late)
                reading.all.append(late)
                count += 1
    except (aiohttp.ClientError, TimeoutError, ValueError, TypeError) as error:
        reading.failures.append(repr(error))
        return
    if count != asked["count"]:
        reading.failures.append(f"{count} of {asked['count']} items")


async def leave(url: str, note: Path, reading: Reading) -> None:
    """Go away after the first item, and wait until the generator noted that it was closed."""
    asked = {"count": 3000, "period": 0.02, "note": str(note)}
    async with aiohttp.ClientSession() as session:
        answer = await session.post(url, json=asked)
        answer.raise_for_status()
        await answer.content.readline()
        left = time.monotonic()
        answer.close()
    closed = await asyncio.to_thread(noted, note, left + 90)
    if closed is None:
        reading.failures.append("not closed within 90 s")
    else:
        reading.first.append((closed - left) * 1000)


def noted(note: Path, deadline: float) -> float | None:
    """When a generator wrote that it was closed; None: not until the deadline."""
    while not note.exists():
        if time.monotonic() > deadline:
            return None
        time.sleep(0.005)
    return float(note.read_text())


async def measure(ingress: str, notes: Path, options: argparse.Namespace) -> dict[str, Reading]:
    """Everything, once each."""
    found = {}
    for kind, name in KINDS.items():
        found[kind] = reading = Reading()
        for _ in range(options.streams):
            await read(f"{ingress}/predict/{name}/1.0", {"count": 3, "period": 0.02}, reading)
    asked = {"count": options.rate * options.seconds, "period": 1 / options.rate}
    found["together"] = reading = Reading()
    url = f"{ingress}/predict/ticks/1.0"
    await asyncio.gather(*(read(url, asked, reading) for _ in range(options.clients)))
    for kind, name in KINDS.items():
        found[f"left, {kind}"] = reading = Reading()
        for number in range(options.leavers):
            await leave(f"{ingress}/predict/{name}/1.0", notes / f"{name}-{number}", reading)
    return found


def percentile(values: list[float], which: int) -> float:
    if len(values) < 2:
        return float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[which - 1]


def table(found: dict[str, Reading], options: argparse.Namespace) -> str:
    """Markdown, for docs/benchmarks.md."""
    lines = ["| | items | p50 ms | p99 ms | worst ms | failed |", "|---|---|---|---|---|---|"]
    for kind, reading in found.items():
        together = kind == "together"
        values = reading.all if together else reading.first
        what = (
            f"{options.clients} streams of {options.rate} items/s, every item"
            if together
            else f"first item, `{kind}`"
        )
        if kind.startswith("left, "):
            what = f"client gone to generator closed, `{kind.removeprefix('left, ')}`"
        lines.append(
            f"| {what} | {len(values)} | {percentile(values, 50):.2f} | "
            f"{percentile(values, 99):.2f} | {max(values, default=0):.2f} | "
            f"{len(reading.failures)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how long items are on their way.")
    parser.add_argument("--streams", type=int, default=200, help="one after the other")
    parser.add_argument("--clients", type=int, default=100, help="streams at the same time")
    parser.add_argument("--rate", type=int, default=50, help="items a second of each of these")
    parser.add_argument("--seconds", type=int, default=10, help="that each of these lasts")
    parser.add_argument(
        "--leavers", type=int, default=50, help="clients that go away, of each kind"
    )
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    with served_folder() as place:
        for name, kind in zip(KINDS.values(), ("Ticks", "SyncTicks"), strict=True):
            target = f"{name.replace('-', '_')}.pipeline:{kind}"
            made = place.folder / "made"
            place.drop(make_wheel(made, name, code=MODEL, pipelines={name: target}))
        for name in KINDS.values():
            place.first_answer(f"/predict/{name}/1.0")
            place.await_live(name)
        time.sleep(10)  # HAProxy is reloaded once more after the last route
        found = asyncio.run(measure(place.head.ingress_url, place.folder, options))
    print(machine())
    print(table(found, options))
    worst = max(percentile(found[kind].first, 99) for kind in KINDS)
    failed = len(found["together"].failures)
    print(
        f"first item: p99 {worst:.1f} ms, to reach {GOAL:g}; failed streams: {failed}, to reach 0"
    )
    closed = max(max(found[f"left, {kind}"].first, default=float("nan")) for kind in KINDS)
    print(f"a client that left: closed after {closed:.0f} ms at most, to reach 1000")
    for failure in [text for reading in found.values() for text in reading.failures][:5]:
        print(failure)
    if options.json is not None:
        options.json.write_text(json.dumps({kind: asdict(r) for kind, r in found.items()}))


if __name__ == "__main__":
    main()
