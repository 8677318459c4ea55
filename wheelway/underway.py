"""How far a start has come, for a person who waits for it: what hangs says nothing itself."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator, Iterator

REMIND: Final = 30.0
"""Seconds after which the log is told what a start is at; then after twice as many, and so on."""


@dataclass(slots=True)
class Underway:
    """What a start is at."""

    step: str = "its beginning"
    part: str = ""
    """Whose step it is, before it; the pipeline's own as a rule."""

    def __str__(self) -> str:
        """For a person."""
        return self.part + self.step


_UNDERWAY: ContextVar[Underway | None] = ContextVar("_UNDERWAY", default=None)


def begin(step: str) -> None:
    """Note what comes now, if anybody wants to know."""
    if (underway := _UNDERWAY.get()) is not None:
        underway.step = step


@contextmanager
def followed() -> Iterator[Underway]:
    """What begins in here, and in tasks that are made in here."""
    token = _UNDERWAY.set(underway := Underway())
    try:
        yield underway
    finally:
        _UNDERWAY.reset(token)


@contextmanager
def of_part(part: str) -> Iterator[None]:
    """What begins in here is that part's."""
    underway = _UNDERWAY.get() or Underway()
    former, underway.part = underway.part, f"the part {part!r}: "
    try:
        yield
    finally:
        underway.part = former


@asynccontextmanager
async def reminding(logger: logging.Logger, what: object) -> AsyncIterator[None]:
    """Have the log told, from time to time, what a start is at that takes long."""
    with followed() as underway:
        reminder = asyncio.create_task(_remind(underway, logger, what))
        try:
            yield
        finally:
            reminder.cancel()


async def _remind(underway: Underway, logger: logging.Logger, what: object) -> None:
    began, pause = time.monotonic(), REMIND
    while True:
        await asyncio.sleep(pause)
        pause = time.monotonic() - began
        logger.warning("%s has been starting for %.0f s, it is at %s", what, pause, underway)
