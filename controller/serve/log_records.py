"""Records of replicas' logs, in Serve's text format, or in its JSON where an operator chose that.

A record is a line with level and time and whatever follows it, such as a traceback, until the next.
Pure. https://docs.ray.io/en/latest/serve/monitoring.html#ray-logging has the formats.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HEAD = re.compile(
    r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) (?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) "
    r"\S+ \S+ (?:\S+ )?-- (?P<message>.*)"
)
_FAILED = re.compile(
    r"requests? (?P<id>[^\s,]+)(?:, [^\s,]+)* of (?P<release>\S+@\S+\+[0-9a-f]{8}) failed"
    r"(?: in one batch)?"
)
"""The lines that `wheelway.faults` logs; of several requests the first is as good as any."""
_TRACEBACK = "Traceback (most recent call last)"
LONGEST_RECORD = 1 << 20
"""Characters of a record; a longer one comes in parts."""


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """A request that a pipeline answered with 500."""

    release: str
    """As its header has it."""
    request: str
    cause: str
    """The exception's last line; empty when it was not seen."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of one replica's log."""

    at: str
    """As logged, in the order of time; empty for lines before the first record."""
    message: str
    """Its first line without level, time and replica."""
    text: str
    """All of it, as it stands in the log."""

    def mentions(self, request: str) -> bool:
        """Whether it was logged for a request, or about it."""
        return re.search(rf"(?<![\w-]){re.escape(request)}(?![\w-])", self.text) is not None

    def failed(self) -> FailedRequest | None:
        """The failed request that it tells of, if it does."""
        found = _FAILED.fullmatch(self.message.partition("\n")[0])
        if found is None:
            return None
        below = (*self.message.splitlines()[1:], *self.text.splitlines()[1:])
        causes = [line for line in below if line[:1].strip() and not line.startswith(_TRACEBACK)]
        return FailedRequest(found["release"], found["id"], causes[-1] if causes else "")


class Splitter:
    """Makes records of the lines of one log as they come."""

    def __init__(self) -> None:
        self._head, self._lines, self._size = ("", ""), list[str](), 0

    def feed(self, line: str) -> Record | None:
        """Take the next line; returns the record that ended before it, if one did."""
        head = _head(line)
        ended = self.end() if head is not None or self._size > LONGEST_RECORD else None
        self._head = head or self._head
        self._lines.append(line)
        self._size += len(line)
        return ended

    def end(self) -> Record | None:
        """The record that is open; the next line begins another."""
        head, lines = self._head, self._lines
        self._head, self._lines, self._size = ("", ""), [], 0
        return Record(*head, "\n".join(lines)) if lines else None


def records(lines: Iterable[str]) -> Iterator[Record]:
    """The records of one log, or of the end of one."""
    splitter = Splitter()
    for line in lines:
        if (ended := splitter.feed(line)) is not None:
            yield ended
    if (last := splitter.end()) is not None:
        yield last


def merged(logs: Iterable[Iterable[str]]) -> list[Record]:
    """The records of several logs by their time, each log in its own order."""
    found: list[tuple[str, Record]] = []
    for lines in logs:
        log = list(records(lines))
        found += zip(accumulate((record.at for record in log), max), log, strict=True)
    return [record for _, record in sorted(found, key=itemgetter(0))]


def _head(line: str) -> tuple[str, str] | None:
    """Time and message of a line that begins a record."""
    if (match := _HEAD.fullmatch(line)) is not None:
        return match["at"], match["message"]
    if not line.startswith('{"'):
        return None
    try:
        said = json.loads(line)
        at, message = str(said["asctime"]), str(said["message"])
    except (ValueError, KeyError, TypeError):
        return None
    return at, "\n".join([message, *str(said.get("exc_text") or "").splitlines()])
