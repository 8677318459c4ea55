"""How the journal words the events that it appends by itself, and whom an event is about."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_version

from controller.model import Condition, Event, Pin

if TYPE_CHECKING:
    from pathlib import Path

    from controller.model import Suspension

_RELEASE = re.compile(r"(?P<pipeline>[a-z0-9-]+)@(?P<version>.+)\+[0-9a-f]{8}")
"""`str(Release)`, by which events and conditions call a release."""


def concerns(event: Event) -> tuple[str | None, str | None]:
    """The pipeline and the version, so written that equal versions are equal texts."""
    about = event.fields
    if "pipeline" not in about:
        match = _RELEASE.fullmatch(event.subject)
        about = match.groupdict() if match else {}
    version = about.get("version")
    return about.get("pipeline"), None if version is None else canonicalize_version(str(version))


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
