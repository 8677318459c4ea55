"""`Refused`: what a stage raises when its caller is at fault, not the pipeline.

It becomes a problem document with its status, reason and message, and one line in the log without
a traceback. A class that lists its `refusals` has them in its documentation.

What the host says itself keeps its meaning: a reason of its own goes with the status that it has
there, and none that blames the release can be had, so that a client can branch on reasons.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from wheelway.failure import SCHEMA_INVALID, StartFailure

if TYPE_CHECKING:
    from wheelway.contract import Pipeline

LONGEST = 2000
"""Characters of a message; what is beyond is cut off, since it may quote what a client sent."""
MOST = 100
"""Refusals that one class lists."""
RESERVED: Final = {
    "NotFound": 404,
    "MethodNotAllowed": 405,
    "TooLarge": 413,
    "UnsupportedMediaType": 415,
    "InputInvalid": 422,
    "PipelineFailed": 500,
    "ResultInvalid": 500,
    "NotLoaded": 503,
    "Overloaded": 503,
    "PartUnavailable": 503,
    "Replaced": 503,
    "TimedOut": 504,
}
"""The host's own reasons (problem.py) and the status of each."""
_REASON: Final = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")


class Refused(Exception):  # noqa: N818 - named as in the docs: no fault of the program
    """The caller's mistake. Its attributes are those it is made of; it can be pickled.

    Args:
        status: the answer's, 400 to 499.
        reason: a PascalCase word for programs to branch on.
        message: for the person who asked; it reaches them, so nothing private belongs into it.

    Raises:
        ValueError: another status, no such word, or one that means something else.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        if not isinstance(status, int) or not 400 <= status <= 499:
            raise ValueError(
                f"the status of a refusal is one of 400 to 499, not {_short(repr(status))}: what "
                "is no mistake of the caller's is no refusal, raise any other exception for it"
            )
        if not isinstance(reason, str) or not _REASON.fullmatch(reason):
            raise ValueError(
                "the reason of a refusal is one word in PascalCase, such as ImageUndecodable, of "
                f"at most 64 ASCII letters and digits, not {_short(repr(reason))}"
            )
        if RESERVED.get(reason, status) != status:
            raise ValueError(
                f"{reason} is said by wheelway itself, with status {RESERVED[reason]}; choose "
                "another word"
            )
        self.status = int(status)
        self.reason = reason
        # An exception is what many hand over here, and surrogates have no form in UTF-8.
        self.message = _short(str(message).encode(errors="replace").decode(), LONGEST)
        super().__init__(self.status, self.reason, self.message)

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by calling the class: a subclass may take other arguments.
        return _restored, (type(self), self.status, self.reason, self.message), self.__dict__


def _restored(kind: type[Refused], status: int, reason: str, message: str) -> Refused:
    refused = kind.__new__(kind, status, reason, message)
    Refused.__init__(refused, status, reason, message)
    return refused


def refusal_in(error: BaseException) -> Refused | None:
    """The refusal that an exception is: itself, or where a task group collected nothing else the
    first of them.
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, BaseExceptionGroup) and error.split(Refused)[1] is None:
        return refusal_in(error.exceptions[0])
    return None


def refusals_of(pipeline: type[Pipeline]) -> tuple[Refused, ...]:
    """Those that a class lists.

    Raises:
        StartFailure: SchemaInvalid; they are no list or tuple of `Refused`.
    """
    listed: Any = inspect.getattr_static(pipeline, "refusals")
    what = ""
    if isinstance(listed, (str, bytes)) or not isinstance(listed, Sequence):
        what = (
            f"must be a list or tuple of `Refused`, not a {type(listed).__qualname__}; for one, "
            "with the comma: `refusals = (Refused(...),)`"
        )
    elif len(listed) > MOST:
        what = f"lists {len(listed)}, at most {MOST} are documented"
    else:
        strange = next((one for one in listed if not isinstance(one, Refused)), None)
        if strange is not None:
            what = (
                f"holds {_short(repr(strange))}; each is an example of what is raised: "
                "`Refused(status, reason, message)`"
            )
    if what:
        raise StartFailure(SCHEMA_INVALID, f"`{pipeline.__qualname__}.refusals` {what}")
    return tuple(listed)


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
