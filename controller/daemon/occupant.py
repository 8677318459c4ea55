"""Whether the head that `wheelway up` would use serves another daemon, which runs.

Each application says whose it is and where that daemon has its state (`planning/daemons.py`).
Whether it runs is known of the lock in that folder, which the kernel lets go of however a daemon
ends: a mark that was left behind keeps nobody out. Of a folder that cannot be seen from here (on
another machine, another user's) nothing is known; then the marks decide (`planning/contest.py`).
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from controller.config.loading import parse, read
from controller.errors import Stalled, WheelwayError
from controller.journal import holder, identity
from controller.planning.daemons import mark_of
from controller.rayhead import ports
from controller.serve.dashboard import Dashboard

if TYPE_CHECKING:
    from controller.config.settings import Config
    from controller.journal.schema import Holder
    from controller.planning.daemons import DaemonMark

CONFIGURATION: Final = "controller.toml"
"""What `wheelway up` writes into the folder of the state."""


def require_unserved(config: Config) -> str:
    """Make sure that no other daemon serves on the head; nothing is sent or written.

    Returns whose the applications are that are another daemon's of which it cannot be known here
    whether it runs; empty as a rule.

    Raises:
        Stalled: another one runs ("AnotherDaemon").
    """
    state = config.paths.state.resolve()
    unknown = ""
    for mark in _marks(config):
        folder = Path(mark.folder)
        if not mark.folder or folder == state:
            continue
        there = identity(folder, make=False)
        if there is None:
            unknown = str(mark)
        elif there.id == mark.id and (found := holder(folder)) is not None:
            raise Stalled("AnotherDaemon", _told(config, mark, found))
    return unknown


def _marks(config: Config) -> list[DaemonMark]:
    """Those on the cluster, the oldest first; none where it does not say, of which the daemon
    tells.
    """
    with suppress(WheelwayError), closing(Dashboard.connect(config.ray)) as dashboard:
        ours = [app for app in dashboard.applications() if app.release is not None]
        marks = {mark for app in ours if (mark := mark_of(app.document)) is not None}
        return sorted(marks, key=lambda mark: mark.age)
    return []


def _told(config: Config, mark: DaemonMark, found: Holder) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.since))
    folders = _watched(Path(mark.folder))
    drop = f"drop the wheels into {' or '.join(folders)}, which it watches; or " if folders else ""
    first = urlsplit(config.ray.ingress_url).port or 80
    second = urlsplit(config.ray.dashboard_url).port or 80
    one, other = _free(first + 1, second), _free(second + 1, first)
    if one == other:
        other = _free(other + 1, first)
    return (
        f"the Ray head at {config.ray.dashboard_url} serves another daemon, which runs: {mark}, "
        f"process {found.process}, since {since}. Nothing was changed. Start this one beside it, "
        f"with ports of its own: `--port {one} --dashboard-port {other}` (`make run PORT={one} "
        f"DASHBOARD_PORT={other}`); or {drop}end that one (`kill {found.process}`, or Ctrl-C where "
        "it was started; `systemctl stop wheelway` where it is the service), and start again"
    )


def _watched(state: Path) -> list[str]:
    """The folders that a daemon watches which `wheelway up` started."""
    path = state / CONFIGURATION
    with suppress(WheelwayError):
        sources = parse(read(path), path).sources
        return [str(source.path) for source in sources if source.type == "directory"]
    return []


def _free(port: int, *besides: int) -> int:
    """The first port from this one on that is free."""
    rest = (one for one in range(port, 65536) if one not in besides and ports.is_free(one))
    return next(rest, port)
