"""Which sources sent other bytes than they list, and how often in a row.

That is a fault of the source, or of the way to it, and not of the wheel: another source that lists
the same bytes may have them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.errors import Rejected, WheelwayError
from controller.model import Condition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from controller.errors import Transient
    from controller.model import Revision

MISMATCH = "DigestMismatch"
"""The reason of such an error."""
MOST = 3
"""After so many in a row, which are no accident, the source is not asked for the wheel any more."""
WRONG_BYTES = "WrongBytes"


class Mismatches:
    """The mismatches of all sources. Jobs report them from their threads."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[int, Revision, str]] = {}
        """By source and digest."""

    def note(self, revision: Revision, error: Transient) -> WheelwayError:
        """Count one more. Returns the error, or a rejection when it was one too many."""
        key = revision.source, revision.sha256
        count = self._found.get(key, (0,))[0] + 1
        self._found[key] = count, revision, error.message
        if count < MOST:
            return error
        return Rejected(
            WRONG_BYTES,
            f"{revision.filename} was fetched {MOST} times and never was what {revision.source} "
            "lists; publish it again under another version, and find out who changes it on its "
            f"way: {error.message}",
        )

    def over(self, revision: Revision) -> None:
        """The source sent what it lists."""
        self._found.pop((revision.source, revision.sha256), None)

    def drop(self, which: Callable[[str], bool]) -> None:
        """Forget mismatches of wheels with these digests."""
        for _, revision, _ in tuple(self._found.values()):
            if which(revision.sha256):
                self.over(revision)

    def conditions(self, brought_by: Callable[[Revision], str | None]) -> Iterator[Condition]:
        """Which sources sent other bytes for a file than another one did. `brought_by` names that
        one, if the file is still listed; otherwise the quarantine of the release tells.
        """
        for _, revision, how in tuple(self._found.values()):
            if other := brought_by(revision):
                yield Condition(
                    revision.source,
                    WRONG_BYTES,
                    f"{how}. It came from {other} instead, which lists the same: find out who "
                    f"changes files on their way from {revision.source}",
                )


def is_of_the_bytes(error: WheelwayError) -> bool:
    """Whether the same bytes would come to the same error, whoever brings them."""
    return isinstance(error, Rejected) and error.reason != WRONG_BYTES
