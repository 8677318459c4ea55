"""What `plan` and `reconcile` tell: what would change now and why, and what a pass did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from controller.ops.documents import documented

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.model import Condition, Quarantine
    from controller.planning.plan import Plan, Underway


@documented
class PlannedDocument(TypedDict):
    """One application of the next config."""

    name: str
    route: str | None
    """Null: it runs without one, to become ready or to drain."""
    reason: str
    message: str


@documented
class ChangeDocument(TypedDict):
    """One difference between the config that is in force and the next."""

    action: str
    """add, change, remove."""
    name: str
    """The application's."""
    was: str | None
    """The route before."""
    route: str | None
    """The route after."""
    reason: str
    message: str
    sentence: str
    """All of it."""


@documented
class HoldDocument(TypedDict):
    """Why a config must wait."""

    reason: str
    message: str


@documented
class FailedDocument(TypedDict):
    """A release that is set aside."""

    release: str
    stage: str
    reason: str
    message: str
    new: bool
    """Whether this pass found it; otherwise it was set aside before."""


@documented
class WaitingDocument(TypedDict):
    """A release that is wanted and not live yet, or a wheel whose releases nobody knows yet."""

    subject: str
    """The release, or the wheel's file name."""
    phase: str
    reason: str
    message: str
    """What it waits for."""


@documented
class NoticeDocument(TypedDict):
    """A condition as a pass finds it, before it has lasted."""

    subject: str
    reason: str
    message: str
    ok: bool


@documented
class PlanDocument(TypedDict):
    """What would change now, and why."""

    sentence: str
    """The state in a sentence."""
    changes: list[ChangeDocument]
    """Empty: there is nothing to send; `waiting` may still have what is on its way."""
    hold: HoldDocument | None
    """Why the config must wait though there are changes; null when it need not."""
    applications: list[PlannedDocument]
    """Of the next config."""
    waiting: list[WaitingDocument]
    """What is wanted and not live yet."""
    quarantines: list[FailedDocument]
    """Those that hold, new or old."""
    conditions: list[NoticeDocument]


@documented
class ReloadDocument(TypedDict):
    """What became of the configuration file as it is now."""

    in_force: bool
    reason: str
    """Why it is not; empty when it is."""
    message: str


@documented
class PassDocument(TypedDict):
    """What the daemon's pass found and did."""

    number: int
    """Counted since the daemon started."""
    complete: bool
    """Whether it came to its end with every source listed before, as asked; else time was up."""
    sentence: str
    """What it found, in a sentence."""
    sent: bool
    """Whether it sent a config to Ray."""
    plan: PlanDocument | None
    """Null when Ray could not be observed, or the pass failed."""
    conditions: list[NoticeDocument]


def plan_document(
    sentence: str,
    plan: Plan,
    *,
    waiting: Sequence[Underway],
    quarantines: Sequence[Quarantine],
    failures: Sequence[Quarantine],
    conditions: Sequence[Condition],
) -> PlanDocument:
    """A plan as JSON, with what its pass found; `failures` are the new ones of `quarantines`."""
    new = {failed.subject for failed in failures}
    return {
        "sentence": sentence,
        "changes": [
            {
                "action": change.action,
                "name": change.application,
                "was": change.was,
                "route": change.route,
                "reason": change.cause.reason,
                "message": change.cause.message,
                "sentence": str(change),
            }
            for change in plan.changes
        ],
        "hold": ({"reason": plan.hold.reason, "message": plan.hold.message} if plan.hold else None),
        "applications": [
            {
                "name": str(planned.document["name"]),
                "route": planned.document.get("route_prefix"),
                "reason": planned.cause.reason,
                "message": planned.cause.message,
            }
            for planned in plan.applications
        ],
        "waiting": [
            {
                "subject": item.subject,
                "phase": item.phase.value,
                "reason": item.reason,
                "message": item.message,
            }
            for item in waiting
        ],
        "quarantines": [
            {
                "release": str(failed.subject),
                "stage": failed.stage,
                "reason": failed.reason,
                "message": failed.message,
                "new": failed.subject in new,
            }
            for failed in quarantines
        ],
        "conditions": notices(conditions),
    }


def notices(conditions: Sequence[Condition]) -> list[NoticeDocument]:
    """Conditions as a pass finds them, as JSON."""
    return [
        {"subject": c.subject, "reason": c.reason, "message": c.message, "ok": c.ok}
        for c in conditions
    ]
