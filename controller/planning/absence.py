"""What is on the cluster and listed nowhere: since when, and how much of it at once."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from controller.planning.policy import ABSENT, MISSING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from controller.model import Release
    from controller.planning.situation import Route, Situation


class Absences:
    """Since when each release on the cluster is listed nowhere: memory between passes."""

    def __init__(self) -> None:
        self._since: dict[Release, float] = {}

    def lately(self, absent: AbstractSet[Release], now: float, grace: float) -> set[Release]:
        """Those of the absent ones that went less than `grace` seconds ago. Call it every pass."""
        self._since = {release: self._since.get(release, now) for release in absent}
        return {release for release, since in self._since.items() if since > now - grace}


def beyond_retire_limit(routes: Sequence[Route], situation: Situation) -> dict[str, str]:
    """Routes whose release vanished from its source, when these are too many of one at once.

    A route counts for the source of each of its applications: the holder may give it back.
    """
    live: dict[str, int] = defaultdict(int)
    vanished: dict[str, list[str]] = defaultdict(list)
    for route in routes:
        if route.holder is None or route.holder.release is None:
            continue
        source_of = {
            app.release: situation.sources.get(app.release, "")
            for app in (route.holder, *route.others)
            if app.release is not None
        }
        live[source_of[route.holder.release]] += 1
        if route.elected is None and any(v.reason in {ABSENT, MISSING} for v in route.verdicts):
            for source in set(source_of.values()):
                vanished[source].append(route.path)
    held: dict[str, str] = {}
    for source, absent in vanished.items():
        allowed = max(1, int(situation.limits.retire_limit * live[source]))
        if len(absent) > allowed:
            why = (
                f"{len(absent)} of {max(live[source], len(absent))} live releases vanished from "
                f"{source or 'the sources'} at once; at most {allowed} are retired without a "
                "person: bring the wheels back, or set rollout.retire_limit higher for as long as "
                "it takes, or active = false"
            )
            held |= dict.fromkeys(absent, why)
    return held
