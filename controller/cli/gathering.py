"""What holds of many at once, told once: conditions and releases that wait, by their reason.

A full cluster makes one condition of each release that waits for it. A person reads the reason
once, and under it whom it is about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from controller.cli.output import paragraph
from controller.ops.times import ago

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from rich.console import RenderableType

    from controller.model import Condition

NAMED: Final = 20
"""As many subjects of one reason are named."""

_T = TypeVar("_T")


def gathered(items: Iterable[_T], key: Callable[[_T], Hashable]) -> list[list[_T]]:
    """The items of each key together, in the order of the first of each."""
    groups: dict[Hashable, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def enumerated(subjects: Sequence[str]) -> str:
    """`a, b, c`; of very many, the first and how many more."""
    named = ", ".join(subjects[:NAMED])
    more = len(subjects) - NAMED
    return f"{named} and {more} more" if more > 0 else named


def drawn_conditions(
    conditions: Iterable[tuple[Condition, float]], now: float
) -> list[RenderableType]:
    """Each reason with its message once, since when it holds and of whom.

    Args:
        conditions: each with the time since when it holds.
        now: seconds since the epoch.
    """
    parts: list[RenderableType] = []
    for group in gathered(conditions, lambda pair: (pair[0].reason, pair[0].message, pair[0].ok)):
        first, times = group[0][0], [since for _, since in group]
        span = " to ".join(dict.fromkeys(ago(now - since) for since in (max(times), min(times))))
        head = f"{first.subject}: {first.reason}, for {span}"
        if len(group) > 1:
            head = f"{first.reason}, {len(group)} times, for {span}"
        parts.append(paragraph(head, indent=2, style="" if first.ok else "yellow"))
        parts.append(paragraph(first.message, indent=4))
        if len(group) > 1:
            about = enumerated([condition.subject for condition, _ in group])
            parts.append(paragraph(about, indent=4, style="dim"))
    return parts


def drawn_notices(
    notices: Iterable[tuple[str, str, str]], *, style: str = "", indent: int = 0
) -> list[RenderableType]:
    """A line for each subject, reason and message; one for all subjects that share the latter."""
    parts: list[RenderableType] = []
    for group in gathered(notices, lambda notice: notice[1:]):
        subject, reason, message = group[0]
        if len(group) == 1:
            said = f"{subject}: {reason}: {message}"
            parts.append(paragraph(said, indent=indent, style=style))
            continue
        said = f"{reason}, {len(group)} times: {message}"
        parts.append(paragraph(said, indent=indent, style=style))
        about = enumerated([subject for subject, _, _ in group])
        parts.append(paragraph(about, indent=indent + 2, style="dim"))
    return parts
