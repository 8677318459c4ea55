"""What the shell offers for names and versions: those that the journal knows.

While a shell waits for it nothing is ever said or raised: without a journal there is nothing to
offer.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from controller.cli.invocation import Invocation
from controller.errors import WheelwayError

if TYPE_CHECKING:
    from controller.journal import ReleaseRecord


def pipelines(ctx: typer.Context, incomplete: str) -> list[str]:
    """The pipelines' names that begin so."""
    names = {record.release.pipeline for record in _records(ctx)}
    return sorted(name for name in names if name.startswith(incomplete))


def versions(ctx: typer.Context, incomplete: str) -> list[str]:
    """The versions that begin so, of the pipeline named before; the newest first."""
    name = ctx.params.get("name")
    found = {r.release.version for r in _records(ctx) if name in {None, r.release.pipeline}}
    return [str(v) for v in sorted(found, reverse=True) if str(v).startswith(incomplete)]


def _records(ctx: typer.Context) -> "list[ReleaseRecord]":
    config = ctx.find_root().params.get("config")
    try:
        asked = Invocation(Path(config) if config else None)
        with asked.reader() as reader:
            return reader.releases()
    except WheelwayError:
        return []
