"""`wheelway up`: everything on one machine, for a laptop or a first try.

A Ray head tuned for serving is started unless one answers already, a folder is watched, and one
Ctrl-C ends all that was started here and nothing else.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.daemon import Daemon, signals
from controller.errors import Stalled
from controller.serve import head
from controller.serve.log_records import records
from controller.serve.replica_logs import following

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from controller.reconciler import Report
    from controller.serve.log_records import FailedRequest
    from controller.serve.replica_logs import LogFile


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run on one machine keeps and serves things."""

    wheels: Path
    """The folder to watch; made when it is missing."""
    cache: Path
    state: Path
    """Holds the journal and the generated configuration."""
    port: int = 8000
    """Of the ingress, on loopback."""
    dashboard_port: int = 8265


def up(
    place: Place,
    *,
    say: Callable[[str], None],
    watcher: Callable[[Report], None] | None = None,
    failed: Callable[[FailedRequest], None] | None = None,
    num_cpus: int | None = None,
) -> int:
    """Serve until a signal ends it; returns the exit code.

    Args:
        place: folders and ports.
        say: takes sentences for the person at the terminal.
        watcher: is shown the report of every pass.
        failed: is told, in another thread, of each request that a pipeline failed.
        num_cpus: logical CPUs of a head that is started here; None for `head.logical_cpus`.

    Raises:
        WheelwayError: Ray or the daemon cannot start.
    """
    place.wheels.mkdir(parents=True, exist_ok=True)
    place.state.mkdir(parents=True, exist_ok=True)
    path = place.state / "controller.toml"
    path.write_text(configuration(place), encoding="utf-8")
    invitation = f"drop wheels into {place.wheels}/ ; Ctrl-C ends everything started here"
    return serve(path, invitation, say=say, watcher=watcher, failed=failed, num_cpus=num_cpus)


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
        invitation: what is said once the head answers.
        say: takes sentences for the person at the terminal.
        watcher: is shown the report of every pass.
        failed: is told, in another thread, of each request that a pipeline failed.
        num_cpus: logical CPUs of a head that is started here; None for `head.logical_cpus`.

    Raises:
        WheelwayError: Ray or the daemon cannot start.
    """
    daemon = Daemon(path)
    with ExitStack() as stack:
        tuning = head.Tuning(num_cpus, longest_request=daemon.config.serve.longest_request)
        if not head.answers(daemon.config.ray.dashboard_url):
            say("starting a Ray head (10 to 30 s) ...")
        ray = stack.enter_context(head.adopt_or_start(daemon.config.ray.dashboard_url, tuning))
        if ray.adopted:
            say(f"using the Ray head at {ray.dashboard_url}; it will be left running")
        else:
            say(f"the Ray head answers at {ray.dashboard_url}; {tuning.room}")
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


def _telling(failed: Callable[[FailedRequest], None]) -> Callable[[LogFile, list[str]], None]:
    """Picks the failed requests out of what replicas log."""

    def take(file: LogFile, lines: list[str]) -> None:
        del file  # the record names the release
        for record in records(lines):
            if (found := record.failed()) is not None:
                failed(found)

    return take


def configuration(place: Place) -> str:
    """The configuration of such a run, as TOML."""
    return f"""\
# Written by `wheelway up` at every start: edits are picked up at once and hold until then. To keep
# policies, copy it, end `wheelway up`, which also ends its Ray head, start a Ray head of your own
# (docs/operating.md) and run `wheelway --config COPY run` beside that.

[[sources]]
type = "directory"
path = {_quoted(place.wheels)}

[ray]
dashboard_url = "http://127.0.0.1:{place.dashboard_port}"
ingress_url = "http://127.0.0.1:{place.port}"

[paths]
cache = {_quoted(place.cache)}
state = {_quoted(place.state)}
"""


def _quoted(path: Path) -> str:
    """A path as a TOML basic string, which escapes as JSON does."""
    return json.dumps(str(path.resolve()))
