"""A network name space for one thread: what the kernel keeps for each may be set in it, for nobody
else. Needs root.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # linux/sched.h


def in_own_network(make: Callable[[], T], settings: dict[str, int]) -> T:
    """What `make` returns in a network of its own, such as a socket; `settings` are sysctl's.

    Skips the test where the kernel does not give us one.
    """

    def enter_and_make() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) != 0:  # of this thread alone: unshare(2)
            pytest.skip(f"no network of its own: {os.strerror(ctypes.get_errno())}")
        for name, value in settings.items():
            Path("/proc/sys", name.replace(".", "/")).write_text(str(value))
        return make()

    with ThreadPoolExecutor(1) as visitor:
        return visitor.submit(enter_and_make).result()
