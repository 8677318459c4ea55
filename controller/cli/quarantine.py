"""`wheelway quarantine`: what is set aside after a failure, and how to give it another chance."""

import time
from typing import TYPE_CHECKING, Annotated

import typer
from packaging.utils import canonicalize_name

from controller.cli.documents import quarantine_document
from controller.cli.explain import parsed_version
from controller.cli.invocation import invocation
from controller.cli.output import ago, console, first_line, paragraph, print_json, table
from controller.errors import WheelwayError

if TYPE_CHECKING:
    from controller.model import JSON, Quarantine

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def quarantine() -> None:
    """List what failed and is left alone, or have it tried again."""


@app.command("list")
def list_(
    ctx: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """List the releases that failed and are left alone."""
    with invocation(ctx).reader() as reader:
        found = reader.quarantines()
    if as_json:
        print_json([_document(quarantine) for quarantine in found])
        return
    out, now = console(), time.time()
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
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Lift a quarantine: the daemon tries the release again at its next pass."""
    wanted = None if version is None else parsed_version(version)
    with invocation(ctx).journal() as journal:
        lifted = journal.clear_quarantine(canonicalize_name(name), wanted, at=time.time())
    if not lifted:
        which = name if version is None else f"{name} {version}"
        raise WheelwayError(
            "NotQuarantined",
            f"{which} is not quarantined; `wheelway quarantine list` shows what is",
        )
    if as_json:
        print_json([_document(quarantine) for quarantine in lifted])
        return
    out = console()
    for quarantine in lifted:
        release = quarantine.release
        out.print(paragraph(f"lifted: {release.pipeline} {release.version} ({quarantine.reason})"))
    out.print(paragraph("The daemon tries again at its next pass; see `wheelway status`."))


def _document(quarantine: "Quarantine") -> "JSON":
    """As JSON: pipeline, version, digest, and what `status --json` has of a quarantine."""
    release = quarantine.release
    return {
        "pipeline": release.pipeline,
        "version": str(release.version),
        "digest": release.digest,
        **quarantine_document(quarantine),
    }
