"""Which routes the ingress is asked at, and in which order.

Those whose answer a plan needs are asked in every pass; those that are settled in turns, so that
hundreds of them are no burst of requests, and each is heard of once in a while all the same.
"""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ROUND = 30.0
"""Seconds in which each settled route is asked once: how late it is noticed that a release, which
Serve takes for well, does not answer or complains."""


def due(
    needed: Collection[str],
    settled: Collection[str],
    asked: Mapping[str, float],
    *,
    since: float | None,
    now: float,
) -> list[str]:
    """The routes to ask now. Those that are needed come first, and of both kinds first those that
    waited longest: not all may have their turn where answers are slow.

    Args:
        needed: routes whose answer the plan needs.
        settled: all others that have one to give.
        asked: by route, when it was asked last.
        since: when the look before was; None when there was none, and all are asked.
        now: when this one is.
    """

    def waited_longest(route: str) -> tuple[float, str]:
        return asked.get(route, float("-inf")), route

    turns = len(settled)
    if since is not None:  # one turn falls due every `ROUND / turns` seconds
        turns = int(turns * now // ROUND) - int(turns * since // ROUND)
    return [*sorted(needed, key=waited_longest), *nsmallest(turns, settled, key=waited_longest)]
