"""`wheelway history`: what happened, and every Serve config that was applied, with its cause."""

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.explain import happened
from controller.cli.invocation import Invocation, invocation
from controller.cli.link import told
from controller.cli.output import Cell, day_and_time, first_line, show, table
from controller.cli.parameters import AsJson, pipelines
from controller.ops.history import HistoryDocument, tell
from controller.ops.times import seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType


def history(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="One pipeline; default: everything.", autocompletion=pipelines),
    ] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=5000, help="At most this many.")] = 50,
    applied: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Print this applied config (a digest's start)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what happened, which configs were applied, and why.

    The oldest comes first. Events are the steps of releases and the conditions that came and went;
    each config is listed by its digest with the reasons for it and what became of it, and printed
    by --applied DIGEST.
    """
    asked = invocation(ctx)
    if applied is not None:
        sys.stdout.write(_text(asked, applied))
        return

    def drawn(found: HistoryDocument) -> "Iterable[RenderableType]":
        rows = _rows(found)[-limit:]
        if rows:
            yield table(("time", "subject", "what", "message"), rows)
        else:
            yield "Nothing happened yet." if name is None else f"Nothing of {name}."
        since = found.get("since")  # an older daemon does not tell
        if since is not None and len(rows) < limit:
            before = day_and_time(seconds(since))
            yield f"What was before {before} is no longer known ([journal] keep_for)."

    document = told(
        *(asked, "history"),
        otherwise=lambda reader: tell(reader, name, limit),
        pipeline=name,
        limit=limit,
    )
    show(document, drawn, as_json=as_json)


def _text(asked: Invocation, digest: str) -> str:
    """The text of an applied config; a usage error when that is no start of a digest."""
    digest = digest.lower()
    if re.fullmatch(r"[0-9a-f]{1,64}", digest) is None:
        raise typer.BadParameter(
            f"{digest[:40]!r} is not a digest nor the start of one (0 to 9, a to f), such as "
            "ab12ab12; `wheelway history` lists them",
            param_hint="'--applied'",
        )
    return told(asked, "configs", digest, otherwise=lambda reader: reader.serve_config(digest))


def _rows(found: HistoryDocument) -> list[tuple[Cell, ...]]:
    lines: list[tuple[float, Cell, Cell, Cell]] = [
        (seconds(event["at"]), event["subject"], happened(event), first_line(event["message"]))
        for event in found["events"]
    ]
    lines += [
        (seconds(sent["at"]), f"config {sent['digest'][:8]}", sent["outcome"], sent["cause"])
        for sent in found["configs"]
    ]
    lines.sort(key=lambda line: line[0])
    return [(day_and_time(at), *rest) for at, *rest in lines]
