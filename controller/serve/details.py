"""Serve's answer on thousands of applications, of which only what is new is parsed.

An object of JSON shows where it ends, so a text that goes on as an object in the answer before has
the same object there.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.model import JSON

_OPEN = re.compile(r"[ \t\n\r]*\{[ \t\n\r]*")
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_NEXT = re.compile(r"[ \t\n\r]*([,}])[ \t\n\r]*")
_PYTHONS: Final = json.JSONDecoder(
    parse_constant={"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.__getitem__
)
"""A decoder of what Python writes as JSON: odd values in another's application must not hide ours.
NaN is one object, so that a document that holds it is equal to itself."""


@dataclass(frozen=True, slots=True)
class Details:
    """An answer that was parsed: each of its applications is an object."""

    text: str = ""
    spans: Mapping[str, slice] = field(default_factory=dict)
    """Where the applications stand in it, by name."""


def read(text: str, before: Details) -> tuple[dict[str, JSON], dict[str, slice], set[str]]:
    """The document of an answer without the applications that are as in the answer before; where in
    the text each application is; and the names of those left out.

    Raises:
        ValueError: it is no object of JSON as Python writes it.
    """
    said: dict[str, JSON] = {}
    others: dict[str, JSON] = {}
    spans: dict[str, slice] = {}
    same: set[str] = set()

    def application(name: str, at: int) -> int:
        as_before = before.text[before.spans[name]] if name in before.spans else ""
        if as_before and name not in spans and text.startswith(as_before, at):
            same.add(name)
            end = at + len(as_before)
        else:
            same.discard(name)
            others[name], end = _value(text, at)
        spans[name] = slice(at, end)
        return end

    def member(name: str, at: int) -> int:
        if name == "applications" and text.startswith("{", at):
            said[name] = others
            return _through(text, at, application)
        said[name], end = _value(text, at)
        return end

    if _through(text, 0, member) != len(text):
        raise ValueError("it does not end where its object does")
    return said, spans, same


def _value(text: str, at: int) -> tuple[Any, int]:
    """The value that begins there, and where it ends."""
    try:
        return _PYTHONS.raw_decode(text, at)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _through(text: str, at: int, member: Callable[[str, int], int]) -> int:
    """The end of the object that begins at `at`, with the blanks behind it. `member` is called with
    the name of each value and where that begins, and returns where it ends.
    """
    at = _after(_OPEN, text, at).end()
    if text.startswith("}", at):
        return at + 1
    more = ","
    while more == ",":
        if not text.startswith('"', at):
            raise ValueError(f"at character {at}: a name is missing")
        name, at = _value(text, at)
        at = member(name, _after(_COLON, text, at).end())
        found = _after(_NEXT, text, at)
        more, at = found[1], found.end()
    return at


def _after(what: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    found = what.match(text, at)
    if found is None:
        raise ValueError(f"at character {at}: {text[at : at + 20]!r} does not belong there")
    return found
