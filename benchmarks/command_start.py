"""What it costs to start a command: CPU seconds of its process, whatever else the machine does.

    timeout 300 python benchmarks/command_start.py [--rounds 5] [--json FILE]

The commands are the installed `wheelway`'s, over a journal with a few releases, with no daemon and
with one that answers at its socket; its head is the paper one of the tests, which runs nothing.
Medians of the rounds, each of which runs every command once. Byte code is there, as where a package
was installed: a round before the first one makes it. That one also leaves what Ray's schema said of
these releases; "(new)" is what `render` costs where Ray has to be asked.

To reach: at most 0.4 s each, `render` at most 1 s. The exit code is 0 whatever comes of it:
machines are noisy. `--json` has the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from served_folder import machine, until

from controller.daemon.loop import Daemon
from controller.model import Phase
from tests.support.paper_head import PaperHead
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUNDS = 5
WHEELWAY = Path(sys.executable).with_name("wheelway")
BY_ITSELF = ("--help", "status --help", "run --help", "check --help")
OF_THE_JOURNAL = ("status", "explain demo", "explain", "history", "quarantine list")
OF_THE_DAEMON = (*OF_THE_JOURNAL, "plan", "render")
NEW = "render (new)"
STARTS, RENDERS = 0.4, 1.0


def cost(config: Path, command: str) -> float:
    """CPU seconds of one run."""
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = str(config.parent / "bytecode")

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = spent()
    subprocess.run(
        [WHEELWAY, *command.split(), "--config", config],
        env=environ,
        capture_output=True,
        check=True,
    )
    return spent() - before


def costs(config: Path, commands: Sequence[str], rounds: int) -> dict[str, float]:
    """The median of each command."""
    found = [{command: cost(config, command) for command in commands} for _ in range(rounds + 1)]
    return {command: median(one[command] for one in found[1:]) for command in commands}


def renders_new(config: Path, rounds: int) -> float:
    """The median of `render` for releases that Ray's schema has to be asked about."""
    found = []
    for _ in range(rounds):
        (config.parent / "cache" / "accepted.json").unlink()
        found.append(cost(config, "render"))
    return median(found)


def with_daemon(config: Path, then: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What is measured while a daemon answers and its one release is live."""
    daemon = Daemon(config)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        until((config.parent / "state" / "control.sock").exists)
        command = [str(WHEELWAY), "--config", str(config), "status", "--json"]

        def is_live() -> bool:
            time.sleep(0.2)
            done = subprocess.run(command, capture_output=True, check=False)
            releases = json.loads(done.stdout)["releases"] if done.returncode == 0 else ()
            return any(release["phase"] == Phase.LIVE for release in releases)

        until(is_live)
        return then()
    finally:
        daemon.end()
        thread.join()


def table(found: dict[str, dict[str, float]]) -> str:
    """Markdown, for docs/benchmarks.md."""
    lines = ["| command | no daemon, CPU s | a daemon answers, CPU s |", "|---|---|---|"]
    for command in dict.fromkeys(name for one in found.values() for name in one):
        cells = [f"{one[command]:.2f}" if command in one else "" for one in found.values()]
        lines.append(f"| `{command}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what starting a command costs.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()
    before = machine()
    with TemporaryDirectory(prefix="wheelway-start-") as name, PaperHead() as head:
        folder = Path(name)
        make_wheel(folder / "wheels", "demo", "1.0")
        config = folder / "controller.toml"
        config.write_text(
            '[[sources]]\ntype = "directory"\npath = "wheels"\n'
            f'[ray]\ndashboard_url = "{head.dashboard_url}"\ningress_url = "{head.ingress_url}"\n'
            '[paths]\nstate = "state"\ncache = "cache"\n[environments]\noffline = true\n'
        )
        up = with_daemon(config, lambda: costs(config, OF_THE_DAEMON, options.rounds))
        down = costs(config, (*BY_ITSELF, *OF_THE_DAEMON), options.rounds)
        down[NEW] = renders_new(config, options.rounds)
    print(f"{before} before, {machine().rpartition(' average ')[2]} after\n")
    found = {"down": down, "up": up}
    print(f"{table(found)}\n")
    slow = {"plan", "render", NEW}  # without a daemon they make a pass
    slowest = max(cost for one in found.values() for name, cost in one.items() if name not in slow)
    print(f"the slowest: {slowest:.2f} s (to reach: <= {STARTS})")
    alone = f"{down['render']:.2f} s alone, {down[NEW]:.2f} s of what is new"
    print(f"render: {up['render']:.2f} s, {alone} (to reach: <= {RENDERS})")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
