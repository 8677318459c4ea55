"""When to stop asking an index: what one page met for some reasons, all others would meet too.

So a password that is wrong is not tried a thousand times, and an index that is down costs a few
timeouts instead of one a package.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from controller.errors import Transient

if TYPE_CHECKING:
    from controller.errors import WheelwayError

FAILURES = 3
"""In a row, that may be those of single pages."""

_FINAL = frozenset(
    {
        *("IndexUnauthorized", "IndexThrottled", "IndexUntrusted", "SourceClosed"),
        *("CredentialsUnreadable", "CertificateUnreadable", "ConfigInvalid"),
    }
)
_SHARED = frozenset({"IndexUnreachable", "IndexFailed", "IndexSlow"})
_BEFORE_ANY = _SHARED | {"IndexForbidden"}
"""Some indexes say "forbidden" to a wrong password; to others it is a matter of each package."""


class CircuitBreaker:
    """One round of asking. May be used from several threads."""

    def __init__(self) -> None:
        self.error: WheelwayError | None = None
        """Why nobody should be asked any more in this round."""
        self._failures = 0
        self._met = _BEFORE_ANY
        self._mutex = threading.Lock()

    def note(self, error: WheelwayError | None) -> None:
        """How one page went; None: well."""
        with self._mutex:
            if error is None:
                self._failures, self._met = 0, _SHARED
                return
            self._failures += error.reason in self._met
            told_to_wait = isinstance(error, Transient) and error.retry_after is not None
            if self._failures >= FAILURES or error.reason in _FINAL or told_to_wait:
                self.error = error
