"""At which routes the ingress is asked, in which order, and what releases complain of there.

Routes whose answer a plan needs are asked in every pass, settled ones in turns: hundreds of them
make no burst of requests, and each is still asked once in a while.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from heapq import nsmallest
from typing import TYPE_CHECKING

from controller.model import Condition
from controller.observed import ApplicationStatus
from controller.planning.paths import path_of
from controller.planning.situation import was_live

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from controller.model import PlacementRecord
    from controller.observed import Answer, Application

ROUND = 30.0
"""Seconds in which each settled route is asked once: the delay until a release that Serve reports
as well is found not to answer, or to complain."""
CLEAN = 3
"""Answers in a row without a complaint that end it, for each replica, as each answer may be
another's: one of n replicas goes unheard in 3n answers one time in twenty."""


def routes_to_probe(
    applications: Iterable[Application], records: Mapping[str, PlacementRecord]
) -> tuple[str, ...]:
    """The routes whose answer a plan needs: an application of ours holds it and was not seen there
    yet, or has a predecessor or a successor beside it.
    """
    ours = [
        (app, path_of(app.release))
        for app in applications
        if app.release is not None and app.status is not ApplicationStatus.DELETING
    ]
    sharing = Counter(route for _, route in ours)
    return tuple(
        sorted(
            app.route
            for app, wanted in ours
            if app.route is not None and (sharing[wanted] > 1 or not was_live(app, records))
        )
    )


def due(
    needed: Collection[str],
    settled: Collection[str],
    asked: Mapping[str, float],
    *,
    since: float | None,
    now: float,
) -> list[str]:
    """The routes to ask now: all `needed` ones, then the `settled` ones whose turn it is. Those
    that waited longest come first, as slow answers may leave no time for all.

    Args:
        needed: routes whose answer the plan needs.
        settled: all others that have one to give.
        asked: by route, when it was asked last.
        since: when the ingress was asked before; None asks all.
        now: when this is.
    """

    def waited_longest(route: str) -> tuple[float, str]:
        return asked.get(route, float("-inf")), route

    turns = len(settled)
    if since is not None:  # one turn falls due every `ROUND / turns` seconds
        turns = int(turns * now // ROUND) - int(turns * since // ROUND)
    return [*sorted(needed, key=waited_longest), *nsmallest(turns, settled, key=waited_longest)]


@dataclass(frozen=True, slots=True)
class _Failing:
    condition: Condition
    answer: Answer
    """The last one."""
    clean: int = 0


class Complaints:
    """Releases whose requests fail: memory, for an answer tells of one replica only."""

    def __init__(self) -> None:
        self._failing: dict[str, _Failing] = {}  # by route

    def conditions(
        self, answers: Mapping[str, Answer], applications: Collection[Application]
    ) -> list[Condition]:
        """Conditions by the last answer of each route; one seen before does not count again."""
        found = []
        failing = self._failing
        told = {r: a for r, a in answers.items() if a.settings_error or a.failing or r in failing}
        replicas = {app.route: len(app.replicas) for app in applications if app.route in told}
        for route, answer in sorted(told.items()):
            if answer.settings_error:
                subject = answer.header or route
                found.append(Condition(subject, "SettingsRefused", answer.settings_error))
            if answer.failing or route in failing:
                needed = CLEAN * max(replicas.get(route, 1), 1)
                found.extend(self._judged(route, answer, needed))
        for route in failing.keys() - answers.keys():
            del failing[route]
        return found

    def _judged(self, route: str, answer: Answer, needed: int) -> list[Condition]:
        before = self._failing.get(route)
        if before is not None and answer.header not in {None, before.condition.subject}:
            before = None  # another release answers there now
        if before is not None and answer is before.answer:
            return [before.condition]
        if answer.failing:
            text = (
                f"a replica says: {answer.failing}. Its log has the cause of each; this ends with "
                "new requests that succeed, and stands for as long as none come"
            )
            condition = Condition(answer.header or route, "RequestsFailing", text)
            told = condition if before is None else before.condition
            self._failing[route] = _Failing(told, answer)
            return [told]
        # No answer is not a clean one: `RouteNotAnswering` tells of that.
        clean = 0 if before is None else before.clean + (answer.header is not None)
        if before is None or clean >= needed:
            self._failing.pop(route, None)
            return []
        self._failing[route] = _Failing(before.condition, answer, clean)
        return [before.condition]
