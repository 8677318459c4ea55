"""Values and imports as Python text, laid out as a formatter would."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from controller.model import JSON

_SHORT: Final = 80
"""Characters of a value on one line."""


def tuple_of(values: Sequence[JSON]) -> str:
    """JSON values as a tuple of a class's body."""
    inner = _literal(list(values), indent=4)[1:-1]
    broken = inner.rstrip().endswith(",")  # over lines, each with its comma
    comma = "," if inner and not broken else ""
    return f"({inner}{comma})"


def _literal(value: JSON, indent: int = 0) -> str:
    """A JSON value as Python: on one line if it is short, else an element a line."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        begin, end = "{", "}"
        inner = [f"{_literal(key)}: {_literal(one, indent + 4)}" for key, one in value.items()]
    elif isinstance(value, list):
        begin, end = "[", "]"
        inner = [_literal(one, indent + 4) for one in value]
    else:
        return repr(value)
    line = f"{begin}{', '.join(inner)}{end}"
    if len(line) + indent <= _SHORT:
        return line
    pad = " " * (indent + 4)
    return "\n".join([begin, *(f"{pad}{one}," for one in inner), f"{' ' * indent}{end}"])


def import_block(imports: Iterable[str]) -> str:
    """Grouped as isort does: the standard library first; one statement for each module."""
    whole: set[str] = set()
    names: dict[str, set[str]] = {"wheelway": {"Context", "Pipeline"}}
    for statement in imports:
        if statement.startswith("import "):
            whole.add(statement)
        else:
            _, module, _, name = statement.split(" ", 3)
            names.setdefault(module, set()).add(name)
    statements = whole | {
        f"from {module} import {', '.join(sorted(found))}" for module, found in names.items()
    }
    groups: dict[int, list[str]] = {}
    for statement in sorted(statements, key=lambda one: (one.startswith("from "), one)):
        top = statement.split(" ")[1].partition(".")[0]
        own = 2 if top == "wheelway" else 1
        groups.setdefault(0 if top in sys.stdlib_module_names else own, []).append(statement)
    return "\n\n".join("\n".join(groups[key]) for key in sorted(groups))
