"""`wheelway up`: everything on one machine, for a laptop or a first try.

A Ray head tuned for serving is started unless one answers already, a folder is watched, and one
Ctrl-C ends all that was started here and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx

from controller.config.loading import parse, read
from controller.daemon.foreground import signals
from controller.daemon.loop import Daemon
from controller.daemon.occupant import require_unserved
from controller.errors import Stalled, WheelwayError
from controller.journal import Journal, held, require_unlocked
from controller.model import Phase, Transition
from controller.ops.status import ON_CLUSTER
from controller.planning.causes import HEAD_ENDED
from controller.rayhead import head, ports
from controller.serve.replica_logs import following

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.config.settings import Config
    from controller.reconcile.report import Report
    from controller.serve.log_records import FailedRequest, Record
    from controller.serve.replica_logs import LogFile


PORT: Final = 8000
DASHBOARD_PORT: Final = 8265
WHEELS: Final = Path("wheels")
_SERVED: Final = {Phase.LIVE, Phase.RETIRING}
_MARK: Final = "# wheelway up "
"""Before the digest of the rest of the file: as long as it is right, nobody edited it."""
_MARK_BEFORE: Final = "# Written by `wheelway up` at every start"
"""How the file began in versions that wrote it anew each time."""


@dataclass(frozen=True, slots=True)
class LocalRun:
    """What a run on one machine was asked for; None for what was left open."""

    state: Path
    """Holds the journal and the configuration."""
    cache: Path
    wheels: Path | None = None
    """The folder to watch; made when it is missing."""
    port: int | None = None
    """Of the ingress, on loopback."""
    dashboard_port: int | None = None


def prepare(run: LocalRun) -> tuple[Path, str]:
    """Make folders and a configuration; one that a person edited is kept.

    Returns its path, and what the person should know of it; may be empty.

    Raises:
        JournalError: a daemon runs with it ("JournalLocked"), and would follow what is written.
        ConfigError: the one that is kept cannot be used.
        Stalled: it says otherwise than was asked for ("ConfigKept"), or the two ports that were
            asked for are one ("PortsEqual").
    """
    require_unlocked(run.state.resolve())
    path = run.state / "controller.toml"
    if path.is_file() and not _is_as_written(found := read(path)):
        _refuse_otherwise(path, parse(found, path), run)
        return path, f"{path} was edited and is kept; remove it to have it written anew"
    ports.require_apart(run.port or PORT, run.dashboard_port or DASHBOARD_PORT)
    text = configuration(run)
    path.write_text(f"{_MARK}{_digest(text)}\n{text}", encoding="utf-8")
    (run.wheels or WHEELS).mkdir(parents=True, exist_ok=True)
    return path, ""


def _is_as_written(text: str) -> bool:
    """Whether nobody edited the file since `prepare` wrote it."""
    mark, _, rest = text.partition("\n")
    return mark == f"{_MARK}{_digest(rest)}" or text.startswith(_MARK_BEFORE)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _refuse_otherwise(path: Path, config: Config, run: LocalRun) -> None:
    """Raise when the configuration has other ports or another folder than were asked for."""
    watched = {source.path for source in config.sources if source.type == "directory"}
    asked = {
        f"--port {run.port}": run.port in {None, urlsplit(config.ray.ingress_url).port},
        f"--dashboard-port {run.dashboard_port}": run.dashboard_port
        in {None, urlsplit(config.ray.dashboard_url).port},
        f"the folder {run.wheels}": run.wheels is None or run.wheels.resolve() in watched,
    }
    if otherwise := [what for what, same in asked.items() if not same]:
        raise Stalled(
            "ConfigKept",
            f"{path} was edited, so it is kept, and it says otherwise than {', '.join(otherwise)}: "
            "change that there, leave it out here, or remove the file to have it written anew",
        )


def serve(
    path: Path,
    invitation: str,
    *,
    say: Callable[[str], None],
    watcher: Callable[[Report], None] | None = None,
    failed: Callable[[FailedRequest], None] | None = None,
    num_cpus: int | None = None,
) -> int:
    """Run the daemon, and a Ray head unless one answers already, until a signal ends both.

    Args:
        path: the configuration.
        invitation: said once the head answers.
        say: takes sentences for the person at the terminal.
        watcher: takes the report of every pass.
        failed: takes each request that a pipeline failed, in another thread.
        num_cpus: logical CPUs of a head that is started here; None for `head.logical_cpus`.

    Raises:
        WheelwayError: Ray or the daemon cannot start, there is no port for the routes, or another
            daemon serves on the head ("AnotherDaemon").
    """
    daemon = Daemon(path)
    require_unlocked(daemon.config.paths.state)  # before a head is started, which takes long
    with ExitStack() as ended, ExitStack() as stack:
        tuning = head.Tuning(num_cpus, longest_request=daemon.config.serve.longest_request)
        if said := _require_head(daemon.config):
            say(said)
        with held(daemon.config.paths.state):  # meanwhile others are told that it starts
            ray = stack.enter_context(head.adopt_or_start(daemon.config.ray.dashboard_url, tuning))
        if ray.adopted:
            say(f"using the Ray head at {ray.dashboard_url}; it will be left running")
        else:
            say(f"the Ray head answers at {ray.dashboard_url}; {tuning.room}")
            _end_with_head(daemon.config.paths.state)  # which a run that was killed did not do
            ended.callback(_end_with_head, daemon.config.paths.state)  # once the head is
        stack.enter_context(signals(daemon))
        if failed is not None:
            stack.enter_context(following(daemon.config.ray, _telling(failed)))

        def watch(report: Report) -> None:
            if watcher is not None:
                watcher(report)
            if not ray.adopted and not ray.running():
                daemon.end()

        daemon.watcher = watch
        say(invitation)
        daemon.run()
        if not ray.adopted:
            if not ray.running():
                raise Stalled("HeadEnded", f"the Ray head ended by itself:\n{ray.last_words()}")
            say("ending the Ray head ...")
    return 0


def _require_head(config: Config) -> str:
    """Raise when the head that is there is another daemon's, or none can be started. Returns what
    the person should know first; may be empty.
    """
    if not head.answers(config.ray.dashboard_url):
        _require_ports(config)
        return "starting a Ray head (10 to 30 s) ..."
    if not (unknown := require_unserved(config)):
        return ""
    return (
        f"the releases on the Ray head are of another daemon, {unknown}; whether it runs cannot be "
        "seen from here: this one marks them as its own, and stands down if that one is older and "
        "marks them back"
    )


def _require_ports(config: Config) -> None:
    """Raise when a head that is started now would find a port taken."""
    dashboard, ingress = httpx.URL(config.ray.dashboard_url), httpx.URL(config.ray.ingress_url)
    port = ingress.port or (443 if ingress.scheme == "https" else 80)
    asked = {"host": ingress.host, "port": port, **config.serve.http_options}
    ports.require_apart(asked["port"], dashboard.port or 80)
    ports.require_ingress(asked["host"], asked["port"])
    if dashboard.host in head.LOCAL:
        ports.require_dashboard(dashboard.port or 80)


def _end_with_head(state: Path) -> None:
    """Note that nothing runs any more: the head of a run here has ended, however that was."""
    ended = HEAD_ENDED.reason, HEAD_ENDED.message
    with suppress(WheelwayError), Journal.open(state) as journal:  # the daemon tells what is wrong
        journal.date({})
        journal.weights_ended()
        for one in journal.releases(over=False):
            if one.phase in ON_CLUSTER:
                over = Phase.RETIRED if one.phase in _SERVED else Phase.SUPERSEDED
                journal.record(Transition(one.subject, over, *ended), time.time())


def _telling(failed: Callable[[FailedRequest], None]) -> Callable[[LogFile, list[Record]], None]:
    """Picks the failed requests out of what replicas log."""

    def take(_: LogFile, records: list[Record]) -> None:  # a record names its release
        for record in records:
            if (found := record.failed()) is not None:
                failed(found)

    return take


def configuration(run: LocalRun) -> str:
    """The configuration of a run, as TOML."""
    return f"""\
# Written by `wheelway up`, which keeps it once somebody edited it. Edits are picked up at once;
# `wheelway config check --schema` lists what can be said.

[[sources]]
type = "directory"
path = {_quoted(run.wheels or WHEELS)}

[ray]
dashboard_url = "http://127.0.0.1:{run.dashboard_port or DASHBOARD_PORT}"
ingress_url = "http://127.0.0.1:{run.port or PORT}"

[paths]
cache = {_quoted(run.cache)}
state = {_quoted(run.state)}
"""


def _quoted(path: Path) -> str:
    """A path as a TOML basic string, which escapes as JSON does."""
    return json.dumps(str(path.resolve()))
