"""How the items of a stream travel: the content types, and how a stream that broke off ends.

The client chooses by `accept` (RFC 9110, 12.5.1). A stream that broke off must not look whole: its
last event or line says what went wrong, or, where there is no room for that between the items, the
connection ends without the last chunk (RFC 9112, 7.1), which no client can mistake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic_core import from_json

from wheelway.schema import BYTES_TYPE, EVENTS_TYPE, LINES_TYPE, TEXT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_MOST: Final = 100
"""Media ranges that are read of one request."""
_QUOTED: Final = re.compile(r'"(?:\\.|[^"\\])*+"?')
"""Where its end is missing, all of the rest: the end is then not looked for once a quote."""
_QUALITY: Final = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class Framing:
    """How items become a body."""

    content_type: str
    frame: Callable[[bytes], bytes]
    """An item, encoded as a result is, as a piece of the body."""
    broken: Callable[[bytes], bytes] | None
    """The last piece of a stream that broke off, of its problem document; None: there is no such
    piece, and the connection has to end instead."""


def framing_for(types: Sequence[str], headers: Iterable[tuple[bytes, bytes]]) -> Framing:
    """How a client that sent these headers gets a stream of one of these types."""
    accept = b",".join(value for name, value in headers if name == b"accept")
    return _FRAMINGS[preferred(types, accept.decode("latin-1"))]


def preferred(types: Sequence[str], accept: str) -> str:
    """The one that an `accept` header likes best; the first where it says nothing of any of them.
    Of those it likes as much, one that it names goes before one that it only allows.
    """
    ranges = list(_ranges(accept))

    def liking(content_type: str) -> tuple[float, int]:
        matching = [
            (exactness, quality)
            for media_range, exactness, quality in ranges
            if f"{content_type}/".startswith(media_range)
        ]
        exactness, quality = max(matching, key=lambda match: match[0], default=(0, 0.0))
        return quality, exactness

    best = max(types, key=liking)
    return best if liking(best)[0] > 0 else types[0]


def _ranges(accept: str) -> Iterator[tuple[str, int, float]]:
    """What each media range begins like, how exact it is, and its weight; what cannot be understood
    is left out.
    """
    for element in _QUOTED.sub("", accept).lower().split(",")[:_MOST]:
        name, *parameters = (part.strip() for part in element.split(";"))
        weights = [part[2:] for part in parameters if part.startswith("q=")]
        quality = weights[-1] if weights else "1"
        kind, slash, subtype = name.partition("/")
        if not (kind and slash and subtype and _QUALITY.fullmatch(quality)):
            continue
        if subtype != "*":
            yield f"{name}/", 2, float(quality)
        elif kind != "*":
            yield f"{kind}/", 1, float(quality)
        else:
            yield "", 0, float(quality)


def _as_text(item: bytes) -> bytes:
    text = from_json(item)
    return text.encode() if isinstance(text, str) else item  # by a serialiser of the author's


_FRAMINGS: Final = {
    LINES_TYPE: Framing(
        LINES_TYPE, lambda item: item + b"\n", lambda document: b'{"problem": %s}\n' % document
    ),
    EVENTS_TYPE: Framing(
        EVENTS_TYPE,
        lambda item: b"data: %s\n\n" % item,
        lambda document: b"event: error\ndata: %s\n\n" % document,
    ),
    TEXT_TYPE: Framing(f"{TEXT_TYPE}; charset=utf-8", _as_text, None),
    BYTES_TYPE: Framing(BYTES_TYPE, lambda item: item, None),
}
