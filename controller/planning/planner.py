"""Plans from pass to pass, and how soon the next is due: memory that is told the time.

A plan is a pure function of its situation, and says when time alone would change it: until then,
and as long as nothing else changes, the last plan is used again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.model import Phase
from controller.planning.causes import SUSPENDED
from controller.planning.changes import BUILD_RUNNING
from controller.planning.documents import same_document
from controller.planning.rollout import plan

if TYPE_CHECKING:
    from controller.planning.plan import Plan
    from controller.planning.situation import Situation


MOVING = 0.12
"""Seconds until the next pass while something is under way."""
MOVING_SLOWLY = 0.5
"""The same, once it has been on its way for a while, or while Serve builds: each pass takes time
from the cores that the build needs."""
_FOR_A_WHILE = 20.0
"""Seconds."""


class Planner:
    """Plans for one cluster."""

    def __init__(self) -> None:
        self._latest: tuple[Situation, Plan] | None = None

    def plan(self, situation: Situation) -> Plan:
        """As `rollout.plan`; the same object as before while only the time changes and nothing is
        to do.
        """
        if self._latest is not None:
            before, decided = self._latest
            until = float("inf") if decided.wake_at is None else decided.wake_at
            in_time = before.now <= situation.now < until
            if in_time and _same(before, situation):
                return decided
        decided = plan(situation)
        failed = decided.quarantines or decided.refused_weights
        at_rest = not (decided.changes or failed or decided.hold)
        self._latest = (situation, decided) if at_rest else None
        return decided


def _same(before: Situation, situation: Situation) -> bool:
    """Whether only the time differs."""
    if replace(before, now=situation.now) != situation:
        return False
    pairs = zip(before.applications, situation.applications, strict=True)
    if before.applications is not situation.applications and not all(
        same_document(one.document, other.document) for one, other in pairs
    ):
        return False
    return before.placements is situation.placements or all(
        same_document(placement.document, situation.placements[release].document)
        for release, placement in before.placements.items()
    )


class Pace:
    """How often one daemon makes passes: at least every `interval` seconds."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._moving_since: float | None = None

    def next_in(
        self,
        decided: Plan,
        now: float,
        *,
        sent: bool,
        next_poll: float,
        swapping: bool = False,
    ) -> float:
        """Seconds until the next pass. `sent`: a config was sent; `next_poll`: seconds until a
        source is to be listed; `swapping`: replicas load other weights.
        """
        on_the_way = {
            (transition.phase, transition.reason)
            for transition in decided.transitions
            if transition.phase in {Phase.READY, Phase.STAGED, Phase.RETIRING}
            and transition.reason not in {"InsufficientResources", SUSPENDED}
        }
        building_holds = decided.hold is not None and decided.hold.reason == BUILD_RUNNING
        if sent or building_holds or on_the_way or swapping:
            self._moving_since = self._moving_since or now
            building = not swapping and on_the_way <= {(Phase.STAGED, "Building")}
            slowly = building or now - self._moving_since >= _FOR_A_WHILE
            return MOVING_SLOWLY if slowly else MOVING
        self._moving_since = None
        waits = [self.interval, max(0.05, next_poll)]
        if decided.wake_at is not None:
            waits.append(max(MOVING, decided.wake_at - now))
        return min(waits)
