"""Ten new weights for one release under constant load, one of them bad: does a client notice?

    timeout 900 python benchmarks/weights_swap.py [--swaps 10] [--bad 6] [--rate 100]
                                                  [--bytes 32] [--objects 5] [--json FILE]
                                                  [--large 256] [--large-swaps 3]

A pipeline and its weights are live; then newer weights are published, again and again, each as soon
as the ones before are served. Those of `--bad` fail in `load`: the daemon has to put the former
ones back. A wheel of weights has `--bytes` MiB that are read as they are, as arrays are, and
`--objects` thousand small objects that are unpickled, which keeps the interpreter to itself. All
the while clients send requests at a constant rate, as in upgrade_under_load.py, whose words these
are.

    failed    no answer, or another than 200
    wait      from when a request was due to its answer
    gap       between two successive answers, over all clients
    publish   from the rename of the wheel to the first answer with its header; `load` is what the
              pipeline itself spent in its `load`, and took away from that is what to reach is of
    config    from the rename until the daemon, which had fetched, checked and unpacked it by then,
              sent the config; it grows with the wheel, whose bytes are hashed several times
    live      from the rename until the daemon knew that every replica answers with them
    resident  memory of the replica's process (VmRSS, proc(5)); after the last swap it is looked at
              once the former instance was unloaded

After that come `--large-swaps` of weights of `--large` MiB, under the same load. What they take
longer is told for each MiB: `publish` without `load`, and `config`, which is the daemon's share;
the rest is the replica's, which hashes what it is about to load. `--large 0` leaves them out.

What is made of many small objects is seldom given back whole: Python's allocator keeps what lies
between others. With 100,000 of them that grew to two thirds of their own size within twenty swaps,
and then no further. Arrays are given back.

To reach: no failed request; the longest wait, and the longest gap, at most 0.25 s; publish without
`load` at most 1.5 s; memory within 5 % of what it was. The exit code is 0 whatever comes of it.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import pickle
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from served_folder import machine, served_folder, until
from upgrade_under_load import CLIENTS, PATIENCE, Load, client, first_in_line

from controller.journal import Journal
from tests.support.wheels import make_weights, make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from served_folder import ServedFolder

ROUTE = "/predict/busy/1.0"
HEADER = "x-wheelway-weights"
STALL, PUBLISH, MEMORY = 0.25, 1.5, 0.05
"""To reach: seconds, seconds, and a share."""

CODE = """
import pickle, time
from wheelway import Pipeline

class Demo(Pipeline):
    examples = ({"n": 1},)

    def load(self, context):
        began = time.perf_counter()
        with (context.weights / "model.pickle").open("rb") as file:
            self.model = pickle.load(file)
        if self.model["bad"]:
            raise ValueError("these weights are bad")
        self.data = bytearray((context.weights / "model.bin").read_bytes())
        self.took = time.perf_counter() - began

    def infer(self, request: dict[str, int]) -> dict[str, float]:
        return {"version": self.model["version"], "load": self.took}
"""


@dataclass
class Figures:
    """What came of the swaps; in seconds and bytes."""

    publish: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    config: list[float] = field(default_factory=list)
    live: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    """From the rename of bad weights until the former ones are wanted again."""
    resident: list[int] = field(default_factory=list)
    """Before the first swap, and after each."""

    def without_load(self) -> list[float]:
        """`publish`, but for what the pipeline itself spent."""
        return [total - inside for total, inside in zip(self.publish, self.load, strict=True)]


def weights(
    place: ServedFolder, number: int, options: argparse.Namespace, *, size: int, bad: bool = False
) -> Path:
    """A wheel of `size` MiB."""
    chance = random.Random(number)
    objects = [(chance.random(), str(n)) for n in range(options.objects * 1000)]
    model = {"version": number, "bad": bad, "objects": objects}
    return make_weights(
        place.folder / "made",
        "busy-weights",
        f"{number}.0",
        pipelines={"busy": "busy_weights"},
        files={
            "busy_weights/model.pickle": pickle.dumps(model),
            "busy_weights/model.bin": b"".join(chance.randbytes(1 << 20) for _ in range(size)),
        },
    )


def is_refusing(place: ServedFolder) -> bool:
    """Whether the replica still has weights that it refused."""
    connection = http.client.HTTPConnection("127.0.0.1", place.head.ports.ingress, timeout=10)
    try:
        connection.request("GET", ROUTE)
        return "weights_error" in json.load(connection.getresponse())
    finally:
        connection.close()


def answer(place: ServedFolder) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", place.head.ports.ingress, timeout=10)
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", ROUTE, b'{"n": 1}', headers)
        found: dict[str, Any] = json.load(connection.getresponse())
    finally:
        connection.close()
    return found


def recorded(place: ServedFolder) -> tuple[float, float]:
    """When the last config was sent, and when weights were last found live."""
    with Journal.read(place.folder / "state") as journal:
        [sent] = journal.configs(1)
        found = journal.events(pipeline="busy")
    return sent.at, max(event.at for event in found if event.reason == "WeightsLive")


def resident(place: ServedFolder) -> int:
    """Bytes of the replica's process."""
    [found] = [
        replica.pid
        for application in place.dashboard.applications()
        if application.route == ROUTE
        for replica in application.replicas
        if replica.pid
    ]
    lines = Path(f"/proc/{found}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


async def swaps(place: ServedFolder, load: Load, wheels: list[Path], bad: int) -> Figures:
    """Drop one wheel after the other; the number of a bad one is `bad`."""
    figures = Figures(resident=[await asyncio.to_thread(resident, place)])
    for number, wheel in enumerate(wheels, start=1):
        load.news.clear()
        began, dropped = time.monotonic(), place.drop(wheel)
        if number == bad:
            await asyncio.to_thread(until, lambda: is_refusing(place), PATIENCE)
            await asyncio.to_thread(until, lambda: not is_refusing(place), PATIENCE)
            figures.refused.append(time.monotonic() - began)
            print(f"swap {number:2}: refused and put back after {figures.refused[-1]:.2f} s")
            continue
        await asyncio.wait_for(load.news.wait(), PATIENCE)
        figures.publish.append(time.monotonic() - began)
        await asyncio.sleep(2.0)  # the former instance goes meanwhile
        sent, live = await asyncio.to_thread(recorded, place)
        figures.config.append(sent - dropped)
        figures.live.append(live - dropped)
        figures.load.append((await asyncio.to_thread(answer, place))["load"])
        figures.resident.append(await asyncio.to_thread(resident, place))
        print(
            f"swap {number:2}: served after {figures.publish[-1]:.2f} s, of that `load` "
            f"{figures.load[-1]:.2f} s; {figures.resident[-1] >> 20} MiB; "
            f"{len(load.failures)} failed so far, longest gap {load.gap:.3f} s"
        )
    return figures


async def run(
    place: ServedFolder, wheels: list[Path], options: argparse.Namespace, *, bad: int, rest: float
) -> tuple[Load, Figures]:
    """Drop the wheels under load, the first after `rest` seconds of it."""
    load, url = Load(), f"{place.head.ingress_url}{ROUTE}"
    start, period = time.monotonic() + 0.5, CLIENTS / options.rate
    clients = [
        asyncio.create_task(client(url, load, start + n / options.rate, period, HEADER))
        for n in range(CLIENTS)
    ]
    await asyncio.wait_for(load.news.wait(), PATIENCE)
    await asyncio.sleep(rest)  # what requests need by themselves is there
    figures = await swaps(place, load, wheels, bad)
    load.ending = True
    await asyncio.gather(*clients)
    return load, figures


def median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def per_mib(small: Figures, large: Figures, more: int) -> dict[str, float]:
    """Seconds for each MiB by which wheels of `more` MiB more took longer."""

    def slope(of: Callable[[Figures], Iterable[float]]) -> float:
        return (median(of(large)) - median(of(small))) / more

    return {
        "publish without load, for each MiB": slope(Figures.without_load),
        "config, for each MiB": slope(lambda one: one.config),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Give one release other weights under load.")
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--bad", type=int, default=6, help="which one is bad; 0: none")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--bytes", type=int, default=32, help="MiB of a wheel of weights")
    parser.add_argument("--large", type=int, default=256, help="MiB of large ones; 0: none")
    parser.add_argument("--large-swaps", type=int, default=3)
    parser.add_argument("--objects", type=int, default=5, help="thousands of small objects")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    before = machine()
    with served_folder() as place:
        place.drop(weights(place, 1, options, size=options.bytes))
        place.drop(make_wheel(place.folder / "made", "busy", code=CODE))
        place.first_answer(ROUTE, body=b'{"n": 1}')
        place.await_live("busy")
        # Made beforehand: that would hold up the clients, which are of this process.
        wheels = [
            weights(place, number + 1, options, size=options.bytes, bad=number == options.bad)
            for number in range(1, options.swaps + 1)
        ]
        more = options.large_swaps if options.large else 0
        heavy = [weights(place, 1000 + n, options, size=options.large) for n in range(more)]
        ahead = first_in_line()
        load, found = asyncio.run(run(place, wheels, options, bad=options.bad, rest=10.0))
        if heavy:
            beside, large = asyncio.run(run(place, heavy, options, bad=0, rest=1.0))
    waits, without = sorted(load.waits), found.without_load()
    figures: dict[str, float] = {
        "swaps": len(found.publish),
        "refused": len(found.refused),
        "requests": len(waits) + len(load.failures),
        "failed": len(load.failures),
        "median wait": waits[len(waits) // 2][0],
        "p99.9 wait": waits[int(len(waits) * 0.999)][0],
        "longest wait": waits[-1][0],
        "of that own": waits[-1][1],
        "longest gap": load.gap,
        "median publish": median(found.publish),
        "longest publish without load": max(without),
        "median config": median(found.config),
        "median live": median(found.live),
        "median load": median(found.load),
        "longest refusal": max(found.refused, default=0.0),
        "resident before": found.resident[0],
        "resident after": found.resident[-1],
    }
    if heavy:
        of_large = {
            f"{options.large} MiB: publish without load": median(large.without_load()),
            f"{options.large} MiB: longest gap": beside.gap,
            f"{options.large} MiB: longest wait": max(beside.waits)[0],
            **per_mib(found, large, options.large - options.bytes),
        }
        figures |= of_large
        load.failures += beside.failures
    print(f"\n{before} before, {machine().rpartition(' average ')[2]} after\n\n| | |\n|---|---|")
    for name, value in figures.items():
        text = f"{value / 2**20:.0f} MiB" if name.startswith("resident") else f"{value:.4g} s"
        print(
            f"| {name} | {value if name in {'swaps', 'refused', 'requests', 'failed'} else text} |"
        )
    for failure in load.failures[:10]:
        print(f"failed: {failure}")
    stall = max(figures["longest wait"], figures["longest gap"])
    growth = found.resident[-1] / found.resident[0] - 1
    print(
        f"\nfailed: {len(load.failures)} (to reach: 0), stall: {stall:.2f} s (<= {STALL} s), "
        f"publish without load: {max(without):.2f} s (<= {PUBLISH} s), "
        f"memory: {growth:+.1%} (within {MEMORY:.0%})"
    )
    if not ahead:
        print("The clients had no real-time priority (CAP_SYS_NICE): waits include their own.")
    if options.json:
        everything = {**figures, "failures": load.failures, "each": vars(found)}
        options.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
