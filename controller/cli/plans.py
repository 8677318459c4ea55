"""`wheelway plan` and `wheelway render`: what would change now and why, and the config itself."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from controller.cli.invocation import invocation
from controller.cli.link import Unanswered, get, note
from controller.cli.output import drawn_notices, paragraph, show
from controller.cli.parameters import AsJson
from controller.cli.program import ExitCode
from controller.errors import Stalled
from controller.ops.plans import NoticeDocument, PlanDocument

if TYPE_CHECKING:
    from rich.console import RenderableType


def plan(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """Say what would change now, and why; exit code 2 on changes.

    A running daemon tells what its last pass left undone. Without one the pass is made here:
    nothing is sent to Ray and nothing is recorded; wheels are fetched and environments are built
    into the cache, for only then it is known whether they can be.
    """
    planned: PlanDocument = _of_pass(ctx, "plan", verb="do", made="planned")
    show(planned, _drawn, as_json=as_json)
    if planned["changes"]:
        raise typer.Exit(ExitCode.CHANGES)


def render(
    ctx: typer.Context,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Instead of stdout.")
    ] = None,
) -> None:
    """Print the Serve config that would be applied now.

    `serve deploy` takes it as it is. A running daemon tells that of its last pass; without one the
    pass is made here, as for `plan`.
    """
    text: str = _of_pass(ctx, "plan", "config", verb="send", made="rendered")
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Stalled("OutputUnwritable", f"{output} cannot be written: {error}") from error


def _of_pass(
    ctx: typer.Context, *path: str, verb: str, made: Literal["planned", "rendered"]
) -> Any:
    """What the daemon tells of its last pass; without one, what `daemon.passes` has `made` of a
    pass here that sends and records nothing.
    """
    asked = invocation(ctx)
    try:
        return get(asked, *path)
    except Unanswered as error:
        note(f"{error.message}; this is what it would {verb}")
    from controller.daemon.heap import collect_seldom  # noqa: PLC0415 - as below

    collect_seldom()  # most of the cost is in importing, which leaves no cycles
    from controller.daemon import passes  # noqa: PLC0415 - imports the API
    from controller.reconcile.assembly import preview  # noqa: PLC0415 - imports the whole daemon

    report = preview(asked.config())
    return passes.planned(report) if made == "planned" else passes.rendered(report)


def _drawn(planned: PlanDocument) -> "Iterable[RenderableType]":
    changes, waiting = planned["changes"], planned["waiting"]
    if not changes:
        there = f"Nothing to send now; {_counted(len(waiting))} not live yet:"
        yield there if waiting else "Nothing to change."
    yield from (change["sentence"] for change in changes)
    if planned["hold"]:
        yield paragraph(f"Held back for now: {planned['hold']['message']}", style="yellow")
    if changes and waiting:
        yield f"{_counted(len(waiting)).capitalize()} not live yet:"
    yield from drawn_notices(
        [(w["subject"], f"{w['reason']} ({w['phase']})", w["message"]) for w in waiting], indent=2
    )
    for failed in (one for one in planned["quarantines"] if one["new"]):
        why = f"{failed['reason']} ({failed['stage']}): {failed['message']}"
        yield paragraph(f"Quarantined: {failed['release']}: {why}", style="red")
    if old := sum(not failed["new"] for failed in planned["quarantines"]):
        yield paragraph(f"Quarantined before: {old} (`wheelway quarantine list`).", style="dim")
    told = {(item["subject"], item["reason"]) for item in waiting}
    yield from drawn_found(
        [c for c in planned["conditions"] if (c["subject"], c["reason"]) not in told]
    )
    yield paragraph(f"Now: {planned['sentence']}", style="dim")


def _counted(number: int) -> str:
    return "1 is" if number == 1 else f"{number} are"


def drawn_found(conditions: Sequence[NoticeDocument]) -> "Iterable[RenderableType]":
    """What a pass found, each reason once; first what is not right."""
    for ok, style in ((False, "yellow"), (True, "")):
        found = [(c["subject"], c["reason"], c["message"]) for c in conditions if c["ok"] is ok]
        yield from drawn_notices(found, style=style)
