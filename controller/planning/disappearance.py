"""Releases that are on the cluster and listed nowhere: since when, and how many at once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.model import Loss
from controller.planning.policy import ABSENT, MISSING
from controller.planning.situation import has_served

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
        """The absent releases that went less than `grace` seconds ago. Call it every pass."""
        self._since = {release: self._since.get(release, now) for release in absent}
        return {release for release, since in self._since.items() if since > now - grace}


def beyond_retire_limit(
    routes: Sequence[Route], situation: Situation
) -> tuple[dict[str, str], dict[str, Loss]]:
    """By route: why a vanished release stays. By source: the worst loss beyond the limit.

    A loss is remembered until nothing of the source is missing any more, or a person allows as
    much. Wheels that come back one by one, or new ones, do not allow the rest to be retired.
    """
    limit = situation.limits.retire_limit
    held: dict[str, str] = {}
    worst: dict[str, Loss] = {}
    for source, count in _counted(routes, situation).items():
        losses = [Loss(len(count.vanished), count.live)]
        if source in situation.losses and (count.vanished or count.unknown):
            losses.append(situation.losses[source])
        beyond = [loss for loss in losses if loss.vanished > _allowed(loss, limit)]
        if not beyond:
            continue
        worst[source] = loss = max(beyond, key=lambda loss: loss.vanished / max(1, loss.live))
        why = (
            f"{loss.vanished} of {max(loss.live, loss.vanished)} live releases vanished from "
            f"{source or 'the sources'} at once; at most {_allowed(loss, limit)} may be retired "
            "without a person: bring all wheels back, or set rollout.retire_limit higher for as "
            "long as it takes, or active = false"
        )
        held |= dict.fromkeys(count.vanished, why)
    return held, worst


@dataclass(slots=True)
class _Count:
    """What one source lost."""

    vanished: list[str] = field(default_factory=list)
    """Routes whose release the source lists no more."""
    live: int = 0
    unknown: int = 0
    """Live releases that the source may list, as far as is known yet."""


def _counted(routes: Sequence[Route], situation: Situation) -> dict[str, _Count]:
    """By source. A route counts for the source of its holder, and of who may have it back."""
    counts: dict[str, _Count] = defaultdict(_Count)
    for route in routes:
        if route.holder is None or route.holder.release is None:
            continue
        before = (app for app in route.others if has_served(app, situation.records))
        source_of = {
            app.release: situation.sources.get(app.release, "")
            for app in (route.holder, *before)
            if app.release is not None
        }
        own = counts[source_of[route.holder.release]]
        own.live += 1
        own.unknown += not route.verdicts
        if route.elected is None and any(v.reason in {ABSENT, MISSING} for v in route.verdicts):
            for source in sorted(set(source_of.values())):
                counts[source].vanished.append(route.path)
    return counts


def _allowed(loss: Loss, limit: float) -> int:
    """How many releases may go without a person; `limit` is a share (`rollout.retire_limit`) of
    those that were live. What may have its route back vanishes though another's release holds it.
    """
    return max(1, int(limit * max(loss.live, loss.vanished)))
