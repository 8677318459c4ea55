"""A JSON Schema as the rows of a table, for people who want to send or read a value of it.

The schema is pydantic's, but `json_schema_extra` may have put anything into it: what is odd is left
out, nothing raises.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from wheelway.json_schema import choices_of, listed, resolved, table

if TYPE_CHECKING:
    from collections.abc import Iterator

WHOLE: Final = "(the body)"
"""The name of what is no field of anything."""

_DEEPEST = 6
_MOST = 300  # rows
_LONGEST = 80  # characters of a default, or of all choices
_LIMITS: Final = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "length at least {}",
    "maxLength": "length at most {}",
    "pattern": "matches {}",
    "minItems": "number of items at least {}",
    "maxItems": "number of items at most {}",
    "minProperties": "number of keys at least {}",
    "maxProperties": "number of keys at most {}",
}

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One row: a value, where it is and what it may be."""

    name: str
    """Its path, such as `rows[].score`."""
    type: str
    need: str
    """`required`, `optional`, or its default."""
    limits: str = ""
    about: str = ""


def fields_of(schema: Schema) -> list[Field]:
    """The fields of a value, those of nested objects below their own; at least one row."""
    below = list(islice(_fields(schema, "", schema, ()), _MOST))
    if table(resolved(schema, schema), "properties"):
        return below
    return [replace(_field(WHOLE, schema, schema), need=""), *below]


def _fields(schema: Schema, prefix: str, root: Schema, above: tuple[Any, ...]) -> Iterator[Field]:
    """What lies below a value; `above`: references that are being followed."""
    ref = schema.get("$ref")
    if len(above) > _DEEPEST or (ref is not None and ref in above):
        return
    above = (*above, ref)
    whole = resolved(schema, root)
    needed = listed(whole, "required")
    for name in table(whole, "properties"):
        value = table(table(whole, "properties"), name)
        path = f"{prefix}.{name}".removeprefix(".")
        field = _field(path, value, root)
        yield replace(field, need="required") if name in needed else field
        yield from _fields(value, path, root, above)
    for step, below in _below(whole):
        yield from _fields(below, f"{prefix}{step}", root, above)


def _below(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Choices, items and free keys, each with what it adds to the path."""
    for choice in choices_of(schema):
        yield "", choice
    if isinstance(schema.get("items"), dict):
        yield "[]", schema["items"]
    for position, item in enumerate(listed(schema, "prefixItems")):
        if isinstance(item, dict):
            yield f"[{position}]", item
    if isinstance(schema.get("additionalProperties"), dict):
        yield ".*", schema["additionalProperties"]


def _field(name: str, schema: Schema, root: Schema) -> Field:
    whole = resolved(schema, root)
    need = f"default {_said(whole['default'])}" if "default" in whole else "optional"
    parts = (whole, *choices_of(whole))
    limits = [
        text.format(part[key]) for part in parts for key, text in _LIMITS.items() if key in part
    ]
    about = whole.get("description")
    text = about if isinstance(about, str) else ""
    return Field(name, _type(schema, root), need, ", ".join(limits), text)


def _type(schema: Any, root: Schema, depth: int = 0) -> str:
    """The type in words."""
    whole = resolved(schema, root)
    if depth > _DEEPEST:
        return "..."
    if "const" in whole or "enum" in whole:
        return _cut(" or ".join(map(_said, listed(whole, "enum") or [whole.get("const")])))
    if choices := choices_of(whole):
        return " or ".join(dict.fromkeys(_type(choice, root, depth + 1) for choice in choices))
    kind = whole.get("type")
    if kind == "array":
        return _array(whole, root, depth)
    if kind == "object":
        return _object(whole, root, depth)
    return _scalar(kind, whole.get("format"))


def _object(schema: Schema, root: Schema, depth: int) -> str:
    free = schema.get("additionalProperties")
    if not isinstance(free, dict) or table(schema, "properties"):
        return "object"
    return f"object of {_type(free, root, depth + 1)}"


def _scalar(kind: Any, form: Any) -> str:
    if not isinstance(kind, str):
        return "any JSON"
    return f"{kind} ({form})" if isinstance(form, str) else kind


def _array(schema: Schema, root: Schema, depth: int) -> str:
    if items := listed(schema, "prefixItems"):
        return f"[{', '.join(_type(item, root, depth + 1) for item in items)}]"
    if not isinstance(schema.get("items"), dict):
        return "list"
    each = _type(schema["items"], root, depth + 1)
    return f"list of {f'({each})' if ' or ' in each else each}"


def _said(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
