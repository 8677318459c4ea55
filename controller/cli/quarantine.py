"""`wheelway quarantine`: what is set aside after a failure, and how to give it another chance."""

import time
from typing import Annotated

import typer

from controller.cli.explain import parsed_version
from controller.cli.invocation import invocation
from controller.cli.link import ordered, told, whoami
from controller.cli.output import console, first_line, paragraph, print_json, table
from controller.ops import orders
from controller.ops.documents import QuarantinedDocument, quarantined_document, quarantined_of
from controller.ops.status import quarantines
from controller.ops.times import ago

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def quarantine() -> None:
    """List what failed and is left alone, or have it tried again."""


@app.command("list")
def list_(
    ctx: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those whose wheel is listed no more.")
    ] = False,
) -> None:
    """List the releases that failed and are left alone.

    What failed and is gone is remembered, in case the same bytes come back; --all shows it too.
    """
    asked = invocation(ctx)
    documents: list[QuarantinedDocument] = told(
        asked,
        lambda daemon: daemon.get("v1", "quarantine", all=everything),
        lambda reader: [
            quarantined_document(failed) for failed in quarantines(reader, everything=everything)
        ],
    )
    if as_json:
        print_json(documents)
        return
    out, now = console(), time.time()
    found = [quarantined_of(document) for document in documents]
    if not found:
        out.print(paragraph("Nothing is quarantined."))
        return
    heads = ("pipeline", "version", "stage", "reason", "since", "message")
    rows = [
        (
            q.release.pipeline,
            str(q.release.version),
            q.stage,
            (q.reason, "red"),
            ago(now - q.at),
            first_line(q.message),
        )
        for q in found
    ]
    out.print(table(heads, rows, plain=not out.is_terminal))


@app.command()
def clear(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The pipeline.")],
    version: Annotated[str | None, typer.Argument(help="One version; default: all.")] = None,
    *,
    note: Annotated[
        str, typer.Option("--note", "-m", metavar="TEXT", help="Why, for others.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Lift a quarantine: the daemon tries the release again at its next pass."""
    wanted = None if version is None else parsed_version(version)
    asked, by = invocation(ctx), whoami()
    lifted: list[QuarantinedDocument] = ordered(
        asked,
        lambda daemon: daemon.post(
            *("v1", "quarantine", "clear"),
            pipeline=name,
            version=None if wanted is None else str(wanted),
            by=by,
            note=note,
        ),
        lambda journal: [
            quarantined_document(quarantine)
            for quarantine in orders.clear_quarantine(
                journal, name, wanted, by=by, at=time.time(), note=note
            )
        ],
    )
    if as_json:
        print_json(lifted)
        return
    out = console()
    for item in lifted:
        out.print(paragraph(f"lifted: {item['pipeline']} {item['version']} ({item['reason']})"))
    out.print(paragraph("The daemon tries again at its next pass; see `wheelway status`."))
