"""Follows one log: each byte comes once, however often its stream begins anew.

Ray 2.60 ends a stream after some minutes. The next begins a number of lines before the log's end (0
means 1000), or at its beginning (`StreamLog` in ray/dashboard/modules/log/log_agent.py). So the
whole log is asked for each time, and what was seen is skipped here. A log that grew too long is
renamed to `.log.1`; Ray's stream stays with that file until it ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Literal

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Read = Callable[[Literal["file", "stream"], str], AsyncIterator[bytes]]
    """All of a log, as it is or as it grows; raises httpx.HTTPError."""

WHOLE: Final = -1
"""The number of lines that stands for the whole log."""
_KNOWN_BY: Final = 256
"""Bytes at a log's beginning, with the time of its first line, by which it is recognised."""


class _Renewed(Exception):  # noqa: N818 - no error: another log has its name now
    pass


class _Seen:
    """How far a log was seen."""

    def __init__(self) -> None:
        self._size = 0
        self._begin = b""

    async def rest(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The new bytes of a log that is read from its beginning.

        Raises:
            _Renewed: it is not the one that was seen.
        """
        at = 0
        async for piece in pieces:
            if not piece.startswith(self._begin[at : at + len(piece)]):
                raise _Renewed
            new = piece[max(self._size - at, 0) :]
            at += len(piece)
            if new:
                self._begin += new[: _KNOWN_BY - len(self._begin)]
                self._size += len(new)
                yield new


async def followed(read: Read, name: str, lines: int, pause: float) -> AsyncIterator[bytes]:
    """The last lines of a log, or all of it (`WHOLE`), and what comes, until cancelled.

    `pause`: seconds before a stream that has ended is begun anew.
    """
    seen = _Seen()
    if lines != WHOLE:
        yield await _last(seen, read, name, lines, pause)
    while True:
        try:
            async for piece in seen.rest(read("stream", name)):
                yield piece
        except _Renewed:
            try:
                async for piece in seen.rest(read("file", f"{name}.1")):
                    yield piece
            except (httpx.HTTPStatusError, _Renewed):
                pass  # the rest is gone
            except httpx.HTTPError:  # it may be had in a moment
                await asyncio.sleep(pause)
                continue
            seen = _Seen()
            continue
        except httpx.HTTPError:
            pass
        await asyncio.sleep(pause)


async def _last(seen: _Seen, read: Read, name: str, lines: int, pause: float) -> bytes:
    """The last lines of what is there now, an unfinished one included."""
    last: deque[bytes] = deque(maxlen=lines)
    begun = b""
    while True:
        try:
            async for piece in seen.rest(read("file", name)):
                *whole, begun = (begun + piece).split(b"\n")
                last.extend(whole)
        except _Renewed:  # the rest comes by the stream
            pass
        except httpx.HTTPError:
            await asyncio.sleep(pause)
            continue
        return b"".join(line + b"\n" for line in last) + begun
