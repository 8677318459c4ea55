"""Two daemons on one cluster: they know each other by a mark, and the younger one stands down.

Every application of ours bears the mark of the daemon that applied it, in its `user_config`, which
changes neither its name nor its replicas. Who finds another's mark puts its own in its place, and
nothing else, and waits: one that lives does the same in return, one that is gone does not, be it
that its state was lost with its machine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from controller.model import ApplicationStatus, DaemonMark
from controller.planning.plan import Cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from controller.model import JSON, Application, Placement, Release
    from controller.planning.overrides import Overrides

KEY = "daemon"
"""Of the mark, in `user_config`."""


def mark_of(document: Mapping[str, Any] | None) -> DaemonMark | None:
    """Whose an application is, by its document; None when it does not say."""
    for deployment in (document or {}).get("deployments") or ():
        config = deployment.get("user_config")
        said = config.get(KEY) if isinstance(config, dict) else None
        if isinstance(said, dict):
            try:
                return DaemonMark(str(said["id"]), float(said["since"]), str(said["host"]))
            except (KeyError, TypeError, ValueError, OverflowError):
                return None
    return None


def marked(document: Mapping[str, Any], mark: DaemonMark) -> dict[str, JSON]:
    """The document bearing a mark: on its first deployment that has a `user_config`."""
    deployments = [dict(deployment) for deployment in document.get("deployments") or ()]
    for deployment in deployments:
        if isinstance(deployment.get("user_config"), dict):
            said = {"id": mark.id, "since": mark.since, "host": mark.host}
            deployment["user_config"] = {**deployment["user_config"], KEY: said}
            return {**document, "deployments": deployments}
    return dict(document)


def keeping_marks(
    placements: Mapping[Release, Placement], applications: Iterable[Application]
) -> dict[Release, Placement]:
    """The placements, each bearing the mark that it has on the cluster: for a preview, which has
    none of its own, and is no other daemon for that.
    """
    found = {app.name: mark_of(app.document) for app in applications}
    return {
        release: placed
        if (mark := found.get(placed.name)) is None
        else replace(placed, document=marked(placed.document, mark))
        for release, placed in placements.items()
    }


def others(
    applications: Iterable[Application], own: DaemonMark, overrides: Overrides
) -> set[DaemonMark]:
    """The other daemons whose marks are on what may be changed."""
    found = {
        mark_of(app.document)
        for app in applications
        if app.release is not None
        and app.status is not ApplicationStatus.DELETING
        and overrides.suspension_of(app.release.pipeline) is None
    }
    return {mark for mark in found if mark is not None and mark.id != own.id}


def to_claim_back(interval: float) -> float:
    """Seconds in which another daemon shows that it is there, if it makes passes as often as we."""
    return max(15.0, 3 * interval)


def taking_over(rival: DaemonMark, wait: float) -> Cause:
    """While it is not known whether the other one is still there."""
    return Cause(
        "TakingOver",
        f"the applications are another daemon's, on {rival.host}; it is gone if it does not claim "
        f"them back within {wait:g} s, and nothing else is sent before",
    )


def standing_down(rival: DaemonMark, pause: float) -> Cause:
    """When it is."""
    return Cause(
        "AnotherDaemon",
        f"another daemon, on {rival.host}, has this cluster and is older: this one sends nothing. "
        "Stop one of the two, or give each a cluster of its own (ray.dashboard_url); this one "
        f"looks whether the other is gone each {pause / 60:g} minutes, or when it is restarted",
    )
