"""A POST of a JSON document, and what its answers mean; httpx stays in here."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import httpx

from controller import retry
from controller.errors import Stalled, Transient, Waiting
from controller.exchange import NO_REUSE, Deadline, outward_client

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from controller.config.telemetry import Notification
    from controller.model import JSON

_LATER = {408, 425, 429}
"""Statuses below 500 that say nothing against the request itself (RFC 9110, 8470, 6585)."""
SAID = 1024
"""Bytes of an answer's body that are read at most: only a refusal's first words are of use."""


class Posting:
    """POSTs to the address of one section. Messages never hold the URL: it may be a secret."""

    def __init__(self, options: Notification) -> None:
        self._options = options
        # Receivers are out in the world: proxies of the environment apply.
        self._client = outward_client(
            timeout=options.timeout,
            headers={"User-Agent": "wheelway", "Accept-Encoding": "identity"},
            limits=NO_REUSE,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def post(self, document: JSON, headers: Mapping[str, str]) -> None:
        """Send a document.

        Raises:
            Transient: nothing answers, or it asks to come later.
            Waiting: a file with an address or a token cannot be read.
            Stalled: it answers that it will not take it.
        """
        name = self._options.name
        url = self._options.url or secret(self._options.url_file, name)
        try:
            with self._answer(url, document, headers) as response:
                said = "" if response.is_success else _beginning(response)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Waiting(
                "NotificationUnreadable", f"what {self._options.where} holds for {name} is no URL"
            ) from error
        except httpx.HTTPError as error:
            raise Transient(
                "NotificationUndelivered",
                f"the receiver of notification {name} does not answer ({type(error).__name__})",
            ) from error
        if response.is_success:
            return
        status = response.status_code
        if status >= 500 or status in _LATER:
            asked = retry.asked_for(response.headers.get("retry-after", ""), now=time.time())
            raise Transient(
                "NotificationUndelivered",
                f"the receiver of notification {name} answered {status}",
                retry_after=asked,
            )
        raise Stalled(
            "NotificationRefused",
            f"the receiver of notification {name} refused it ({status}: {said[:200]!r}); "
            "look at its address, its token and its `type`",
        )

    @contextmanager
    def _answer(
        self, url: str, document: JSON, headers: Mapping[str, str]
    ) -> Iterator[httpx.Response]:
        """What is answered, its body unread; all of it has `timeout` seconds."""
        with Deadline(self._options.timeout) as deadline:
            extensions = {"trace": deadline.watch}
            with self._client.stream(
                "POST", url, json=document, headers=dict(headers), extensions=extensions
            ) as response:
                yield response


def _beginning(response: httpx.Response) -> str:
    """The first words of a body, as far as they come."""
    said = b""
    with suppress(httpx.HTTPError):  # the status alone says enough
        for chunk in response.iter_raw():
            said += chunk
            if len(said) >= SAID:
                break
    return said[:SAID].decode("utf-8", "replace")


def secret(path: Path | None, name: str) -> str:
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
