"""Whose turn it is to start: memory between passes, told the time."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from controller.model import Application, Placement, Release


class Turns:
    """Since when each release waits for a place on the cluster."""

    def __init__(self) -> None:
        self._since: dict[Release, float] = {}

    def waiting(
        self,
        elected: Iterable[Release],
        placements: Mapping[Release, Placement],
        applications: Iterable[Application],
        now: float,
    ) -> Mapping[Release, float]:
        """Of those that are placed and not there. One that is elected and for a while has no
        placement, because its environment is made again, keeps its turn. Call it every pass.
        """
        there = {app.name for app in applications}
        absent = self._since.keys() - placements.keys()
        kept = absent.intersection(elected) if absent else ()
        missing = [release for release, placed in placements.items() if placed.name not in there]
        self._since = {release: self._since.get(release, now) for release in (*kept, *missing)}
        return self._since


def in_turn(
    asking: Iterable[Placement], since: Mapping[Release, float], now: float
) -> list[Placement]:
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
        key=lambda p: (since.get(p.release, now), rank[p.name], p.name),
    )
