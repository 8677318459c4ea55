"""What the API needs of a daemon, and of what lies below."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.config.settings import Config
    from controller.journal import Journal, Reader
    from controller.model import Condition
    from controller.ops.plans import PassDocument, PlanDocument, ReloadDocument


@dataclass(frozen=True, slots=True)
class Liveness:
    """Whether a daemon does its work."""

    number: int
    """Of the last pass that did not fail; 0 before there was one."""
    age: float
    """Seconds since that ended, or since the daemon began."""
    limit: float
    """Seconds that may pass until the next one ends."""
    sentence: str
    """The last pass in a sentence, failed or not."""
    observed: bool
    """Whether it could observe Ray."""
    failed: bool
    """Whether it failed."""
    unrecorded: Condition | None = None
    """What keeps the journal from being written; None when it can be."""


class Controls(Protocol):
    """A daemon, as the API sees it. Every method may be called from any thread."""

    def wake(self) -> None:
        """Begin a pass now: something was written that it should see."""

    def reconcile(self, timeout: float) -> PassDocument:
        """List all sources and tell of the pass after that, or what there is after `timeout`
        seconds; raises Transient.
        """

    def reload(self, timeout: float) -> ReloadDocument:
        """Have the configuration taken up as it is now; raises Waiting when that takes longer than
        `timeout` seconds.
        """

    def plan(self) -> PlanDocument:
        """What the last pass planned; raises Transient and Waiting."""

    def planned_config(self) -> str:
        """The Serve config of that plan as YAML; raises Stalled when it cannot be rendered."""

    def liveness(self) -> Liveness:
        """Whether passes go on."""


@dataclass(frozen=True, slots=True)
class ApiContext:
    """What the operations work with."""

    reader: Reader
    journal: Journal
    """For short writes beside the daemon's own."""
    controls: Controls
    config: Callable[[], Config]
    """The configuration in force."""
    metrics: Callable[[], bytes] = bytes
    """As Prometheus reads them."""
    public: bool = False
    """Whether every user of the machine is told."""
    closing: Event = field(default_factory=Event)
    """Set when the server ends: what goes on telling stops."""
    clock: Callable[[], float] = time.time
