"""Whether packages may be completed from upstreams, where whoever registers their name gets in.

A listing of packages tells it of those that a glob finds. Those that the configuration names take a
call each, which no poll should cost: they are asked about on a slow clock of their own, and sooner
while the answer is one that a person is about to change. It is for a warning only, so what keeps an
answer from coming is told and stops nothing.

https://docs.aws.amazon.com/codeartifact/latest/ug/package-origin-controls.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.errors import WheelwayError, without_frames
from controller.model import Condition
from controller.sources.codeartifact.connection import STALE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

SELDOM = 3600.0
"""Seconds at most between two questions about a package that blocks upstreams."""
ROUNDS = 10
"""Polls at most between two about one that allows them, or of which nothing is told."""
ALLOW = "ALLOW"


@dataclass(frozen=True, slots=True)
class _Answer:
    upstream: str = ""
    error: WheelwayError | None = None
    """Why the last question had no answer."""
    due: float = float("-inf")


class Upstreams:
    """ALLOW or BLOCK by package, empty where nothing is told. Thread-safe for different packages.

    `ask` asks about one; `poll_interval` and `clock` (monotonic) are in seconds; `jitter`, uniform
    in [0, 1), spreads the questions.
    """

    def __init__(
        self,
        ask: Callable[[str], str],
        poll_interval: float,
        *,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._soon = min(SELDOM, ROUNDS * poll_interval)
        self._clock = clock
        self._jitter = jitter
        self._told: Mapping[str, str] = {}
        self._answers: dict[str, _Answer] = {}

    def tell(self, found: Mapping[str, str], named: Collection[str]) -> None:
        """What a listing of packages says; of the others `named` ones alone are remembered."""
        self._told = found
        kept = set(named) - found.keys()
        self._answers = {name: was for name, was in self._answers.items() if name in kept}

    def of(self, name: str) -> str:
        """Of one package; asked about only when it is due.

        Raises:
            WheelwayError: credentials that are none, or the source was closed.
        """
        if name in self._told:
            return self._told[name]
        before = self._answers.get(name, _Answer())
        if self._clock() < before.due:
            return before.upstream
        upstream, error = before.upstream, None
        try:
            upstream = self._ask(name)
        except WheelwayError as caught:
            if caught.reason in {*STALE, "SourceClosed"}:
                raise
            error = without_frames(caught)
        wait = self._soon if error or upstream == ALLOW else SELDOM
        due = self._clock() + wait * (1 - self._jitter() / 2)
        self._answers[name] = _Answer(upstream, error, due)
        return upstream

    def forget(self, name: str) -> None:
        """There is nothing of this package that could be served."""
        self._answers.pop(name, None)

    def note(self, source: str) -> Condition | None:
        """That of some packages it is not known."""
        errors = {name: found.error for name, found in self._answers.items() if found.error}
        if not errors:
            return None
        others = f" ({len(errors) - 1} more packages likewise)" if len(errors) > 1 else ""
        said = (
            f"{errors[min(errors)].message}{others}; it is only needed to tell whether packages "
            "that `packages` names may be completed from upstreams (dependency confusion), and "
            "asked again"
        )
        return Condition(source, "UpstreamUnknown", said, ok=True)
