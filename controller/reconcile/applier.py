"""Sends plans to Ray: a config is rendered once, and sent when it is time.

A config that was refused is sent again only after its backoff, unless it changed; no other config
is sent twice.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from controller import retry
from controller.errors import Rejected, WheelwayError
from controller.planning.documents import same_document
from controller.planning.remembered import Remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.config.settings import Config
    from controller.model import JSON
    from controller.planning.plan import Plan
    from controller.serve.dashboard import Dashboard
    from controller.serve.rendering import Renderer

Record: TypeAlias = "Callable[[str, str, str], Callable[[str], None]]"
"""Writes down a config before it is sent: text, digest, cause. Returns what to call with the
outcome."""
_Inputs: TypeAlias = "tuple[list[Mapping[str, JSON]], tuple[str, ...]]"
"""What a config is rendered from: its applications, and all else: the templates, `[serve]` and
the ingress's URL."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The planned config as YAML, and what became of it."""

    text: str
    sent: bool = False
    refusal: WheelwayError | None = None
    """Why it cannot be rendered, or what Ray said the last time that it was sent."""
    tried: bool = False
    """Whether sending it was tried now, whatever became of it."""
    retried: bool = False
    """Whether the same had been tried before in vain."""


class Applier:
    """Sends one daemon's configs to one cluster."""

    def __init__(
        self,
        config: Config,
        *,
        dashboard: Dashboard,
        renderer: Renderer,
        jitter: Callable[[], float],
    ) -> None:
        self.config = config
        """Its `[serve]` and ingress are shared by all applications."""
        self._dashboard = dashboard
        self._renderer = renderer
        self._jitter = jitter
        self._refused: tuple[str, retry.Failure] | None = None  # and the digest of what was
        # Most passes plan the same as the one before, and rendering costs more than all the rest.
        self._rendered = Remembered(self._render, same=_same)

    def send(self, decided: Plan, record: Record | None, now: float) -> Sent:
        """Send the planned config, if it is time to; without `record` it is only rendered."""
        serve, ingress_url = self.config.serve.model_dump_json(), self.config.ray.ingress_url
        documents = [planned.document for planned in decided.applications]
        try:
            shared = self._renderer.fingerprint(), serve, ingress_url
            serve_config, text = self._rendered.of("config", (documents, shared))
        except WheelwayError as error:
            return Sent("", refusal=error)
        if record is None or decided.hold or not decided.changes:
            return Sent(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        refused, before = self._refused or ("", None)
        before = before if refused == digest else None
        if before is not None and now < before.retry_at:
            return Sent(text, refusal=before.error)
        bad: WheelwayError | None = None
        try:
            self._renderer.validate(serve_config)
        except Rejected as error:
            bad = error
        except WheelwayError as error:  # nobody could say: nothing was tried
            return Sent(text, refusal=error)
        outcome = record(text, digest, "; ".join(map(str, decided.changes)))
        try:
            if bad is not None:
                raise bad
            self._dashboard.put(serve_config)
        except WheelwayError as error:
            outcome(error.reason)
            self._refused = digest, retry.failed(error, before, now=now, jitter=self._jitter())
            return Sent(text, refusal=error, tried=True, retried=before is not None)
        outcome("Applied")
        self._refused = None
        return Sent(text, sent=True, tried=True, retried=before is not None)

    def _render(self, inputs: _Inputs) -> tuple[dict[str, JSON], str]:
        documents, (_, _, ingress_url) = inputs
        serve_config = self._renderer.serve_config(documents, self.config.serve, ingress_url)
        return serve_config, self._renderer.to_yaml(serve_config)


def _same(one: _Inputs, other: _Inputs) -> bool:
    return (
        one[1] == other[1]
        and len(one[0]) == len(other[0])
        and all(map(same_document, one[0], other[0]))
    )
