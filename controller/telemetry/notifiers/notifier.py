"""One receiver: a POST of a document of JSON, and what its answers mean; httpx stays in here."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx

from controller import retry
from controller.config.telemetry import WebhookNotification
from controller.errors import Stalled, Transient, Waiting
from controller.exchange import NO_REUSE, Deadline, outward_client
from controller.telemetry.notifiers.forms import FORMS

if TYPE_CHECKING:
    from pathlib import Path

    from controller.config.telemetry import AnyNotification
    from controller.telemetry.notifiers import Notice

_LATER = {408, 425, 429}
"""Statuses below 500 that say nothing against the request itself (RFC 9110, 8470, 6585)."""
SAID = 1024
"""Bytes of an answer's body that are read at most: only a refusal's first words are of use."""


class Notifier:
    """The receiver of one `[[notifications]]` section, for one thread alone.

    Messages never hold its URL: it may be a secret.
    """

    def __init__(self, options: AnyNotification, *, host: str) -> None:
        """Nothing is sent yet. `host` is this daemon's, for receivers that hear of several."""
        self._options = options
        self._host = host
        # Receivers are out in the world: proxies of the environment apply.
        self._client = outward_client(
            timeout=options.timeout,
            headers={"User-Agent": "wheelway", "Accept-Encoding": "identity"},
            limits=NO_REUSE,
        )

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        self._client.close()

    def send(self, notice: Notice) -> None:
        """Hand it over, once.

        Raises:
            Transient: nothing answers, or it asks to come later.
            Waiting: a file with an address or a token cannot be read.
            Stalled: it answers that it will not take it.
        """
        name = self._options.name
        try:
            response, said = self._post(notice)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Waiting(
                "NotificationUnreadable", f"what {self._options.where} holds for {name} is no URL"
            ) from error
        except httpx.HTTPError as error:
            raise Transient(
                "NotificationUndelivered",
                f"the receiver of notification {name} does not answer ({type(error).__name__})",
            ) from error
        status = response.status_code
        if response.is_success:
            return
        if status >= 500 or status in _LATER:
            raise Transient(
                "NotificationUndelivered",
                f"the receiver of notification {name} answered {status}",
                retry_after=retry.asked_for(
                    response.headers.get("retry-after", ""), now=time.time()
                ),
            )
        raise Stalled(
            "NotificationRefused",
            f"the receiver of notification {name} refused it ({status}: {said[:200]!r}); "
            "look at its address, its token and its `type`",
        )

    def _post(self, notice: Notice) -> tuple[httpx.Response, str]:
        """What is answered, and the first words of a refusal; all of it has `timeout` seconds."""
        options = self._options
        headers = {}
        if isinstance(options, WebhookNotification) and options.token_file is not None:
            headers["Authorization"] = f"Bearer {_secret(options.token_file, options.name)}"
        url = options.url or _secret(options.url_file, options.name)
        document = FORMS[options.type](notice, self._host)
        with (
            Deadline(options.timeout) as deadline,
            self._client.stream(
                *("POST", url),
                json=document,
                headers=headers,
                extensions={"trace": deadline.watch},
            ) as response,
        ):
            return response, "" if response.is_success else _beginning(response)


def _beginning(response: httpx.Response) -> str:
    """The first words of a body, as far as they come."""
    said = b""
    with suppress(httpx.HTTPError):  # the status alone says enough
        for chunk in response.iter_raw():
            said += chunk
            if len(said) >= SAID:
                break
    return said[:SAID].decode("utf-8", "replace")


def _secret(path: Path | None, name: str) -> str:
    """The content of a file with an address or a token.

    Raises:
        Waiting: it cannot be read or is empty.
    """
    try:
        content = path.read_text(encoding="utf-8").strip() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise Waiting(
            "NotificationUnreadable", f"{path} of notification {name} cannot be read: {error}"
        ) from error
    if not content or not content.isprintable():
        raise Waiting("NotificationUnreadable", f"{path} of notification {name} holds nothing")
    return content
