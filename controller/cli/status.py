"""`wheelway status`: what is served, what is on its way, what failed, and whether anybody watches.

All of it is read from the journal, so it also works while the daemon is down, and says so.
"""

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from controller.cli.documents import condition_document, release_document
from controller.cli.invocation import invocation
from controller.cli.output import (
    PHASE_STYLES,
    Cell,
    ago,
    console,
    first_line,
    iso,
    paragraph,
    print_json,
    stack,
    table,
)
from controller.model import Condition, Phase, Quarantine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, RenderableType

    from controller.config import Config
    from controller.journal import DaemonStatus, Reader, ReleaseRecord
    from controller.model import JSON

HEADS: Final = ("pipeline", "version", "phase", "reason", "since", "route", "placement")
OVER: Final = {Phase.RETIRED, Phase.SUPERSEDED}
ON_CLUSTER: Final = {Phase.STAGED, Phase.READY, Phase.LIVE, Phase.RETIRING}
WIDE: Final = 120
"""Columns of a terminal from which on there is room for all heads."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """Whether a daemon is at work."""

    state: str
    """`running`; `late`: there, but without a pass for too long; `down`; `never` ran here."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The journal at one moment."""

    at: float
    daemon: "DaemonStatus | None"
    pulse: Pulse
    releases: "tuple[ReleaseRecord, ...]"
    """By pipeline, its newest version first."""
    hidden: int
    """How many older ones were left out."""
    quarantines: "tuple[Quarantine, ...]"
    conditions: "tuple[tuple[Condition, float], ...]"


def status(
    ctx: typer.Context,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Stay, and show each change as it comes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is over: retired, superseded, not kept.")
    ] = False,
) -> None:
    """Show every release and whether the daemon runs.

    What is over (retired, superseded, older than what is served) is left out; --all shows it too.
    Everything is read from the journal, so this works while the daemon or Ray is down, and says so.

    With --watch the table stays up to date, and Ray is asked as well: how many replicas run, and of
    the last half minute how many requests a second were answered, and how quickly half of them. A
    dash is what Ray does not say. On a terminal, Ctrl-C ends it; elsewhere each change is printed
    as it comes, with --json as one document a line.
    """
    asked = invocation(ctx)
    config = asked.config()
    if watch:
        from controller.cli import watching  # noqa: PLC0415 - what asks Ray is slow to import

        watching.watch(asked, config, everything=everything, as_json=as_json)
        return
    with asked.reader(config) as reader:
        seen = overview(reader, config, time.time(), everything=everything)
    if as_json:
        print_json(as_document(seen))
        return
    out = console()
    out.print(drawn(seen, out))


# -- what there is -------------------------------------------------------------------------------


def overview(reader: "Reader", config: "Config", now: float, *, everything: bool) -> Overview:
    """Everything that `status` shows, as at one moment."""
    with reader.snapshot():
        daemon = reader.status()
        records = reader.releases()
        quarantines = reader.quarantines()
        conditions = reader.conditions()
        listings = reader.listings()
    listed = {revision.sha256 for found in listings.values() for revision in found.revisions}
    shown = [r for r in records if everything or not _is_past(r, records, listed)]
    newest_first = sorted(shown, key=lambda r: (r.release.version, r.since), reverse=True)
    releases = tuple(sorted(newest_first, key=lambda r: r.release.pipeline))
    there = {record.release for record in releases}
    return Overview(
        at=now,
        daemon=daemon,
        pulse=pulse(daemon, config, now, alive=daemon is not None and _is_alive(daemon.pid)),
        releases=releases,
        hidden=len(records) - len(releases),
        quarantines=tuple(q for q in quarantines if q.release in there),
        conditions=tuple(conditions),
    )


def _is_past(record: "ReleaseRecord", records: "Iterable[ReleaseRecord]", listed: set[str]) -> bool:
    """Whether a release only tells of the past: over, or older than those that are served."""
    if record.phase in ON_CLUSTER:
        return False
    if record.phase in OVER or (listed and record.release.digest not in listed):
        return True
    release = record.release
    live = [
        other
        for other in records
        if other.phase is Phase.LIVE and other.release.pipeline == release.pipeline
    ]
    return bool(live) and (
        release.version < min(other.release.version for other in live)
        or any(o.release.version == release.version and o.since > record.since for o in live)
    )


def pulse(daemon: "DaemonStatus | None", config: "Config", now: float, *, alive: bool) -> Pulse:
    """Judge the daemon by its last pass and its process."""
    if daemon is None:
        return Pulse("never", "the daemon has not finished a pass yet; start it: `wheelway run`")
    age = ago(now - daemon.at)
    last = f"last pass {age} ago: {daemon.sentence}"
    if not alive:
        return Pulse(
            "down",
            f"the daemon is down (process {daemon.pid} is gone); what is served stays up, new "
            f"releases wait; {last}",
        )
    # A pass may wait this long for Ray: a PUT that starts Serve gets six times the timeout.
    patience = config.rollout.interval + 6 * config.ray.timeout + 10
    if now - daemon.at > patience:
        return Pulse(
            "late",
            f"the daemon (process {daemon.pid}) has finished no pass for {age}, expected every "
            f"{config.rollout.interval:g} s; its log says why; {last}",
        )
    return Pulse("running", f"the daemon runs (process {daemon.pid}); {last}")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process: it is there
        return True
    return True


# -- for people ----------------------------------------------------------------------------------


def drawn(
    seen: Overview,
    out: "Console",
    *,
    rows: "tuple[Sequence[str], Sequence[Sequence[Cell]]] | None" = None,
    note: str = "",
) -> "RenderableType":
    """The overview for a person; a narrow terminal has no room for the placements.

    Args:
        seen: the overview.
        out: where it will be printed.
        rows: heads and rows of another table of the releases.
        note: said below that table.
    """
    style = {"running": "green", "late": "yellow", "down": "red"}.get(seen.pulse.state, "yellow")
    parts: list[RenderableType | None] = [paragraph(seen.pulse.sentence, style=style)]
    if seen.releases:
        heads, cells = rows or _table(seen, wide=out.width >= WIDE)
        parts += ["", table(heads, cells, plain=not out.is_terminal)]
    else:
        parts += ["", paragraph("No releases yet.")]
    if note:
        parts.append(paragraph(note, style="dim"))
    if seen.hidden:
        parts.append(paragraph(f"{seen.hidden} older not shown (--all)", style="dim"))
    if seen.quarantines:
        parts += ["", paragraph("Quarantined", style="bold")]
        for quarantine in seen.quarantines:
            release = quarantine.release
            parts += [
                paragraph(
                    f"{release.pipeline} {release.version}: {quarantine.reason} "
                    f"({quarantine.stage}): {first_line(quarantine.message)}",
                    indent=2,
                    style="red",
                ),
                paragraph(f"wheelway explain {release.pipeline} {release.version}", indent=4),
            ]
    if troubles := [pair for pair in seen.conditions if not pair[0].ok]:
        parts += ["", paragraph("Conditions", style="bold")]
        for condition, since in troubles:
            said = f"{condition.subject}: {condition.reason}, for {ago(seen.at - since)}"
            parts += [
                paragraph(said, indent=2, style="yellow"),
                paragraph(condition.message, indent=4),
            ]
    return stack(*parts)


def _table(seen: Overview, *, wide: bool) -> "tuple[Sequence[str], Sequence[Sequence[Cell]]]":
    columns = len(HEADS) if wide else len(HEADS) - 1
    return HEADS[:columns], [_row(record, seen.at)[:columns] for record in seen.releases]


def _row(record: "ReleaseRecord", now: float) -> "Sequence[Cell]":
    release = record.release
    return (
        release.pipeline,
        str(release.version),
        (record.phase.value, PHASE_STYLES.get(record.phase.value, "")),
        record.reason,
        ago(now - record.since),
        release.route if record.phase is Phase.LIVE else "-",
        (record.placement or "-", "dim"),
    )


# -- for scripts ---------------------------------------------------------------------------------


def as_document(seen: Overview) -> "JSON":
    """The overview as JSON. Keys are only ever added; times are ISO 8601 in UTC.

    at          when this was read
    daemon      state ("running", "late", "down", "never"), sentence; and, null before the
                first pass: last_pass, pass (number), said (that pass in a sentence),
                duration (seconds), pid, version, started_at
    releases    a list of `release_document`
    hidden      how many older releases were left out for want of --all
    conditions  a list of subject, reason, message, ok, since
    """
    daemon = seen.daemon
    quarantines = {quarantine.release: quarantine for quarantine in seen.quarantines}
    return {
        "at": iso(seen.at),
        "daemon": {
            "state": seen.pulse.state,
            "sentence": seen.pulse.sentence,
            "last_pass": iso(daemon.at) if daemon else None,
            "pass": daemon.number if daemon else None,
            "said": daemon.sentence if daemon else None,
            "duration": daemon.duration if daemon else None,
            "pid": daemon.pid if daemon else None,
            "version": daemon.version if daemon else None,
            "started_at": iso(daemon.started_at) if daemon else None,
        },
        "releases": [release_document(r, quarantines.get(r.release)) for r in seen.releases],
        "hidden": seen.hidden,
        "conditions": [condition_document(*pair) for pair in seen.conditions],
    }
