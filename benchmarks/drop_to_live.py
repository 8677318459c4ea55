"""Seconds from a wheel's rename into the watched folder to the first 200 at its route.

    timeout 900 python benchmarks/drop_to_live.py [--rounds 5] [--conflict-rounds 3] [--json FILE]

One run, one head, the contenders in turns:

    floor       the simplest application that Serve runs (floor.py), PUT by the same client
    wheelway    a wheel without dependencies
    ray pip     a wheel whose numpy conflicts with the base, through Ray's own
                `runtime_env: {pip: [wheel]}`, PUT by the same client
    wheelway +  the same wheel; building its environment counts
    cold        the same two with nothing downloaded before, once

A hand-written application's clock starts with its PUT. All are asked alike: a POST every 20 ms, on
a new connection. Each round of the last two pins another numpy, the same for both, so that nobody
finds an environment built. But for `cold`, the caches of pip and uv, both new for this run, have
that numpy before the round; the daemon also resolves from an index, as it always does. Every round
has an empty cluster: replicas drain for a second here, not for Serve's half minute.

To reach: wheelway at most 1.25 x floor, ray pip at least 2 x wheelway +. The exit code is 0
whatever comes of it: machines are noisy. `--json` has the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import uv
from served_folder import ACTOR, machine, served_folder

from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from served_folder import ServedFolder

DRAINING = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1"}
NUMPY = ("1.26.4", "1.26.3", "1.26.2", "1.26.1", "1.26.0")
"""One a round; Ray's own is a numpy 2. The first is for the cold round."""
STEPS = ("Discovered", "Prepared", "Staged", "Ready", "Live")
FLOOR_GOAL = 1.25
PIP_GOAL = 2.0

CODE = """\
import numpy
from wheelway import Pipeline

class Demo(Pipeline):
    def infer(self, request):
        return {"numpy": numpy.__version__}
"""
BY_HAND = """\
import numpy
from ray import serve

@serve.deployment(name="ByHand")
class ByHand:
    async def __call__(self, request):
        return {"numpy": numpy.__version__}

def build(args):
    return ByHand.bind()
"""


@dataclass
class Figures:
    """Seconds of every round by contender, and when wheelway's rounds took which step."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    steps: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def add(self, contender: str, seconds: float, steps: dict[str, float] | None = None) -> None:
        self.seconds.setdefault(contender, []).append(seconds)
        if steps:
            self.steps.setdefault(contender, []).append(steps)
        print(f"{contender:16} {seconds:6.2f} s", file=sys.stderr)

    def ratio(self, one: str, other: str) -> float:
        return median(self.seconds[one]) / median(self.seconds[other])


# -- contenders ----------------------------------------------------------------------------------


def floor(place: ServedFolder, number: int) -> float:
    return by_hand(
        place,
        {
            "name": f"floor-{number}",
            "route_prefix": f"/floor-{number}",
            "import_path": "benchmarks.floor:build",
            "deployments": [{"name": "Floor", "ray_actor_options": ACTOR}],
        },
    )


def ray_pip(place: ServedFolder, wheel: Path, pip: Path) -> float:
    package = wheel.name.partition("-")[0]
    return by_hand(
        place,
        {
            "name": package,
            "route_prefix": f"/{package}",
            "import_path": f"{package}.by_hand:build",
            # Ray clones its own environment and runs `python -m pip` in the clone; uv makes
            # environments without pip.
            "runtime_env": {"pip": [str(wheel)], "env_vars": {"PYTHONPATH": str(pip)}},
            "deployments": [{"name": "ByHand", "ray_actor_options": ACTOR}],
        },
    )


def by_hand(place: ServedFolder, document: Mapping[str, object]) -> float:
    began = place.put(document)
    took = place.first_answer(str(document["route_prefix"])) - began
    place.put()
    place.await_clear()
    return took


def wheelway(place: ServedFolder, wheel: Path) -> tuple[float, dict[str, float]]:
    """Seconds, and seconds until each step as the daemon's journal has it."""
    package, version, *_ = wheel.name.split("-")
    pipeline = package.replace("_", "-")
    began = place.drop(wheel)
    took = place.first_answer(f"/predict/{pipeline}/{version}") - began
    steps = {step: at - began for step, at in place.await_live(pipeline).items() if step in STEPS}
    place.remove(wheel.name)
    return took, steps


# -- the run -------------------------------------------------------------------------------------


def without_dependencies(place: ServedFolder, rounds: int, figures: Figures) -> None:
    """The first round starts Serve and HAProxy, and is not counted."""
    for number in range(rounds + 1):
        by_serve = floor(place, number)
        by_us, steps = wheelway(place, make_wheel(place.folder / "made", f"plain-{number}"))
        if number:
            figures.add("floor", by_serve)
            figures.add("wheelway", by_us, steps)


def with_conflict(place: ServedFolder, rounds: int, figures: Figures, caches: Path) -> None:
    pip = caches / "pip-itself"
    uv_pip("install", "--quiet", "--target", pip, "pip")
    for number, version in enumerate(NUMPY[: rounds + 1]):
        suffix = " cold" if number == 0 else ""
        if number:
            warm_up(version, caches, pip)
        wheel = make_wheel(
            place.folder / "made",
            f"conflict-{number}",
            code=CODE,
            files={f"conflict_{number}/by_hand.py": BY_HAND},
            requires=[f"numpy=={version}"],
        )
        figures.add(f"ray pip{suffix}", ray_pip(place, wheel, pip))
        figures.add(f"wheelway +{suffix}", *wheelway(place, wheel))


def variables(caches: Path) -> dict[str, str]:
    return {"PIP_CACHE_DIR": str(caches / "pip"), "UV_CACHE_DIR": str(caches / "uv")}


def warm_up(numpy: str, caches: Path, pip: Path) -> None:
    """Have pip and uv download a numpy into their caches."""
    environ = {**os.environ, **variables(caches)}
    for command in (
        [uv.find_uv_bin(), "pip", "install", "--quiet", "--python", sys.executable],
        [sys.executable, pip / "pip", "install", "--quiet"],
    ):
        with TemporaryDirectory(dir=caches) as target:
            subprocess.run(
                [*command, "--no-deps", "--target", target, f"numpy=={numpy}"],
                env=environ,
                check=True,
                timeout=180,
            )


def uv_pip(*arguments: str | Path) -> None:
    command = [uv.find_uv_bin(), "pip", *arguments, "--python", sys.executable]
    subprocess.run(command, check=True, timeout=180)


def table(figures: Figures) -> str:
    """Markdown, for docs/benchmarks.md."""
    lines = ["| | rounds | median s | least | most |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {len(took)} | {median(took):.2f} | {min(took):.2f} | {max(took):.2f} |"
        for name, took in figures.seconds.items()
    ]
    lines += ["", f"| median s until | {' | '.join(STEPS)} |", "|---" * (len(STEPS) + 1) + "|"]
    for name, rounds in figures.steps.items():
        times = (median(steps[step] for steps in rounds) for step in STEPS)
        lines.append(f"| {name} | {' | '.join(f'{at:.2f}' for at in times)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how long a wheel takes to be live.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--conflict-rounds", type=int, default=3, choices=range(len(NUMPY)))
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    figures = Figures()
    before = machine()
    with ExitStack() as stack:
        caches = Path(stack.enter_context(TemporaryDirectory(prefix="ww-caches-")))
        place = stack.enter_context(served_folder({**DRAINING, **variables(caches)}))
        if options.rounds:
            without_dependencies(place, options.rounds, figures)
        if options.conflict_rounds:
            with_conflict(place, options.conflict_rounds, figures, caches)
    print(f"{before} before, {machine().rpartition(' average ')[2]} after\n\n{table(figures)}\n")
    ratios = {}
    if options.rounds:
        ratio = ratios["wheelway / floor"] = figures.ratio("wheelway", "floor")
        print(f"wheelway / floor: {ratio:.2f} (to reach: <= {FLOOR_GOAL})")
    if options.conflict_rounds:
        ratio = ratios["ray pip / wheelway +"] = figures.ratio("ray pip", "wheelway +")
        print(f"ray pip / wheelway +: {ratio:.2f} (to reach: >= {PIP_GOAL})")
    if options.json:
        options.json.write_text(json.dumps({"ratios": ratios, **asdict(figures)}, indent=1))


if __name__ == "__main__":
    main()
