"""How the journal words the events that it appends by itself, and whom an event is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_version

from controller.model import Condition, Event, Pin, named

if TYPE_CHECKING:
    from pathlib import Path

    from controller.model import Suspension


def concerns(event: Event) -> tuple[str | None, str | None]:
    """The pipeline and the version, so written that equal versions are equal texts."""
    about = event.fields
    pipeline, version = about.get("pipeline"), about.get("version")
    if pipeline is None:
        pipeline, version = named(event.subject) or (None, None)
    return pipeline, None if version is None else canonicalize_version(str(version))


def condition_event(condition: Condition, at: float, change: str) -> Event:
    """A condition appeared, or is gone."""
    message = f"no longer: {condition.message}" if change == "gone" else condition.message
    fields = {"condition": change, "ok": condition.ok}
    return Event(at, condition.subject, condition.reason, message, fields)


def set_aside_event(at: float, path: Path, aside: Path, cause: str) -> Event:
    """A damaged journal was put away and a fresh one begun."""
    return Event(
        at,
        "journal",
        "JournalSetAside",
        f"{path} was damaged ({cause}) and is kept as {aside.name}; a fresh one was begun. What "
        "runs is found by observing; quarantines, pins, suspensions and history are not in it",
        {"path": str(aside)},
    )


def order_event(order: Pin | Suspension, what: str, message: str, by: str, at: float) -> Event:
    """An operator ordered something, or lifted it: `PinSet`, `SuspensionLifted` and so on."""
    kind = "Pin" if isinstance(order, Pin) else "Suspension"
    about = {"pipeline": order.pipeline} if order.pipeline else {}
    return Event(at, order.pipeline or "everything", f"{kind}{what}", message, {**about, "by": by})
