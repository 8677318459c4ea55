"""The entry points of a wheel, read as replicas will read them.

The format: https://packaging.python.org/specifications/entry-points/. `importlib.metadata` is
stricter about it than a reader of INI files: a comment that begins with `;`, or a value that goes
on in the next line, breaks every reading of entry points by whoever has the wheel on its
`sys.path`. So this reads line by line, as it does.
"""

from __future__ import annotations

import keyword
import re
from typing import TYPE_CHECKING, Final

from packaging.utils import InvalidName, canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GROUP: Final = "wheelway.pipelines"
"""The entry point group whose names are pipelines."""
PARTS: Final = "wheelway.parts"
"""The group whose names are parts of pipelines, `<pipeline>.<part>`."""
WEIGHTS: Final = "wheelway.weights"
"""The group whose names are the pipelines that weights are for."""
GROUPS: Final = (GROUP, PARTS, WEIGHTS)

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
        pipeline = pipeline_named(written, GROUP)
        if pipeline in targets:
            raise EntryPointError(f"group `{GROUP}`: {twice(pipeline)}")
        targets[pipeline] = target_of(written, value, GROUP)
    return targets


def pipeline_named(written: str, group: str) -> str:
    """The pipeline that a name stands for; raises EntryPointError."""
    try:
        return canonicalize_name(written, validate=True)
    except InvalidName as error:
        raise EntryPointError(
            f"group `{group}`: {written[:_SHOWN]!r} is no name: letters, digits, `.`, `-` and "
            "`_` only"
        ) from error


def twice(pipeline: str) -> str:
    """What to say of two entries for one pipeline."""
    return f"two entry points are called {pipeline!r} once normalised (PEP 503)"


def faults(groups: Mapping[str, Sequence[tuple[str, str]]]) -> Iterator[str]:
    """What is wrong in the groups of others: nobody here loads it, but somebody meant it."""
    for group, entries in groups.items():
        if group in GROUPS:
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


def target_of(written: str, value: str, group: str) -> str:
    """`module:attribute` of an entry; raises EntryPointError."""
    match = _object(value)
    where = f"group `{group}`: {written[:_SHOWN]} = {value[:_SHOWN]!r}"
    if match is None or match["attribute"] is None:
        raise EntryPointError(f"{where} is not of the form `module:Class`")
    if match["extras"]:
        raise EntryPointError(f"{where} asks for extras; list what they stand for as dependencies")
    return f"{match['module']}:{match['attribute']}"


def package_of(written: str, value: str, group: str) -> str:
    """The package that an entry names; raises EntryPointError."""
    match = _object(value)
    if match is None or match["attribute"] or match["extras"]:
        raise EntryPointError(
            f"group `{group}`: {written[:_SHOWN]} = {value[:_SHOWN]!r} names no package, such as "
            "`iris_weights`"
        )
    return match["module"]
