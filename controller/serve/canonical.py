r"""YAML that says the same to every reader.

`serve deploy` and the dashboard read with PyYAML, which is YAML 1.1: `1e-07` is a string there,
`\ud83d\ude00` two characters, a key of more than 1024 characters an error. `quoted` writes JSON's
values so that PyYAML reads back exactly what was written.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.model import JSON

_LONG_KEY = 500
"""PyYAML finds a key without `?` only when it and its escapes fit into 1024 characters."""
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")
"""All but printable ASCII without `"` and `\\`."""


class Given(dict[str, Any]):
    """A document that a template hands on. `quoted` writes a reference in its place, which spares
    parsing it again; a template can read all of it.
    """

    def __init__(self, document: Mapping[str, JSON], number: int) -> None:
        super().__init__(document)
        self.reference = f"\0{number}"


class AllGiven(list[Mapping[str, Any]]):
    """All documents that a template hands on: as a rule at once, by one reference."""

    reference = "\0"
    """No document that Serve takes is a string."""

    def __iter__(self) -> Iterator[Given]:
        return map(Given, super().__iter__(), itertools.count())

    def dereferenced(self, written: JSON) -> JSON:
        """What a template wrote, with documents instead of references."""
        if written == self.reference:
            return self[:]
        if not isinstance(written, list):
            return written
        named = {f"\0{number}": one for number, one in enumerate(self[:])}
        return [named.get(one, one) if isinstance(one, str) else one for one in written]


def quoted(value: JSON) -> str:
    """A value of JSON as one line of YAML 1.1, whatever its strings hold.

    Raises:
        ValueError: it holds NaN, an infinity, a lone surrogate, a key that is no string, or a type
            that JSON does not have.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, str):
        return f'"{_UNSAFE.sub(_escape, value)}"'
    if isinstance(value, Given | AllGiven):
        return quoted(value.reference)
    if isinstance(value, Mapping):
        return f"{{{', '.join(_pair(key, item) for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(quoted(item) for item in value)}]"
    raise ValueError(f"{type(value).__name__} is not a type of JSON")


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a number of JSON")
    mantissa, exponent, power = repr(value).partition("e")
    return f"{mantissa}.0e{power}" if exponent and "." not in mantissa else repr(value)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xD800 <= code <= 0xDFFF:
        raise ValueError(f"U+{code:04X} is half a character and cannot be sent as UTF-8")
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _pair(key: object, value: JSON) -> str:
    if not isinstance(key, str):
        # A value of the caller's, not a type of ours: one exception for all that JSON lacks.
        raise ValueError(f"{key!r} is not a key of JSON; write it as a string")  # noqa: TRY004
    name = quoted(key)
    return f"{'? ' if len(name) > _LONG_KEY else ''}{name}: {quoted(value)}"


class _Canonical(yaml.SafeDumper):
    """Without anchors: equal values are written out each time."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def to_yaml(value: JSON) -> str:
    """Canonical YAML: keys sorted, no anchors, ASCII; equal values give equal bytes. The text of a
    mapping or list is that of its items, one after the other.
    """
    return yaml.dump(
        plain(value), Dumper=_Canonical, sort_keys=True, default_flow_style=False, width=100
    )


def from_yaml(text: str) -> JSON:
    """The value that PyYAML reads; tags that would make objects are refused.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    # The C parser where libyaml is there: same result, ten times faster.
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders


def plain(value: Any) -> Any:
    """Mappings and sequences as dict and list, which is all that PyYAML's safe dumper knows."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value
