"""Packages that cannot be looked at, and when that is the trouble of the whole source.

What every package would meet ends a look at once. What may be one package's own trouble is told of
that package, and leaves the others alone; only when it is met by several in a row, of which nothing
was known before, is it taken for everybody's. Packages in trouble are asked last, so that the same
few that always fail never stand before those that are well.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from controller.model import Condition

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from controller.errors import WheelwayError

IN_A_ROW = 3
"""Failures that may be those of single packages."""
OF_ALL = frozenset(
    {
        *("AwsConfigInvalid", "ClockSkewed", "DomainUnknown", "EndpointInvalid"),
        *("CredentialsExpired", "CredentialsInvalid", "CredentialsMissing"),
        *("EndpointUntrusted", "ProfileUnknown", "RegionMissing", "RegionUnknown"),
        *("RepositoryUnknown", "SourceClosed", "Throttled"),
    }
)
"""Reasons that no other package would be spared."""
_OWN = frozenset({"AccessDenied"})
"""Reasons that say nothing of the next package, however often they are met."""


class CircuitBreaker:
    """What keeps packages from being looked at. Any method may be called from any thread."""

    def __init__(self) -> None:
        self.ended: WheelwayError | None = None
        """Why nobody should be asked any more in this look."""
        self._met: dict[str, tuple[int, WheelwayError]] = {}  # with the failures in a row
        self._row = 0
        self._well_in_look = self._well_in_round = False
        self._mutex = threading.Lock()

    @property
    def packages(self) -> Collection[str]:
        """Those that could not be looked at when they were asked about last."""
        return self._met.keys()

    def begin_round(self, names: Collection[str]) -> None:
        """All of these are about to be looked at; others are not wanted any more."""
        self._met = {name: found for name, found in self._met.items() if name in names}
        self._well_in_round = False

    def begin_look(self, due: Collection[str]) -> Sequence[str]:
        """In which order these are looked at now, which may be a part of the round."""
        self.ended, self._row, self._well_in_look = None, 0, False

        def rank(name: str) -> tuple[int, str]:
            return self._met[name][0] if name in self._met else 0, name

        return sorted(due, key=rank)

    def well(self, name: str) -> None:
        """A package was looked at."""
        with self._mutex:
            self._met.pop(name, None)
            self._row = 0
            self._well_in_look = self._well_in_round = True

    def failed(self, name: str, error: WheelwayError) -> None:
        """A package was not."""
        with self._mutex:
            if error.reason in OF_ALL:
                self.ended = self.ended or error
                return
            times = self._met[name][0] if name in self._met else 0
            self._met[name] = times + 1, error
            # One that failed before tells nothing new while others are well.
            self._row += error.reason not in _OWN and not (times and self._well_in_round)
            if self._row >= IN_A_ROW:
                self.ended = self.ended or error

    def verdict(self, known: Collection[str]) -> WheelwayError | None:
        """Why the whole source cannot be listed; None when something of it can.

        Args:
            known: packages that were looked at, now or earlier.
        """
        if self.ended is not None:
            return self.ended
        if not self._met or self._well_in_look or set(known) - self._met.keys():
            return None
        errors = [self._met[name][1] for name in sorted(self._met)]
        return next((error for error in errors if error.reason not in _OWN), errors[0])

    def notes(self) -> Sequence[Condition]:
        """What is told of each of these packages."""
        return [
            Condition(
                name,
                error.reason,
                f"{error.message}; until then {name} is taken to be as it was last seen",
            )
            for name, (_, error) in sorted(self._met.items())
        ]
