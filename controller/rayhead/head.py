"""A Ray head tuned for serving: started as a child, owned, and ended without leftovers.

`wheelway up`, the tests and the benchmarks use it; the daemon under systemd does not, there Ray is
a unit of its own with the same tuning (`service.py`). `adopt_or_start` leaves a head that already
answers alone. What a head that was started here consists of is known exactly, see `subreaper.py`;
nothing else is ever touched.

The environment variables are Ray's own: ray/serve/_private/constants.py and ray_constants.py of
Ray 2.60.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx

from controller.errors import Stalled, Waiting
from controller.exchange import answer, own_client
from controller.rayhead import haproxy, subreaper
from controller.rayhead.ports import Ports, claim_block, free, require_dashboard

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
"""Hosts at which a head can be started."""
START_DEADLINE = 180.0
"""Seconds for a head to answer; measured: 8 to 20 on two busy cores."""
_BUSY = ("timed out during startup", "Timed out waiting for node info")
"""Ray's messages when its own deadlines have passed."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LIMIT = 2**20
"""Bytes of an answer of a head on which nothing runs yet."""
STOP_GRACE = 15.0
"""Seconds that Ray gets to end its own processes before they are killed."""

PRELOADED = (
    "ray.serve._private.replica",
    "ray.serve._private.build_app",
    "ray.serve.api",
    "wheelway.host",
)
"""What workers import before they are leased: a release is live 20 % sooner. A name that does not
exist costs a line in the worker's log and nothing else."""


LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Otherwise Ray replaces 127.0.0.1 by the machine's outside address: anyone who reaches the
machine could run code in it. Ray itself uses this switch on laptops without Linux; a driver needs
it as well, see `Head.driver_environment`. One gRPC port of each replica listens on all interfaces
all the same; see `haproxy.py` for what HAProxy would open."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a head is started with, beyond its ports."""

    num_cpus: int | None = None
    """Logical CPUs; None for `logical_cpus` of the cores."""
    longest_request: float = haproxy.LONGEST_REQUEST
    """Seconds that a request may last: so long the ingress lets it finish when it is replaced."""
    temp_dir: Path | None = None
    """Ray's folder; None for Ray's own choice (isolated heads: a new one, removed at the end). Must
    be short: sockets below it may have paths of 107 bytes at most (unix(7))."""
    python: Path = Path(sys.executable)
    """The interpreter to run Ray on; `ray[default,serve]` and `wheelway` are importable there."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """More environment variables for everything on the head; they win over those set here."""

    @property
    def cpus(self) -> int:
        """The number of CPUs that Ray is told."""
        return self.num_cpus or logical_cpus(os.cpu_count() or 1)

    @property
    def room(self) -> str:
        """How much fits on it, for a person."""
        return (
            f"it hands out {self.cpus} CPUs (--num-cpus), of which a replica takes 1 unless its "
            "options say otherwise"
        )


@dataclass(slots=True)
class Head:
    """A Ray head. A context manager that stops what it started; an adopted head is left running."""

    dashboard_url: str
    log: Path | None = None
    """What `ray start` and the subreaper said; None for an adopted head."""
    _process: subprocess.Popen[bytes] | None = None
    _claim: socket.socket | None = None
    _scratch: Path | None = None
    ports: Ports = field(default_factory=Ports)

    @property
    def ingress_url(self) -> str:
        """Where the ingress can listen on this head; meaningless for an adopted head."""
        return f"http://127.0.0.1:{self.ports.ingress}"

    @property
    def driver_environment(self) -> dict[str, str]:
        """What a program's environment needs to join this head: `ray status`, `serve.run`."""
        return {"RAY_ADDRESS": f"127.0.0.1:{self.ports.gcs}", **LOOPBACK}

    @property
    def adopted(self) -> bool:
        """Whether it was running before and is not ours to stop."""
        return self._process is None

    @property
    def pid(self) -> int | None:
        """The process below which all of the head is; None for an adopted head."""
        return self._process.pid if self._process else None

    def running(self) -> bool:
        """Whether the head's processes are there; an adopted head is asked over HTTP."""
        if self._process is None:
            return answers(self.dashboard_url)
        return self._process.poll() is None

    def stop(self) -> None:
        """End all that was started, HAProxy included, and wait for it. Idempotent.

        Raises:
            Stalled: some process could not be ended; its id is in the message.
        """
        if self._process is None:
            return
        if self._process.stdin:
            self._process.stdin.close()
        try:
            status = self._process.wait(STOP_GRACE + subreaper.KILL_DEADLINE + 10)
        except subprocess.TimeoutExpired:
            status = subreaper.LEFT
        tail = self.last_words()
        if self._claim:
            self._claim.close()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None
        if status == subreaper.LEFT:
            raise Stalled("HeadNotEnded", f"processes of the Ray head could not be ended:\n{tail}")

    def last_words(self) -> str:
        """The end of the log; empty for an adopted head."""
        if self.log is None or not self.log.exists():
            return ""
        said = _COLOUR.sub("", self.log.read_text(errors="replace"))
        return "\n".join(said.splitlines()[-20:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def adopt_or_start(dashboard_url: str, tuning: Tuning | None = None) -> Head:
    """The head that answers at `dashboard_url`, or a new one there.

    Raises:
        Waiting: nothing answers, and the address is not of this machine's loopback.
        Stalled: something else holds the port, or Ray did not start; the log's end is in the
            message.
    """
    if answers(dashboard_url):
        return Head(dashboard_url)
    url = httpx.URL(dashboard_url)
    if url.host not in LOCAL:
        raise Waiting(
            "DashboardUnreachable",
            f"no Ray head answers at {dashboard_url}, and one can only be started on this machine; "
            "start it there, or set ray.dashboard_url to http://127.0.0.1:8265",
        )
    return start(tuning or Tuning(), dashboard_port=url.port or 80)


def start(
    tuning: Tuning,
    *,
    dashboard_port: int = 8265,
    isolated: bool = False,
    deadline: float = START_DEADLINE,
) -> Head:
    """Start a head and wait until it serves its dashboard, at most `deadline` seconds.

    Args:
        tuning: what to start it with.
        dashboard_port: on 127.0.0.1; an isolated head ignores it.
        isolated: share no port and no file with any other head on this machine. Otherwise Ray's
            default ports are used where they are free.
        deadline: seconds.

    Raises:
        Stalled: it did not start; the log's end is in the message.
    """
    until = time.monotonic() + deadline
    while True:
        head = _launch(tuning, dashboard_port, isolated=isolated)
        try:
            _await_ready(head, until)
        except BaseException as error:
            head.stop()
            # Ray gives its own processes 30 s, a constant: little on a machine that is busy.
            late = any(words in str(error) for words in _BUSY)
            if not (late and time.monotonic() < until):
                raise
        else:
            return head


def _launch(tuning: Tuning, dashboard_port: int, *, isolated: bool) -> Head:
    claim, first = claim_block()
    ports = free(first, isolated=isolated)
    port = first + 9 if isolated else dashboard_port
    try:
        require_dashboard(port)
    except BaseException:
        claim.close()
        raise
    scratch = Path(tempfile.mkdtemp(prefix="ww-", dir="/tmp"))
    if isolated and tuning.temp_dir is None:
        tuning = replace(tuning, temp_dir=scratch)
    log = scratch / "head.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", subreaper.__file__, str(STOP_GRACE)),
                *command(tuning, ports, port),
            ],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(tuning, ports, scratch, os.environ),
            start_new_session=True,
        )
    return Head(f"http://127.0.0.1:{port}", log, process, claim, scratch, ports)


def command(tuning: Tuning, ports: Ports, dashboard_port: int) -> list[str]:
    """The `ray start` to run: everything on loopback as far as Ray lets itself be told."""
    options: dict[str, object] = {
        "node-ip-address": "127.0.0.1",
        "port": ports.gcs,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard_port,
        "dashboard-agent-listen-port": ports.agent,
        "ray-client-server-port": ports.client,
    }
    # 0: the system chooses. Ray's own range would be shared with every other head, and may hold
    # the dashboard's port.
    options |= {"min-worker-port": 0, "max-worker-port": 0}
    options["num-cpus"] = tuning.cpus
    hard_stop = haproxy.hard_stop(tuning.longest_request)
    options["labels"] = f"{haproxy.LABEL}={tuning.environment.get(haproxy.HARD_STOP, hard_stop)}"
    if tuning.temp_dir is not None:
        options["temp-dir"] = tuning.temp_dir
    ray = [str(tuning.python), "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    return [*ray, "--disable-usage-stats", *(f"--{key}={value}" for key, value in options.items())]


def environment(
    tuning: Tuning, ports: Ports, scratch: Path, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The environment of the head, on top of what is inherited."""
    proxy = scratch / "ha"
    return {
        # An address of some other cluster would win over our own arguments.
        **{key: value for key, value in inherited.items() if key != "RAY_ADDRESS"},
        "RAY_USAGE_STATS_ENABLED": "0",
        **LOOPBACK,
        # There is no other node to drain to, and Ctrl-C should not take half a minute.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        # Ray boots a worker at niceness 0 and then gives it 15: what serves would wait behind what
        # boots (docs/adr/0010).
        "RAY_worker_niceness": "0",
        "RAY_preload_python_modules": ",".join(PRELOADED),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": str(proxy_threads(os.cpu_count() or 1)),
        # Then the replicas count requests, a batch at a time, instead of a process that parses a
        # log line of each.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.metrics),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(proxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(proxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(proxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(proxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(proxy / "server-state"),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports.fallback_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.replica_http[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.replica_http[1]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(ports.replica_grpc[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(ports.replica_grpc[1]),
        **haproxy.limits(tuning.longest_request, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        **haproxy.variables(tuning.python, inherited),
        **tuning.environment,
    }


def proxy_threads(cores: int) -> int:
    """Threads for HAProxy: a quarter of the cores, from 1 to 4.

    It shares the machine with the replicas, which cost far more a request: on two cores one thread
    serves 15 % more requests than Ray's default of four.
    """
    return max(1, min(4, cores // 4))


def logical_cpus(cores: int) -> int:
    """CPUs that a head hands out: four a core up to 64, at least 16, never fewer than cores.

    A release reserves one unless it says otherwise, and most of them idle: with one a core, two
    releases would fill a machine of two. It is a measure for placing, not a limit; Ray starts a
    worker for each beforehand, hence no more.
    """
    return max(16, min(4 * cores, 64), cores)


def answers(dashboard_url: str, timeout: float = 2.0) -> bool:
    """Whether a Ray dashboard is there, whether or not it wants a token."""
    with own_client() as client:
        said = answer(client, f"{dashboard_url}/api/version", seconds=timeout, limit=_LIMIT)
    return said is not None and (said.status_code in {401, 403} or "ray_version" in said.text)


def _await_ready(head: Head, deadline: float) -> None:
    """Until the dashboard answers for Serve too: its modules come up one after the other."""
    url = f"{head.dashboard_url}/api/serve/applications/"
    with own_client() as client:
        while (said := answer(client, url, seconds=10, limit=_LIMIT)) is None or (
            said.status_code >= 500
        ):
            if not head.running():
                raise Stalled("HeadNotStarted", _why_ended(head.last_words(), head.dashboard_url))
            if time.monotonic() > deadline:
                what = f"the Ray head does not answer at {head.dashboard_url}"
                raise Stalled("HeadNotStarted", f"{what}:\n{head.last_words()}")
            time.sleep(0.1)


def _why_ended(said: str, dashboard_url: str) -> str:
    """Why `ray start` ended before it was ready, by its last words."""
    if running := re.search(r"already running at (\S+?)\.? ", said):
        return (
            f"another Ray runs on this machine already, at {running[1]}, and its dashboard is not "
            f"at {dashboard_url}: use that one (`--dashboard-port`, or ray.dashboard_url), or end "
            "it (`ray stop`)"
        )
    return f"`ray start` ended before it was ready:\n{said}"
