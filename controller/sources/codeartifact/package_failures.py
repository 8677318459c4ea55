"""Packages that cannot be asked about, and when that is a failure of the whole source.

A failure that every package would meet ends a poll at once. Any other is told of its package alone,
unless several in a row fail of which nothing was known before. Packages that failed are asked last,
so that they never hold up those that are well.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from controller.errors import without_frames
from controller.model import Condition
from controller.sources.circuit_breaker import CircuitBreaker

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from controller.errors import WheelwayError

OF_ALL = frozenset(
    {
        *("AwsConfigInvalid", "ClockSkewed", "DomainUnknown", "EndpointInvalid"),
        *("CredentialsExpired", "CredentialsInvalid", "CredentialsMissing"),
        *("EndpointUntrusted", "ProfileUnknown", "RegionMissing", "RegionUnknown"),
        *("RepositoryUnknown", "SourceClosed", "Throttled"),
    }
)
"""Reasons that every other package would meet as well."""
_OWN = "AccessDenied"
"""A reason that says nothing about the next package, however often it is met."""


class PackageFailures:
    """The failures by package. Any method may be called from any thread."""

    def __init__(self) -> None:
        self._met: dict[str, tuple[int, WheelwayError]] = {}  # with the failures in a row
        self._well_in_round = False
        self._breaker = CircuitBreaker(OF_ALL)
        self._mutex = threading.Lock()

    @property
    def ended(self) -> WheelwayError | None:
        """Why no more packages should be asked about in this poll."""
        return self._breaker.error

    @property
    def packages(self) -> Collection[str]:
        """Those that failed when they were asked about last."""
        return self._met.keys()

    def begin_round(self, names: Collection[str]) -> None:
        """All of these are about to be asked about; others are not wanted any more."""
        self._met = {name: found for name, found in self._met.items() if name in names}
        self._well_in_round = False

    def begin_poll(self, due: Collection[str]) -> Sequence[str]:
        """The order in which these packages, a part of the round, are asked about."""
        self._breaker = CircuitBreaker(OF_ALL)
        return sorted(due, key=lambda name: (self._times(name), name))

    def well(self, name: str) -> None:
        """A package could be asked about."""
        with self._mutex:
            self._met.pop(name, None)
            self._well_in_round = True
        self._breaker.well()

    def failed(self, name: str, error: WheelwayError) -> None:
        """A package could not be asked about."""
        with self._mutex:
            times = self._times(name)
            if error.reason not in OF_ALL:
                self._met[name] = times + 1, without_frames(error)
            # A package that failed before tells nothing new while others are well.
            counts = error.reason != _OWN and not (times and self._well_in_round)
        self._breaker.failed(error, counts=counts)

    def verdict(self, known: Collection[str]) -> WheelwayError | None:
        """Why the whole source cannot be listed; None when something of it can.

        `known` are packages that were asked about, now or earlier.
        """
        if self.ended is not None:
            return self.ended
        if not self._met or self._breaker.answered or set(known) - self._met.keys():
            return None
        errors = [self._met[name][1] for name in sorted(self._met)]
        return next((error for error in errors if error.reason != _OWN), errors[0])

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

    def _times(self, name: str) -> int:
        return self._met[name][0] if name in self._met else 0
