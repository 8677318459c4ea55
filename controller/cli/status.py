"""`wheelway status`: what is served, what is on its way, what failed, and whether anybody watches.

The daemon tells, or its journal while the daemon is down.
"""

import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from controller.account.overview import (
    Overview,
    StatusDocument,
    as_document,
    from_document,
    overview,
)
from controller.account.times import ago
from controller.cli.invocation import Invocation, invocation
from controller.cli.link import note, told
from controller.cli.output import (
    PHASE_STYLES,
    Cell,
    console,
    drawn_orders,
    first_line,
    paragraph,
    print_json,
    stack,
    table,
)
from controller.model import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console, RenderableType

    from controller.config import Config
    from controller.journal import ReleaseRecord

HEADS: Final = ("pipeline", "version", "phase", "reason", "since", "route", "placement")
OVER: Final = {Phase.RETIRED, Phase.SUPERSEDED}
ON_CLUSTER: Final = {Phase.STAGED, Phase.READY, Phase.LIVE, Phase.RETIRING}
WIDE: Final = 120
"""Columns of a terminal from which on there is room for all heads."""
WATCH_INTERVAL: Final = 1.0
"""Seconds between two looks of `--watch`."""


def status(
    ctx: typer.Context,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is over: retired, superseded, not kept.")
    ] = False,
) -> None:
    """Show every release and whether the daemon runs."""
    if watch and as_json:
        raise typer.BadParameter("--watch is for people, --json for scripts; choose one")
    asked = invocation(ctx)
    config = asked.config_as_far_as_it_goes()
    if watch:
        _watch(asked, config, everything=everything)
        return
    seen = look(asked, config, everything=everything)
    if as_json:
        print_json(seen)
        return
    out = console()
    out.print(drawn(from_document(seen), out))


def look(
    asked: Invocation, config: "Config", *, everything: bool, say: "Callable[[str], None]" = note
) -> StatusDocument:
    """What the daemon says of itself, or its journal when it does not answer."""
    seen: StatusDocument = told(
        asked,
        config,
        lambda daemon: daemon.get("v1", "status", all=everything),
        lambda reader: as_document(overview(reader, config, time.time(), everything=everything)),
        say=say,
    )
    return seen


def _watch(asked: Invocation, config: "Config", *, everything: bool) -> None:
    from rich.live import Live  # noqa: PLC0415 - for --watch alone

    out = console()
    if not out.is_terminal:
        raise typer.BadParameter("--watch needs a terminal; use --json, or `watch wheelway status`")
    with Live(console=out, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            seen = from_document(look(asked, config, everything=everything, say=_silent))
            live.update(drawn(seen, out), refresh=True)
            time.sleep(WATCH_INTERVAL)


def _silent(message: str) -> None:
    """While somebody watches, the first line says it."""


# -- for people ----------------------------------------------------------------------------------


def drawn(seen: Overview, out: "Console") -> "RenderableType":
    """The overview for a person; a narrow terminal has no room for the placements."""
    columns = len(HEADS) - (out.width < WIDE)
    style = {"running": "green", "late": "yellow", "down": "red"}.get(seen.pulse.state, "yellow")
    parts: list[RenderableType | None] = [paragraph(seen.pulse.sentence, style=style)]
    if seen.releases:
        rows = [_row(record, seen.at)[:columns] for record in seen.releases]
        parts += ["", table(HEADS[:columns], rows, plain=not out.is_terminal)]
    else:
        parts += ["", paragraph("No releases yet.")]
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
    parts += drawn_orders(seen.overrides, seen.at)
    if troubles := [pair for pair in seen.conditions if not pair[0].ok]:
        parts += ["", paragraph("Conditions", style="bold")]
        for condition, since in troubles:
            said = f"{condition.subject}: {condition.reason}, for {ago(seen.at - since)}"
            parts += [
                paragraph(said, indent=2, style="yellow"),
                paragraph(condition.message, indent=4),
            ]
    return stack(*parts)


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
