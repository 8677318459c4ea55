"""The `wheelway` command over a journal that real writes filled."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

from packaging.version import Version
from typer.testing import CliRunner

from controller.cli import app
from controller.journal import DaemonStatus, Journal
from controller.model import (
    Condition,
    Listing,
    Phase,
    Quarantine,
    Release,
    Revision,
    Transition,
    UnsoundWheel,
)

if TYPE_CHECKING:
    from pathlib import Path

IRIS_1 = Release("iris", Version("1.0"), "a" * 64)
IRIS_2 = Release("iris", Version("2.0"), "b" * 64)
IRIS_OLD = Release("iris", Version("0.9"), "c" * 64)
UNOPENED = UnsoundWheel("acme-iris", Version("3.0"), "e" * 64)
LOCAL = Release("greeter", Version("1.0+cu12"), "d" * 64)
CONFIG_DIGEST = "ab12" * 16


class Command:
    """Runs `wheelway --config <file> ...` and gives what came of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "controller.toml"
        self.state = root / "state"
        (root / "wheels").mkdir()
        self.configure()

    def configure(self, text: str = "") -> None:
        self.config.write_text(
            '[[sources]]\ntype = "directory"\npath = "wheels"\n'
            f'[paths]\nstate = "state"\ncache = "cache"\n{text}'
        )

    def __call__(self, *args: str):
        return CliRunner().invoke(app, ["--config", str(self.config), *args], prog_name="wheelway")

    def json(self, *args: str):
        result = self(*args, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    def fill(self) -> None:
        """A journal in which iris 1.0 and greeter are live, iris 2.0 and a whole wheel failed."""
        now = time.time()
        with Journal.open(self.state) as journal:
            reach(journal, IRIS_OLD, [(Phase.RETIRED, "SuccessorLive", now - 500)])
            for release in (IRIS_1, LOCAL):
                steps = [
                    (Phase.DISCOVERED, "Listed", now - 300),
                    (Phase.FETCHED, "Verified", now - 299.8),
                    (Phase.STAGED, "Starting", now - 299),
                    (Phase.LIVE, "AnswersAtRoute", now - 296),
                ]
                reach(journal, release, steps)
            fail(journal, IRIS_2, "stage", "LoadFailed", "model.bin is missing", now - 100)
            fail(journal, UNOPENED, "inspect", "NotAZip", "it is not a zip file", now - 90)
            journal.save_listing(
                Listing(
                    "directory",
                    (
                        revision("acme-iris", IRIS_1),
                        revision("acme-iris", IRIS_2),
                        revision("acme-iris", UNOPENED),
                        revision("greeter", LOCAL),
                    ),
                ),
                now,
            )
            journal.set_conditions(
                [
                    Condition("Bad Name.whl", "FilenameInvalid", "rename it"),
                    Condition("ray", "HAProxyOff", "set RAY_SERVE_ENABLE_HA_PROXY=1"),
                ],
                now - 50,
            )
            journal.sent(
                journal.sending(
                    "applications: []\n", CONFIG_DIGEST, "add iris-1.0-0123abcd: staged", now
                )
            )
            passed(journal, pid=os.getpid())


def reach(journal, release, steps):
    placement = f"{release.pipeline}-{release.version}-0123abcd"
    for phase, reason, at in steps:
        journal.record(Transition(release, phase, reason, "as said", placement), at, source="shelf")


def fail(journal, release, stage, reason, message, at):
    tail = f"Traceback\n  \x1b[31min load\n{reason}"
    journal.add_quarantine(Quarantine(release, stage, reason, message, "inputs", tail, at))
    journal.record(Transition(release, Phase.QUARANTINED, reason, message), at, source="shelf")


def revision(project, release):
    filename = f"{project.replace('-', '_')}-{release.version}-py3-none-any.whl"
    return Revision("shelf", project, release.version, filename, filename, release.digest, 10)


def passed(journal, *, pid, at=None):
    status = DaemonStatus(7, at or time.time(), "2 live, 2 quarantined", 0.1, pid, "0.1.0", 1.0)
    journal.set_status(status)


def pid_of_a_process_that_ended() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait(60)
    return process.pid
