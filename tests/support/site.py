"""A daemon at work beside the run's Ray head: its folder of wheels, its journal, its routes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from controller.config.settings import RayOptions
from controller.daemon.loop import Daemon
from controller.errors import JournalError
from controller.exchange import NO_REUSE
from controller.journal import Journal
from controller.serve.dashboard import Dashboard
from controller.serve.schema import Asker
from tests.support.head import eventually
from tests.support.service import on_socket
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.model import Condition, Phase, Quarantine
    from controller.rayhead.head import Head
    from controller.reconcile.report import Report

WHEELWAY = Path(sys.executable).with_name("wheelway")

BASICS = """
[[sources]]
type = "directory"
path = "wheels"
settle = 0.5
poll_interval = 1

[ray]
dashboard_url = "{dashboard}"
ingress_url = "http://127.0.0.1:{port}"

[paths]
cache = "cache"
state = "state"

[serve.defaults]
graceful_shutdown_timeout = 1
health_check_period = 1
ray_actor_options = {{ num_cpus = 0.05 }}

"""
IDLE = "[rollout]\ninterval = 300\n"
"""Passes only when something wakes the daemon."""
BUSY = "[rollout]\nabsence_grace = 0\ninterval = 0.2\n"
"""A pass, and a look at the configuration file, at every turn."""


class Site:
    """One folder with a configuration, and what a person would do with it."""

    def __init__(self, folder: Path, head: Head) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"
        self.wheels.mkdir(parents=True, exist_ok=True)
        self.config = folder / "controller.toml"
        self.dashboard_url = head.dashboard_url
        self.basics = BASICS.format(dashboard=head.dashboard_url, port=head.ports.ingress)
        self.ingress = f"http://127.0.0.1:{head.ports.ingress}"
        self.dashboard = Dashboard.connect(RayOptions(dashboard_url=head.dashboard_url))
        # No connection is kept: while HAProxy hands over, the old process would go on answering.
        self.client = httpx.Client(trust_env=False, limits=NO_REUSE, timeout=60)
        self.reports: list[Report] = []
        self.asker: Asker | None = Asker()
        """Here, where Ray's modules are imported once for all tests."""
        self.configure("")

    def close(self) -> None:
        """End what is still open."""
        self.dashboard.close()
        self.client.close()

    def configure(self, more: str) -> None:
        """Write the configuration, at once and whole."""
        aside = self.config.with_suffix(".new")
        aside.write_text(self.basics + more)
        aside.replace(self.config)

    def drop(self, name: str, version: str = "1.0", **how: object) -> Path:
        """Make a wheel elsewhere and rename it into the watched folder."""
        made = make_wheel(self.folder / "made", name, version, **how)
        target = self.wheels / made.name
        os.replace(made, target)  # noqa: PTH105 - the same call publishers make
        return target

    @contextmanager
    def daemon(self) -> Iterator[Daemon]:
        """The real daemon, in a thread of this process; its first pass is behind it."""
        daemon = Daemon(self.config, watcher=self.reports.append, asker=self.asker)
        failures: list[BaseException] = []

        def run() -> None:
            try:
                daemon.run()
            except BaseException as error:
                failures.append(error)
                raise

        thread = threading.Thread(target=run, name="daemon")
        seen = len(self.reports)
        thread.start()
        try:
            eventually(lambda: len(self.reports) > seen or failures)
            yield daemon
        finally:
            daemon.end()
            thread.join(60)
            assert not thread.is_alive(), "the daemon did not end"
            assert not failures, failures

    @contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        """The installed command as a process of its own, killed at the end; its first pass is
        behind it. What it says is in `daemon.log`.
        """
        said = self.folder / "daemon.log"
        command = [WHEELWAY, "--config", self.config, "run"]
        with (
            said.open("ab") as log,
            subprocess.Popen(command, stdout=log, stderr=log, cwd="/") as process,
        ):
            try:
                ended = process.poll
                eventually(lambda: self._pid() == process.pid or ended() is not None)
                assert ended() is None, said.read_text()[-2000:]
                yield process
            finally:
                process.kill()

    def _pid(self) -> int | None:
        """Whose the last pass was."""
        try:
            with Journal.read(self.folder / "state") as journal:
                status = journal.status()
        except JournalError:  # not begun yet
            return None
        return status and status.pid

    def ask(self, route: str, body: object = None) -> httpx.Response:
        """POST a body to a release, through the ingress."""
        return self.client.post(f"{self.ingress}{route}", json=body)

    def release_at(self, route: str) -> str:
        """Which release answers there; empty when none does."""
        try:
            answer = self.client.get(f"{self.ingress}{route}", timeout=5)
        except httpx.TransportError:
            return ""
        return answer.headers.get("x-wheelway-release", "") if answer.is_success else ""

    def wait_for(self, route: str, *, other_than: str = "", deadline: float = 120) -> str:
        """The release at a route, once there is one (other than the one named)."""

        def look() -> str:
            found = self.release_at(route)
            return found if found != other_than else ""

        return eventually(look, deadline)

    def phases(self) -> dict[str, Phase]:
        """The journal's phases by `pipeline@version+digest8`."""
        try:
            with Journal.read(self.folder / "state") as journal:
                return {str(record.subject): record.phase for record in journal.releases()}
        except JournalError:  # the daemon has not opened it yet
            return {}

    def wait_for_phase(self, release: str, phase: Phase, deadline: float = 120) -> None:
        """Until the journal has the release in that phase."""
        eventually(lambda: self.phases().get(release) is phase, deadline)

    def quarantine(self, pipeline: str, deadline: float = 120):
        """The pipeline's quarantine, once there is one."""

        def look():
            try:
                with Journal.read(self.folder / "state") as journal:
                    return journal.quarantines(pipeline)
            except JournalError:  # the daemon has not opened it yet
                return []

        return eventually(look, deadline)[-1]

    def quarantines(self) -> dict[str, Quarantine]:
        """Every quarantine in force, by pipeline."""
        with Journal.read(self.folder / "state") as journal:
            return {found.subject.name: found for found in journal.quarantines()}

    def conditions(self, reason: str) -> list[Condition]:
        """The present conditions of that reason."""
        with Journal.read(self.folder / "state") as journal:
            return [item for item, _ in journal.conditions() if item.reason == reason]

    def passes(self, times: int = 3) -> None:
        """So many whole passes from now on, each of which knows what the sources list by then."""
        with on_socket(self.folder / "state" / "control.sock") as client:
            for _ in range(times):
                told = client.post("/v1/reconcile", json={"timeout": 120}, timeout=150)
                assert told.raise_for_status().json()["complete"], told.text

    def sent(self) -> int:
        """How many configs the daemon applied."""
        with Journal.read(self.folder / "state") as journal:
            return len(journal.configs(1000))

    def pids(self, pipeline: str) -> set[int]:
        """The processes of a pipeline's replicas."""
        return {
            replica.pid
            for app in self.dashboard.applications()
            if app.release is not None and app.release.pipeline == pipeline
            for replica in app.replicas
            if replica.pid is not None
        }
