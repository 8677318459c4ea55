"""What an operator says of a pipeline's aliases, and of how a new version takes over behind one."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from controller.config.requirements import parse_specifiers
from controller.config.sources import Section
from controller.config.values import PositiveSeconds  # noqa: TC001 - pydantic reads the annotations

LONGEST_NAME: Final = 63
"""Characters of an alias, as of a label in a host's name."""
_RESERVED: Final = frozenset(("docs", "healthz", "openapi"))
"""What stands below a pipeline's own path, `/predict/<pipeline>`."""


def _alias_name(name: str) -> str:
    if len(name) > LONGEST_NAME or not re.fullmatch(r"[a-z](?:[a-z0-9]|-(?=[a-z0-9]))*", name):
        raise ValueError(
            f"{name[:80]!r} is no alias; write lower case letters, digits and single dashes "
            f"between them, {LONGEST_NAME} at most, a letter first, such as 'stable'"
        )
    if name in _RESERVED:
        raise ValueError(f"an alias cannot be called {name!r}: that path has a page of its own")
    try:
        Version(name)
    except InvalidVersion:
        return name
    raise ValueError(
        f"an alias cannot be called {name!r}: that is a version (PEP 440), whose path it would take"
    )


def _alias_target(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        specifiers = parse_specifiers(_exactly(value))
    except InvalidSpecifier:
        specifiers = SpecifierSet()
    if not specifiers:
        raise ValueError(
            f"{value[:80]!r} names no version; write one, such as '1.4', or specifiers (PEP 440), "
            "such as '>=2,<3', for the newest of these that is live"
        )
    return specifiers


def _exactly(value: str) -> str:
    """A version as the specifier of it alone."""
    try:
        return f"=={Version(value)}"
    except InvalidVersion:
        return value


def _steps(steps: tuple[int, ...]) -> tuple[int, ...]:
    if any(later <= former for former, later in pairwise(steps)):
        raise ValueError(f"{list(steps)} must rise from step to step, such as [5, 25, 50, 100]")
    if steps[-1] != 100:
        raise ValueError(f"{list(steps)} must end with 100, when the new version has taken over")
    return steps


AliasName = Annotated[str, AfterValidator(_alias_name)]
AliasTarget = Annotated[SpecifierSet, BeforeValidator(_alias_target)]
Percent = Annotated[int, Field(ge=1, le=100)]


class ProgressiveRollout(Section):
    """`rollout` of a rule: by which steps a new version takes over behind an alias, and what it
    must not do meanwhile.
    """

    steps: Annotated[tuple[Percent, ...], Field(min_length=1), AfterValidator(_steps)] = (
        *(5, 25, 50, 100),
    )
    """Percent of the alias' requests, one after the other; the last is 100."""
    every: PositiveSeconds = 600.0
    """Seconds that each step lasts at least."""
    max_error_rate: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """The share of its requests that may end with a status of 500 or above."""
    max_p99_ratio: Annotated[float, Field(ge=1)] = 1.5
    """How many times the latency of the version before, at the 99th percentile, its own may be."""
    min_requests: Annotated[int, Field(ge=1)] = 200
    """Requests by which it is judged in each step; with fewer, the step lasts longer."""


class AliasOptions(Section):
    """What `[[pipelines]]` says of aliases."""

    aliases: dict[AliasName, AliasTarget] = Field(default_factory=dict)
    """Names besides that of the pipeline, with the version, or specifiers (PEP 440), that each
    leads to: of several, the newest that is live."""
    rollout: ProgressiveRollout | None = None
    """How a new version takes over; default: at once, when it is live."""
    allow_breaking: bool = False
    """Whether an alias moves by itself to a version that refuses what the former one accepts, or
    whose results lack what the former one's had."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
