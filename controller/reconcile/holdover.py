"""Conditions of the daemon before, or of the parts before, that may still hold.

Listings, downloads and builds begin anew after a restart. Until they have ended once, a condition
that they met must not be told as over, for it would return at once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from controller.journal import Reader
    from controller.model import Condition

LONGEST: Final = 60.0
"""Seconds after which a condition that was not met again counts as over, whatever still runs."""
_KNOWN_AT_ONCE: Final = {"api", "config", "journal", "ray"}
"""Subjects whose conditions every pass finds by itself."""


class Holdover:
    """The conditions held over for one set of parts; `clock` is monotonic, in seconds."""

    def __init__(self, journal: Reader, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._clock = clock
        self._began: float | None = None
        self._over = False

    def begin(self, *, busy: bool) -> None:
        """A pass begins; `busy`: something that an earlier one started still runs."""
        if self._began is None:
            self._began = self._clock()
        elif not busy or self._clock() - self._began >= LONGEST:
            self._over = True

    def besides(self, found: Iterable[Condition]) -> list[Condition]:
        """Conditions that may still hold, besides those found in this pass."""
        return [] if self._over else self.held(found, _KNOWN_AT_ONCE)

    def held(self, found: Iterable[Condition], observed: Collection[str]) -> list[Condition]:
        """Recorded conditions besides those found, except of subjects that were observed."""
        told = {(condition.subject, condition.reason) for condition in found}
        return [
            held
            for held, _ in self._journal.conditions()
            if held.subject not in observed and (held.subject, held.reason) not in told
        ]
