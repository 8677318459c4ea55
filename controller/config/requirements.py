"""What wheels, indexes and operators require, read within bounds.

`packaging` takes any text, but cannot compare a number of thousands of digits (Python converts
4,300 at most), and follows parentheses by recursion, as uv does. So all rooms refuse the same,
before anything is compared.
"""

from __future__ import annotations

import re

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

LONGEST = 4000
"""Characters; long markers, as some tools write them, have some hundred."""
MOST_DIGITS = 19
"""Of one number, as uv counts in 64 bits; a date with its time has 14."""
MOST_PARENTHESES = 50


def parse_requirement(text: str) -> Requirement:
    """A requirement (PEP 508).

    Raises:
        ValueError: it is none, or beyond the bounds; the message is for a person.
    """
    _check(text)
    return Requirement(text)


def parse_specifiers(text: str) -> SpecifierSet:
    """A set of version specifiers (PEP 440): a `Requires-Python`, an operator's `versions`.

    Raises:
        ValueError: it is none, or beyond the bounds; the message is for a person.
    """
    _check(text)
    return SpecifierSet(text)


def _check(text: str) -> None:
    begin = f"{text[:40]!r}..."
    if len(text) > LONGEST:
        raise ValueError(f"{begin} has {len(text)} characters, at most {LONGEST} are read")
    if re.search(rf"[0-9]{{{MOST_DIGITS + 1}}}", text):
        raise ValueError(f"{begin} holds a number of more than {MOST_DIGITS} digits")
    if text.count("(") > MOST_PARENTHESES:
        raise ValueError(f"{begin} has more than {MOST_PARENTHESES} parentheses")
