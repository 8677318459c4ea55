"""The result of planning: the next Serve config, and a reason for every difference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from controller.model import (
        JSON,
        Binding,
        Condition,
        Loss,
        Phase,
        Quarantine,
        Transition,
    )
    from controller.planning.weights import WeightsQuarantine


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something is planned as it is."""

    reason: str
    """PascalCase, the same word everywhere."""
    message: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass(frozen=True, slots=True)
class PlannedApplication:
    """One application of the next config and why it is there, with or without a route."""

    document: Mapping[str, JSON]
    cause: Cause


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the config that is in force and the next."""

    action: Literal["add", "change", "remove"]
    application: str
    cause: Cause
    was: str | None = None
    """The route before."""
    route: str | None = None
    """The route after."""

    def __str__(self) -> str:
        what = self.application
        if self.action == "change" and self.was != self.route:
            what += f" ({self.was or 'no route'} -> {self.route or 'no route'})"
        return f"{self.action} {what}: {self.cause}"


@dataclass(frozen=True, slots=True)
class Underway:
    """A release that is wanted and not live yet, or a wheel whose releases nobody knows yet."""

    subject: str
    """The release, or the wheel's file name."""
    phase: Phase
    reason: str
    message: str
    """What it waits for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The next Serve config and a reason for every difference from the observed one."""

    applications: tuple[PlannedApplication, ...]
    """Ours and the carried foreign declarative ones, sorted by name."""
    changes: tuple[Change, ...]
    """Empty: nothing to PUT."""
    bindings: tuple[Binding, ...] = ()
    """Sorted by path. Each target was seen at its path, and is there with this config as it was
    before: they can be executed before it is sent."""
    transitions: tuple[Transition, ...] = ()
    quarantines: tuple[Quarantine, ...] = ()
    refused_weights: tuple[WeightsQuarantine, ...] = ()
    conditions: tuple[Condition, ...] = ()
    hold: Cause | None = None
    """Why a PUT must wait though there are changes; None: go."""
    urgent: frozenset[str] = frozenset()
    """Names of applications that get a route back from one that failed there: that waits for
    nothing."""
    losses: Mapping[str, Loss] = field(default_factory=dict)
    """By source: what vanished beyond the retire limit, to be remembered."""
    wake_at: float | None = None
    """When a deadline would change this plan, if nothing else does first."""
