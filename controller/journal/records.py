"""Values that come out of the journal, and listings as text."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from packaging.version import Version

from controller.model import Availability, Condition, Listing, Phase, Refusal, Revision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.model import Tracked

_T = TypeVar("_T")

OVER = (Phase.RETIRED, Phase.SUPERSEDED)
"""Phases of releases that only tell of the past."""
_ADDED = {"unobserved", "notes", "note"}
"""Keys of a listing that earlier versions did not write."""
_KEYS = {"availability": "standing"}
"""As they were called first."""


@dataclass(frozen=True, slots=True)
class RefusedWheel:
    """A wheel that was inspected and that no release comes of."""

    digest: str
    filename: str
    """The one name under which it is refused; empty: under any."""
    reason: str
    message: str
    inputs: str
    """What judged it: with another it is inspected again."""
    at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """How far a release has come, and when it got there; or a wheel that failed inspection."""

    subject: Tracked
    phase: Phase
    reason: str
    message: str
    source: str
    """The source that listed it; empty when it was found running."""
    placement: str
    """Its latest Serve application's name; empty before it had one."""
    since: float
    """When it entered the present phase, seconds since the epoch."""
    times: Mapping[Phase, float]
    """When each phase was first reached."""

    @property
    def over(self) -> bool:
        """Whether it only tells of the past."""
        return self.phase in OVER


@dataclass(frozen=True, slots=True)
class AppliedConfig:
    """One Serve config that was sent. Its text: `Reader.serve_config(digest)`."""

    at: float
    digest: str
    cause: str
    kept: bool
    """Whether the text is still there: only those of the last configs are."""
    outcome: str
    """`Applied`; `Sending` while nothing came back, which stays when the daemon was killed then;
    else the reason for which it was refused, or for which nobody knows (a time-out)."""


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The last pass of the last daemon: written after every pass, so its age says who is alive."""

    number: int
    """Of the pass, counted since `started_at`."""
    at: float
    """When the pass ended, seconds since the epoch."""
    sentence: str
    duration: float
    """Seconds."""
    pid: int
    version: str
    started_at: float


def listing_text(listing: Listing) -> str:
    """A listing as JSON; equal listings give equal texts.

    Keys are only ever added; those that earlier versions did not write are left out when empty.
    """
    return json.dumps(listing, default=_plain, separators=(",", ":"), sort_keys=True)


def _plain(value: Any) -> object:
    if isinstance(value, Version):
        return str(value)
    given = ((name, key, getattr(value, name)) for name, key in _FIELDS[type(value)])
    return {key: one for name, key, one in given if one or name not in _ADDED}


_FIELDS = {
    kind: tuple((one.name, _KEYS.get(one.name, one.name)) for one in fields(kind) if one.compare)
    for kind in (Condition, Listing, Refusal, Revision)
}
"""By class: names of fields, each with its key in JSON. What equality does not ask for is only
told, and not kept.
"""


def listing_of(text: str) -> Listing:
    """The inverse of `listing_text`."""
    data: dict[str, Any] = json.loads(text)

    def each(name: str, kind: Callable[..., _T]) -> tuple[_T, ...]:
        return tuple(kind(**item) for item in data.get(name, ()))

    return Listing(
        data["source"],
        each("revisions", _revision),
        each("refused", Refusal),
        each("pending", Refusal),
        tuple(data.get("unobserved", ())),
        each("notes", Condition),
    )


def _revision(version: str, standing: str, **rest: Any) -> Revision:
    return Revision(version=Version(version), availability=Availability(standing), **rest)
