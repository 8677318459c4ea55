"""Runs one command and ends everything that came of it; a script, `python -I subreaper.py`.

A Ray head is a tree of processes, and some outlive it: HAProxy is the child of a worker, and when
Ray is stopped it stays behind holding the ingress port. On Linux a process may adopt the orphans
below it (prctl(2), PR_SET_CHILD_SUBREAPER). Being that process, this script needs no guess about
which processes belong to the head: all of its descendants do, nothing else does, and wait(2)
failing with ECHILD is the proof that none is left. The process that owns the head keeps its own
children to itself and holds the write end of this script's standard input: when that closes, be it
by `stop` or because the owner was killed, the head ends.

Only the standard library, and nothing of this package, so that it starts in a few milliseconds.

    subreaper.py GRACE COMMAND...     GRACE: seconds between SIGTERM and SIGKILL

Exit status: 0 after a requested end, 1 when the command ended by itself, 2 when processes could
not be ended (their ids are on standard error).
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
KILL_DEADLINE = 30.0
"""Seconds for SIGKILL to take effect; a process in uninterruptible sleep may take some."""
LEFT = 2
"""The exit status that admits failure."""


def main(arguments: list[str]) -> int:
    """Run the command until standard input ends, SIGTERM arrives or the command ends."""
    grace, command = float(arguments[0]), arguments[1:]
    become_subreaper()
    wakeups = wake_on(signal.SIGCHLD, signal.SIGTERM)
    # The terminal's Ctrl-C is for the owner, who then closes our standard input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    ended = run(child.pid, wakeups)
    if not ended:
        os.kill(child.pid, signal.SIGTERM)
        wait_for(child.pid, time.monotonic() + grace)
    left = kill_all(time.monotonic() + KILL_DEADLINE)
    if left:
        sys.stderr.write(f"could not be ended: {sorted(left)}\n")
        return LEFT
    return 1 if ended else 0


def become_subreaper() -> None:
    """Adopt all orphans among the descendants.

    Raises:
        OSError: the system has no such thing (not Linux, or before 3.4).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(number)}")


def wake_on(*signals: signal.Signals) -> int:
    """A descriptor on which the number of each of these signals arrives as one byte."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in signals:
        signal.signal(number, lambda *_: None)
    return readable


def run(pid: int, wakeups: int) -> bool:
    """Reap until asked to end (False) or until `pid` has ended by itself (True)."""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(wakeups, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == 0 and not os.read(0, 4096):
                    return False
                if key.fd == wakeups and signal.SIGTERM in os.read(wakeups, 4096):
                    return False
            if pid in reap():
                return True


def reap() -> set[int]:
    """Collect the children that have ended, adopted ones included.

    Raises:
        ChildProcessError: there are no children any more, hence no descendants.
    """
    ended: set[int] = set()
    while True:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return ended
        ended.add(pid)
        if not has_children():
            return ended


def has_children() -> bool:
    """Whether any child is left, ended or not."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def wait_for(pid: int, deadline: float) -> None:
    """Reap until `pid` has ended or the deadline (`time.monotonic`) has passed."""
    while has_children() and time.monotonic() < deadline and pid not in reap():
        time.sleep(0.02)


def kill_all(deadline: float) -> set[int]:
    """SIGKILL descendants until none is left; what is left at the deadline is returned."""
    while has_children():
        left = descendants(os.getpid())
        if time.monotonic() > deadline:
            return left
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
        if has_children():
            reap()
    return set()


def descendants(root: int) -> set[int]:
    """The ids of all processes below `root`, read from /proc (proc(5), `stat`, field 4)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The second field, the name, may hold anything: parse behind its last bracket.
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: set[int] = set()
    frontier = [root]
    while frontier:
        below = children.get(frontier.pop(), [])
        found.update(below)
        frontier.extend(below)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
