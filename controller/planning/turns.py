"""Whose turn it is to start: memory between passes, told the time."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from controller.model import Application, Placement


class Turns:
    """Since when each placement waits for a place on the cluster."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def waiting(
        self, placements: Iterable[Placement], applications: Iterable[Application], now: float
    ) -> Mapping[str, float]:
        """By name, of those that are not there. Call it every pass."""
        missing = {placement.name for placement in placements}
        missing.difference_update(app.name for app in applications)
        self._since = {name: self._since.get(name, now) for name in missing}
        return self._since


def in_turn(asking: Iterable[Placement], since: Mapping[str, float], now: float) -> list[Placement]:
    """Who waits longest first; of those that came together each pipeline's newest version first,
    then each one's next: no pipeline has to wait for all of another's.
    """
    rank: dict[str, int] = {}
    versions: dict[str, list[Placement]] = defaultdict(list)
    for placement in asking:
        versions[placement.release.pipeline].append(placement)
    for of_one in versions.values():
        of_one.sort(key=lambda p: (p.release.version, p.name), reverse=True)
        rank.update((placement.name, number) for number, placement in enumerate(of_one))
    return sorted(
        (placement for of_one in versions.values() for placement in of_one),
        key=lambda p: (since.get(p.name, now), rank[p.name], p.name),
    )
