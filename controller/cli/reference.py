"""Every key of the configuration with its type, default and meaning, from the models themselves.

Both forms come from the JSON schema that pydantic generates, which `--schema --json` prints.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from packaging.specifiers import SpecifierSet
from packaging.version import Version
from pydantic.json_schema import GenerateJsonSchema

from controller.config.settings import Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import core_schema

Schema = dict[str, Any]

WIDTH: Final = 96
_ALIKE: Final = {"SpecifierSet": "PEP 440 specifiers", "Version": "PEP 440 version"}
_BOUNDS: Final = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
}


class _Generator(GenerateJsonSchema):
    """Knows that specifiers and versions are written as strings."""

    def is_instance_schema(self, schema: core_schema.IsInstanceSchema) -> Schema:
        return {"type": "string", "format": _ALIKE.get(schema["cls"].__name__, "")}

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, (SpecifierSet, Version)):
            return str(dft)
        return super().encode_default(dft)


def json_schema() -> Schema:
    """The configuration's JSON schema (draft 2020-12)."""
    return Config.model_json_schema(schema_generator=_Generator)


def text() -> str:
    """The same for a person: one block a table of the TOML file."""
    schema = json_schema()
    lines = [
        'Durations are in seconds, sizes in bytes, or text with a unit: "30s", "5m", "16MiB".',
        "Relative paths start at the file's folder. The environment wins over the file:",
        "WHEELWAY_RAY__DASHBOARD_URL sets dashboard_url of [ray].",
    ]
    written: dict[str, str] = {}
    for name, field in schema["properties"].items():
        for target, header in _tables(name, field):
            lines += _block(target, header, schema["$defs"], written)
    return "\n".join(lines) + "\n"


def _tables(name: str, field: Schema) -> Iterator[tuple[str, str]]:
    """The models that a field of tables refers to, each with the header of its table in TOML."""
    if field.get("type") != "array":
        yield _referred(field), f"[{name}]"
        return
    for kind in field["items"].get("oneOf", [field["items"]]):
        yield _referred(kind), f"[[{name}]]"


def _referred(field: Schema) -> str:
    """The name of the model that a field is; empty when it is a plain value."""
    options = [field, *field.get("anyOf", ()), *field.get("allOf", ())]
    return next((str(o["$ref"]).rsplit("/", 1)[1] for o in options if "$ref" in o), "")


def _block(
    target: str, header: str, models: Mapping[str, Schema], written: dict[str, str]
) -> Iterator[str]:
    """One table: its header and meaning, its keys, then the tables within it."""
    model = models[target]
    written[target] = header
    yield ""
    yield header
    yield from _prose(_meaning(model), "  ")
    inner = []
    for name, field in model["properties"].items():
        many = _referred(field.get("items", {}))
        below = many or _referred(field)
        if below and below not in written:
            table = header.strip("[]") + f".{name}"
            inner.append((below, f"[[{table}]]" if many else f"[{table}]"))
            continue
        kind = f"table, keys as in {written[below]}" if below else _kind(field)
        yield ""
        yield f"  {name}  ({kind}{_default(name, field, model)})"
        yield from _prose(field.get("description", ""), "      ")
    for below, path in inner:
        yield from _block(below, path, models, written)


def _meaning(model: Schema) -> str:
    """A model's docstring without the header that it repeats."""
    said = str(model.get("description", ""))
    first, colon, rest = said.partition(": ")
    if first.startswith("`[") and (colon or first.rstrip(".").endswith("]`")):
        said = rest
    return said[:1].upper() + said[1:]


def _prose(said: str, indent: str) -> Iterator[str]:
    from textwrap import wrap  # noqa: PLC0415 - used here alone

    for part in said.split("\n\n"):
        yield from wrap(
            " ".join(part.split()), WIDTH, initial_indent=indent, subsequent_indent=indent
        )


def _kind(field: Schema) -> str:
    """A field's type in a few words."""
    if "const" in field:
        return json.dumps(field["const"])
    if "enum" in field:
        return " | ".join(json.dumps(value) for value in field["enum"])
    if "anyOf" in field:
        return " | ".join(_kind(o) for o in field["anyOf"] if o.get("type") != "null")
    kind = str(field.get("type", "any value"))
    if kind == "string":
        return json.dumps(field["examples"][0]) if "examples" in field else _text(field)
    if kind == "array":
        kind = f"list of {_kind(field['items'])}"
    elif kind == "object":
        values = field.get("additionalProperties")
        kind = f"table of {_kind(values)}" if isinstance(values, dict) else "table"
    bounds = (f" {sign} {field[key]:g}" for key, sign in _BOUNDS.items() if key in field)
    return kind + "".join(bounds)


def _text(field: Schema) -> str:
    return str(field.get("format") or "text")


def _default(name: str, field: Schema, model: Schema) -> str:
    if name in model.get("required", ()):
        return ", required"
    default = field.get("default")
    if isinstance(default, dict) or default in (None, [], ""):
        return ""
    return f", default {json.dumps(default)}"
