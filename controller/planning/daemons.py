"""The mark by which daemons on one cluster know each other's applications.

Every application of ours bears the mark of the daemon that applied it in its `user_config`, which
changes neither its name nor its replicas. `contest` decides what follows from another's mark.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from controller.model import JSON, Placement, Release
    from controller.observed import Application

KEY = "daemon"
"""The key of the mark in `user_config`."""


@dataclass(frozen=True, slots=True)
class DaemonMark:
    """By what one daemon is told from another, as long as it has its state folder."""

    id: str
    since: float
    """When it first ran, seconds since the epoch."""
    host: str
    """For a person: where that was."""
    user: str = ""
    """For a person: whose its state folder is. Former versions wrote neither this nor the next."""
    folder: str = ""
    """Its state folder there. Neither it nor the user changes with a restart, as a process would:
    a start over a correct cluster sends nothing."""

    def __str__(self) -> str:
        owner = f"{self.user}'s on {self.host}" if self.user else f"on {self.host}"
        return f"{owner}, with its state in {self.folder}" if self.folder else owner

    @property
    def age(self) -> tuple[float, str]:
        """The order of daemons, the oldest first."""
        return self.since, self.id


def mark_of(document: Mapping[str, Any] | None) -> DaemonMark | None:
    """The mark in an application's document; None when there is none."""
    for deployment in (document or {}).get("deployments") or ():
        config = deployment.get("user_config")
        said = config.get(KEY) if isinstance(config, dict) else None
        if isinstance(said, dict):
            try:
                where = (str(said.get(key, "")) for key in ("user", "folder"))
                return DaemonMark(str(said["id"]), float(said["since"]), str(said["host"]), *where)
            except (KeyError, TypeError, ValueError, OverflowError):
                return None
    return None


def marked(document: Mapping[str, Any], mark: DaemonMark) -> dict[str, JSON]:
    """The document bearing a mark: on its first deployment that has a `user_config`."""
    deployments = [dict(deployment) for deployment in document.get("deployments") or ()]
    for deployment in deployments:
        if isinstance(deployment.get("user_config"), dict):
            deployment["user_config"] = {**deployment["user_config"], KEY: asdict(mark)}
            return {**document, "deployments": deployments}
    return dict(document)


def keeping_marks(
    placements: Mapping[Release, Placement], applications: Iterable[Application]
) -> dict[Release, Placement]:
    """The placements with the marks that they have on the cluster: a preview has no mark of its
    own, and must not look like another daemon.
    """
    found = {app.name: mark_of(app.document) for app in applications}
    return {
        release: placed
        if (mark := found.get(placed.name)) is None
        else replace(placed, document=marked(placed.document, mark))
        for release, placed in placements.items()
    }
