"""Why a release does not start, in a form that survives Serve and reaches the operator.

Serve hands a replica's failure on as the text of a traceback. The text of a `StartFailure` is made
to be found in it again: the controller searches for `wheelway-failure[<Reason>] <message>`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import traceback
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

if TYPE_CHECKING:
    from pathlib import Path


DIGEST_MISMATCH: Final = "DigestMismatch"
IMPORT_FAILED: Final = "ImportFailed"
NOT_A_PIPELINE: Final = "NotAPipeline"
ABSTRACT_PIPELINE: Final = "AbstractPipeline"
AMBIGUOUS_PIPELINE: Final = "AmbiguousPipeline"
SCHEMA_INVALID: Final = "SchemaInvalid"
PART_CIRCULAR: Final = "PartCircular"
LOAD_FAILED: Final = "LoadFailed"
LOAD_EXITED: Final = "LoadExited"
OUT_OF_MEMORY: Final = "OutOfMemory"
EXAMPLE_FAILED: Final = "ExampleFailed"
EXAMPLE_REFUSED: Final = "ExampleRefused"
EXAMPLE_RESULT_INVALID: Final = "ExampleResultInvalid"
EXAMPLE_TIMEOUT: Final = "ExampleTimeout"
START_TIMEOUT: Final = "StartTimeout"
REPLICA_DIED: Final = "ReplicaDied"
LASTING: Final = {OUT_OF_MEMORY, REPLICA_DIED}
"""What trying again would only make worse."""

_NO_MEMORY = (os.strerror(errno.ENOMEM), "std::bad_alloc")
"""How native libraries put it, in the text of a RuntimeError."""
MISTAKES = 5
"""Mistakes of one value that are told."""
TAIL_FRAMES = 12
"""Frames of a traceback that are handed on: the innermost ones, where it went wrong."""
TAIL_LENGTH = 4000
"""Characters of these, and as many of what the exception says: it may quote a file whole."""
MESSAGE_LENGTH = 600
"""Characters of a message; more does not fit a line of `serve status`."""


class StartFailure(Exception):  # noqa: N818 - a verdict on a release, named as in the docs
    """A release cannot start; the controller searches for its text."""

    def __init__(self, reason: str, message: str, tail: str = "") -> None:
        super().__init__(reason, message, tail)
        self.reason = reason
        self.message = _one_line(message)
        self.tail = tail

    def __str__(self) -> str:
        return f"wheelway-failure[{self.reason}] {self.message}\n{self.tail}".rstrip()


class Mistake(Exception):  # noqa: N818 - no error of its own, but what such have in common
    """One that wheelway itself found: its text says all, and is told without the class's name."""


def blame(reason: str, what: str, error: BaseException, tree: Path | None) -> StartFailure:
    """The failure that `error` amounts to: `what` says what was tried, as the start of a sentence.

    Memory errors are `OutOfMemory` whatever was tried, also when the pipeline wrapped them, and
    however a library says so: mmap(2) fails with ENOMEM, C++ with `std::bad_alloc`.
    """
    if _ran_out_of_memory(error):
        reason = OUT_OF_MEMORY
        what = (
            f"{what}: it needs more memory than a replica may have; raise `max_memory` (files that "
            "are mapped privately, as torch and safetensors map models, count in full)"
        )
    return StartFailure(reason, f"{what}: {describe(error)}", tail_of(error, tree))


def ends_the_caller(error: BaseException) -> bool:
    """Whether an exception that came out of an author's code is not that code's: the calling task
    is being cancelled, or the process interrupted. A CancelledError without that is as any other
    failure: the code awaited something that was cancelled.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt)


def describe(error: BaseException) -> str:
    """An exception as one line: its type and what it says, or the mistakes that were found."""
    if isinstance(error, Mistake):
        return _one_line(str(error))
    if isinstance(error, ValidationError):
        return _one_line(mistakes(error, "the value"))
    return _one_line("".join(traceback.format_exception_only(error)).strip())


def mistakes(error: ValidationError, whole: str) -> str:
    """What is wrong with a value and where, without the value: it may be large or private.

    `whole` stands for the path of what is wrong as a whole.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        f"{'.'.join(map(str, one['loc'])) or whole}: {one['msg']}" for one in found[:MISTAKES]
    )


def tail_of(error: BaseException, tree: Path | None) -> str:
    """The traceback from the pipeline's own outermost frame on, at most `TAIL_FRAMES` of it and
    `TAIL_LENGTH` of each half.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if tree is not None:
        prefix = f"{tree}/"
        own = [n for n, frame in enumerate(frames) if frame.filename.startswith(prefix)]
        frames = traceback.StackSummary(frames[own[0] :] if own else frames[-1:])
    where = "".join(traceback.StackSummary(frames[-TAIL_FRAMES:]).format())
    what = "".join(traceback.format_exception_only(error)).rstrip()
    if len(where) > TAIL_LENGTH:
        where = f"...{where[-TAIL_LENGTH:]}"
    return where + (what if len(what) <= TAIL_LENGTH else f"{what[:TAIL_LENGTH]}...")


def _ran_out_of_memory(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MESSAGE_LENGTH else f"{line[: MESSAGE_LENGTH - 3]}..."
