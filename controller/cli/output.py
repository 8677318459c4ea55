"""How commands print: tables without boxes, times, JSON; plain text where nobody watches.

On a terminal rich colours and wraps. Anywhere else the same words come as aligned plain text, as
wide as they are: no escape sequences, nothing cut off, good for `grep` and logs.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from functools import cache
from textwrap import indent as indented
from typing import TYPE_CHECKING, Final

from controller.ops.times import ago

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions, Group, RenderableType
    from rich.text import Text

    from controller.planning.overrides import Overrides

PHASE_STYLES: Final = {
    "Live": "green",
    "Quarantined": "red",
    "Staged": "cyan",
    "Ready": "cyan",
    "Retiring": "dim",
    "Retired": "dim",
    "Superseded": "dim",
}

LONGEST_LINE: Final = 240
"""Characters of what is told in passing."""
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
    """The first line that says something, cut where it is very long: what is said in full elsewhere
    is told here in passing.
    """
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


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, plain: bool) -> RenderableType:
    """Rows under their heads; the last column takes what room is left."""
    if plain:
        return _aligned([heads, *[[_text(cell) for cell in row] for row in rows]])
    from rich.table import Table  # noqa: PLC0415 - not needed for plain output

    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for head in heads:
        drawn.add_column(head, overflow="fold", no_wrap=head in _WHOLE)
    for row in rows:
        drawn.add_row(*[_styled(cell) for cell in row])
    return drawn


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


def stack(*parts: RenderableType | None) -> Group:
    """The parts beneath each other, those that are None left out."""
    from rich.console import Group  # noqa: PLC0415 - as for consoles

    return Group(*[part for part in parts if part is not None])


def drawn_orders(overrides: Overrides, now: float) -> list[RenderableType | None]:
    """What operators ordered and nobody lifted, under its head; nothing when there is nothing."""
    lines = [
        *((f"{name}: {pin}", pin.at, f"unpin {name}") for name, pin in overrides.pins.items()),
        *(
            (f"{name or 'everything'}: {order}", order.at, f"resume {name}".rstrip())
            for name, order in overrides.suspensions.items()
        ),
    ]
    if not lines:
        return []
    parts: list[RenderableType | None] = ["", paragraph("Ordered", style="bold")]
    for said, at, end in lines:
        parts += [
            paragraph(f"{said}, {ago(now - at)} ago", indent=2, style="yellow"),
            paragraph(f"wheelway {end}", indent=4),
        ]
    return parts


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@cache
def own_version() -> str:
    """The version of wheelway that is installed."""
    from importlib.metadata import version  # noqa: PLC0415 - for `--version` and `status` alone

    return version("wheelway")
