"""How commands print: tables without boxes, times, JSON; plain text where there is no terminal.

On a terminal rich colours and wraps. Elsewhere the same words are aligned plain text without escape
sequences; nothing is wrapped or cut off.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from functools import cache
from textwrap import indent as indented
from typing import TYPE_CHECKING, Final, TypeVar

from controller.ops.times import ago, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, Group, RenderableType
    from rich.text import Text

    from controller.ops.documents import ConditionDocument, OverridesDocument, SuspensionDocument

_T = TypeVar("_T")

PHASE_STYLES: Final = {
    "Live": "green",
    "Quarantined": "red",
    "Staged": "cyan",
    "Ready": "cyan",
    **dict.fromkeys(("Retiring", "Retired", "Superseded"), "dim"),
}

LONGEST_LINE: Final = 240
"""Characters of a message that is shown in one line."""
_NAMED: Final = 20
"""Subjects of one reason that are named."""
_SHOWN: Final = {"\n", "\t"}
_PLAIN_WIDTH: Final = 100_000
"""Columns of a console that is no terminal: nothing is ever wrapped there."""


def console(*, stderr: bool = False) -> Console:
    """Where a command prints, made anew because tests and pipes exchange stdout."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PLAIN_WIDTH
    return _consoles()(file=stream, width=width, highlight=False, markup=False, emoji=False)


@cache
def _consoles() -> type[Console]:
    """The class of consoles: rich is imported where something is printed, not for `--help`."""
    from rich.console import Console  # noqa: PLC0415 - as above

    class _Console(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 - rich calls this while it handles the error; `Program` tells it

    return _Console


def clean(text: str) -> str:
    """The text without control characters: a wheel's log must not steer a person's terminal."""
    return "".join(
        char if char.isprintable() or char in _SHOWN else char.encode("unicode_escape").decode()
        for char in text
    )


def first_line(text: str) -> str:
    """The first line that is not empty, cut where it is very long; the whole is shown elsewhere."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE].rsplit(" ", 1)[0] + " ..."


# -- time ----------------------------------------------------------------------------------------


def day_and_time(at: float) -> str:
    """Local time to the second, for a person."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def time_of_day(at: float) -> str:
    """Local time of the day to the second, for a person who is watching."""
    return time.strftime("%H:%M:%S", time.localtime(at))


# -- pieces --------------------------------------------------------------------------------------

Cell = str | tuple[str, str]
"""A text, or a text and its style."""


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, wide: int = 0) -> RenderableType:
    """Rows under their heads; the last column takes what room is left, and is left out where there
    are not `wide` columns of characters.
    """
    return _Table(heads, rows, wide)


@dataclass(frozen=True, slots=True)
class _Table:
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    wide: int

    def __rich_console__(self, out: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        del options  # rich's protocol
        shown = len(self.heads) - (out.width < self.wide)
        rows = [row[:shown] for row in (self.heads, *self.rows)]
        if not out.is_terminal:
            yield _aligned([[_text(cell) for cell in row] for row in rows])
            return
        from rich.table import Table  # noqa: PLC0415 - not needed for plain output

        drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for head in self.heads[:shown]:
            drawn.add_column(head, overflow="fold", no_wrap=head in _WHOLE)
        for row in rows[1:]:
            drawn.add_row(*[_styled(cell) for cell in row])
        yield drawn


_WHOLE: Final = {
    *("pipeline", "version", "phase", "state", "since", "time", "route"),
    *("replicas", "requests/s", "p50"),
}
"""Columns that are never wrapped."""


def _aligned(rows: Sequence[Sequence[str]]) -> Text:
    from rich.text import Text  # noqa: PLC0415 - as for consoles

    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return Text("\n".join(lines))


def _text(cell: Cell) -> str:
    text = cell if isinstance(cell, str) else cell[0]
    return " ".join(clean(text).split())


def _styled(cell: Cell) -> Text:
    from rich.text import Text  # noqa: PLC0415 - as for consoles

    return Text(_text(cell), style="" if isinstance(cell, str) else cell[1])


@dataclass(frozen=True, slots=True)
class _Paragraph:
    text: str
    indent: int
    style: str

    def __rich_console__(self, out: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        del options  # rich's protocol
        from rich.padding import Padding  # noqa: PLC0415 - as for consoles
        from rich.text import Text  # noqa: PLC0415 - as for consoles

        if out.is_terminal:  # wrapped lines keep their indentation
            yield Padding(Text(self.text, style=self.style), (0, 0, 0, self.indent), expand=False)
        else:  # no spaces at the ends of lines
            yield Text(indented(self.text, " " * self.indent))


def paragraph(text: str, *, indent: int = 0, style: str = "") -> RenderableType:
    """A text of others, cleaned and indented."""
    return _Paragraph(clean(text), indent, style)


def stack(*parts: RenderableType) -> Group:
    """The parts beneath each other; each line of a text is a paragraph, or empty."""
    from rich.console import Group  # noqa: PLC0415 - as for consoles

    lines = (x for part in parts for x in (part.split("\n") if isinstance(part, str) else (part,)))
    return Group(*(paragraph(x) if isinstance(x, str) and x else x for x in lines))


def drawn_orders(overrides: OverridesDocument, now: float) -> Iterable[RenderableType]:
    """The orders in force under their head; nothing when there are none."""
    orders: list[tuple[SuspensionDocument, str, str]] = [
        *(
            (pin, f"pinned to {', '.join(pin['versions'])}", f"unpin {pin['pipeline']}")
            for pin in overrides["pins"]
        ),
        *(
            (order, "suspended", f"resume {order['pipeline'] or ''}")
            for order in overrides["suspensions"]
        ),
        *(
            (
                pin,
                f"weights pinned to {', '.join(pin['versions'])}",
                f"unpin {pin['pipeline']} --weights",
            )
            for pin in overrides.get("weights", ())
        ),
    ]
    if orders:
        yield from ("", paragraph("Ordered", style="bold"))
    for order, what, end in orders:
        name, note = order["pipeline"], f" ({order['note']})" if order["note"] else ""
        said = f"{name or 'everything'}: {what} by {order['by']}{note}"
        said += f", {ago(now - seconds(order['at']))} ago"
        yield paragraph(said, indent=2, style="yellow")
        yield paragraph(f"wheelway {end}".rstrip(), indent=4)


# -- what holds of many at once, told once -------------------------------------------------------
#
# A full cluster makes one condition of each release that waits for it. A person reads the reason
# once, and under it whom it is about.


def gathered(items: Iterable[_T], key: Callable[[_T], Hashable]) -> list[list[_T]]:
    """The items of each key together, in the order of the first of each."""
    groups: dict[Hashable, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def enumerated(subjects: Sequence[str]) -> str:
    """`a, b, c`; of very many, the first and how many more."""
    more = len(subjects) - _NAMED
    return ", ".join(subjects[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def drawn_conditions(conditions: Iterable[ConditionDocument], now: float) -> list[RenderableType]:
    """Each reason with its message once, of whom, and since when it holds; `now` is in seconds
    since the epoch.
    """
    parts: list[RenderableType] = []
    for group in gathered(conditions, lambda c: (c["reason"], c["message"], c["ok"])):
        first, times = group[0], [seconds(condition["since"]) for condition in group]
        span = " to ".join(dict.fromkeys(ago(now - since) for since in (max(times), min(times))))
        head = f"{first['subject']}: {first['reason']}, for {span}"
        if len(group) > 1:
            head = f"{first['reason']}, {len(group)} times, for {span}"
        parts.append(paragraph(head, indent=2, style="" if first["ok"] else "yellow"))
        parts.append(paragraph(first["message"], indent=4))
        if len(group) > 1:
            about = enumerated([condition["subject"] for condition in group])
            parts.append(paragraph(about, indent=4, style="dim"))
    return parts


def drawn_notices(
    notices: Iterable[tuple[str, str, str]], *, style: str = "", indent: int = 0
) -> list[RenderableType]:
    """A line for each subject, reason and message; one for all subjects that share the latter."""
    parts: list[RenderableType] = []
    for group in gathered(notices, lambda notice: notice[1:]):
        subject, reason, message = group[0]
        many = len(group) > 1
        said = (
            f"{reason}, {len(group)} times: {message}"
            if many
            else f"{subject}: {reason}: {message}"
        )
        parts.append(paragraph(said, indent=indent, style=style))
        if many:
            about = enumerated([subject for subject, _, _ in group])
            parts.append(paragraph(about, indent=indent + 2, style="dim"))
    return parts


# -- for people or for scripts -------------------------------------------------------------------


def show(document: _T, draw: Callable[[_T], Iterable[RenderableType]], *, as_json: bool) -> None:
    """Print a document as JSON, or what `draw` makes of it for a person."""
    if as_json:
        print_json(document)
    else:
        say(*draw(document))


def say(*parts: RenderableType) -> None:
    """Print the parts beneath each other; texts are paragraphs."""
    console().print(stack(*parts))


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@cache
def own_version() -> str:
    """The version of wheelway that is installed."""
    from importlib.metadata import version  # noqa: PLC0415 - for `--version` and `status` alone

    return version("wheelway")
