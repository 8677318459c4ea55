"""The `slack` notifier: an incoming webhook as Slack defined it, which Mattermost, Rocket.Chat and
others understand as well (https://api.slack.com/messaging/webhooks, legacy attachments).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from controller.telemetry.notifiers.posting import Posting

if TYPE_CHECKING:
    from controller.config.telemetry import SlackNotification
    from controller.telemetry.notifiers import Notice

COLOURS: Final = {
    "live": "good",
    "resolved": "good",
    "retired": "#9e9e9e",
    "quarantined": "danger",
    "stalled": "warning",
    "condition": "warning",
}
LONGEST: Final = 2000
"""Characters of a message; a receiver may refuse more than some thousands."""


class Slack:
    """One channel."""

    def __init__(self, options: SlackNotification, *, host: str) -> None:
        self.name = options.name
        self._host = host
        self._posting = Posting(options)

    def send(self, notice: Notice) -> None:
        """As `Notifier.send`."""
        text = _escaped(notice.text)
        shown = {**notice.fields, "reason": notice.reason, "host": self._host}
        message = str(shown.pop("message", ""))
        # The sentence says these already.
        for name in ("pipeline", "version", "digest", "route"):
            shown.pop(name, None)
        attachment = {
            "fallback": text,
            "color": COLOURS[notice.event],
            "text": _escaped(message[:LONGEST]),
            "fields": [
                {"title": name, "value": _escaped(_said(value)), "short": True}
                for name, value in sorted(shown.items())
            ],
        }
        self._posting.post({"text": text, "attachments": [attachment]}, {})

    def close(self) -> None:
        """As `Notifier.close`."""
        self._posting.close()


def _said(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _escaped(text: str) -> str:
    """The three characters by which a text could become a link or a mention of everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
