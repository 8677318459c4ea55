"""Where notifications go, one module a kind of receiver behind one small Protocol.

A notifier forms and hands over one notice, once: what is worth telling, retries and deadlines are
`controller.telemetry.notifications`. A new kind is a module here, a section in
`controller.config.telemetry` and a line in `open_notifier`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.config.telemetry import AnyNotification, Occasion
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


class Notifier(Protocol):
    """A receiver. Used by one thread alone."""

    @property
    def name(self) -> str:
        """Unique in the configuration."""

    def send(self, notice: Notice) -> None:
        """Hand it over, once.

        Raises:
            Transient, Waiting: it may be taken later.
            Stalled: it will never be taken like this.
        """

    def close(self) -> None:
        """End the connections; a second call does nothing."""


def open_notifier(options: AnyNotification, *, host: str) -> Notifier:
    """The receiver that a `[[notifications]]` section describes; nothing is sent yet.

    Args:
        options: the section.
        host: of this daemon, for receivers that hear of several.
    """
    # Each kind is imported by those alone who use it.
    match options.type:
        case "webhook":
            from controller.telemetry.notifiers.webhook import Webhook  # noqa: PLC0415

            return Webhook(options, host=host)
        case "slack":
            from controller.telemetry.notifiers.slack import Slack  # noqa: PLC0415

            return Slack(options, host=host)
