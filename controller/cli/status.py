"""`wheelway status`: what is served, what is on its way, what failed, and how the daemon is.

The daemon tells, or its journal while the daemon is down.
"""

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from packaging.version import Version

from controller.cli.invocation import Invocation, invocation
from controller.cli.link import note, told
from controller.cli.output import (
    PHASE_STYLES,
    Cell,
    drawn_conditions,
    drawn_orders,
    enumerated,
    first_line,
    gathered,
    paragraph,
    show,
    table,
)
from controller.cli.parameters import AsJson
from controller.errors import NOT_A_PIPELINE
from controller.model import Phase
from controller.ops.status import StatusDocument, tell
from controller.ops.times import ago, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from controller.journal import Reader
    from controller.ops.documents import PartDocument, ReleaseDocument

HEADS: Final = ("pipeline", "version", "phase", "reason", "since", "route", "placement")
_STATE_STYLES: Final = {"HEALTHY": "green", "UNHEALTHY": "red", "DEPLOY_FAILED": "red"}
WIDE: Final = 120
"""Columns of a terminal from which on there is room for the placements."""


def status(
    ctx: typer.Context,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Stay, and show each change as it comes.")
    ] = False,
    as_json: AsJson = False,
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
    show(seen, drawn, as_json=as_json)


def read_status(
    asked: Invocation, *, everything: bool, say: "Callable[[str], None]" = note
) -> StatusDocument:
    """What the daemon says of itself, or its journal when it does not answer."""

    def otherwise(reader: "Reader") -> StatusDocument:
        config = asked.config_as_far_as_it_goes()  # what is wrong there may be why it is down
        return tell(reader, lambda: config, time.time(), everything=everything)

    return told(asked, "status", otherwise=otherwise, say=say, all=everything)


# -- for people ----------------------------------------------------------------------------------


def drawn(
    seen: StatusDocument,
    *,
    releases: "RenderableType | None" = None,
    note: str = "",
) -> "Iterable[RenderableType]":
    """The document for a person, perhaps with another table of the releases and a note below it."""
    daemon, now = seen["daemon"], seconds(seen["at"])
    style = {"running": "green", "late": "yellow", "down": "red"}.get(daemon["state"], "yellow")
    yield paragraph(daemon["sentence"], style=style)
    yield ""
    if seen["releases"]:
        rows = [row for release in seen["releases"] for row in _rows(release, now)]
        yield releases or table(HEADS, rows, wide=WIDE)
    else:
        yield "No releases yet."
    if note:
        yield paragraph(note, style="dim")
    if seen["hidden"]:
        yield paragraph(f"{seen['hidden']} older not shown (--all)", style="dim")
    if unseen := seen.get("hidden_quarantined"):  # a daemon of before does not tell
        said = f"{unseen} quarantined not shown (`wheelway quarantine list --all`)"
        yield paragraph(said, style="dim")
    failed = [(r, r["quarantine"]) for r in seen["releases"] if r["quarantine"] is not None]
    if failed:
        yield from ("", paragraph("Quarantined", style="bold"))
    for alike in gathered(failed, lambda f: (f[1]["reason"], f[1]["stage"], f[1]["message"])):
        names = [f"{release['pipeline']} {release['version']}" for release, _ in alike]
        first = alike[0][1]
        why = f"{first['reason']} ({first['stage']}): {first_line(first['message'])}"
        yield paragraph(f"{enumerated(names)}: {why}", indent=2, style="red")
        yield paragraph(f"wheelway explain {names[0]}", indent=4)
    yield from drawn_orders(seen["overrides"], now)
    if wrong := [condition for condition in seen["conditions"] if not condition["ok"]]:
        yield from ("", paragraph("Conditions", style="bold"))
        yield from drawn_conditions(wrong, now)
    if alone := [c["message"] for c in seen["conditions"] if c["reason"] == NOT_A_PIPELINE]:
        more = f" ({len(alone) - 1} more like it)" if len(alone) > 1 else ""
        yield from ("", paragraph(f"{first_line(alone[0])}{more}", style="dim"))


def _rows(release: "ReleaseDocument", now: float) -> "Iterator[Sequence[Cell]]":
    phase = release["phase"]
    yield (
        release["pipeline"],
        release["version"],
        (phase, PHASE_STYLES.get(phase, "")),
        release["reason"],
        ago(now - seconds(release["since"])),
        release["route"] if phase == Phase.LIVE else "-",
        (release["placement"] or "-", "dim"),
    )
    for part in release["parts"]:
        yield (*part_cells(part), replicas_of(part), "", "-", "")
    for cells in weights_cells(release, now):
        yield (*cells, "-", "")


def weights_cells(release: "Mapping[str, Any]", now: float) -> "Iterator[Sequence[Cell]]":
    """A row for the weights that a release is live with, one for those that it is to have instead,
    and one for newer ones that failed: name, version, how they do, why, since when.
    """
    live, wanted = release.get("weights"), release.get("wanted_weights")
    refused = release.get("refused_weights", ())  # a daemon of before tells less
    since = release.get("weights_since", "")
    if since is None:  # those that it was live with on a head that ended
        live = None
    if live:
        age = ago(now - seconds(since)) if since else ""
        yield *_named(live), ("Live", PHASE_STYLES["Live"]), "weights", age
    if wanted and wanted != live:
        yield *_named(wanted), ("Wanted", "yellow"), "weights", ""
    for failed in refused:
        newest = max((Version(_named(mark)[1]) for mark in (live, wanted) if mark), default=None)
        name, version = _named(failed["weights"])
        if newest is None or Version(version) > newest:
            age = ago(now - seconds(failed["at"]))
            yield name, version, ("Refused", "red"), failed["reason"], age


def _named(mark: str) -> tuple[str, str]:
    """The project of weights, as below a release, and their version."""
    project, _, version = mark.partition("@")
    return f"  {project}", version.rpartition("+")[0]


def part_cells(part: "PartDocument") -> "tuple[Cell, Cell, Cell]":
    """A part's name, no version, and its state, as of a release below which it stands."""
    state = "inline" if part["inline"] else part["state"] or "-"
    return f"  .{part['name']}", "", (state, _STATE_STYLES.get(state, ""))


def replicas_of(part: "PartDocument") -> str:
    """How many replicas of a part run, in words; of one that is inline there are none."""
    if part["inline"]:
        return "in its pipeline's replicas"
    if part["wanted"] is None:
        return f"{part['running']} replicas"
    return f"{part['running']} of {part['wanted']} replicas"
