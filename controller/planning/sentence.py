"""A pass in one sentence, for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.model import Phase
from controller.planning.subjects import EVERYTHING, NOT_ANSWERING, SUSPENDED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from controller.planning.plan import Plan, Underway


def in_a_sentence(
    decided: Plan,
    live: AbstractSet[str],
    waiting: Sequence[Underway],
    *,
    quarantined: int,
    sent: bool,
) -> str:
    """What a pass found and did.

    Args:
        decided: its plan.
        live: names of the applications that were live before.
        waiting: what is wanted and not live yet.
        quarantined: how many releases are.
        sent: whether a config was sent.
    """
    live = live | {t.placement for t in decided.transitions if t.phase is Phase.LIVE}
    silent = sum(condition.reason == NOT_ANSWERING for condition in decided.conditions)
    parts = [f"{len(live)} live" + (f" ({silent} not answering)" if silent else "")]
    starting = [t for t in decided.transitions if t.phase in {Phase.STAGED, Phase.READY}]
    if starting:
        parts.append(f"{len(starting)} starting")
    beside = sum(1 for item in waiting if item.phase not in {Phase.STAGED, Phase.READY})
    if beside:
        parts.append(f"{beside} waiting")
    if quarantined:
        parts.append(f"{quarantined} quarantined")
    if any(c.reason == SUSPENDED and c.subject == EVERYTHING for c in decided.conditions):
        parts.append("suspended")
    if decided.hold:
        parts.append(f"holding the next config: {decided.hold.message}")
    elif sent:
        parts.append(f"sent a config: {'; '.join(map(str, decided.changes))}")
    elif decided.changes:
        parts.append(f"{len(decided.changes)} changes not sent")
    return ", ".join(parts)
