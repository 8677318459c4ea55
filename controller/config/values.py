"""What a value of the configuration and of `wheelway.toml` may be: durations, sizes, JSON.

Numbers are finite and bounded, since what they are handed to (Ray's protobufs, timers of the
kernel, int64) is. A duration or size may say its unit: "30s", "1h30m", "16MiB".
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, AnyHttpUrl, BeforeValidator, Field, TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST: Final = 10 * 365 * 86400.0
"""Seconds of the longest duration."""
LARGEST: Final = 2**50
"""Bytes of the largest size; Ray counts them in ten-thousandths, in an int64."""
_MOST_BITS: Final = 4096
"""Of a whole number. TOML has hexadecimal ones of any length, of which Python writes no more than
4,300 decimal digits: whoever tries fails.
"""

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_UNITS_OF_TIME: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = rf"^(?:{_NUMBER} ?(?:ms|s|m|h|d) ?)+$"
_UNITS_OF_SIZE: Final = {
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)},
}
_SIZE: Final = rf"^{_NUMBER} ?(?:[kKMGT]i?)?B$"


def same(one: object, other: object) -> bool:
    """Whether two values are the same JSON: `1`, `1.0` and `true` are three, though Python takes
    them for equal.
    """
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return len(one) == len(other) and all(
            key in other and same(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def seconds(value: object) -> object:
    """Seconds of a text with units; what else it may be is left to pydantic.

    Raises:
        ValueError: a text that is neither a duration nor a number, or a truth value.
    """
    examples = 'seconds, or "30s"', ', "5m", "1h30m", "7d"'
    return _sum(value, "duration", examples, _DURATION, _UNITS_OF_TIME)


def size(value: object) -> object:
    """Bytes of a text with a unit, as `seconds` reads it."""
    found = _sum(value, "size", ('bytes, or "16MiB"', ', "2GB"'), _SIZE, _UNITS_OF_SIZE)
    return round(found) if found is not value and isinstance(found, float) else found


def _sum(
    value: object, what: str, examples: tuple[str, str], pattern: str, units: Mapping[str, float]
) -> object:
    if isinstance(value, bool):
        raise ValueError(f"true and false are no {what}s; write {examples[0]}")  # noqa: TRY004 - pydantic translates it
    if not isinstance(value, str) or _is_number(value):
        return value
    if not re.fullmatch(pattern, value.strip()):
        raise ValueError(f"{value!r} is no {what}; write {''.join(examples)}")
    parts = re.findall(rf"({_NUMBER}) ?([A-Za-z]+)", value)
    return sum(float(number) * units[unit.lower()] for number, unit in parts)


def _is_number(text: str) -> bool:
    """What the environment says without a unit."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def not_json(value: object) -> object | None:
    """The first part of a value of TOML that JSON cannot say: a date, a time, an infinity, a whole
    number of thousands of digits.
    """
    if isinstance(value, dict):
        return next((odd for item in value.values() if (odd := not_json(item)) is not None), None)
    if isinstance(value, list):
        return next((odd for item in value if (odd := not_json(item)) is not None), None)
    if isinstance(value, float):
        return None if math.isfinite(value) else value
    if isinstance(value, int):
        return None if value.bit_length() <= _MOST_BITS else value
    return None if value is None or isinstance(value, str) else value


def _json_table(table: dict[str, Any]) -> dict[str, Any]:
    for key, item in table.items():
        if (odd := not_json(item)) is not None:
            raise ValueError(f"{key} holds {_told(odd)}, which JSON cannot say; write it as text")
    return table


def _told(odd: object) -> str:
    if isinstance(odd, int):  # its digits may be too many to be written
        return f"a whole number of {odd.bit_length()} bits"
    return str(odd) if isinstance(odd, float) else f"{type(odd).__name__} {odd}"


_HTTP_URL: TypeAdapter[AnyHttpUrl] = TypeAdapter(AnyHttpUrl)


def http_url(text: str) -> str:
    """A URL as it was written, without a slash at its end.

    Raises:
        ValidationError: it is none of http or https.
    """
    _HTTP_URL.validate_python(text)
    return text.rstrip("/")


_AS_TEXT = Annotated[str, Field(pattern=_DURATION, examples=["30s", "5m"])]
_AS_SIZE = Annotated[str, Field(pattern=_SIZE, examples=["16MiB", "2GB"])]

Duration: Final = BeforeValidator(seconds, float | _AS_TEXT)
"""What makes a float with bounds of its own a duration."""

Seconds = Annotated[
    float,
    Field(ge=0, le=LONGEST),
    BeforeValidator(seconds, Annotated[float, Field(ge=0)] | _AS_TEXT),
]
"""A duration, in seconds; none is fine."""
PositiveSeconds = Annotated[
    float,
    Field(gt=0, le=LONGEST),
    BeforeValidator(seconds, Annotated[float, Field(gt=0)] | _AS_TEXT),
]
"""A duration, in seconds."""
Bytes = Annotated[
    int,
    Field(gt=0, le=LARGEST),
    BeforeValidator(size, Annotated[int, Field(gt=0)] | _AS_SIZE),
]
"""A size, in bytes."""
HttpUrl = Annotated[str, AfterValidator(http_url)]
Table = Annotated[dict[str, Any], AfterValidator(_json_table)]
"""A table of anything that JSON can say."""
