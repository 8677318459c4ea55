"""The words of events that the journal appends by itself, and what an event is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_version

from controller.model import Condition, Event, named
from controller.planning.causes import EVERYTHING, SUSPENDED
from controller.planning.overrides import Pin
from controller.planning.policy import PIN_UNMET
from controller.planning.wheel_names import version_named

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from controller.model import JSON
    from controller.planning.overrides import Suspension


def concerns(event: Event) -> tuple[str | None, str | None]:
    """The pipeline and the version, so written that equal versions are equal texts."""
    about = event.fields
    pipeline, version = about.get("pipeline"), about.get("version")
    if pipeline is None:
        pipeline, version = named(event.subject) or (None, None)
    return pipeline, None if version is None else canonicalize_version(str(version))


def condition_event(
    condition: Condition, at: float, change: str, *, pipelines: Collection[str] = ()
) -> Event:
    """A condition appeared, or is gone. `pipelines` are those that are known by name."""
    message = f"no longer: {condition.message}" if change == "gone" else condition.message
    fields = {"condition": change, "ok": condition.ok, **_about(condition, pipelines)}
    return Event(at, condition.subject, condition.reason, message, fields)


def _about(condition: Condition, pipelines: Collection[str]) -> dict[str, JSON]:
    """The pipeline (and version) that a subject other than a release names. A wheel that was not
    inspected yet counts for the pipeline of its project's name.
    """
    subject = condition.subject
    if named(subject) is not None:
        return {}
    if (found := version_named(subject)) is not None:
        return {"pipeline": found[0], "version": str(found[1])}
    ordered = condition.reason in {PIN_UNMET, SUSPENDED} and subject != EVERYTHING
    return {"pipeline": subject} if ordered or subject in pipelines else {}


def set_aside_event(at: float, path: Path, backup: Path, cause: str) -> Event:
    """A damaged journal was kept as `backup` and a fresh one begun."""
    return Event(
        at,
        "journal",
        "JournalSetAside",
        f"{path} was damaged ({cause}) and is kept as {backup.name}; a fresh one was begun. What "
        "runs is found by observing; quarantines, pins, suspensions and history are not in it",
        {"path": str(backup)},
    )


def restored_event(at: float, path: Path, lost: str, backup: Path | None) -> Event:
    """The journal's file was not there any more, and is again."""
    other = f"; what lay there instead is kept as {backup.name}" if backup else ""
    return Event(
        at,
        "journal",
        "JournalRestored",
        f"{lost} in {path.parent} was deleted or replaced while the daemon ran; the journal was "
        f"written anew and nothing is missing{other}. To begin a fresh one, stop the daemon first",
        {"path": str(path)},
    )


def lost_condition(path: Path, lost: str, why: str) -> Condition:
    """The journal's file is not there any more, and cannot be written anew."""
    return Condition(
        "journal",
        "JournalLost",
        f"{lost} in {path.parent} was deleted or replaced while the daemon ran, which still has "
        f"all of it open and cannot write it anew ({why}). Mend that while it runs: with its end "
        "history, pins, suspensions and quarantines are gone",
    )


def with_note(by: str, note: str) -> str:
    """Who did something, and why if they said it."""
    return f"{by} ({note})" if note else by


def order_event(order: Pin | Suspension, what: str, message: str, by: str, at: float) -> Event:
    """An operator ordered something, or lifted it: `PinSet`, `SuspensionLifted` and so on."""
    kind = "Suspension"
    if isinstance(order, Pin):
        kind = "WeightsPin" if order.of_weights else "Pin"
    about = {"pipeline": order.pipeline} if order.pipeline else {}
    return Event(at, order.pipeline or "everything", f"{kind}{what}", message, {**about, "by": by})
