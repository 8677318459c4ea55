"""What `plan` and `reconcile` tell: what would change now and why, and what a pass did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from controller.account.documents import documented

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.model import Condition, Plan, Quarantine


@documented
class PlannedDocument(TypedDict):
    """One application of the next config."""

    name: str
    route: str | None
    """Null: it runs without one, to become ready or to drain."""
    reason: str


@documented
class FailedDocument(TypedDict):
    """A release that is set aside."""

    release: str
    stage: str
    reason: str
    message: str


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
    changes: list[str]
    """A sentence a difference; empty: nothing to do."""
    hold: str
    """Why the config must wait though there are changes; empty when it need not."""
    applications: list[PlannedDocument]
    """Of the next config."""
    quarantines: list[FailedDocument]
    conditions: list[NoticeDocument]


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
    sentence: str, plan: Plan, quarantines: Sequence[Quarantine], conditions: Sequence[Condition]
) -> PlanDocument:
    """A plan as JSON, with what its pass found."""
    return {
        "sentence": sentence,
        "changes": list(plan.changes),
        "hold": plan.hold,
        "applications": [
            {
                "name": str(planned.document["name"]),
                "route": planned.document.get("route_prefix"),
                "reason": planned.reason,
            }
            for planned in plan.applications
        ],
        "quarantines": [
            {
                "release": str(failed.release),
                "stage": failed.stage,
                "reason": failed.reason,
                "message": failed.message,
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
