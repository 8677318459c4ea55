"""Since when what is on the cluster is listed nowhere: memory between passes, told the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from controller.model import Release


class Absences:
    """Since when each release on the cluster is listed nowhere."""

    def __init__(self) -> None:
        self._since: dict[Release, float] = {}

    def lately(self, absent: AbstractSet[Release], now: float, grace: float) -> set[Release]:
        """Those of the absent ones that went less than `grace` seconds ago. Call it every pass."""
        self._since = {release: self._since.get(release, now) for release in absent}
        return {release for release, since in self._since.items() if since > now - grace}
