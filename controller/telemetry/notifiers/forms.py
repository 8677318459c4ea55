"""A notice as each kind of receiver (`type` of its section) wants it: a document of JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.model import JSON
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
"""Characters of a message to Slack; a receiver may refuse more than some thousands."""


def webhook(notice: Notice, host: str) -> JSON:
    """For whatever takes JSON. Keys are only ever added.

    {"event": "live", "text": "iris 1.4 (0a1b2c3d) is live at /predict/iris/1.4",
     "subject": "iris@1.4+0a1b2c3d", "reason": "AnswersAtRoute", "at": "2026-01-31T14:03:07.120Z",
     "host": "ray-head-1", "fields": {"pipeline": "iris", "version": "1.4", "seconds": 3.2, ...}}
    """
    at = datetime.fromtimestamp(notice.at, UTC).isoformat(timespec="milliseconds")
    return {
        "event": notice.event,
        "text": notice.text,
        "subject": notice.subject,
        "reason": notice.reason,
        "at": at.replace("+00:00", "Z"),
        "host": host,
        "fields": dict(notice.fields),
    }


def slack(notice: Notice, host: str) -> JSON:
    """For an incoming webhook as Slack defined it, which Mattermost, Rocket.Chat and others
    understand as well (https://api.slack.com/messaging/webhooks, legacy attachments).
    """
    told = {"message", "pipeline", "version", "digest", "route"}  # beside the fields
    shown = {name: value for name, value in notice.fields.items() if name not in told}
    shown |= {"reason": notice.reason, "host": host}
    text = _escaped(notice.text)
    attachment = {
        "fallback": text,
        "color": COLOURS[notice.event],
        "text": _escaped(str(notice.fields.get("message", ""))[:LONGEST]),
        "fields": [
            {"title": name, "value": _escaped(_shown(value)), "short": True}
            for name, value in sorted(shown.items())
        ],
    }
    return {"text": text, "attachments": [attachment]}


def _shown(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _escaped(text: str) -> str:
    """The three characters by which a text could become a link or a mention of everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


FORMS: Final[Mapping[str, Callable[[Notice, str], JSON]]] = {"webhook": webhook, "slack": slack}
"""By the `type` of a section; each takes a notice and the name of this daemon's host."""
