"""Push: EventBridge's events of the repository, taken from an SQS queue by long polls.

An event is a hint to poll one package now and nothing else: it is delivered at least once, in no
order, and polling stays the authority. So whatever is wrong with one is let go.

The event: https://docs.aws.amazon.com/codeartifact/latest/ug/service-event-format-example.html
"""

from __future__ import annotations

import json
import logging
import threading
from random import random
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from controller import retry
from controller.errors import WheelwayError
from controller.sources.codeartifact.failures import MissingThere

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_sqs.type_defs import MessageTypeDef

    from controller.config.sources import CodeArtifactSource
    from controller.sources.codeartifact.connection import Connection

log = logging.getLogger(__name__)

DETAIL_TYPE = "CodeArtifact Package Version State Change"
LONG_POLL = 2
"""Seconds that SQS holds a request while there is no message. An event ends it at once; longer ones
only save requests, which cost half a dollar a month like this."""
HIDDEN = 10
"""Seconds for which SQS hides a message that was taken and not deleted. A message taken just before
the source is closed reaches the next source after these."""


class QueueWatch:
    """A thread that takes events from the queue.

    Args:
        options: the source.
        connection: its way into AWS.
        closing: ends the thread when set.
        hint: takes the normalised name of a package that changed; False when it is none of ours.
        jitter: uniform in [0, 1).
    """

    def __init__(
        self,
        options: CodeArtifactSource,
        connection: Connection,
        closing: threading.Event,
        hint: Callable[[str], bool],
        *,
        jitter: Callable[[], float] = random,
    ) -> None:
        self._options = options
        self._connection = connection
        self._closing = closing
        self._hint = hint
        self._jitter = jitter
        self._told = False
        self._thread: threading.Thread | None = None
        self.note = ""
        """Why events do not come; empty while they may."""

    def start(self, wake: Callable[[], None]) -> None:
        """Begin; `wake` is called from the thread after hints were given. A second call does
        nothing.
        """
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(wake,), name=f"wheelway-events-{self._options.name}"
            )
            self._thread.daemon = True  # a network that hangs must not keep a process
            self._thread.start()

    def join(self) -> None:
        """Wait for the end of the thread, after `closing` was set and the connection interrupted;
        at most for the timeouts of a network that hangs.
        """
        if self._thread is not None:
            self._thread.join(LONG_POLL + self._options.read_timeout)

    def _run(self, wake: Callable[[], None]) -> None:
        failures = 0
        while not self._closing.is_set():
            try:
                self._take(self._received(), wake)
                failures, self.note = 0, ""
                continue
            except (WheelwayError, MissingThere) as error:
                trouble: Exception = error
            except Exception as error:
                # A bug here must not end push for good without a word: it is told and retried.
                log.exception("events of source %s failed unexpectedly", self._options.name)
                trouble = error
            failures += 1
            self.note = (
                f"{trouble}. Until events come again every package is looked at every "
                f"{self._options.poll_interval:g} s only"
            )
            asked = trouble.retry_after if isinstance(trouble, WheelwayError) else None
            self._closing.wait(retry.delay(failures, jitter=self._jitter(), retry_after=asked))

    def _received(self) -> Sequence[MessageTypeDef]:
        with self._connection.translated():
            answer = self._connection.sqs().receive_message(
                QueueUrl=self._options.events_queue_url or "",
                MaxNumberOfMessages=10,
                WaitTimeSeconds=LONG_POLL,
                VisibilityTimeout=HIDDEN,
            )
        return answer.get("Messages", [])

    def _take(self, messages: Sequence[MessageTypeDef], wake: Callable[[], None]) -> None:
        """Pass hints on, then delete the messages: to get them again after a kill does no harm."""
        hinted = [self._hinted(message.get("Body", "")) for message in messages]
        if self._closing.is_set():
            return  # nobody would poll; the next daemon does
        if any(hinted):
            wake()
        if not messages or self._closing.is_set():
            return
        with self._connection.translated():
            self._connection.sqs().delete_message_batch(
                QueueUrl=self._options.events_queue_url or "",
                Entries=[
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(messages)
                ],
            )

    def _hinted(self, body: str) -> bool:
        """Whether a message told of a package of ours, which is passed on then."""
        try:
            detail = _detail(body)
            if detail is None or not self._is_ours(detail):
                return False
            return self._hint(canonicalize_name(detail["packageName"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if not self._told:
                self._told = True
                log.warning(
                    "source %s: %s holds a message that is no event of EventBridge's (%r: %.200r); "
                    "it is deleted, and so will be further ones without a word",
                    self._options.name,
                    self._options.events_queue_url,
                    error,
                    body,
                )
            return False

    def _is_ours(self, detail: Mapping[str, Any]) -> bool:
        options = self._options
        return (
            detail["packageFormat"] == "pypi"
            and (detail["domainName"], detail["repositoryName"])
            == (options.domain, options.repository)
            and options.domain_owner in {None, detail["domainOwner"]}
        )


def _detail(body: str) -> dict[str, Any] | None:
    """What an event tells of a package version; None for an event of another kind.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: it is no event.
    """
    event = json.loads(body)
    if not isinstance(event, dict):
        raise TypeError("not an object")
    if (event["source"], event["detail-type"]) != ("aws.codeartifact", DETAIL_TYPE):
        return None
    detail = event["detail"]
    if not isinstance(detail, dict) or not isinstance(detail["packageName"], str):
        raise TypeError("its detail names no package")
    return detail
