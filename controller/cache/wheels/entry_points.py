"""The entry points of a wheel, read as replicas will read them.

The format: https://packaging.python.org/specifications/entry-points/. `importlib.metadata` is
stricter about it than a reader of INI files: a comment that begins with `;`, or a value that goes
on in the next line, breaks every reading of entry points by whoever has the wheel on its
`sys.path`. So this reads line by line, as it does.
"""

from __future__ import annotations

import keyword
import re
from typing import TYPE_CHECKING

from packaging.utils import InvalidName, canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GROUP = "wheelway.pipelines"
"""The entry point group whose names are pipelines."""

_OBJECT = re.compile(r"(?P<module>[\w.]+)\s*(?::\s*(?P<attribute>[\w.]+))?\s*(?P<extras>\[.*\])?")
_SHOWN = 80  # characters of what a wheel says, in a message

Groups = dict[str, list[tuple[str, str]]]
"""By group: names and values, in the order of the file."""


class EntryPointError(ValueError):
    """What is wrong where, for a person."""


def read(text: str) -> Groups:
    """Every entry point.

    Raises:
        EntryPointError: a line is neither a group, an entry nor a comment.
    """
    groups: Groups = {}
    group: list[tuple[str, str]] | None = None
    for number, written in enumerate(text.splitlines(), start=1):
        line = written.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            group = groups.setdefault(line.strip("[]"), [])
            continue
        name, found, value = line.partition("=")
        if group is None or not found:
            hint = "; a comment begins with `#`" if line.startswith(";") else ""
            raise EntryPointError(
                f"line {number}, {line[:_SHOWN]!r}, is no `name = module:Class` below a "
                f"`[group]`{hint}"
            )
        group.append((name.strip(), value.strip()))
    return groups


def pipelines(groups: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, str]:
    """Normalised pipeline name to `module:attribute`.

    Raises:
        EntryPointError: one of them is none.
    """
    targets: dict[str, str] = {}
    for written, value in groups.get(GROUP, ()):
        try:
            pipeline = canonicalize_name(written, validate=True)
        except InvalidName as error:
            raise EntryPointError(
                f"group `{GROUP}`: {written[:_SHOWN]!r} is no name: letters, digits, `.`, `-` and "
                "`_` only"
            ) from error
        if pipeline in targets:
            raise EntryPointError(
                f"group `{GROUP}`: two entry points are called {pipeline!r} once normalised "
                "(PEP 503)"
            )
        targets[pipeline] = _target(written, value)
    return targets


def faults(groups: Mapping[str, Sequence[tuple[str, str]]]) -> Iterator[str]:
    """What is wrong in the groups of others: nobody here loads it, but somebody meant it."""
    for group, entries in groups.items():
        if group == GROUP:
            continue
        seen: set[str] = set()
        for name, value in entries:
            where = f"entry_points.txt, group `{group[:_SHOWN]}`: {name[:_SHOWN]!r}"
            if name in seen:
                yield f"{where} is there twice"
            elif not name or _object(value) is None:
                yield f"{where} = {value[:_SHOWN]!r} names no object (`module:attribute`)"
            seen.add(name)


def _object(value: str) -> re.Match[str] | None:
    """An object reference whose parts are identifiers."""
    match = _OBJECT.fullmatch(value)
    if match is None:
        return None
    parts = f"{match['module']}.{match['attribute'] or 'x'}".split(".")
    sound = all(part.isidentifier() and not keyword.iskeyword(part) for part in parts)
    return match if sound else None


def _target(written: str, value: str) -> str:
    match = _object(value)
    where = f"group `{GROUP}`: {written} = {value[:_SHOWN]!r}"
    if match is None or match["attribute"] is None:
        raise EntryPointError(f"{where} is not of the form `module:Class`")
    if match["extras"]:
        raise EntryPointError(f"{where} asks for extras; list what they stand for as dependencies")
    return f"{match['module']}:{match['attribute']}"
