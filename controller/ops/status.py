"""What `status` tells: what is served, what comes, what failed, and how the daemon is.

All of it is read from the journal, so it is known while the daemon is down, and says that.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from typing_extensions import TypedDict

from controller.journal import TO_START, holder
from controller.model import Phase
from controller.ops.documents import (
    ConditionDocument,
    OverridesDocument,
    QuarantinedDocument,
    ReleaseDocument,
    WeightsOfAll,
    condition_document,
    documented,
    overrides_document,
    quarantined_document,
    refused_weights_document,
    release_document,
)
from controller.ops.times import ago, iso

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from controller.config.settings import Config
    from controller.journal import DaemonStatus, Holder, Reader, ReleaseRecord

_GLANCE: Final = 0.5
"""Seconds that Ray's dashboard has to take a connection."""
_SOON: Final = 10.0
"""Seconds since the last pass after which a daemon may be late; less is never late."""
ON_CLUSTER: Final = {Phase.STAGED, Phase.READY, Phase.LIVE, Phase.RETIRING}


_Numbered = TypedDict("_Numbered", {"pass": int | None})  # the key is a keyword of Python


class _Pulse(TypedDict):
    state: str
    sentence: str
    last_pass: str | None


@documented
class DaemonDocument(_Pulse, _Numbered):
    """Whether a daemon is at work: its state is `running`; `late`, there but without a pass for too
    long; `starting`, before its first pass, maybe with a Ray head; `down`; or `never`, it has not
    run here. Before the first pass ever all but state and sentence are null.
    """

    said: str | None
    """That pass in a sentence."""
    duration: float | None
    """Seconds that it took."""
    pid: int | None
    version: str | None
    started_at: str | None


@documented
class StatusDocument(TypedDict):
    """What is served, what is on its way, what failed, and whether anybody watches."""

    at: str
    """When this was read."""
    daemon: DaemonDocument
    releases: list[ReleaseDocument]
    """By pipeline, its newest version first."""
    hidden: int
    """How many that are over were left out."""
    hidden_quarantined: int
    """How many quarantined ones are not told of here; the sentence of a pass counts them too."""
    conditions: list[ConditionDocument]
    overrides: OverridesDocument


def tell(
    reader: Reader, config: Callable[[], Config], now: float, *, everything: bool
) -> StatusDocument:
    """Everything that `status` shows, as at one moment; `config` is called only when the daemon may
    be late.
    """
    with reader.snapshot():
        daemon = reader.status()
        records = reader.releases(over=everything)
        known = sum(reader.counted().values())
        quarantines = {failed.subject.key: failed for failed in reader.quarantines()}
        conditions = reader.conditions()
        listed = reader.listed()
        overrides, parts = reader.overrides(), reader.parts()
        weights = WeightsOfAll.of(reader)
    live: dict[str, list[ReleaseRecord]] = {}
    for record in records:
        if record.phase is Phase.LIVE:
            live.setdefault(record.subject.name, []).append(record)
    shown = [
        record
        for record in records
        if everything or not _is_past(record, live.get(record.subject.name, ()), listed)
    ]
    shown.sort(key=lambda r: (r.subject.version, r.since), reverse=True)
    shown.sort(key=lambda r: r.subject.name)
    return {
        "at": iso(now),
        "daemon": _daemon_document(daemon, config, now),
        "releases": [
            release_document(r, quarantines.get(r.subject.key), parts, weights) for r in shown
        ],
        "hidden": known - len(shown),
        "hidden_quarantined": len(quarantines.keys() - {r.subject.key for r in shown}),
        "conditions": [condition_document(*pair) for pair in conditions],
        "overrides": overrides_document(overrides),
    }


def quarantines(reader: Reader, *, everything: bool) -> list[QuarantinedDocument]:
    """The releases that failed and are left alone, and the weights that failed with one; with
    `everything` also those that are over, because their wheel is listed no more: they are
    remembered in case it comes back.
    """
    with reader.snapshot():
        found, weights = reader.quarantines(), reader.refused_weights()
        known = reader.records([*(quarantine.subject for quarantine in found), *weights])
    over = {subject for subject, record in known.items() if record.over}
    releases = [quarantined_document(q) for q in found if everything or q.subject not in over]
    return releases + [
        refused_weights_document(one)
        for release in sorted(weights)
        if everything or release not in over
        for one in weights[release]
    ]


def _is_past(record: ReleaseRecord, live: Sequence[ReleaseRecord], listed: set[str]) -> bool:
    """Whether a release only tells of the past: over, or older than those of its pipeline that are
    served.
    """
    if record.phase in ON_CLUSTER:
        return False
    if record.over or (listed and record.subject.digest not in listed):
        return True
    version = record.subject.version
    return bool(live) and (
        version < min(other.subject.version for other in live)
        or any(o.subject.version == version and o.since > record.since for o in live)
    )


def _daemon_document(
    daemon: DaemonStatus | None, config: Callable[[], Config], now: float
) -> DaemonDocument:
    state, sentence = _pulse(daemon, config, now)
    return {
        "state": state,
        "sentence": sentence,
        "last_pass": iso(daemon.at) if daemon else None,
        "pass": daemon.number if daemon else None,
        "said": daemon.sentence if daemon else None,
        "duration": daemon.duration if daemon else None,
        "pid": daemon.pid if daemon else None,
        "version": daemon.version if daemon else None,
        "started_at": iso(daemon.started_at) if daemon else None,
    }


def _pulse(
    daemon: DaemonStatus | None, config: Callable[[], Config], now: float
) -> tuple[str, str]:
    """The daemon's state by its last pass and its process, and that in a sentence."""
    if daemon is None:
        if (starting := holder(config().paths.state)) is not None:
            return "starting", f"{_starts(starting, now)}; it has finished no pass yet"
        return "never", f"the daemon has not finished a pass yet; unless it just began, {TO_START}"
    age = ago(now - daemon.at)
    last = f"last pass {age} ago: {daemon.sentence}"
    if not _is_alive(daemon.pid):
        if (starting := holder(config().paths.state)) is not None:
            return "starting", f"{_starts(starting, now)}; {last}"
        url = config().ray.dashboard_url
        left = (
            f"Ray answers at {url}: what is served stays up, new releases wait"
            if _listens(url)
            else f"no Ray answers at {url} either: nothing is served"
        )
        return "down", f"the daemon is down (process {daemon.pid} is gone); {left}; {last}"
    # A pass takes longer than this only when something is wrong: the configuration is not needed.
    if now - daemon.at > _SOON and now - daemon.at > late_after(config()):
        return "late", (
            f"the daemon (process {daemon.pid}) has finished no pass for {age}, expected every "
            f"{config().rollout.interval:g} s; its log says why; {last}"
        )
    return "running", f"the daemon runs (process {daemon.pid}); {last}"


def _starts(holder: Holder, now: float) -> str:
    """That a daemon has its journal for itself, and was not there for the last pass."""
    since = ago(now - holder.since)
    return f"the daemon (process {holder.process}) is starting, for {since} now"


def late_after(config: Config) -> float:
    """Seconds after the last pass from which on a daemon is late."""
    # A pass may wait this long for Ray: a PUT that starts Serve gets six times the timeout.
    return config.rollout.interval + 6 * config.ray.timeout + 10


def _listens(url: str) -> bool:
    """Whether anything takes connections at a URL's host and port."""
    where = urlsplit(url)
    try:
        port = where.port or (443 if where.scheme == "https" else 80)
        socket.create_connection((where.hostname or "", port), _GLANCE).close()
    except (OSError, ValueError):
        return False
    return True


def last_seen(reader: Reader) -> float | None:
    """When a daemon that is down finished its last pass; None while it is there, or never was."""
    daemon = reader.status()
    return None if daemon is None or _is_alive(daemon.pid) else daemon.at


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process: it is there
        pass
    return True
