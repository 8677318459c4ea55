"""Where notifications go: each receiver is handed one notice, once, in the form of its kind.

What is worth telling, retries and deadlines are `controller.telemetry.notifications`. A new kind is
a function in `forms` and a section in `controller.config.telemetry`.

    forms     a notice as each kind of receiver wants it
    notifier  one receiver: a POST, and what its answer means
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.config.telemetry import Occasion
    from controller.model import JSON


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that is worth telling."""

    event: Occasion
    text: str
    """One sentence, the same for the same thing: no durations, no counters (they are fields)."""
    subject: str
    """A release, a source, `ray`, `config` and the like, as `wheelway status` has it."""
    reason: str
    at: float
    """Seconds since the epoch."""
    fields: Mapping[str, JSON] = field(default_factory=dict)
    """`message` (the details), and where they apply pipeline, version, digest, route, stage,
    seconds."""
