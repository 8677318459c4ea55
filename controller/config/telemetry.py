"""What the configuration says of the daemon's log and of its notifications.

A new kind of notification is a section here, a member of `AnyNotification`, and a form in
`controller.telemetry.notifiers.forms`. Files that a section names are not opened here.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import Annotated, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator

from controller.config.sources import Name, Section
from controller.config.values import PositiveSeconds, Seconds, http_url

Occasion = Literal["live", "quarantined", "retired", "stalled", "condition", "resolved"]
"""What a notification may be about."""


class LogOptions(Section):
    """`[log]`: the daemon's own log."""

    format: Literal["auto", "text", "json", "journal"] = "auto"
    """`journal`: journald's native protocol, with fields; `text`: lines on stderr; `json`: one JSON
    object a line there; `auto`: `journal` when systemd connected stderr with it, else `text`."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged; `--debug` wins."""


class Notification(Section):
    """What all kinds of `[[notifications]]` have in common."""

    name: Name
    """How logs and metrics call it; must be unique."""
    url: str | None = None
    """Where to POST; one with a secret in it belongs into `url_file`."""
    url_file: Path | None = None
    """A file that holds the URL; read again for each notification."""
    events: Annotated[tuple[Occasion, ...], Field(min_length=1)] = get_args(Occasion)
    """`live`, `quarantined`, `retired`: of a release; `stalled`: a source cannot be read;
    `condition`: something else stands in the way; `resolved`: one of the last two is over."""
    hold: Seconds = 60.0
    """Seconds that a condition must last before it is told; most are over sooner."""
    timeout: PositiveSeconds = 10.0
    """Seconds for one try, from connecting to the end of the answer."""
    give_up: Seconds = 3600.0
    """Seconds after which a notification that could not be delivered is dropped."""

    @property
    def where(self) -> str:
        """The receiver for a person: a URL's path may be a secret."""
        return str(self.url_file) if self.url is None else str(urlsplit(self.url).hostname)

    @model_validator(mode="after")
    def _one_url(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("give one of `url` and `url_file`")
        try:
            http_url(self.url or "http://in-the-file")
        except ValidationError:
            raise ValueError("`url` must be one such as https://hooks.example.com/...") from None
        return self


class WebhookNotification(Notification):
    """`[[notifications]] type = "webhook"`: a POST of a JSON document."""

    type: Literal["webhook"]
    name: Name = "webhook"
    """How logs and metrics call it; must be unique."""
    token_file: Path | None = None
    """A file with a bearer token for the receiver; read again for each notification."""


class SlackNotification(Notification):
    """`[[notifications]] type = "slack"`: an incoming webhook of Slack, Mattermost, Rocket.Chat."""

    type: Literal["slack"]
    name: Name = "slack"
    """How logs and metrics call it; must be unique."""


AnyNotification = Annotated[WebhookNotification | SlackNotification, Field(discriminator="type")]
