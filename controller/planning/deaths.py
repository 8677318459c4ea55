"""Replicas that die again and again while their release serves.

Serve starts another in the place of one that died, within seconds and without a word that lasts:
a replica that dies at every tenth request looks well whenever somebody looks. What is told here
comes of the ids of replicas, which change with each start.

This is memory between passes; the time is a parameter.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from controller.model import Condition
from controller.observed import ApplicationStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from controller.observed import Application

OFTEN: Final = 3
"""Deaths of replicas of one deployment that are told."""
WINDOW: Final = 600.0
"""Seconds within which they lie; after as many in peace nothing is told any more."""
_UP: Final = {ApplicationStatus.RUNNING, ApplicationStatus.UNHEALTHY}
"""While Serve rolls an application, replicas end because they shall."""


class Deaths:
    """Counts the replicas that are gone though nobody took them away."""

    def __init__(self) -> None:
        self._before: dict[str, Application] = {}
        self._died: dict[tuple[str, str], deque[float]] = {}
        """When, by application and part; the part of the pipeline itself is empty."""

    def conditions(self, applications: Collection[Application], now: float) -> list[Condition]:
        """One for each deployment whose replicas died often of late."""
        there = {app.name: app for app in applications if app.release is not None}
        for name, app in there.items():
            before = self._before.get(name)
            if before is None or before is app or not _as_it_was(before, app):
                continue
            for part, count in _gone(before, app).items():
                died = self._died.setdefault((name, part), deque(maxlen=OFTEN))
                died.extend([now] * count)
        self._before = there
        self._died = {
            key: died
            for key, died in self._died.items()
            if key[0] in there and now - died[-1] <= WINDOW
        }
        return [
            _condition(there[name], part)
            for (name, part), died in sorted(self._died.items())
            if len(died) == OFTEN and now - died[0] <= WINDOW
        ]


def _as_it_was(before: Application, app: Application) -> bool:
    """Whether nothing was changed that replaces replicas; documents that are alike are the same."""
    return before.document is app.document and before.status in _UP and app.status in _UP


def _gone(before: Application, app: Application) -> Counter[str]:
    """How many replicas are not there any more, by part."""
    scaled = _scaled(app)
    there = set(_replicas(app))
    lost = (part for part, id_ in set(_replicas(before)) - there if part not in scaled and id_)
    return Counter(lost)


def _replicas(app: Application) -> Iterator[tuple[str, str]]:
    yield from app.part_replicas
    for replica in app.replicas:
        if replica.state != "STOPPING":
            yield "", replica.id


def _scaled(app: Application) -> set[str]:
    """Parts that Serve scales, and so ends replicas of as it likes."""
    parts = {part.name for part in app.parts}
    return {
        name if (name := deployment.get("name")) in parts else ""
        for deployment in (app.document or {}).get("deployments") or ()
        if deployment.get("autoscaling_config") or deployment.get("num_replicas") == "auto"
    }


def _condition(app: Application, part: str) -> Condition:
    release = app.release
    whose = f" of the part {part!r}" if part else ""
    label = "" if release is None else f"{release.pipeline} {release.version}"
    return Condition(
        str(release),
        "RepeatedDeaths",
        f"replicas{whose} died {OFTEN} times in {WINDOW / 60:g} min; see `wheelway logs {label}`. "
        "Serve starts others, and requests fail meanwhile: the process leaves by os._exit, crashes "
        "in native code, is killed for memory, or does not answer Serve's health check. What it "
        "wrote last may be in `worker-*.err` of its node",
    )
