"""When a poll stops asking: when a package failed in a way that all others would fail in too.

A wrong password is not tried a thousand times, and a service that is down costs a few timeouts
instead of one a package.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from controller.errors import WheelwayError

FAILURES = 3
"""Failures in a row after which they are no longer taken for those of single packages."""


class CircuitBreaker:
    """The breaker of one poll. Any method may be called from any thread.

    `final` are reasons that every other package would meet as well.
    """

    def __init__(self, final: Collection[str]) -> None:
        self.error: WheelwayError | None = None
        """Why no more packages should be asked about."""
        self.answered = False
        """Whether a package was well."""
        self._final = final
        self._row = 0
        self._mutex = threading.Lock()

    def well(self) -> None:
        """A package could be asked about."""
        with self._mutex:
            self._row, self.answered = 0, True

    def failed(self, error: WheelwayError, *, counts: bool) -> None:
        """A package could not be asked about; it `counts` where others may fail alike."""
        told_to_wait = error.retry_after is not None
        with self._mutex:
            self._row += counts
            if self._row >= FAILURES or error.reason in self._final or told_to_wait:
                self.error = self.error or error
