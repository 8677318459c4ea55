"""How soon to look again: memory between passes, told the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.model import Phase
from controller.planning.changes import BUILD_RUNNING
from controller.planning.subjects import SUSPENDED

if TYPE_CHECKING:
    from controller.planning.plan import Plan

MOVING = 0.12
"""Seconds until the next pass while something is on its way."""
MOVING_SLOWLY = 0.5
"""The same, when it has been on its way for a while, or has a second of work ahead of it: Serve
builds in a process of its own, and each look takes from the time of the cores it builds on."""
_FOR_A_WHILE = 20.0
"""Seconds."""


class Pace:
    """Of one daemon's passes; between two lie `interval` seconds at most."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._moving_since: float | None = None

    def next_in(self, decided: Plan, now: float, *, sent: bool, next_poll: float) -> float:
        """Seconds until the next pass. `sent`: a config was; `next_poll`: seconds until a source is
        to be listed.
        """
        on_the_way = {
            (transition.phase, transition.reason)
            for transition in decided.transitions
            if transition.phase in {Phase.READY, Phase.STAGED, Phase.RETIRING}
            and transition.reason not in {"InsufficientResources", SUSPENDED}
        }
        building_holds = decided.hold is not None and decided.hold.reason == BUILD_RUNNING
        if sent or building_holds or on_the_way:
            self._moving_since = self._moving_since or now
            building = on_the_way <= {(Phase.STAGED, "Building")}
            slowly = building or now - self._moving_since >= _FOR_A_WHILE
            return MOVING_SLOWLY if slowly else MOVING
        self._moving_since = None
        waits = [self.interval, max(0.05, next_poll)]
        if decided.wake_at is not None:
            waits.append(max(MOVING, decided.wake_at - now))
        return min(waits)
