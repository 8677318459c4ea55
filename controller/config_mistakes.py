"""What is wrong with a configuration, in lines that say where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.source_options import AnySource, kinds
from controller.telemetry_options import AnyNotification

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic import ValidationError

_OF_KINDS: dict[int | str, str] = {
    "sources": f"source this is: {', '.join(kinds(AnySource))}",
    "notifications": f"notification this is: {', '.join(kinds(AnyNotification))}",
}
"""Tables whose `type` says which keys they have, and what may stand there."""


def mistakes(error: ValidationError, text: str, path: Path) -> list[str]:
    """A line `file:line: key: what is wrong` for each mistake that was found in a file's text."""
    lines = []
    for mistake in error.errors(include_url=False):
        keys = list(mistake["loc"])
        table = keys[0]
        if table in _OF_KINDS:
            del keys[2:3]  # the kind, which pydantic puts between the number and the key
        what = mistake["msg"].removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden":
            what = "unknown key; see `wheelway config check --schema` for the known ones"
        elif mistake["type"] in {"union_tag_not_found", "union_tag_invalid"}:
            keys.append("type")
            what = f"says which kind of {_OF_KINDS[table]}"
        line = line_of(text, keys)
        dotted = ".".join(str(key) for key in keys)
        lines.append(f"{path}:{line}: {dotted}: {what}")
    return lines


def line_of(text: str, keys: Sequence[str | int]) -> int:
    """The 1-based line on which the deepest part of a key path that the text has is written.

    Follows table headers (`[a.b]`, `[[a]]`) and `key =` lines; good enough to point a person there.
    """
    best, best_depth = 1, 0
    here: list[str | int] = []
    counts: dict[str, int] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("["):
            name = line.strip("[]").split("]")[0].strip()
            here = list(name.split("."))
            if line.startswith("[["):
                counts[name] = counts.get(name, -1) + 1
                here.append(counts[name])
            elif (parent := name.split(".")[0]) in counts:
                here.insert(1, counts[parent])
            candidate: list[str | int] = list(here)
        elif "=" in line and not line.startswith("#"):
            candidate = [*here, *(part.strip(" \"'") for part in line.split("=")[0].split("."))]
        else:
            continue
        depth = len(candidate)
        if depth > best_depth and list(keys[:depth]) == candidate:
            best, best_depth = number, depth
    return best
