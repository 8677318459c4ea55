"""What a pass found, for the daemon, the terminal, the log and the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.model import Phase
from controller.planning.causes import EVERYTHING, NOT_ANSWERING, SUSPENDED
from controller.planning.phases import underway
from controller.planning.remembered import Remembered
from controller.planning.situation import serving, was_live

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from controller.errors import WheelwayError
    from controller.model import Condition, Event, PlacementRecord, Quarantine
    from controller.observed import Application
    from controller.planning.plan import Plan, Underway
    from controller.reconcile.applier import Sent
    from controller.reconcile.desired import Desired

    _Found = tuple[
        Desired, Plan, Sequence[Application], Mapping[str, PlacementRecord], tuple[Condition, ...]
    ]
    _Outlook = tuple[set[str], tuple[Underway, ...]]
    """The names of the applications that are live, and what is wanted and not live yet."""


@dataclass(frozen=True, slots=True)
class Report:
    """One pass."""

    sentence: str
    next_in: float
    """Seconds until the next pass is due, if nothing wakes it before."""
    events: tuple[Event, ...] = ()
    plan: Plan | None = None
    """None when Ray could not be observed."""
    conditions: tuple[Condition, ...] = ()
    """Everything that stands in the way of something, wherever it was found."""
    quarantines: tuple[Quarantine, ...] = ()
    """Those that hold, new ones included."""
    failures: tuple[Quarantine, ...] = ()
    """The new ones among them."""
    waiting: tuple[Underway, ...] = ()
    """What is wanted and not live yet."""
    serve_config: str = ""
    """The planned Serve config as YAML."""
    sent: bool = False
    tried: bool = False
    """Whether sending it was tried, with whatever result."""
    retried: bool = False
    """Whether the same, or observing, had failed in the pass before."""
    error: WheelwayError | None = None
    """The error of observing Ray, or of sending the config."""
    failed: bool = False
    """Whether the pass was cut short: then this does not say what holds."""


class Reports:
    """Makes reports; what stays the same from pass to pass is put together once."""

    def __init__(self) -> None:
        self._outlook: Remembered[_Found, _Outlook] = Remembered(_outlook)

    def on(
        self,
        desired: Desired,
        decided: Plan,
        done: Sent,
        *,
        applications: Sequence[Application],
        records: Mapping[str, PlacementRecord],
        conditions: tuple[Condition, ...],
        events: tuple[Event, ...],
        next_in: float,
    ) -> Report:
        """The report on a pass that came to its end; `records` are those of what was on the
        cluster, by name.
        """
        found = (desired, decided, applications, records, conditions)
        live, waiting = self._outlook.of(None, found)
        # Of an unsound wheel in a running release's place there is one failure, not two.
        quarantines = tuple(dict.fromkeys(desired.quarantines.values()))
        return Report(
            _sentence(decided, live, waiting, quarantined=len(quarantines), sent=done.sent),
            next_in,
            events,
            decided,
            conditions,
            quarantines=(*quarantines, *decided.quarantines),
            failures=(*desired.failed, *decided.quarantines),
            waiting=waiting,
            serve_config=done.text,
            sent=done.sent,
            tried=done.tried,
            retried=done.retried,
            error=done.refusal if done.tried else None,
        )


def _outlook(found: _Found) -> _Outlook:
    desired, decided, applications, records, conditions = found
    live = {app.name for app in applications if app.route and was_live(app, records)}
    return live, underway(
        decided,
        desired.verdicts,
        placements=desired.placements,
        serving=serving(applications, records),
        unread=desired.unread,
        conditions=conditions,
    )


def _sentence(
    decided: Plan,
    live: AbstractSet[str],
    waiting: Sequence[Underway],
    *,
    quarantined: int,
    sent: bool,
) -> str:
    """What a pass found and did, for a person; `live` has the names of the applications that were
    live before, `waiting` what is wanted and not live yet.
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
