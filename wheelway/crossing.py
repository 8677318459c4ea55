"""What goes from a pipeline to a part and back when they are two processes: pickles.

Both are code of the same wheel, in the same environment, so values need no schema: NumPy arrays and
bytes go as they are. An exception arrives as the one that was raised, with the part's traceback as
its cause, where pickle can make it again; what cannot be sent is told of with its name.
"""

from __future__ import annotations

import pickle
import traceback
from typing import Any

from wheelway.failure import describe
from wheelway.parts import PartFailed

_PROTOCOL = 5
"""Arrays without a copy on the way (PEP 574); every Python that is supported has it."""
_LONGEST = 20_000
"""Characters of a traceback."""


class PartTraceback(Exception):  # noqa: N818 - only shown, as the cause of what the part raised
    """Where in the part's process it was raised."""

    def __str__(self) -> str:
        """The traceback, below a line of its own."""
        return f"\n{self.args[0]}"


def packed(value: Any, what: str) -> bytes:
    """A value as bytes; `what` it is, as the start of a sentence.

    Raises:
        TypeError: it cannot be sent.
    """
    try:
        return pickle.dumps(value, _PROTOCOL)
    # Pickling runs code of the value's class, which may raise anything.
    except Exception as error:
        raise TypeError(
            f"{what} cannot be sent between processes ({describe(error)}); have it hold only what "
            "can be pickled, such as arrays, bytes, models and dictionaries"
        ) from error


def unpacked(data: bytes) -> Any:
    """The value again; raises whatever its class raises."""
    return pickle.loads(data)  # noqa: S301 - from code of the same release


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
