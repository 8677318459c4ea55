"""What goes from a pipeline to a part and back when they are two processes: pickles.

Both are code of the same wheel, in the same environment, so values need no schema: NumPy arrays and
bytes go as they are. An exception arrives as the one that was raised, with the part's traceback as
its cause, where pickle can make it again; what cannot be sent is told of with its name.

Pickle holds the interpreter for as long as it works on dictionaries, lists and text, in any thread.
So what is long goes through files here that are written in Python: at each of its blocks of 64 KiB
other threads, the event loop's among them, have their turn.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import traceback
from typing import TYPE_CHECKING, Any

from wheelway.failure import describe
from wheelway.parts import PartFailed

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PROTOCOL = 5
"""Arrays without a copy on the way (PEP 574); every Python that is supported has it."""
_LONGEST = 20_000
"""Characters of a traceback."""
_AT_ONCE = 2**18
"""Bytes that are pickled and unpickled at once, which takes dictionaries some milliseconds."""


class PartTraceback(Exception):  # noqa: N818 - only shown, as the cause of what the part raised
    """Where in the part's process it was raised."""

    def __str__(self) -> str:
        """The traceback, below a line of its own."""
        return f"\n{self.args[0]}"


async def pack(value: Any, what: str) -> bytes:
    """As `packed`, without holding up the event loop."""
    try:
        return packed(value, what, _AT_ONCE)
    except _TooLongError:
        return await asyncio.to_thread(packed, value, what)


async def unpack(data: bytes) -> Any:
    """As `unpacked`, without holding up the event loop."""
    return (
        unpacked(data) if len(data) <= _AT_ONCE else await asyncio.to_thread(_unpacked_long, data)
    )


def packed(value: Any, what: str, most: int | None = None) -> bytes:
    """A value as bytes; `what` it is, as the start of a sentence.

    Raises:
        TypeError: it cannot be sent.
        _TooLongError: it takes more than `most` bytes.
    """
    written = _Written(most)
    try:
        pickle.Pickler(written, _PROTOCOL).dump(value)
        return b"".join(written.blocks)
    except _TooLongError:
        raise
    # Pickling runs code of the value's class, which may raise anything.
    except Exception as error:
        raise TypeError(
            f"{what} cannot be sent between processes ({describe(error)}); have it hold only what "
            "can be pickled, such as arrays, bytes, models and dictionaries"
        ) from error


def unpacked(data: bytes) -> Any:
    """The value again; raises whatever its class raises."""
    return pickle.loads(data)  # noqa: S301 - from code of the same release


def _unpacked_long(data: bytes) -> Any:
    try:
        return pickle.Unpickler(_Reading(data)).load()  # noqa: S301 - as above
    except StopIteration as error:  # a future cannot hold one
        raise RuntimeError("a value raised StopIteration when it was made again") from error


class _TooLongError(Exception):
    pass


class _Written:
    """A file that takes `most` bytes."""

    def __init__(self, most: int | None) -> None:
        self.blocks: list[ReadableBuffer] = []
        self._most = most
        self._size = 0

    def write(self, block: ReadableBuffer, /) -> int:
        size = memoryview(block).nbytes
        self._size += size
        if self._most is not None and self._size > self._most:
            raise _TooLongError
        self.blocks.append(block)
        return size


class _Reading(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size)  # in Python, see the module


def packed_error(error: BaseException, part: str) -> bytes:
    """What a part raised, for `raised`."""
    text = "".join(traceback.format_exception(error)).rstrip()[-_LONGEST:]
    try:
        data = pickle.dumps(error, _PROTOCOL)
        pickle.loads(data)  # noqa: S301 - our own
    # As above, and an exception with arguments of its own often cannot be made again.
    except Exception:  # noqa: BLE001 - what matters is told
        error = PartFailed(f"the part {part!r} raised {describe(error)}")
        data = pickle.dumps(error, _PROTOCOL)
    return pickle.dumps((data, text), _PROTOCOL)


def raised(data: bytes) -> BaseException:
    """What a part raised, to be raised again."""
    pickled, text = unpacked(data)
    error: BaseException = unpacked(pickled)
    error.__cause__ = PartTraceback(text)  # with the causes that it had there
    return error


def copied(value: Any, what: str) -> Any:
    """The value as it would arrive in another process; see `packed`."""
    return unpacked(packed(value, what))
