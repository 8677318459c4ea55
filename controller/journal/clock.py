"""The steady clock, by which everything waits, beside the wall clock.

Events are dated by the wall clock, which a person, NTP or a restored machine may turn. Deadlines,
backoff and grace are counted by a clock that nobody can turn: the wall clock as it was when this
boot of the machine was first seen, plus the seconds since then. The journal keeps the difference
from the monotonic clock, so that dates stay right over restarts of the daemon.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from controller.journal.writing import Journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.journal.reading import Reader

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id(path: Path = _BOOT_ID) -> str:
    """What the kernel calls this boot (random(4)); empty where it has no name."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def steady_clock(
    journal: Reader,
    boot: str,
    *,
    wall_clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Callable[[], float]:
    """A clock in seconds since the epoch, as far as was known when this boot was first seen. A
    journal that is only read keeps nothing new of it.
    """
    ahead = journal.clock_offset(boot) if boot else None
    if ahead is None:
        ahead = wall_clock() - monotonic()
        if boot and isinstance(journal, Journal):
            journal.keep_clock_offset(boot, ahead)
    offset = ahead
    return lambda: monotonic() + offset
