"""Arguments and options that several commands take, and what the shell offers for them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.invocation import Invocation
from controller.errors import WheelwayError

if TYPE_CHECKING:
    from packaging.version import Version

    from controller.journal import ReleaseRecord


def pipelines(ctx: typer.Context, incomplete: str) -> list[str]:
    """The pipelines' names that begin so."""
    names = {record.subject.name for record in _records(ctx)}
    return sorted(name for name in names if name.startswith(incomplete))


def versions(ctx: typer.Context, incomplete: str) -> list[str]:
    """The versions that begin so, of the pipeline named before; the newest first."""
    name = ctx.params.get("name")
    found = {r.subject.version for r in _records(ctx) if name in {None, r.subject.name}}
    return [str(v) for v in sorted(found, reverse=True) if str(v).startswith(incomplete)]


def _records(ctx: typer.Context) -> "list[ReleaseRecord]":
    """Those of the journal; none where it cannot be read: a shell that waits is told nothing."""
    config = ctx.find_root().params.get("config")
    try:
        with Invocation(Path(config) if config else None).reader() as reader:
            return reader.releases()
    except WheelwayError:
        return []


def parsed_version(text: str) -> "Version":
    """A version from the command line; a usage error when it is none (PEP 440)."""
    from packaging.version import Version  # noqa: PLC0415 - not always needed

    try:
        return Version(text)
    except ValueError as error:  # InvalidVersion, and numbers of thousands of digits
        raise typer.BadParameter(
            f"{text[:40]!r} is not a version (PEP 440), such as 1.2.0"
        ) from error


AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
Name = Annotated[str, typer.Argument(help="The pipeline.")]
NameOrAll = Annotated[str | None, typer.Argument(help="A pipeline; default: everything.")]
Note = Annotated[str, typer.Option("--note", "-m", metavar="TEXT", help="Why, for others.")]
OfWeights = Annotated[bool, typer.Option("--weights", help="Of its weights; a version is theirs.")]
NumCpus = Annotated[
    int | None,
    typer.Option(min=1, help="CPUs to hand out; default: 4 a core up to 64, at least 16."),
]
