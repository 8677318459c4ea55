"""Twenty upgrades of one route under constant load: does a client notice?

    timeout 900 python benchmarks/upgrade_under_load.py [--upgrades 20] [--rate 100] [--json FILE]
                                                        [--head RAY_worker_niceness=15 ...]

A wheel is dropped and live; then other bytes of the same version are dropped on it, again and
again, each as soon as the one before is live. All the while some clients send requests at a
constant rate, on connections that they keep as long as they may. A request that is due while its
client still waits for the one before is late, and its lateness counts.

    failed    no answer, or another than 200
    wait      from when a request was due to its answer
    gap       between two successive answers, over all clients
    own       how late a client sent a request that it could have sent: no part of a server's time

Clients are on other machines and never wait for a core of this one. So they come first here: the
thread that sends has real-time priority (sched(7)), which takes root or CAP_SYS_NICE. Without it
the waits include the clients' own, and the run says so.

To reach: no failed request; the longest wait, and the longest gap, at most 0.5 s. The exit code is
0 whatever comes of it: machines are noisy. `--json` has the figures. `--head` sets variables of the
head's environment, for a look at what its settings are good for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from served_folder import machine, served_folder

from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from served_folder import ServedFolder

CLIENTS = 8
ROUTE = "/predict/busy/1.0"
GOAL = 0.5
"""Seconds."""
PATIENCE = 120.0
"""Seconds for one upgrade."""


@dataclass
class Load:
    """What came of the requests; times on the monotonic clock."""

    releases: dict[str, int] = field(default_factory=dict)
    """How many answers each release gave, the latest release last."""
    failures: list[str] = field(default_factory=list)
    waits: list[tuple[float, float]] = field(default_factory=list)
    """Of each answered request: its wait, and what of that is the client's own."""
    answered: list[float] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a release answers that did not before."""
    ending: bool = False

    @property
    def gap(self) -> float:
        """Seconds of the longest time without any answer."""
        pairs = pairwise(self.answered)
        return max((later - earlier for earlier, later in pairs), default=0.0)

    def note(self, due: float, own: float, status: int, release: str) -> None:
        now = time.monotonic()
        if status != 200:
            self.failures.append(f"{status} from {release or 'the ingress'}")
            return
        if release not in self.releases:
            self.news.set()
        self.releases[release] = self.releases.get(release, 0) + 1
        self.waits.append((now - due, own))
        self.answered.append(now)


async def client(
    url: str, load: Load, first: float, period: float, header: str = "x-wheelway-release"
) -> None:
    """A request every `period` seconds from `first` on, one after the other; `header` says who
    answered.
    """
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        due = first
        while not load.ending:
            turn = max(due, time.monotonic())
            await asyncio.sleep(turn - time.monotonic())
            own = time.monotonic() - turn
            try:
                async with session.post(url, json={"n": 1}) as answer:
                    await answer.read()
                    release = answer.headers.get(header, "")
                    load.note(due, own, answer.status, release)
            except (aiohttp.ClientError, TimeoutError) as error:
                load.failures.append(repr(error))
            due += period


def first_in_line() -> bool:
    """Whether this thread, and nothing that it starts, now has a core whenever it wants one."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        return False
    return True


async def upgrades(place: ServedFolder, load: Load, count: int) -> list[float]:
    """Drop one wheel after the other; seconds from each drop to its first answer."""
    took = []
    for number in range(1, count + 1):
        wheel = make_wheel(place.folder / "made", "busy", marker=f"upgrade {number}")
        load.news.clear()
        began = time.monotonic()
        place.drop(wheel)
        await asyncio.wait_for(load.news.wait(), PATIENCE)
        took.append(time.monotonic() - began)
        await asyncio.to_thread(place.await_live, "busy")
        print(f"upgrade {number:2}: {took[-1]:5.1f} s, {len(load.failures)} failed so far")
    return took


async def run(place: ServedFolder, count: int, rate: float) -> tuple[Load, list[float]]:
    load, url = Load(), f"{place.head.ingress_url}{ROUTE}"
    start, period = time.monotonic() + 0.5, CLIENTS / rate
    clients = [
        asyncio.create_task(client(url, load, start + number / rate, period))
        for number in range(CLIENTS)
    ]
    await asyncio.wait_for(load.news.wait(), PATIENCE)
    took = await upgrades(place, load, count)
    await asyncio.sleep(2.0)  # the last predecessor goes meanwhile
    load.ending = True
    await asyncio.gather(*clients)
    return load, took


def main() -> None:
    parser = argparse.ArgumentParser(description="Upgrade one route under load.")
    parser.add_argument("--upgrades", type=int, default=20)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    parser.add_argument("--head", nargs="*", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    settings = dict(setting.split("=", 1) for setting in options.head)
    before = machine()
    with served_folder(settings) as place:
        place.drop(make_wheel(place.folder / "made", "busy"))
        place.first_answer(ROUTE)
        place.await_live("busy")
        ahead = first_in_line()
        load, took = asyncio.run(run(place, options.upgrades, options.rate))
    waits = sorted(load.waits)
    figures = {
        "upgrades": len(took),
        "releases seen": len(load.releases),
        "requests": len(waits) + len(load.failures),
        "failed": len(load.failures),
        "median wait": waits[len(waits) // 2][0],
        "p99.9 wait": waits[int(len(waits) * 0.999)][0],
        "longest wait": waits[-1][0],
        "of that own": waits[-1][1],
        "longest own": max(own for _, own in waits),
        "longest gap": load.gap,
        "median upgrade": sorted(took)[len(took) // 2],
    }
    print(f"\n{before} before, {machine().rpartition(' average ')[2]} after\n\n| | |\n|---|---|")
    for name, value in figures.items():
        print(f"| {name} | {value if isinstance(value, int) else f'{value:.3f} s'} |")
    for failure in load.failures[:10]:
        print(f"failed: {failure}")
    stall = max(figures["longest wait"], figures["longest gap"])
    print(f"\nfailed: {len(load.failures)} (to reach: 0), stall: {stall:.2f} s (<= {GOAL} s)")
    if not ahead:
        print("The clients had no real-time priority (CAP_SYS_NICE): waits include their own.")
    if options.json:
        options.json.write_text(json.dumps({**figures, "failures": load.failures}, indent=1))


if __name__ == "__main__":
    main()
