"""Which slots public paths lead to: `/predict/<pipeline>/<version>` to that of every live release.

Serve's own routes are one step ahead: what is promoted has its route in order to be seen there, and
its path is bound to it once it was. Until then the path stays with who served before, and runs on
without a route. A path that somebody else's application holds is not bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.model import Binding, Slot, Target
from controller.planning.promotion import holder_works
from controller.planning.situation import has_served, routes_of, since

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from controller.observed import Application
    from controller.planning.situation import Route, Situation


def of_versions(
    routes: Iterable[Route], stay: Collection[str], situation: Situation
) -> tuple[Binding, ...]:
    """The bindings of routes, sorted by path; `stay` names the applications that do not go."""
    found = []
    for route in sorted(routes, key=lambda route: route.path):
        serving = None if route.foreign else _serving(route, stay, situation)
        if serving is not None:
            slot = Slot(situation.cluster, serving.name)
            found.append(Binding(route.path, (Target(slot),)))
    return tuple(found)


def as_they_are(situation: Situation) -> tuple[Binding, ...]:
    """The bindings while no config is sent, and nothing goes."""
    return of_versions(
        routes_of(situation), {app.name for app in situation.applications}, situation
    )


def _serving(route: Route, stay: Collection[str], situation: Situation) -> Application | None:
    """Who serves there and goes on: the holder once it was seen, else the last that was."""
    holder, records = route.holder, situation.records
    works = holder and (has_served(holder, records) or holder_works(route, situation))
    if holder and works and holder.name in stay:
        return holder
    before = [app for app in route.others if app.name in stay and has_served(app, records)]
    return max(before, key=lambda app: (since(situation, app, "live_at"), app.name), default=None)
