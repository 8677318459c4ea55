"""The `webhook` notifier: one JSON document, for whatever takes one.

    {"event": "live", "text": "iris 1.4 (0a1b2c3d) is live at /predict/iris/1.4",
     "subject": "iris@1.4+0a1b2c3d", "reason": "AnswersAtRoute", "at": "2026-01-31T14:03:07.120Z",
     "host": "ray-head-1", "fields": {"pipeline": "iris", "version": "1.4", "seconds": 3.2, ...}}

Keys are only ever added.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from controller.telemetry.notifiers.posting import Posting, secret

if TYPE_CHECKING:
    from controller.config.telemetry import WebhookNotification
    from controller.telemetry.notifiers import Notice


class Webhook:
    """One receiver."""

    def __init__(self, options: WebhookNotification, *, host: str) -> None:
        self.name = options.name
        self._token_file = options.token_file
        self._host = host
        self._posting = Posting(options)

    def send(self, notice: Notice) -> None:
        """As `Notifier.send`."""
        headers = {}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {secret(self._token_file, self.name)}"
        at = datetime.fromtimestamp(notice.at, UTC).isoformat(timespec="milliseconds")
        document = {
            "event": notice.event,
            "text": notice.text,
            "subject": notice.subject,
            "reason": notice.reason,
            "at": at.replace("+00:00", "Z"),
            "host": self._host,
            "fields": dict(notice.fields),
        }
        self._posting.post(document, headers)

    def close(self) -> None:
        """As `Notifier.close`."""
        self._posting.close()
