"""The keywords of JSON Schema (draft 2020-12), read within bounds and compared one by one.

What needs no other schema is here: types, values, bounds. `subschemas` has the rest. A writer's
schema is a piece by then: of one `type`, or of one value with all that is so of it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

Schema = dict[str, Any]
Path = tuple[str, ...]

MOST_VALUES: Final = 10_000
"""Of one document; that of a large pipeline has some hundred, and some have a thousand labels."""
DEEPEST: Final = 60
"""Levels of a document, of a value, of references and unions that lead to one another."""
_MOST_BITS: Final = 4096
"""Of a whole number; Python writes no more than 4,300 decimal digits."""

NEVER: Final[Schema] = {"enum": []}
"""The schema `false`."""
ANNOTATIONS: Final = frozenset(
    {
        *("title", "description", "default", "example", "examples", "deprecated", "readOnly"),
        *("writeOnly", "discriminator", "$comment", "$schema", "$defs", "definitions"),
    }
)
_WORDS: Final = ANNOTATIONS - {"discriminator", "$defs", "definitions"}
_OF_NAMES: Final = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
"""Keywords whose tables have names of any kind as their keys."""
COMPARED: Final = ANNOTATIONS | frozenset(
    {
        *("type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "pattern", "format"),
        *("contentMediaType", "contentEncoding", "contentSchema"),
        *("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
        *("properties", "required", "additionalProperties", "patternProperties"),
        *("propertyNames", "minProperties", "maxProperties"),
    }
)
_NOT_COMPARED: Final = frozenset(
    {
        *("$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "not", "if", "then", "else"),
        *("dependentSchemas", "dependentRequired", "dependencies", "contains", "minContains"),
        *("maxContains", "additionalItems", "unevaluatedItems", "unevaluatedProperties"),
    }
)
"""Keywords of JSON Schema that pydantic never writes."""
_TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
_FREE_FORMATS: Final = ("binary", "password", "path")
"""What pydantic calls strings of which it refuses none."""


class OddSchemaError(ValueError):
    """A schema that is none, or beyond the bounds."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Where a reader may refuse what a writer sends."""

    path: Path
    """Of the field, with `[]` for an array's items and `*` for fields of any name."""
    sent: str
    read: str
    is_certain: bool = True
    """False: it cannot be decided, `read` says why."""
    is_of_type: bool = False
    """The two have no type in common."""


# -- read ------------------------------------------------------------------------------------------


def measure(document: object) -> None:
    """Raises: OddSchemaError; a document is too large or too deep to be compared."""
    level, total = [document], 1
    for _ in range(DEEPEST):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
                raise OddSchemaError(f"a schema has a number of {value.bit_length()} bits")
        total += len(below)
        if total > MOST_VALUES:
            raise OddSchemaError(f"a schema has more than {MOST_VALUES:,} values")
        if not below:
            return
        level = below
    raise OddSchemaError(f"a schema is nested more than {DEEPEST} levels deep")


def canonical(value: object) -> str:
    """A JSON value as text, the same for the same one; `1`, `1.0` and `true` are three."""
    return json.dumps(value, sort_keys=True)


def told(value: object) -> str:
    """A JSON value for a person, shortened."""
    text = ""
    for piece in json.JSONEncoder(sort_keys=True).iterencode(value):
        text += piece
        if len(text) > 60:
            return f"{text[:57]}..."
    return text


def without_words(schema: object) -> object:
    """A schema, or whatever stands for one, without what only people read."""
    if isinstance(schema, list):
        return [without_words(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found: Schema = {}
    for key, value in schema.items():
        if key in _OF_NAMES and isinstance(value, dict):
            found[key] = {name: without_words(each) for name, each in value.items()}
        elif key in {"enum", "const"}:
            found[key] = value
        elif key not in _WORDS and not key.startswith("x-"):
            found[key] = without_words(value)
    return found


def schema_of(value: object) -> Schema:
    """A schema, also `true` and `false`."""
    if isinstance(value, bool):
        return {} if value else NEVER
    if not isinstance(value, dict):
        raise OddSchemaError(f"{told(value)} stands where a schema should be")
    return value


def table(schema: Schema, key: str) -> dict[str, Any]:
    """A keyword's table; none: it is empty."""
    value = schema.get(key, {})
    if not isinstance(value, dict):
        raise OddSchemaError(f"`{key}` is {told(value)} instead of a table")
    return value


def listed(schema: Schema, key: str) -> list[Any]:
    """A keyword's list; none: it is empty."""
    value = schema.get(key, [])
    if not isinstance(value, list):
        raise OddSchemaError(f"`{key}` is {told(value)} instead of a list")
    return value


def required(schema: Schema) -> set[str]:
    """The fields that must be there."""
    names = listed(schema, "required")
    if not all(isinstance(name, str) for name in names):
        raise OddSchemaError("`required` holds what is no name")
    return set(names)


def number(schema: Schema, key: str, default: float) -> float:
    """A keyword's number, which is finite."""
    value = schema.get(key, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (key in schema and isinstance(value, float) and not math.isfinite(value)):
        raise OddSchemaError(f"`{key}` is {told(value)} instead of a number")
    return value  # type: ignore[no-any-return] # it is an int or a float


def types(schema: Schema) -> tuple[str, ...]:
    """Those that a schema names; none: it allows each."""
    said = schema.get("type", [])
    found = tuple(said) if isinstance(said, list) else (said,)
    if not all(isinstance(name, str) and name in _TYPES for name in found):
        raise OddSchemaError(f"`type` is {told(said)}, which is none")
    return found


def others(schema: Schema, *, default: bool | None) -> object:
    """What fields that an object does not declare may be: a schema; the default: it is silent."""
    if "additionalProperties" in schema:
        return schema["additionalProperties"]
    declares = "properties" in schema or "patternProperties" in schema
    return default if declares else True


# -- pieces ----------------------------------------------------------------------------------------


def constant(value: Any) -> Schema:
    """A schema of one value, with all that a reader may ask of it."""
    found: Schema = {"const": value}
    if value is None or isinstance(value, bool):
        return {**found, "type": "null" if value is None else "boolean"}
    if isinstance(value, str):
        return {**found, "type": "string", "minLength": len(value), "maxLength": len(value)}
    if isinstance(value, int | float):
        whole = isinstance(value, int) or value.is_integer()
        divisor = {"multipleOf": abs(value)} if value else {}
        kind = "integer" if whole else "number"
        return {**found, "type": kind, "minimum": value, "maximum": value, **divisor}
    return {**found, "type": "array" if isinstance(value, list) else "object"}


def by_type(schema: Schema) -> Iterator[Schema]:
    """A schema without `enum` and `const` as pieces."""
    found = types(schema) or tuple(name for name in _TYPES if name != "integer")
    for name in found:
        if name == "null":
            yield constant(None)
        elif name == "boolean":
            yield from (constant(value) for value in (False, True))
        else:
            yield schema if len(found) == 1 else {**schema, "type": name}


def kinds(schema: Schema) -> tuple[str, ...]:
    """What a schema allows, in words, as far as it says that itself."""
    if "const" in schema:
        return (told(schema["const"]),)
    if "enum" in schema:
        values = listed(schema, "enum")
        more = (f"{len(values) - 5} more",) if len(values) > 5 else ()
        return (*map(told, values[:5]), *more) if values else ("nothing",)
    return types(schema)


# -- compared --------------------------------------------------------------------------------------


def strange(sent: Schema, read: Schema, path: Path) -> Gap | None:
    """What stands in a reader's schema and is not compared. Keywords that JSON Schema does not know
    refuse nothing, but one that changes, such as a `unit`, may well mean another value.
    """
    if "nullable" in sent or "nullable" in read:
        return Gap(path, "", "`nullable` is of OpenAPI 3.0 and not compared", is_certain=False)
    for key in read.keys() - COMPARED:
        if key in _NOT_COMPARED:
            return Gap(path, "", f"the keyword `{key}` is not compared", is_certain=False)
        if key.startswith("x-"):
            continue
        if key not in sent or canonical(sent[key]) != canonical(read[key]):
            why = f"the keyword {told(key)} differs, and what it means is not known"
            return Gap(path, "", why, is_certain=False)
    return None


def type_gap(sent: Schema, read: Schema, path: Path) -> Gap | None:
    """Of `type` and `format`."""
    kind, allowed = sent["type"], types(read)
    is_allowed = kind in allowed or (kind == "integer" and "number" in allowed)
    if allowed and not is_allowed:
        return Gap(path, kind, " or ".join(allowed), is_of_type=True)
    for key in ("format", "contentMediaType", "contentEncoding"):
        if key not in read or sent.get(key) == read[key]:
            continue
        if key == "format" and read[key] in _FREE_FORMATS:
            continue
        if "const" in sent:
            why = f"whether {told(sent['const'])} is of the {key} {told(read[key])} is not known"
            return Gap(path, "", why, is_certain=False)
        said = f"{kind} of the {key} {told(sent[key])}" if key in sent else f"any {kind}"
        return Gap(path, said, f"{kind} of the {key} {told(read[key])}")
    return None


def value_gap(
    sent: Schema, read: Schema, path: Path, known: dict[int, frozenset[str]]
) -> Gap | None:
    """Of `enum` and `const`; `known` are the values of lists that were read before, by identity."""
    for key in ("enum", "const"):
        if key not in read:
            continue
        if "const" not in sent:
            return Gap(path, f"any {sent['type']}", f"only {' or '.join(kinds(read))}")
        value = sent["const"]
        mine = _texts([value], value, known)
        allowed = listed(read, key) if key == "enum" else [read[key]]
        if not mine <= _texts(allowed, read[key], known):
            return Gap(path, f"also {told(value)}", f"only {' or '.join(kinds(read))}")
    return None


def _texts(values: list[Any], whose: object, known: dict[int, frozenset[str]]) -> frozenset[str]:
    """Values as text, which is made once for each list or table that has many."""
    if not isinstance(whose, list | dict):
        return frozenset(map(canonical, values))
    if id(whose) not in known:
        known[id(whose)] = frozenset(map(canonical, values))
    return known[id(whose)]


def number_gap(sent: Schema, read: Schema, path: Path) -> Gap | None:
    """Of a number's bounds."""
    whole = sent["type"] == "integer"
    for sign, word in ((1, "minimum"), (-1, "maximum")):
        low, least = (_bound(schema, word, sign, whole=whole) for schema in (sent, read))
        if low < least:
            return Gap(path, _told_bound(low, word, sign), _told_bound(least, word, sign))
    if "multipleOf" not in read:
        return None
    divisor = _fraction(number(read, "multipleOf", 1))
    own = _fraction(number(sent, "multipleOf", 1)) if whole or "multipleOf" in sent else None
    if own is not None and (own / divisor).denominator == 1:
        return None
    before = f"multiples of {own}" if own is not None else "any number"
    return Gap(path, before, f"multiples of {divisor}")


def _fraction(value: float) -> Fraction:
    if value <= 0:
        raise OddSchemaError(f"`multipleOf` is {told(value)}")
    return Fraction(value) if isinstance(value, int) else Fraction(str(value))


def _bound(schema: Schema, word: str, sign: int, *, whole: bool) -> tuple[float, bool]:
    """A lower bound and whether it is itself excluded; an upper one with its sign turned."""
    closed = sign * number(schema, word, -sign * math.inf)
    excluded = sign * number(schema, f"exclusive{word.title()}", -sign * math.inf)
    found = max((closed, False), (excluded, True))
    if not whole or found[0] == -math.inf:
        return found
    return (math.floor(found[0]) + 1 if found[1] else math.ceil(found[0])), False


def _told_bound(bound: tuple[float, bool], word: str, sign: int) -> str:
    value, excluded = bound
    if value == -math.inf:
        return f"without a {word}"
    return (
        f"{'more' if sign > 0 else 'less'} than {told(sign * value)}"
        if excluded
        else (f"at {'least' if sign > 0 else 'most'} {told(sign * value)}")
    )


def string_gap(sent: Schema, read: Schema, path: Path) -> Gap | None:
    """Of a string's length and pattern. Whether one pattern allows all that another does, nobody
    can say in time that is bounded.
    """
    if (gap := count_gap(sent, read, path, "Length")) is not None or "pattern" not in read:
        return gap
    pattern = read["pattern"]
    if sent.get("pattern") == pattern:
        return None
    if "pattern" in sent or "const" in sent:
        why = f"whether all of it has the pattern {told(pattern)} is not known"
        return Gap(path, "", why, is_certain=False)
    return Gap(path, "any string", f"one of the pattern {told(pattern)}")


def count_gap(sent: Schema, read: Schema, path: Path, what: str) -> Gap | None:
    """Of `min...` and `max...`."""
    word = {"Length": "characters", "Items": "items", "Properties": "fields"}[what]
    own, least = (number(schema, f"min{what}", 0) for schema in (sent, read))
    if own < least:
        return Gap(path, f"at least {told(own)} {word}", f"at least {told(least)} {word}")
    own, most = (number(schema, f"max{what}", math.inf) for schema in (sent, read))
    if own > most:
        before = f"any number of {word}" if own == math.inf else f"at most {told(own)} {word}"
        return Gap(path, before, f"at most {told(most)} {word}")
    return None
