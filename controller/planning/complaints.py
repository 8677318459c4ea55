"""What releases say of themselves at their routes, as conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.model import Condition

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from controller.model import Answer, Application

CLEAN = 3
"""Answers without a complaint, one after the other, that end it; so many for each replica, since
each may be another's: one of n goes unheard in 3n of them one time in twenty."""


@dataclass(frozen=True, slots=True)
class _Failing:
    condition: Condition
    answer: Answer
    """The last one."""
    clean: int = 0


class Complaints:
    """Remembers from pass to pass whose requests fail: an answer tells of one replica only."""

    def __init__(self) -> None:
        self._failing: dict[str, _Failing] = {}  # by route

    def conditions(
        self, answers: Mapping[str, Answer], applications: Collection[Application]
    ) -> list[Condition]:
        """Those that hold, by the last answer of each route; one that was given before says
        nothing new.
        """
        found = []
        replicas = {app.route: len(app.replicas) for app in applications}
        for route, answer in sorted(answers.items()):
            if answer.settings_error:
                subject = answer.header or route
                found.append(Condition(subject, "SettingsRefused", answer.settings_error))
            if answer.failing or route in self._failing:
                needed = CLEAN * max(replicas.get(route, 1), 1)
                found.extend(self._judged(route, answer, needed))
        for route in self._failing.keys() - answers.keys():
            del self._failing[route]
        return found

    def _judged(self, route: str, answer: Answer, needed: int) -> list[Condition]:
        before = self._failing.get(route)
        same = before is not None and answer.header in {None, before.condition.subject}
        if before is not None and same and answer is before.answer:
            return [before.condition]
        if answer.failing:
            text = (
                f"a replica says: {answer.failing}. Its log has the cause of each; this ends with "
                "new requests that succeed, and stands for as long as none come"
            )
            condition = Condition(answer.header or route, "RequestsFailing", text)
            told = before.condition if before is not None and same else condition
            self._failing[route] = _Failing(told, answer)
            return [told]
        # Who says nothing at all is not clean: `RouteNotAnswering` tells of that.
        clean = 0 if before is None else before.clean + (answer.header is not None)
        if before is None or not same or clean >= needed:
            self._failing.pop(route, None)
            return []
        self._failing[route] = _Failing(before.condition, answer, clean)
        return [before.condition]
