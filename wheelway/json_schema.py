"""JSON Schemas that are JSON: what pydantic makes of the types, without what JSON cannot say.

pydantic copies an infinite default, and whatever lies in `json_schema_extra`, into its schemas as
Python has it. Dates and the like become what a client would send, as FastAPI does it. Infinities
and NaN are no JSON at all: as a default they move into the description, as an example they are left
out, anywhere else they become the text that pydantic takes for them.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_json, to_jsonable_python

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BINARY: Final = {"type": "string", "format": "binary"}
"""How OpenAPI has always written "the body as it is"; tools still look for it in 3.1."""

_NAMED: Final = frozenset(
    ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
)
"""Keywords whose own keys are names, not keywords."""


class NotJSONError(ValueError):
    """A part of a schema that JSON cannot say; the text names it by its path."""


class Generator(GenerateJsonSchema):
    """pydantic's own, of schemas with nothing in them but JSON; it raises NotJSONError.

    They become JSON before pydantic compares them: for that they must be hashable.
    """

    _depth = 0

    def generate_inner(self, schema: Any) -> dict[str, Any]:
        """See pydantic; called for each part of a type by way of the whole."""
        self._depth += 1
        try:
            made = super().generate_inner(schema)
        except ValueError as error:  # pydantic makes JSON of a field's extras itself
            if self._depth == 1 and (found := _culprit_in_extras(schema, "it")) is not None:
                raise NotJSONError(f"{found[0]} is not JSON ({found[1]})") from error
            raise
        finally:
            self._depth -= 1
        if self._depth:
            return made
        for ref, definition in self.definitions.items():
            self.definitions[ref] = as_json(definition, definition.get("title", "it"))
        return as_json(made, made.get("title", "it"))

    def encode_default(self, dft: Any) -> Any:
        """See pydantic, which says null for an infinity in a list."""
        encoded = super().encode_default(dft)
        if isinstance(dft, (list, tuple, dict, set, frozenset)):
            with contextlib.suppress(ValueError):  # of a type with a serialiser of its own
                plain = to_jsonable_python(dft, by_alias=self.by_alias, inf_nan_mode="constants")
                return encoded if _is_finite(plain) else plain
        return encoded


def as_json(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A schema with nothing in it but JSON; `name`: what to call it.

    Raises:
        NotJSONError: for what is neither JSON nor has a form in it.
    """
    try:
        plain = to_jsonable_python(schema, inf_nan_mode="constants")
        to_json(plain)  # a lone surrogate is a fine `str`, and no text
    except ValueError as error:  # serialisation errors and circular references are ValueErrors
        where, why = _culprit(schema) or ("", error)
        raise NotJSONError(f"{name}.{where}".rstrip(".") + f" is not JSON ({why})") from error
    cleaned: dict[str, Any] = plain if _is_finite(plain) else _finite(plain)
    return cleaned


def _culprit(value: Any, depth: int = 0) -> tuple[str, Exception] | None:
    """The innermost part that cannot be said, by its path."""
    if depth < 100:
        for key, child in _children(value):
            if (found := _culprit(child, depth + 1)) is not None:
                return f"{key}.{found[0]}".rstrip("."), found[1]
    try:
        to_json(to_jsonable_python(value))
    except ValueError as error:
        return "", error
    return None


def _culprit_in_extras(schema: Any, name: str) -> tuple[str, Exception] | None:
    """The same for all `json_schema_extra` of a core schema (`pydantic_core.core_schema`); `name`:
    what to call it.
    """
    if not isinstance(schema, dict):
        return None
    name = getattr(schema.get("cls"), "__name__", name)
    extra = table(schema.get("metadata"), "pydantic_js_extra")
    if (found := _culprit(extra)) is not None:
        return f"{name}.{found[0]}".rstrip("."), found[1]
    for key, child in schema.items():
        if key not in {"metadata", "default"}:
            for own, part in _parts(child):
                where = name if key != "fields" or own is None else f"{name}.{own}"
                if (found := _culprit_in_extras(part, where)) is not None:
                    return found
    return None


def _parts(value: Any) -> Iterator[tuple[str | None, Any]]:
    """What may be core schemas under a key of one, with their names where they have any."""
    if isinstance(value, dict) and "type" in value and isinstance(value["type"], str):
        yield None, value
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        for item in value:
            part = item[0] if isinstance(item, tuple) and item else item  # a choice and its label
            yield (part.get("name"), part) if isinstance(part, dict) else (None, part)


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)


# -- infinities ----------------------------------------------------------------------------------


def _is_finite(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _finite(schema: Any, *, names: bool = False) -> Any:
    """A schema without infinities; `names`: its keys are names of schemas."""
    if isinstance(schema, list):
        return [_finite(item) for item in schema]
    if not isinstance(schema, dict):
        return schema if _is_finite(schema) else said(schema)
    finite: dict[str, Any] = {}
    for key, value in schema.items():
        if _is_finite(value):
            finite[key] = value
        elif names or key not in {"default", "examples", "example"}:
            finite[key] = _finite(value, names=key in _NAMED and not names)
        elif key == "examples" and isinstance(value, list):
            finite[key] = [item for item in value if _is_finite(item)]
    if not names and "default" in schema.keys() - finite.keys():
        about = f"{schema.get('description') or ''}\n\nDefault: {said(schema['default'])}."
        finite["description"] = about.strip()
    return finite


def without_infinities(value: Any) -> Any:
    """JSON of what `json` or pydantic read, with the text that a `float` takes for what is none."""
    if isinstance(value, dict):
        return {key: without_infinities(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_infinities(item) for item in value]
    return value if _is_finite(value) else said(value)


def said(value: Any) -> str:
    """A value for a person, infinities in the words that pydantic takes for them."""
    text = to_json(value, inf_nan_mode="constants").decode()
    return text if isinstance(value, (list, dict)) else text.strip('"')


# -- reading one ---------------------------------------------------------------------------------


def table(schema: Any, key: str) -> dict[str, Any]:
    """What a schema has under a keyword, if that is a table: extras may have put anything there."""
    value = schema.get(key) if isinstance(schema, dict) else None
    return value if isinstance(value, dict) else {}


def listed(schema: Any, key: str) -> list[Any]:
    """The same for a list."""
    value = schema.get(key) if isinstance(schema, dict) else None
    return value if isinstance(value, list) else []


def resolved(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without a reference at its top; its own words win over those it refers to.

    Args:
        schema: a part of it.
        root: the schema that `#/$defs/` refers into.
    """
    own: dict[str, Any] = dict(schema) if isinstance(schema, dict) else {}
    ref = own.pop("$ref", None)
    if not isinstance(ref, str):
        return own
    return {**table(table(root, "$defs"), ref.removeprefix("#/$defs/")), **own}


def choices_of(schema: Any) -> list[dict[str, Any]]:
    """The schemas one of which a value has to fit; none when there is no choice."""
    choices = listed(schema, "anyOf") or listed(schema, "oneOf")
    return [choice for choice in choices if isinstance(choice, dict)]


def parts_of(schema: Any) -> Iterator[Any]:
    """The schemas within a schema, one level down, but for those that it refers to."""
    for key in ("properties", "patternProperties", "$defs"):
        yield from table(schema, key).values()
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        yield from listed(schema, key)
    yield from (schema[key] for key in ("items", "additionalProperties") if table(schema, key))
