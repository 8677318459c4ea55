"""How much a replica may allocate, and how much it did.

A pipeline that allocates without end would take the whole node down: the kernel then kills
whichever process it likes, Ray's own included. A soft limit on the data segment (RLIMIT_DATA,
setrlimit(2): heap and private writable mappings, so malloc, NumPy and thread stacks, but not
shared memory, Ray's object store, or read-only mapped model files) makes the allocation fail
inside the pipeline instead, which Python reports as MemoryError. A file that is mapped privately
and writable (torch, `numpy.memmap` with mode "c") counts in full, as the kernel cannot know that
nobody writes; and GPU libraries map far more than they use.
"""

from __future__ import annotations

import ctypes
import gc
import resource
from contextlib import suppress
from pathlib import Path

SHARE = 0.8
"""Of the available memory that a replica may take when nobody says how much."""

SPARE = 64 << 20
"""Bytes that may be allocated at least after an instance was replaced by another."""

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


def limit(max_memory: int | None, *, accelerated: bool = False) -> int | None:
    """Allow this process `max_memory` more bytes than it has now; None: `SHARE` of what is free,
    and no limit for one that has a GPU (`accelerated`).

    Returns the new limit in bytes; None where it could not be set (no /proc, no Linux): the
    pipeline then runs without, as it would anywhere else.
    """
    if accelerated and max_memory is None:
        return None
    used = _kilobytes(_PROC / "self/status", "VmData")
    allowance = max_memory if max_memory is not None else _default()
    if used is None or allowance is None:
        return None
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = used + allowance
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    return soft


class Room:
    """How much a replica may allocate while it has one instance, and while it has two."""

    def __init__(self, max_memory: int | None, *, accelerated: bool = False) -> None:
        self._max_memory = max_memory
        self._accelerated = accelerated
        self._soft: int | None = None

    def limit(self) -> None:
        """For the first instance."""
        self._soft = limit(self._max_memory, accelerated=self._accelerated)

    def widen(self) -> None:
        """For another beside it: as much again, beyond what this process holds now."""
        limit(self._max_memory, accelerated=self._accelerated)

    def narrow(self) -> None:
        """For one, again. What malloc did not give back must not make every allocation fail."""
        used = _kilobytes(_PROC / "self/status", "VmData")
        if self._soft is None or used is None:
            return
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = max(self._soft, used + SPARE)
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def give_back() -> None:
    """Return to the kernel what an instance held that was unloaded.

    An instance is often part of a cycle, and Serve froze the first one with all else that was there
    when its replica had started (`gc.freeze`): nobody else would ever collect it. What it had on
    the heap, glibc keeps for itself unless it is asked (malloc_trim(3)).
    """
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    gc.collect()
    if frozen:
        gc.freeze()
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def peak() -> int:
    """The most bytes of physical memory that this process ever held.

    Not by getrusage(2) where /proc is: what it tells outlives execve(2), so a small program that a
    large one started seems large.
    """
    held = _kilobytes(_PROC / "self/status", "VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if held is None else held


def available() -> int | None:
    """Bytes that can still be had: the machine's MemAvailable or what the cgroup leaves of its own
    limit, whichever is less (proc(5), cgroup-v2 memory.max and memory.current).
    """
    machine = _kilobytes(_PROC / "meminfo", "MemAvailable")
    group = _cgroup_headroom()
    known = [value for value in (machine, group) if value is not None]
    return min(known) if known else None


def _default() -> int | None:
    free = available()
    return None if free is None else int(free * SHARE)


def _cgroup_headroom() -> int | None:
    try:
        own = (_PROC / "self/cgroup").read_text().partition("::")[2].strip().lstrip("/")
    except OSError:
        return None
    rooms = []
    for folder in (_CGROUP / own, *(_CGROUP / own).parents):
        if not folder.is_relative_to(_CGROUP):
            break
        try:
            most = (folder / "memory.max").read_text().strip()
            current = (folder / "memory.current").read_text().strip()
        except OSError:
            continue
        if most != "max":
            rooms.append(max(0, int(most) - int(current)))
    return min(rooms) if rooms else None


def _kilobytes(path: Path, key: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        if name == key:
            return int(rest.split()[0]) * 1024
    return None
