"""Parts of a pipeline: do two run in parallel, and what does a call through a handle cost?

    timeout 600 python benchmarks/parts.py [--rounds 5] [--calls 300] [--json FILE]

One wheel holds a pipeline of two parts twice: once with deployments of their own, once inline. A
daemon serves both on a head of this run's own, with HAProxy and all.

    parallel  a request that awaits one part, against one that awaits both together; a part takes
              200 ms of CPU. In turns; the medians.
    handle    a request whose part hands back a small value, deployed against inline: the part's
              place is all that differs. In turns, one after another on one connection; p50.

To reach: both together at most 1.3 x one on two cores; the handle at most 2 ms p50 above inline.
The exit code is 0 whatever comes of it: machines are noisy. `--json` has the figures.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from pathlib import Path
from statistics import median, quantiles

import httpx
from served_folder import machine, served_folder, until

from tests.support.wheels import make_wheel

TOGETHER, ABOVE = 1.3, 2.0
"""The goals: times one part; milliseconds."""
CPU = 0.2
"""Seconds of CPU that a part takes when it is told to work."""
Requests = dict[str, tuple[str, dict[str, float]]]
"""URL and body of each, by name."""
CODE = """
import asyncio
import time

from wheelway import Pipeline


class Part(Pipeline):
    examples = (0.0,)

    def infer(self, seconds):
        end = time.thread_time() + seconds
        while seconds and time.thread_time() < end:
            pass
        return seconds


class Demo(Pipeline):
    def load(self, context):
        self.parts = context.parts

    async def infer(self, request: dict[str, float]) -> int:
        calls = [self.parts[name](seconds) for name, seconds in request.items()]
        return len(await asyncio.gather(*calls))
"""
TOML = """
[pipelines.inline.options]
inline = true
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with served_folder() as served, httpx.Client(trust_env=False, timeout=60) as client:
        served.drop(wheel(served.folder))
        deployed, inline = (
            f"{served.head.ingress_url}/predict/{name}/1.0" for name in ("deployed", "inline")
        )
        for url in (deployed, inline):
            until(functools.partial(answers, client, url), 180)
        together: Requests = {
            "one part": (deployed, {"risk": CPU}),
            "both together": (deployed, {"risk": CPU, "churn": CPU}),
        }
        small: Requests = {"deployed": (deployed, {"risk": 0.0}), "inline": (inline, {"risk": 0.0})}
        compare(client, small, 50)
        took = compare(client, together, options.rounds) | compare(client, small, options.calls)
    medians = {name: median(times) * 1000 for name, times in took.items()}
    ratio = medians["both together"] / medians["one part"]
    above = medians["deployed"] - medians["inline"]
    print(machine())
    for name, times in took.items():
        worst = quantiles(times, n=20)[-1] * 1000 if len(times) > 1 else medians[name]
        print(f"{name:15} p50 {medians[name]:8.2f} ms   p95 {worst:8.2f} ms")
    print(f"both together / one: {ratio:.2f} x (at most {TOGETHER} x)")
    print(f"a handle above inline: {above:.2f} ms p50 (at most {ABOVE} ms)")
    if options.json:
        figures = {"machine": machine(), "p50": medians, "together": ratio, "above": above}
        options.json.write_text(json.dumps(figures, indent=1))


def wheel(folder: Path) -> Path:
    """Two pipelines of one class, each with two parts of another."""
    module = "bench_parts.pipeline"
    names = ("deployed", "inline")
    return make_wheel(
        folder,
        "bench-parts",
        pipelines=dict.fromkeys(names, f"{module}:Demo"),
        parts={f"{name}.{part}": f"{module}:Part" for name in names for part in ("risk", "churn")},
        code=CODE,
        wheelway_toml=TOML,
    )


def answers(client: httpx.Client, url: str) -> bool:
    """Whether the pipeline at a URL does, and its parts."""
    try:
        return bool(client.post(url, json={"risk": 0, "churn": 0}).json() == 2)
    except (httpx.HTTPError, ValueError):
        return False


def compare(client: httpx.Client, requests: Requests, rounds: int) -> dict[str, list[float]]:
    """Send each in turn, again and again; seconds."""
    took: dict[str, list[float]] = {name: [] for name in requests}
    for _ in range(rounds):
        for name, (url, body) in requests.items():
            begin = time.perf_counter()
            client.post(url, json=body).raise_for_status()
            took[name].append(time.perf_counter() - begin)
    return took


if __name__ == "__main__":
    main()
