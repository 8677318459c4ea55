"""Whether packages may be completed from upstreams, where whoever registers their name gets in.

A listing of packages tells it of those that a glob finds. Those that the configuration names take a
call each, too much for every poll: they are asked about seldom, and sooner while the answer is one
that a person should change. It is for a warning only: a question that fails is told, and stops
nothing.

https://docs.aws.amazon.com/codeartifact/latest/ug/package-origin-controls.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.errors import WheelwayError, without_frames
from controller.model import Condition
from controller.sources.codeartifact.connection import STALE
from controller.sources.codeartifact.versions import upstream_note

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from controller.config.sources import CodeArtifactSource

SELDOM = 3600.0
"""Most seconds between two questions about a package that blocks upstreams."""
ROUNDS = 10
"""Most polls between two questions about one that allows them, or is not known."""
ALLOW = "ALLOW"


@dataclass(frozen=True, slots=True)
class _Answer:
    upstream: str = ""
    error: WheelwayError | None = None
    """Why the last question had no answer."""
    due: float = float("-inf")


class Upstreams:
    """What is told of each package, ALLOW or BLOCK. Thread-safe for different packages.

    `question` asks about one; `clock` is monotonic, in seconds; `jitter`, uniform in [0, 1),
    spreads the questions.
    """

    def __init__(
        self,
        options: CodeArtifactSource,
        question: Callable[[str], str],
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._options = options
        self._question = question
        self._soon = min(SELDOM, ROUNDS * options.poll_interval)
        self._clock = clock
        self._jitter = jitter
        self._told: Mapping[str, str] = {}
        self._answers: dict[str, _Answer] = {}

    def tell(self, found: Mapping[str, str], named: Collection[str]) -> None:
        """Take what a listing says; of all other packages the `named` ones are remembered."""
        self._told = found
        kept = set(named) - found.keys()
        self._answers = {name: was for name, was in self._answers.items() if name in kept}

    def ask(self, name: str) -> None:
        """Ask about one package, if nobody told and it is due.

        Raises:
            WheelwayError: credentials that are none, or the source was closed.
        """
        before = self._answers.get(name, _Answer())
        if name in self._told or self._clock() < before.due:
            return
        upstream, error = before.upstream, None
        try:
            upstream = self._question(name)
        except WheelwayError as caught:
            if caught.reason in {*STALE, "SourceClosed"}:
                raise
            error = without_frames(caught)
        wait = self._soon if error or upstream == ALLOW else SELDOM
        due = self._clock() + wait * (1 - self._jitter() / 2)
        self._answers[name] = _Answer(upstream, error, due)

    def forget(self, name: str) -> None:
        """Forget a package of which nothing can be served."""
        self._answers.pop(name, None)

    def notes(self, names: Iterable[str]) -> Iterator[Condition]:
        """Which of these are open, and that of some it is not known."""
        told = {**{name: one.upstream for name, one in self._answers.items()}, **self._told}
        yield from (upstream_note(n, self._options) for n in sorted(names) if told.get(n) == ALLOW)
        errors = {name: found.error for name, found in self._answers.items() if found.error}
        if errors:
            others = f" ({len(errors) - 1} more packages likewise)" if len(errors) > 1 else ""
            said = (
                f"{errors[min(errors)].message}{others}; it is only needed to tell whether "
                "packages that `packages` names may be completed from upstreams (dependency "
                "confusion), and asked again"
            )
            yield Condition(self._options.name, "UpstreamUnknown", said, ok=True)
