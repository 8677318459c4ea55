"""Memory of a process that runs for months; elsewhere Python's defaults are right.

glibc's part (mallopt(3)) is left out where there is no glibc.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
_LARGE = 128 * 2**10
"""Bytes; glibc's own default, which it raises by itself to 32 MiB when it is not set."""


def collect_seldom() -> None:
    """Have Python collect the oldest generation a hundred times less often. A daemon keeps hundreds
    of thousands of objects and hardly ever leaves a cycle; looking through all of them took a third
    of each pass in which something moved.
    """
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, 1000)


def return_large() -> None:
    """Have large blocks returned to the system as soon as they are free. Serve's report on a
    thousand applications is megabytes of text, which would leave holes between small blocks for
    ever.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
