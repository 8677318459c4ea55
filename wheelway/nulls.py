"""Where a schema has room for a null, and where a value has one all the same.

pydantic writes null for NaN and infinities, whatever the type. The schemas are pydantic's, but
`json_schema_extra` may have put anything into them: what is odd has room for everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wheelway.json_schema import choices_of, listed, parts_of, resolved, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def misplaced_null(value: Any, schema: Any, root: Mapping[str, Any]) -> str | None:
    """Where a JSON value has a null that its schema has no room for, such as `rows.3`.

    "" is the value itself, None: nowhere. All else about the value is taken to fit.

    Args:
        value: of JSON.
        schema: of the value.
        root: the schema that references point into.
    """
    schema = resolved(schema, root)
    if choices := choices_of(schema):
        places = [misplaced_null(value, choice, root) for choice in choices]
        wrong = [place for place in places if place is not None]
        return max(wrong, key=len) if len(wrong) == len(places) else None
    if not _may_be(value, schema):
        return ""
    for key, item in _children(value):
        found = misplaced_null(item, _below(key, schema), root)
        if found is not None:
            return f"{key}.{found}".rstrip(".")
    return None


def nullable_properties(root: Mapping[str, Any]) -> set[str]:
    """The properties that have room for null wherever they occur in a schema."""
    nullable: set[str] = set()
    other: set[str] = set()
    left: list[Any] = [root]
    while left:
        schema = left.pop()
        left += parts_of(schema)
        for name, value in table(schema, "properties").items():
            (other if misplaced_null(None, value, root) is not None else nullable).add(name)
        free = [table(schema, "additionalProperties"), *table(schema, "patternProperties").values()]
        if any(misplaced_null(None, value, root) is not None for value in free):
            return set()  # any of the names may be one of these
    return nullable - other


def _may_be(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value's type is one of a schema's; scalars but null are not told apart."""
    if value is None and ("const" in schema or "enum" in schema):
        return None in (schema.get("const", ...), *listed(schema, "enum"))
    kind = {type(None): "null", dict: "object", list: "array"}.get(type(value))
    types = listed(schema, "type") or [schema.get("type")]
    if kind is None:
        return any(each not in {"null", "object", "array"} for each in map(str, types))
    return kind in types or not all(isinstance(each, str) for each in types)


def _children(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _below(key: str | int, schema: Mapping[str, Any]) -> Any:
    """The schema of an item or a property."""
    if isinstance(key, int):
        first = listed(schema, "prefixItems")
        return first[key] if key < len(first) else schema.get("items")
    if key in table(schema, "properties"):
        return table(schema, "properties")[key]
    # pydantic makes at most one pattern, in a dialect of its own, and nothing beside it.
    free = [*table(schema, "patternProperties").values(), schema.get("additionalProperties")]
    return free[0]
