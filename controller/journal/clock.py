"""The clock that everything waits by, beside the one on the wall.

What happened is told by the wall clock, which a person, NTP or a restored machine may turn.
Deadlines, backoff and grace are counted by a clock that nobody can: the wall clock as it was when
this boot of the machine was first seen, and the seconds since then. The journal keeps how far the
two are apart, so what is dated by it stays so long ago over restarts of the daemon.
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
    """Seconds since the epoch, as far as was known when this boot was first seen; what a journal
    that is only read says of it holds, and nothing is kept.
    """
    ahead = journal.clock_offset(boot) if boot else None
    if ahead is None:
        ahead = wall_clock() - monotonic()
        if boot and isinstance(journal, Journal):
            journal.keep_clock_offset(boot, ahead)
    offset = ahead
    return lambda: monotonic() + offset
