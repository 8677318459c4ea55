"""What the benchmarks of releases share: a Ray head and, in a process of its own, a daemon that
serves a folder of wheels on it.
"""

from __future__ import annotations

import http.client
import os
import platform
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from controller.config.settings import RayOptions
from controller.journal import Journal
from controller.model import Phase
from controller.rayhead.head import Head, Tuning, start
from controller.serve.dashboard import Dashboard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from controller.model import JSON

POLL = 0.02
"""Seconds between two looks at a route that does not answer yet, whoever is to answer there."""
SETTLE = 2.0
"""Seconds after the last application went: HAProxy and the processes of replicas end."""
ACTOR = {"num_cpus": 0.05}
"""What every replica asks of Ray here, so that none waits for another's to go."""

CONFIG = """\
[[sources]]
type = "directory"
path = "wheels"

[ray]
dashboard_url = "{dashboard}"
ingress_url = "{ingress}"

[paths]
cache = "cache"
state = "state"

[rollout]
absence_grace = 0

[serve.defaults]
graceful_shutdown_timeout = 1
ray_actor_options = {{ num_cpus = 0.05 }}
"""


@dataclass(frozen=True, slots=True)
class ServedFolder:
    """The folder, the cluster, and how to look at both."""

    folder: Path
    head: Head
    dashboard: Dashboard

    def drop(self, made: Path) -> float:
        """Rename a wheel into the watched folder; when."""
        at = time.time()
        made.replace(self.folder / "wheels" / made.name)
        return at

    def remove(self, filename: str) -> None:
        """Take a wheel away and wait until the daemon has retired it."""
        (self.folder / "wheels" / filename).unlink()
        self.await_clear()

    def put(self, *documents: Mapping[str, JSON]) -> float:
        """Apply documents as a client written by hand would; when."""
        at = time.time()
        where = {"host": "127.0.0.1", "port": self.head.ports.ingress}
        self.dashboard.put({"http_options": where, "applications": list(documents)})
        return at

    def await_clear(self) -> None:
        """Until no application is left, and nobody pays any more for those that were."""
        until(lambda: not self.dashboard.applications(), every=0.2)
        time.sleep(SETTLE)

    def first_answer(self, route: str, deadline: float = 180.0, body: bytes = b"{}") -> float:
        """When a POST at the route was first answered with 200."""
        until(lambda: self.ask(route, body)[0] == 200, deadline)
        return time.time()

    def ask(self, route: str, body: bytes = b"{}") -> tuple[int, str]:
        """Status and release header of a POST, on a connection of its own; (0, "") for none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.head.ports.ingress, timeout=10)
        try:
            connection.request("POST", route, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            return response.status, response.getheader("x-wheelway-release", "")
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def await_live(self, pipeline: str) -> dict[str, float]:
        """When the newest release of a pipeline reached each phase, once it is live."""
        times: dict[str, float] = {}

        def look() -> bool:
            with Journal.read(self.folder / "state") as journal:
                newest = max(
                    journal.releases(pipeline),
                    key=lambda record: record.times.get(Phase.DISCOVERED, 0.0),
                )
            times.update({phase.value: at for phase, at in newest.times.items()})
            return newest.phase is Phase.LIVE

        until(look, every=0.2)
        return times


@contextmanager
def served_folder(environment: Mapping[str, str] | None = None) -> Iterator[ServedFolder]:
    """A head of this run's own and a daemon on it; all that was started is ended."""
    environment = environment or {}
    with (
        TemporaryDirectory(prefix="ww-bench-") as name,
        start(Tuning(num_cpus=16, environment=environment), isolated=True, deadline=300) as head,
    ):
        folder = Path(name)
        (folder / "wheels").mkdir()
        config = folder / "controller.toml"
        config.write_text(CONFIG.format(dashboard=head.dashboard_url, ingress=head.ingress_url))
        dashboard = Dashboard.connect(RayOptions(dashboard_url=head.dashboard_url))
        with (folder / "daemon.log").open("wb") as log:
            daemon = subprocess.Popen(
                [Path(sys.executable).with_name("wheelway"), "--config", config, "run"],
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                yield ServedFolder(folder, head, dashboard)
            except BaseException:
                print((folder / "daemon.log").read_text()[-4000:], file=sys.stderr)
                raise
            finally:
                dashboard.close()
                daemon.terminate()
                daemon.wait(60)


def until(look: Callable[[], bool], deadline: float = 120.0, *, every: float = POLL) -> None:
    """Look again and again until the answer is yes; `every` and `deadline` in seconds.

    Raises:
        TimeoutError: it was not within the deadline.
    """
    end = time.monotonic() + deadline
    while not look():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {deadline:g} s")
        time.sleep(every)


def machine() -> str:
    """One line on what a figure depends on."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"Ray {version('ray')}, load average {load}"
    )
