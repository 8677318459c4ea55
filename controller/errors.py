"""Everything that the daemon's own code raises, and what a caller may do about it.

    WheelwayError                 a message to a person: what happened, to what, why, what to do
    ├── Transient                 briefly not there: try again, after `retry_after` if known
    ├── Waiting                   a shortage (CPU, disk, dashboard down); the release is fine
    ├── Stalled                   no use to retry until an input changes: a config, a credential
    │   ├── ConfigError           the operator's TOML: file, line, key
    │   ├── TemplateError         the operator's template: file, line
    │   ├── JournalError          the journal cannot be used as it is
    │   └── NotPermitted          whoever asks may not
    └── Rejected                  this one artifact or release is bad; quarantine it, with its stage
        └── NoRelease             no release comes of this file: told of, never quarantined

Each carries a `reason`: one PascalCase word that logs, conditions, metrics, `status` and `explain`
share. Third-party exceptions are translated where they enter, with `raise ... from`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

_E = TypeVar("_E", bound=BaseException)


class WheelwayError(Exception):
    """The root: `reason` is the PascalCase word, `message` the sentence for a person."""

    retry_after: float | None = None
    """Seconds that the other side asked to be left alone for; None to use backoff."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Transient(WheelwayError):  # noqa: N818 - a kind of outcome, not of mistake
    """Expected to go away by itself; `retry_after` is in seconds, None to use backoff."""

    def __init__(self, reason: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after


class Waiting(WheelwayError):  # noqa: N818 - a kind of outcome, not of mistake
    """A shortage that somebody or something will relieve; never a reason to quarantine."""


class Stalled(WheelwayError):  # noqa: N818 - a kind of outcome, not of mistake
    """Retrying cannot help until an input changes."""


class ConfigError(Stalled):
    """The configuration cannot be used; the message names file, line and key."""

    def __init__(self, message: str) -> None:
        super().__init__("ConfigInvalid", message)


class TemplateError(Stalled):
    """A template cannot be used; the message names file and line."""

    def __init__(self, message: str) -> None:
        super().__init__("TemplateInvalid", message)


class JournalError(Stalled):
    """The journal cannot be used: it is newer than this program, or locked by another."""


class NotPermitted(Stalled):
    """Whoever asks may not; the message names the group, or the user, that may."""


class Rejected(WheelwayError):  # noqa: N818 - a kind of outcome, not of mistake
    """The artifact or release itself is bad; `log_tail` holds what it said last, if anything."""

    def __init__(self, reason: str, message: str, *, log_tail: str = "") -> None:
        super().__init__(reason, message)
        self.log_tail = log_tail


NOT_A_PIPELINE: Final = "NotAPipelineWheel"
"""The reason of a `NoRelease` that is nobody's mistake: a library."""


class NoRelease(Rejected):
    """A file that no release comes of, so there is nothing to quarantine: it is told of, remembered
    and not fetched again. `by_name`: its name is at fault, and says nothing against the same bytes
    under another.
    """

    def __init__(self, reason: str, message: str, *, by_name: bool) -> None:
        super().__init__(reason, message)
        self.by_name = by_name


class Mistake(NamedTuple):
    """What is wrong with one value of several, in the words of whoever looked at it."""

    keys: tuple[str | int, ...]
    what: str
    kind: str
    """https://docs.pydantic.dev/latest/errors/validation_errors/"""
    given: object

    def __str__(self) -> str:
        return f"{dotted(self.keys)}: {self.what}"


class Found(Protocol):
    """What pydantic raises, and FastAPI of it."""

    def errors(self) -> Sequence[Any]:
        """https://docs.pydantic.dev/latest/errors/errors/."""


def mistakes(error: Found) -> list[Mistake]:
    """What was found, in the order of the fields."""
    return [
        Mistake(one["loc"], one["msg"].removeprefix("Value error, "), one["type"], one["input"])
        for one in error.errors()
    ]


def dotted(keys: Sequence[str | int]) -> str:
    """`pipelines.0.options.threads`."""
    return ".".join(map(str, keys))


def without_frames(error: _E) -> _E:
    """The same error without its frames and those of its causes, for whoever remembers it: they
    would keep all that was being worked on in memory.
    """
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        one = chain.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            chain += [one.__cause__, one.__context__]
    return error


def class_of(error: WheelwayError) -> str:
    """Which of the four kinds an error is, for metrics; `Bug` for any other."""
    if error.reason == "InternalError":
        return "Bug"
    kinds = (Transient, Waiting, Stalled, Rejected)
    return next((kind.__name__ for kind in kinds if isinstance(error, kind)), "Bug")
