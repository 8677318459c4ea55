"""When to stop asking in one poll: what one package met, all others would meet too.

So a password that is wrong is not tried a thousand times, and a service that is down costs a few
timeouts instead of one a package.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from controller.errors import WheelwayError

FAILURES = 3
"""In a row, that may be those of single packages."""


class CircuitBreaker:
    """That of one poll. Any method may be called from any thread.

    `final` are reasons that no other package would be spared.
    """

    def __init__(self, final: Collection[str]) -> None:
        self.error: WheelwayError | None = None
        """Why nobody should be asked any more."""
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
        """A package could not; it `counts` where that may be the trouble of all."""
        told_to_wait = error.retry_after is not None
        with self._mutex:
            self._row += counts
            if self._row >= FAILURES or error.reason in self._final or told_to_wait:
                self.error = self.error or error
