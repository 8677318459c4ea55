"""Plans from pass to pass, and goes on with the last plan for as long as nothing calls for another.

A plan is a pure function of its situation, and says itself when time alone would change it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.planning.documents import same_document
from controller.planning.rollout import plan

if TYPE_CHECKING:
    from controller.planning.plan import Plan
    from controller.planning.situation import Situation


class Planner:
    """Plans for one cluster."""

    def __init__(self) -> None:
        self._latest: tuple[Situation, Plan] | None = None

    def plan(self, situation: Situation) -> Plan:
        """As `rollout.plan`; the same object as before while there is nothing to do and nothing but
        the time is another.
        """
        if self._latest is not None:
            before, decided = self._latest
            until = float("inf") if decided.wake_at is None else decided.wake_at
            in_time = before.now <= situation.now < until
            if in_time and _same(before, situation):
                return decided
        decided = plan(situation)
        at_rest = not (decided.changes or decided.quarantines or decided.hold)
        self._latest = (situation, decided) if at_rest else None
        return decided


def _same(before: Situation, situation: Situation) -> bool:
    """Whether nothing but the time is another."""
    if replace(before, now=situation.now) != situation:
        return False
    applications = zip(before.applications, situation.applications, strict=True)
    return all(same_document(one.document, other.document) for one, other in applications) and all(
        same_document(placement.document, situation.placements[release].document)
        for release, placement in before.placements.items()
    )
