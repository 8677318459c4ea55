"""`wheelway history`: what happened, and every Serve config that was applied, with its cause."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from packaging.utils import canonicalize_name

from controller.cli.completion import pipelines
from controller.cli.documents import event_document
from controller.cli.invocation import invocation
from controller.cli.output import (
    Cell,
    console,
    day_and_time,
    iso,
    paragraph,
    print_json,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.journal import AppliedConfig, Reader
    from controller.model import JSON, Event


def history(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="One pipeline; default: everything.", autocompletion=pipelines),
    ] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the last ones.")] = 50,
    config: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Print this applied config (a digest's start)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Tell what happened, which configs were applied, and why.

    The oldest comes first. Events are the steps of releases and the conditions that came and went;
    each config is listed by its digest with the reasons for it and what became of it, and printed
    by --config DIGEST.
    """
    with invocation(ctx).reader() as reader:
        if config is not None:
            sys.stdout.write(reader.config(config))
            return
        events, configs = _told(reader, name, limit)
    if as_json:
        print_json(as_document(events, configs))
        return
    out = console()
    rows = _rows(events, configs)[-limit:]
    if rows:
        out.print(table(("time", "subject", "what", "message"), rows, plain=not out.is_terminal))
    else:
        out.print(paragraph("Nothing happened yet." if name is None else f"Nothing of {name}."))


def _told(
    reader: "Reader", name: str | None, limit: int
) -> "tuple[list[Event], list[AppliedConfig]]":
    """The last events, of all or of one pipeline, and the last configs that changed it."""
    if name is None:
        return reader.events(limit=limit), reader.configs(limit)
    pipeline = canonicalize_name(name)
    with reader.snapshot():
        events = reader.events(pipeline=pipeline, limit=limit)
        placements = {str(event.fields.get("placement", "")) for event in events}
        placements |= {record.placement for record in reader.releases(pipeline)}
        # Many configs are about others; look through enough of them.
        configs = reader.configs(limit=20 * limit)
    placements.discard("")
    about = [c for c in configs if any(placement in c.cause for placement in placements)]
    return events, about[-limit:]


def _rows(
    events: "Sequence[Event]", configs: "Sequence[AppliedConfig]"
) -> "list[tuple[Cell, ...]]":
    told: list[tuple[float, tuple[Cell, ...]]] = [
        (event.at, (day_and_time(event.at), event.subject, _what(event), event.message))
        for event in events
    ]
    told += [
        (sent.at, (day_and_time(sent.at), f"config {sent.digest[:8]}", sent.outcome, sent.cause))
        for sent in configs
    ]
    return [row for _, row in sorted(told, key=lambda pair: pair[0])]


def _what(event: "Event") -> str:
    phase = event.fields.get("phase")
    return f"{phase} ({event.reason})" if phase else event.reason


def as_document(events: "Sequence[Event]", configs: "Sequence[AppliedConfig]") -> "JSON":
    """The history as JSON, oldest first. Keys are only ever added; times are ISO 8601 in UTC.

    events   at, subject, reason, message, fields
    configs  at, digest, cause, outcome ("Applied", "Sending" or a reason), kept (whether
             `history --config DIGEST` still has its text)
    """
    return {
        "events": [event_document(event) for event in events],
        "configs": [
            {
                "at": iso(applied.at),
                "digest": applied.digest,
                "cause": applied.cause,
                "outcome": applied.outcome,
                "kept": applied.kept,
            }
            for applied in configs
        ],
    }
