"""Requests a second of a tiny asynchronous pipeline, against what its users come from.

    python benchmarks/request_path.py [--seconds 8] [--rounds 3] [--json FILE]

Four contenders answer the same JSON with the same function and the same pydantic types:

    fastapi    model objects in a dict, FastAPI under uvicorn (its access log off)
    wheelway   a release as the controller renders it, on a head as `wheelway up` starts it
    direct     the same replica, asked by its own Unix socket (wheelway/direct.py)
    serve      Ray Serve as it comes: an untuned head, a FastAPI ingress, default options

One run starts all it measures, on free ports, and ends it. FastAPI and wheelway are up at the same
time and take turns within every round, so that a noisy machine hurts both; each figure is the
median of the rounds. To reach: wheelway at least 0.8 x FastAPI at 16 connections. The exit code is
0 whatever comes of it: machines are noisy.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from contenders import BODY, PIPELINE
from load import Result, measure
from packaging.version import Version

from controller.config.settings import Options, RayOptions, ServeOptions
from controller.model import Artifact, Environment, PipelineEntry, Release
from controller.planning.paths import path_of
from controller.rayhead.head import Head, Tuning, start
from controller.serve.dashboard import Dashboard
from controller.serve.rendering import Renderer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONNECTIONS = (1, 16, 64)
GOAL = 0.8
"""wheelway over FastAPI at 16 connections, requests a second."""
UNTUNED = {
    "RAY_SERVE_ENABLE_HA_PROXY": "0",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0",
    "RAY_worker_niceness": "15",
    "RAY_preload_python_modules": "",
}
"""Ray's own defaults for what a head of ours is given."""
_START_DEADLINE = 120.0

Figures = dict[str, dict[int, Result]]


class Target(NamedTuple):
    """Where to ask."""

    url: str
    unix: str = ""
    """The socket to ask it by; empty: by TCP."""


# -- contenders ----------------------------------------------------------------------------------


@contextmanager
def fastapi() -> Iterator[str]:
    """The dict app under uvicorn; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "contenders:app", "--port", str(port)),
            *("--no-access-log", "--log-level", "error"),
        ],
        cwd=Path(__file__).parent,
    )
    try:
        url = f"http://127.0.0.1:{port}/predict/tiny"
        await_answer(url)
        yield url
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def wheelway() -> Iterator[tuple[str, Path]]:
    """A release on a tuned head; its URL, and the folder of its replica's socket."""
    with (
        tempfile.TemporaryDirectory(prefix="ww-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="ww-direct-") as sockets,
        start(Tuning(num_cpus=2), isolated=True) as head,
    ):
        release = Release("tiny", Version("1.0"), hashlib.sha256(PIPELINE.encode()).hexdigest())
        tree = Path(folder)
        artifact = unpacked(tree, release)
        renderer = Renderer()
        placed = renderer.place(
            release, artifact.pipelines[0], artifact, Environment("", None), Options(), {}
        )
        document = {**placed.document, "route_prefix": path_of(release)}
        document["deployments"][0]["user_config"]["direct"] = sockets
        yield apply(head, document, renderer), Path(sockets)


@contextmanager
def serve() -> Iterator[str]:
    """Ray Serve on an untuned head; its URL."""
    here = str(Path(__file__).parent)
    with start(Tuning(num_cpus=2, environment=UNTUNED), isolated=True) as head:
        document = {
            "name": "stock",
            "route_prefix": "/stock",
            "import_path": "contenders:stock",
            "runtime_env": {"env_vars": {"PYTHONPATH": here}},
            "args": {},
        }
        yield apply(head, document, Renderer()) + "/"


def apply(head: Head, document: Mapping[str, Any], renderer: Renderer) -> str:
    """PUT one application and wait until its route answers."""
    config = renderer.serve_config([document], ServeOptions(), head.ingress_url)
    with closing(Dashboard.connect(RayOptions(dashboard_url=head.dashboard_url))) as dashboard:
        dashboard.put(config)
    url = f"{head.ingress_url}{document['route_prefix']}"
    await_answer(url + "/")
    return url


def unpacked(tree: Path, release: Release) -> Artifact:
    """What the cache makes of a wheel: a tree with its RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(PIPELINE.encode()).digest()).rstrip(b"=")
    record = f"tiny.py,sha256={digest.decode()},{len(PIPELINE)}\ntiny-1.0.dist-info/RECORD,,\n"
    (tree / "tiny-1.0.dist-info").mkdir()
    (tree / "tiny.py").write_text(PIPELINE)
    (tree / "tiny-1.0.dist-info" / "RECORD").write_text(record)
    return Artifact(
        digest=release.digest,
        project="tiny",
        version=release.version,
        filename="tiny-1.0-py3-none-any.whl",
        size=len(PIPELINE),
        wheel=tree / "tiny-1.0-py3-none-any.whl",
        tree=tree,
        record_digest=hashlib.sha256(record.encode()).hexdigest(),
        requires=(),
        pipelines=(PipelineEntry("tiny", "tiny:Tiny", {}, {}),),
    )


def await_answer(url: str) -> None:
    """Until a request at `url` is answered as it shall be."""
    deadline = time.monotonic() + _START_DEADLINE
    while True:
        try:
            response = httpx.post(url, json=json.loads(BODY), trust_env=False, timeout=5)
            if response.status_code == 200:
                if response.json() != {"score": 6.5}:
                    raise SystemExit(f"{url} answers {response.text!r}, which is wrong")
                return
            said = f"{response.status_code} {response.text[:200]}"
        except httpx.HTTPError as error:
            said = str(error)
        if time.monotonic() > deadline:
            raise SystemExit(f"{url} did not answer within {_START_DEADLINE:g} s: {said}")
        time.sleep(0.1)


# -- the run -------------------------------------------------------------------------------------


def compare(targets: Mapping[str, Target], seconds: float, rounds: int) -> Figures:
    """Measure in turns; the median of the rounds."""
    found: dict[str, dict[int, list[Result]]] = {
        name: {count: [] for count in CONNECTIONS} for name in targets
    }
    for number in range(rounds):
        for count in CONNECTIONS:
            for name, (url, unix) in targets.items():
                print(f"round {number + 1}/{rounds}, {name}, {count} connections", file=sys.stderr)
                found[name][count].append(
                    measure(url, connections=count, seconds=seconds, body=BODY, unix=unix)
                )
    return {
        name: {count: typical(results) for count, results in by_count.items()}
        for name, by_count in found.items()
    }


def typical(results: list[Result]) -> Result:
    """The median of each figure."""
    middle = sorted(results, key=lambda result: result.rate)[len(results) // 2]
    return replace(
        middle,
        rate=median(result.rate for result in results),
        p50=median(result.p50 for result in results),
        p99=median(result.p99 for result in results),
        failed=sum(result.failed for result in results),
    )


def table(figures: Figures) -> str:
    """Markdown, for docs/benchmarks.md."""
    lines = [
        "| | connections | requests/s | p50 ms | p99 ms | failed | x FastAPI |",
        "|---|---|---|---|---|---|---|",
    ]
    for count in CONNECTIONS:
        base = figures["fastapi"][count].rate
        for name, by_count in figures.items():
            one = by_count[count]
            lines.append(
                f"| {name} | {count} | {one.rate:,.0f} | {one.p50:.2f} | {one.p99:.2f} "
                f"| {one.failed} | {one.rate / base:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the request path.")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    with ExitStack() as stack:
        base = stack.enter_context(fastapi())
        url, sockets = stack.enter_context(wheelway())
        [own] = sockets.glob("*.sock")
        targets = {
            "fastapi": Target(base),
            "wheelway": Target(url),
            "direct": Target(url, str(own)),
        }
        figures = compare(targets, options.seconds, options.rounds)
    with serve() as url:
        figures |= compare({"serve": Target(url)}, options.seconds, 1)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"load average at the end: {load}\n\n{table(figures)}\n")
    ratio = figures["wheelway"][16].rate / figures["fastapi"][16].rate
    verdict = "reached" if ratio >= GOAL else "missed"
    print(f"wheelway / FastAPI at 16 connections: {ratio:.2f} (goal {GOAL} {verdict})")
    if options.json:
        data = {name: {n: r.rate for n, r in by.items()} for name, by in figures.items()}
        options.json.write_text(json.dumps({"rates": data, "ratio": ratio}))


if __name__ == "__main__":
    main()
