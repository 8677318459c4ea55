"""From what the last stage returned to the body that a client gets.

pydantic validates and serialises; three things are seen to beside it, none of which costs a plain
result more than a search of its bytes. JSON has no NaN, and pydantic writes `null` for it, also
where the type has no null: such a result is refused. pydantic reads an integer that is not Python's
(NumPy's, say) by way of a float, which loses what lies beyond 2**53: such a result is read again.
And what is no JSON at all is refused with what to do about it.
"""

from __future__ import annotations

import contextlib
import json
import operator
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, MappingView
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from wheelway.failure import MISTAKES, Mistake
from wheelway.json_schema import choices_of, listed, parts_of, resolved, table
from wheelway.locations import class_of, located, no_json, violations
from wheelway.streams import Streamed, can_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pydantic import TypeAdapter

    Encoder = Callable[[Any], bytes | None]

_ADVICE: Final = {
    "wheelway": "the call of a part has to be awaited, or asked for its `result()`",
    "numpy": "of an array or a NumPy number return `.tolist()`",
    "pandas": 'of a DataFrame return `.to_dict(orient="records")`, of a Series `.tolist()`',
    "polars": "of a DataFrame return `.to_dicts()`, of a Series `.to_list()`",
    "torch": "of a tensor return `.tolist()`",
    "tensorflow": "of a tensor return `.numpy().tolist()`",
    "jax": "of an array return `.tolist()`",
    "jaxlib": "of an array return `.tolist()`",
    "scipy": "of a sparse array return `.toarray().tolist()`",
}
"""By the library that a value is of: what to return instead."""
_BINARY: Final = (
    "; bytes that are no text are sent as they are where the last stage is annotated as `bytes`, "
    "or as `Iterator[bytes]` where it yields them"
)

_CLASS = re.compile(r"<class '([\w.]+)'>")
_DEPTH = 100
"""Levels of a result within which foreign integers are looked for."""

_LAZY: Final = (Iterator, AsyncIterator, Streamed)
"""What is a stream. Pydantic reads an iterator within a result as a list."""

# What follows is looked for in each result. Searching by a pattern costs half of what `in` does.
_find_null = re.compile(rb"null").search
_find_constant = re.compile(rb"NaN|Infinity").search
_N, _I, _NINE = b"NI9"
# An integer of 16 digits or more (2**53 has 16) begins behind one of these signs; the digits of a
# float come behind its point.
_SHAPES: Final = bytes(
    ord("0") if chr(byte) in "0123456789" else ord(",") if chr(byte) in '[:-"' else byte
    for byte in range(256)
)
_find_long_integer = re.compile(b"," + b"0" * 16).search

_encode_finite = json.JSONEncoder(allow_nan=False).encode


_LISTS: Final = (list, tuple, set, frozenset, deque, MappingView)
"""What pydantic reads lists from, beside arrays."""


class _ReadOnceError(Exception):
    """What cannot be read again; the text says what it is and what to do."""


class ResultInvalid(Mistake):
    """A pipeline returned what its declared result type does not allow; the text says where."""


class NotOneEach(ResultInvalid):
    """`infer_batch` did not return one whole result for each request."""


def encoder(  # noqa: C901 - what encodes each result stays in one piece: each call costs
    adapter: TypeAdapter[Any], schema: Mapping[str, Any], *, may_stream: bool = False
) -> Encoder:
    """A function from results of a type to their bodies, or None of a stream; it raises
    ResultInvalid.

    Args:
        adapter: of the type.
        schema: what is told to clients of the type (its JSON Schema in serialization mode).
        may_stream: whether any iterator is a stream, not only what `infer` has streamed.
    """
    validate = adapter.validator.validate_python
    serialize = adapter.serializer.to_json
    text = json.dumps(schema)
    floats, integers = '"number"' in text, '"integer"' in text
    find_expected = _nulls_of(nullable_properties(schema))

    def encode(result: Any) -> bytes | None:
        if isinstance(result, _LAZY):
            if may_stream or isinstance(result, Streamed):
                return None
            raise ResultInvalid(_no_stream(result))
        try:
            value = validate(result)
            body = serialize(value, by_alias=True)
        except ValidationError as error:
            with contextlib.suppress(_ReadOnceError):
                if (exact := _exact(result)) is not result:  # too large for a float
                    return encode(exact)
            raise ResultInvalid(_mistakes(error, result)) from error
        except PydanticSerializationError as error:
            raise ResultInvalid(_no_json_of(value, error)) from error
        if (
            integers
            and value is not result  # nothing was read, then
            and (body[0] <= _NINE or _find_long_integer(body.translate(_SHAPES)))
        ):
            try:
                exact = _exact(result)
            except _ReadOnceError as error:
                raise ResultInvalid(f"result: has large integers of {error}") from error
            if exact is not result:
                return encode(exact)
        if (floats and _find_null(body) and body.count(b"null") != len(find_expected(body))) or (
            (_N in body or _I in body) and _find_constant(body)
        ):
            _check_finite(adapter.serializer.to_python(value, mode="json"), body, schema)
        return body

    return encode


def _nulls_of(names: Iterable[str]) -> Callable[[bytes], list[bytes]]:
    """A function that finds the nulls of these properties in a body."""
    keys = b"|".join(re.escape(json.dumps(name, ensure_ascii=False).encode()) for name in names)
    return re.compile(b"(?:%s):null" % keys).findall if keys else lambda _: []


def raw(result: Any) -> bytes | None:
    """A result that was declared as `bytes`; raises ResultInvalid for anything else."""
    if isinstance(result, bytes):
        return result
    if isinstance(result, (bytearray, memoryview)):
        return bytes(result)
    if isinstance(result, Streamed):
        return None
    raise ResultInvalid(f"declared bytes, returned {type(result).__qualname__}")


def stream(result: Any) -> None:
    """A result that was declared as a stream; raises ResultInvalid for anything else."""
    if not (isinstance(result, Streamed) or can_stream(result)):
        raise ResultInvalid(
            f"result: is a {type(result).__qualname__}, and it is declared as a stream: yield the "
            "items, or return an iterator over them"
        )


# -- numbers -------------------------------------------------------------------------------------


def _exact(value: Any, depth: int = 0) -> Any:
    """A result with Python's integers for any others; itself when it has only these.

    Raises:
        _ReadOnceError: it has an iterator, which pydantic has read already.
    """
    if isinstance(value, (int, str, bytes, float)) or depth > _DEPTH:
        return value
    if isinstance(value, Mapping):
        pairs = [(_exact(k, depth + 1), _exact(v, depth + 1)) for k, v in value.items()]
        return value if all(map(_is, pairs, value.items())) else dict(pairs)
    if isinstance(value, Iterator):
        raise _ReadOnceError(f"a {type(value).__qualname__}; return a list")
    with contextlib.suppress(TypeError):  # an array of several or of none, a tensor of floats
        if hasattr(type(value), "__index__"):
            return operator.index(value)
    if isinstance(value, _LISTS) or getattr(value, "ndim", None):
        items = [_exact(item, depth + 1) for item in value]
        return value if all(map(operator.is_, items, value)) else items
    return value


def _is(pair: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    return pair[0] is other[0] and pair[1] is other[1]


def _check_finite(value: Any, body: bytes, schema: Mapping[str, Any]) -> None:
    """Refuse NaN and infinities where the schema has no room for what was written for them."""
    try:
        _encode_finite(value)
    except ValueError as error:
        what = "NaN or an infinity, which JSON cannot say; return None, declared as `float | None`"
        try:
            document = json.loads(body, parse_constant=_no_json)
        except ValueError:  # by the model's own `ser_json_inf_nan`
            raise ResultInvalid(f"result: holds {what}") from error
        where = misplaced_null(document, schema, schema)
        if where is not None:
            raise ResultInvalid(f"{located(where)}: is {what}") from error


def _no_json(constant: str) -> None:
    raise ValueError(constant)


# -- null ----------------------------------------------------------------------------------------
#
# pydantic writes null for NaN and infinities, whatever the type. The schemas are pydantic's, but
# `json_schema_extra` may have put anything into them: what is odd has room for everything.


def misplaced_null(
    value: Any, schema: Any, root: Mapping[str, Any]
) -> tuple[str | int, ...] | None:
    """The keys that lead to a null in a JSON value that its schema has no room for.

    None: there is none. All else about the value is taken to fit.

    Args:
        value: of JSON.
        schema: of the value.
        root: the schema that references point into.
    """
    schema = resolved(schema, root)
    if choices := choices_of(schema):
        misplaced = [misplaced_null(value, choice, root) for choice in choices]
        wrong = [where for where in misplaced if where is not None]
        return max(wrong, key=len) if len(wrong) == len(misplaced) else None
    if not _may_be(value, schema):
        return ()
    for key, item in _children(value):
        found = misplaced_null(item, _below(key, schema), root)
        if found is not None:
            return (key, *found)
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


# -- what is told --------------------------------------------------------------------------------


def _no_stream(result: Any) -> str:
    return (
        f"result: is a {type(result).__qualname__}, and its declared type is no stream's: return a "
        "list of what it yields, or declare `Iterator[...]` to have it streamed"
    )


def _no_json_of(value: Any, error: PydanticSerializationError) -> str:
    text = str(error)
    advice = _BINARY if isinstance(value, bytes) else _advice(_CLASS.findall(text))
    return f"{located(no_json(value))}: {text}{advice}"


def _mistakes(error: ValidationError, result: Any) -> str:
    found = error.errors(include_url=False, include_context=False)[:MISTAKES]
    return f"{violations(error, result)}{_advice(class_of(one['input']) for one in found)}"


def _advice(classes: Iterable[str]) -> str:
    """What to return instead of objects of these classes; "" where nothing is known of them."""
    libraries = dict.fromkeys(name.partition(".")[0] for name in classes)
    advice = [_ADVICE[library] for library in libraries if library in _ADVICE]
    return "".join(f"; {known}" for known in advice)
