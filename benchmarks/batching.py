"""Requests a second of a vectorised NumPy model, in batches and one by one.

    python benchmarks/batching.py [--width 2048] [--layers 3] [--seconds 8] [--rounds 3]

The same small network, `tanh(x @ w)` a layer, is two releases on one head as `wheelway up` starts
it: `alone` defines `infer`, `batched` defines `infer_batch`; their options are the defaults. One
row through it reads all its weights from memory, and so does a batch, which is what batches gain.
Both take turns within every round, so that a noisy machine hurts both; each figure is the median of
the rounds. `tiny` is the same with next to no model: what batching itself costs a request.

To reach: at 64 connections at least 4 x the requests a second, at 1 connection a median latency of
at most 1.1 x. The exit code is 0 whatever comes of it: machines are noisy.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import httpx
from load import Result, measure
from packaging.version import Version
from request_path import typical

from controller.config.settings import Options, RayOptions, ServeOptions
from controller.model import Artifact, Environment, PipelineEntry, Release
from controller.planning.paths import path_of
from controller.rayhead.head import Head, Tuning, start
from controller.serve.dashboard import Dashboard
from controller.serve.rendering import Renderer

RATE_GOAL, LATENCY_GOAL = 4.0, 1.1
MANY = 64
INPUTS = 32
BODY = json.dumps({"values": [round(0.01 * n, 2) for n in range(INPUTS)]}).encode()
_START_DEADLINE = 120.0
_SETTLE = 10.0
"""Seconds: the ingress is reloaded after the last replica has come, which ends connections."""

MODEL = """\
import numpy as np
from pydantic import BaseModel

from wheelway import Pipeline


class Request(BaseModel):
    values: list[float]


class Network(Pipeline):
    examples = ({{"values": [0.0] * {inputs}}},)

    def load(self, context):
        random = np.random.default_rng(1)
        sizes = [{inputs}, *[{width}] * {layers}, 4]
        self.layers = [
            random.standard_normal((a, b), np.float32) / np.float32(a) ** 0.5
            for a, b in zip(sizes, sizes[1:])
        ]

    def through(self, rows):
        for layer in self.layers:
            rows = np.tanh(rows @ layer)
        return rows


class Alone(Network):
    def infer(self, request: Request) -> list[float]:
        return self.through(np.array([request.values], np.float32))[0].tolist()


class Batched(Network):
    def infer_batch(self, requests: list[Request]) -> list[list[float]]:
        return self.through(np.array([one.values for one in requests], np.float32)).tolist()
"""
KINDS = {"alone": "Alone", "batched": "Batched"}


def placed(folder: Path, renderer: Renderer, name: str, target: str, source: str) -> dict[str, str]:
    """A release's application, with its route."""
    code = source.encode()
    release = Release(name, Version("1.0"), hashlib.sha256(code + name.encode()).hexdigest())
    tree, module = folder / name, name.replace("-", "_")
    digest = base64.urlsafe_b64encode(hashlib.sha256(code).digest()).rstrip(b"=").decode()
    record = f"{module}.py,sha256={digest},{len(code)}\n{module}-1.0.dist-info/RECORD,,\n"
    (tree / f"{module}-1.0.dist-info").mkdir(parents=True)
    (tree / f"{module}.py").write_bytes(code)
    (tree / f"{module}-1.0.dist-info" / "RECORD").write_text(record)
    entry = PipelineEntry(name, f"{module}:{target}", {}, {})
    artifact = Artifact(
        digest=release.digest,
        project=name,
        version=release.version,
        filename=f"{module}-1.0-py3-none-any.whl",
        size=len(code),
        wheel=tree / f"{module}-1.0-py3-none-any.whl",
        tree=tree,
        record_digest=hashlib.sha256(record.encode()).hexdigest(),
        requires=(),
        pipelines=(entry,),
    )
    options = Options(ray_actor_options={"num_cpus": 0.4})
    placement = renderer.place(release, entry, artifact, Environment("", None), options, {})
    return {**placement.document, "route_prefix": path_of(release)}


def serve(head: Head, folder: Path, sources: dict[str, str]) -> dict[str, str]:
    """Both kinds of each model; the URLs by name."""
    renderer = Renderer()
    documents = {
        f"{model}-{kind}": placed(folder, renderer, f"{model}-{kind}", target, source)
        for model, source in sources.items()
        for kind, target in KINDS.items()
    }
    config = renderer.serve_config(list(documents.values()), ServeOptions(), head.ingress_url)
    with closing(Dashboard.connect(RayOptions(dashboard_url=head.dashboard_url))) as dashboard:
        dashboard.put(config)
    urls = {
        name: f"{head.ingress_url}{document['route_prefix']}"
        for name, document in documents.items()
    }
    answers = {name: await_answer(url) for name, url in urls.items()}
    for model in sources:
        one, other = answers[f"{model}-alone"], answers[f"{model}-batched"]
        if any(abs(a - b) > 1e-5 for a, b in zip(one, other, strict=True)):
            raise SystemExit(f"{model}: {one} alone, but {other} in a batch")
    time.sleep(_SETTLE)
    return urls


def await_answer(url: str) -> list[float]:
    deadline = time.monotonic() + _START_DEADLINE
    while True:
        try:
            response = httpx.post(url, json=json.loads(BODY), trust_env=False, timeout=10)
            if response.status_code == 200:
                found: list[float] = response.json()
                return found
            said = f"{response.status_code} {response.text[:200]}"
        except httpx.HTTPError as error:
            said = str(error)
        if time.monotonic() > deadline:
            raise SystemExit(f"{url} did not answer within {_START_DEADLINE:g} s: {said}")
        time.sleep(0.2)


def compare(urls: dict[str, str], seconds: float, rounds: int) -> dict[tuple[str, int], Result]:
    """Measure in turns; the median of the rounds."""
    found: dict[tuple[str, int], list[Result]] = {}
    for number in range(rounds):
        for count in (1, MANY):
            for name, url in urls.items():
                print(f"round {number + 1}/{rounds}, {name}, {count} connections", file=sys.stderr)
                result = measure(url, connections=count, seconds=seconds, body=BODY)
                found.setdefault((name, count), []).append(result)
    return {key: typical(results) for key, results in found.items()}


def table(figures: dict[tuple[str, int], Result]) -> str:
    """Markdown, for docs/benchmarks.md."""
    lines = [
        "| | connections | requests/s | p50 ms | p99 ms | failed |",
        "|---|---|---|---|---|---|",
    ]
    for (name, count), one in sorted(figures.items(), key=lambda item: item[0][1]):
        lines.append(
            f"| {name} | {count} | {one.rate:,.0f} | {one.p50:.2f} | {one.p99:.2f} | {one.failed} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what batches gain and cost.")
    parser.add_argument("--width", type=int, default=2048, help="of each hidden layer")
    parser.add_argument("--layers", type=int, default=3, help="hidden ones")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    sources = {
        "model": MODEL.format(inputs=INPUTS, width=options.width, layers=options.layers),
        "tiny": MODEL.format(inputs=INPUTS, width=4, layers=1),
    }
    with (
        tempfile.TemporaryDirectory(prefix="ww-bench-") as folder,
        start(Tuning(num_cpus=2), isolated=True) as head,
    ):
        urls = serve(head, Path(folder), sources)
        figures = compare(urls, options.seconds, options.rounds)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"load average at the end: {load}\n\n{table(figures)}\n")
    ratios = {}
    for model in sources:
        alone, batched = f"{model}-alone", f"{model}-batched"
        rate = figures[batched, MANY].rate / figures[alone, MANY].rate
        latency = figures[batched, 1].p50 / figures[alone, 1].p50
        ratios[model] = {"rate": rate, "latency": latency}
        print(
            f"{model}: batched / alone: {rate:.2f} x requests/s at {MANY} connections, "
            f"{latency:.2f} x p50 at 1 connection"
        )
    reached = ratios["model"]["rate"] >= RATE_GOAL and ratios["model"]["latency"] <= LATENCY_GOAL
    goals = f"at least {RATE_GOAL:g} x and at most {LATENCY_GOAL:g} x"
    print(f"goals of the model, {goals}: {'reached' if reached else 'missed'}")
    if options.json:
        rates = {f"{name}, {n}": [one.rate, one.p50] for (name, n), one in figures.items()}
        options.json.write_text(json.dumps({"rate and p50": rates, "ratios": ratios}))


if __name__ == "__main__":
    main()
