"""What is told only once it has lasted, for most of it is over sooner."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Lasting:
    """What goes on now and is not told yet, each with when and how to tell it. `clock` counts
    seconds, and is never set.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._going_on: dict[Hashable, tuple[float, Callable[[], None]] | None] = {}
        """By what it is; None once it was told."""

    def begin(self, what: Hashable, lasts: float, tell: Callable[[], None]) -> None:
        """It goes on, and is to be told unless it ends within so many seconds."""
        self._going_on.setdefault(what, (self._clock() + lasts, tell))

    def end(self, what: Hashable) -> bool:
        """It is over; whether it was told, or is not known to have begun."""
        return self._going_on.pop(what, None) is None

    def tell(self) -> None:
        """Tell what has lasted."""
        for what, waiting in list(self._going_on.items()):
            if waiting is not None and self._clock() >= waiting[0]:
                self._going_on[what] = None
                waiting[1]()
