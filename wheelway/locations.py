"""Where in a result something is wrong, as its author would write it: `result.scores[3]`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel
from pydantic_core import to_json

from wheelway.failure import MISTAKES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import ValidationError

_LISTS: Final = (list, tuple, deque, AbstractSet)
_NOTHING: Final = object()
_DEPTH: Final = 100
"""Levels of a result within which what is wrong is looked for."""
_MOST: Final = 10 * MISTAKES
"""Mistakes that are looked at: each choice of a union has its own."""
_KEY: Final = 60
"""Characters of a key that are told: it may be as large and as private as a value."""
_OF_KEY: Final = "[key]"
"""How pydantic says that a mapping's key is wrong, and not what is there."""


def located(keys: Iterable[object]) -> str:
    """Names and numbers as a path into the result."""
    return "result" + "".join(map(_step, keys))


def _step(key: object) -> str:
    if isinstance(key, str):
        shown = key if len(key) <= _KEY else f"{key[:_KEY]}..."
        return f".{key}" if shown is key and key.isidentifier() else f"[{shown!r}]"
    try:
        shown = repr(key)
    except ValueError:  # a number of thousands of digits
        shown = f"a key of {class_of(key)}"
    return f"[{shown if len(shown) <= _KEY else f'{shown[:_KEY]}...'}]"


def violations(error: ValidationError, result: Any) -> str:
    """Where a result violates its declared type, what the type wants there, and what was found;
    never the value itself: it may be large or private.
    """
    found: dict[str, list[str]] = {}
    classes: dict[str, str] = {}
    for one in error.errors(include_url=False, include_context=False)[:_MOST]:
        missing = one["type"] == "missing"
        where = located(_keys(one["loc"], result, missing=missing))
        if one["loc"][-1:] == (_OF_KEY,):
            where = f"the key {where}"
        messages = found.setdefault(where, [])  # several, of the choices of a union
        if one["msg"] not in messages:
            messages.append(one["msg"])
        if not missing:
            classes[where] = f", found {class_of(one['input'])}"
    return "; ".join(
        f"{where}: {' or '.join(messages)}{classes.get(where, '')}"
        for where, messages in list(found.items())[:MISTAKES]
    )


def class_of(value: object) -> str:
    """A value's class with the library that it is of, such as `numpy.ndarray`."""
    kind = type(value)
    builtin = kind.__module__ == "builtins"
    return kind.__qualname__ if builtin else f"{kind.__module__}.{kind.__qualname__}"


def no_json(value: Any) -> list[object]:
    """The keys that lead to the first thing within a value that cannot be written as JSON."""
    keys: list[object] = []
    while len(keys) < _DEPTH:
        found = next(((k, item) for k, item in _children(value) if not _is_json(item)), None)
        if found is None:
            break
        key, value = found
        keys.append(key)
    return keys


def _keys(loc: tuple[int | str, ...], value: Any, *, missing: bool) -> Iterator[int | str]:
    """What leads into the result, of a location that also names the choices of unions."""
    for number, key in enumerate(loc):
        inside = _at(value, key)
        if inside is not _NOTHING:
            value = inside
            yield key
        elif isinstance(key, int) or (missing and number == len(loc) - 1):
            yield key


def _at(value: Any, key: int | str) -> Any:
    """What a key leads to, `_NOTHING` where it leads nowhere."""
    if isinstance(value, Mapping):
        return value.get(key, _NOTHING)
    if isinstance(value, (list, tuple, deque)) and isinstance(key, int):
        return value[key] if key < len(value) else _NOTHING
    if isinstance(value, (list, deque, AbstractSet)):
        return _NOTHING
    return dict(_children(value)).get(key, _NOTHING)


def _children(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, tuple) and (names := getattr(value, "_fields", ())):
        return zip(names, value, strict=False)
    if isinstance(value, _LISTS):
        return enumerate(value)
    if isinstance(value, BaseModel):
        return vars(value).items()
    if is_dataclass(value) and not isinstance(value, type):
        return ((one.name, getattr(value, one.name, None)) for one in fields(value))
    return ()


def _is_json(value: Any) -> bool:
    try:
        to_json(value)
    except ValueError:  # PydanticSerializationError is one, and what runs in a circle is told so
        return False
    return True
