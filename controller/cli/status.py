"""`wheelway status`: what is served, what is on its way, what failed, and whether anybody watches.

The daemon tells, or its journal while the daemon is down.
"""

import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from controller.cli.gathering import drawn_conditions, enumerated, gathered
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
from controller.ops.status import Overview, StatusDocument, as_document, from_document, overview
from controller.ops.times import ago
from controller.reconcile.refusals import NOT_A_PIPELINE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console, RenderableType

    from controller.journal import Reader, ReleaseRecord

HEADS: Final = ("pipeline", "version", "phase", "reason", "since", "route", "placement")
WIDE: Final = 120
"""Columns of a terminal from which on there is room for all heads."""


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
    The daemon tells it, or its journal while the daemon is down.

    With --watch the table stays up to date, and Ray is asked as well: how many replicas run, and of
    the last half minute how many requests a second were answered, and how quickly half of them. A
    dash is what Ray does not say. On a terminal, Ctrl-C ends it; elsewhere each change is printed
    as it comes, with --json as one document a line.
    """
    asked = invocation(ctx)
    if watch:
        from controller.cli import watching  # noqa: PLC0415 - what asks Ray is slow to import

        config = asked.config_as_far_as_it_goes()
        watching.watch(asked, config, everything=everything, as_json=as_json)
        return
    seen = read_status(asked, everything=everything)
    if as_json:
        print_json(seen)
        return
    out = console()
    out.print(drawn(from_document(seen), out))


def read_status(
    asked: Invocation, *, everything: bool, say: "Callable[[str], None]" = note
) -> StatusDocument:
    """What the daemon says of itself, or its journal when it does not answer."""

    def otherwise(reader: "Reader") -> StatusDocument:
        config = asked.config_as_far_as_it_goes()  # what is wrong there may be why it is down
        seen = overview(reader, lambda: config, time.time(), everything=everything)
        return as_document(seen)

    seen: StatusDocument = told(
        asked,
        lambda daemon: daemon.get("v1", "status", all=everything),
        otherwise,
        say=say,
    )
    return seen


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
        for alike in gathered(seen.quarantines, lambda q: (q.reason, q.stage, q.message)):
            names = [f"{q.release.pipeline} {q.release.version}" for q in alike]
            why = f"{alike[0].reason} ({alike[0].stage}): {first_line(alike[0].message)}"
            parts += [
                paragraph(f"{enumerated(names)}: {why}", indent=2, style="red"),
                paragraph(f"wheelway explain {names[0]}", indent=4),
            ]
    parts += drawn_orders(seen.overrides, seen.at)
    if troubles := [pair for pair in seen.conditions if not pair[0].ok]:
        parts += ["", paragraph("Conditions", style="bold")]
        parts += drawn_conditions(troubles, seen.at)
    if alone := [c.message for c, _ in seen.conditions if c.reason == NOT_A_PIPELINE]:
        more = f" ({len(alone) - 1} more like it)" if len(alone) > 1 else ""
        parts += ["", paragraph(f"{first_line(alone[0])}{more}", style="dim")]
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
