"""Checks files that replicas use, again and again, and makes damaged ones anew.

Whoever may write there can alter, damage or delete a tree or an environment at any time. What is in
use is checked in turns, a little each time, so that the cost stays the same however much there is.
What is doubted is checked next, byte by byte.
"""

from __future__ import annotations

import logging
import threading
import time
from random import random
from typing import TYPE_CHECKING, Any

from controller import retry
from controller.errors import Transient, WheelwayError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from controller.reconcile.jobs import Jobs

log = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between two rounds, and between two checks of the same artifact."""
BUDGET = 0.25
"""Seconds of a round for artifacts that are not doubted; the next goes on from there."""
STALE = 90.0
"""Seconds for which a check is good for an artifact that is about to be placed."""
ROUND, MENDING = "check", "mend"
"""The kinds of work of rounds and of mending, which must not wait for builds."""
_ROUND = (ROUND,)
_MENDERS = tuple((MENDING, str(number)) for number in range(4))
"""Jobs that mend, beside the rounds: one that takes minutes (an environment, a wheel of a slow
source) holds up neither checks nor all others."""
_NEVER = float("-inf")


class Upkeep:
    """Checks artifacts, known by their digests.

    Args:
        jobs: does the rounds, one at a time, and mends beside them.
        is_sound: whether an artifact is as it was made, by a quick look at its files.
        mend: makes again what is damaged of one; returns whether anything was. Told whether there
            is a reason for doubt, to look at every byte. Raises WheelwayError: retried later.
        clock: monotonic seconds.
        jitter: uniform in [0, 1).
    """

    def __init__(
        self,
        jobs: Jobs,
        is_sound: Callable[[str], bool],
        mend: Callable[[str, bool], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random,
    ) -> None:
        self._jobs = jobs
        self._is_sound = is_sound
        self._mend = mend
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._vouched: dict[str, float] = {}
        self._doubted_at: dict[str, float] = {}
        self._urgent: dict[str, bool] = {}  # and whether there is a reason for doubt
        self._damaged: dict[str, bool] = {}  # likewise; not begun yet
        self._mended: set[str] = set()  # it is begun
        self._faults: dict[str, retry.Failure] = {}
        self._restored: set[str] = set()
        self._checked_at = _NEVER
        self._spent = 0.0  # seconds of quick looks, in the second that began at `_spending`
        self._spending = _NEVER

    def vouch(self, digest: str) -> None:
        """Note that it was just made, or checked."""
        with self._lock:
            self._vouched[digest] = self._clock()

    def vouches_for(self, digest: str) -> bool:
        """Whether an artifact may be placed: it was checked lately, or is checked now. If not, it
        is checked and mended next.
        """
        with self._lock:
            if self._clock() - self._vouched.get(digest, _NEVER) < STALE:
                return True
            if self._is_backing_off(digest):
                return False
        if self._clock() - self._spending >= 1.0:
            self._spending, self._spent = self._clock(), 0.0
        begin = time.monotonic()
        sound = self._spent < BUDGET and self._seems_sound(digest)
        self._spent += time.monotonic() - begin
        if sound:
            self.vouch(digest)
            return True
        with self._lock:
            self._urgent.setdefault(digest, False)
        return False

    def distrust(self, digest: str) -> None:
        """Doubt an artifact: its checks no longer count, and a failure is not waited for."""
        with self._lock:
            for known in (self._vouched, self._doubted_at, self._faults):
                known.pop(digest, None)

    def distrust_all(self) -> None:
        """Doubt everything: no check counts any more."""
        with self._lock:
            for known in (self._vouched, self._doubted_at, self._faults):
                known.clear()
            self._checked_at = _NEVER

    def is_due(self) -> bool:
        """Whether the next round is due, or something is urgent."""
        return bool(self._urgent or self._damaged) or self._clock() - self._checked_at >= EVERY

    def poll(self, in_use: Collection[str], doubted: Iterable[str]) -> None:
        """Start the next round, if it is due or something is urgent.

        Args:
            in_use: what is on the cluster or about to be.
            doubted: whose files a replica found other than they were published. A doubt that
                stays is followed once in `EVERY` seconds.
        """
        self._make_again()
        if self._jobs.running(_ROUND):
            return
        now = self._clock()
        with self._lock:
            for digest in doubted:
                if now - self._doubted_at.get(digest, _NEVER) >= EVERY:
                    self._doubted_at[digest] = now
                    self._urgent[digest] = True
            urgent = self._urgent
            if not urgent and now - self._checked_at < EVERY:
                return
            self._urgent, self._checked_at = {}, now
            recent = {d for d, fault in self._faults.items() if now < fault.retry_at + EVERY}
            keep_only({*in_use, *urgent}, self._vouched, self._doubted_at)
            keep_only({*in_use, *urgent, *recent}, self._faults)  # who is not placed is asked for
            age = {digest: now - self._vouched.get(digest, _NEVER) for digest in in_use}
        late = [digest for digest in age if age[digest] >= EVERY and digest not in urgent]
        late.sort(key=age.__getitem__, reverse=True)
        self._jobs.rerun(_ROUND, lambda: self._round(urgent, late))

    def faults(self) -> Mapping[str, WheelwayError]:
        """By digest: why something damaged is not made again yet."""
        with self._lock:
            return {digest: fault.error for digest, fault in self._faults.items()}

    def take_restored(self) -> set[str]:
        """Artifacts that were damaged and are sound again, since this was last called."""
        with self._lock:
            restored, self._restored = self._restored, set()
        return restored

    # -- in jobs ---------------------------------------------------------------------------------

    def _round(self, urgent: Mapping[str, bool], late: Iterable[str]) -> None:
        for digest, doubted in urgent.items():
            self._check(digest, doubted=doubted)
        until = time.monotonic() + BUDGET
        for digest in late:
            if time.monotonic() >= until:
                break
            self._check(digest, doubted=False)

    def _check(self, digest: str, *, doubted: bool) -> None:
        with self._lock:
            if self._is_backing_off(digest) or digest in self._mended:
                return
        if not doubted and self._seems_sound(digest):
            self._is_well(digest)
            return
        with self._lock:
            self._damaged[digest] = doubted or self._damaged.get(digest, False)
        self._make_again()

    def _make_again(self) -> None:
        """Begin as many mending jobs as there may be, while something is damaged."""
        for key in _MENDERS:
            if not self._damaged:
                return
            self._jobs.rerun(key, self._mend_what_waits)

    def _mend_what_waits(self) -> None:
        while True:
            with self._lock:
                digest = next((one for one in self._damaged if one not in self._mended), None)
                if digest is None:
                    return
                self._mended.add(digest)
                doubted = self._damaged.pop(digest)
            try:
                self._mend_one(digest, doubted=doubted)
            finally:
                with self._lock:
                    self._mended.discard(digest)

    def _mend_one(self, digest: str, *, doubted: bool) -> None:
        fault: WheelwayError
        try:
            self._is_well(digest, mended=self._mend(digest, doubted))
        except WheelwayError as error:
            fault = error
        except Exception as error:
            # An artifact whose files raise something unforeseen must not hold up all others.
            log.exception("looking after the files of %s failed unexpectedly", digest)
            fault = Transient("InternalError", f"{error!r}; the log has the traceback")
            fault.__cause__ = error
        else:
            return
        with self._lock:
            before, now = self._faults.get(digest), self._clock()
            self._faults[digest] = retry.failed(fault, before, now=now, jitter=self._jitter())

    def _is_well(self, digest: str, *, mended: bool = False) -> None:
        with self._lock:
            self._faults.pop(digest, None)
            if mended:
                self._restored.add(digest)
                self._doubted_at.pop(digest, None)  # the next doubt is another one
        self.vouch(digest)

    def _seems_sound(self, digest: str) -> bool:
        """Whether it looks as it was made. A look that fails counts as no: `mend` will tell."""
        try:
            return self._is_sound(digest)
        except Exception:
            log.exception("looking at the files of %s failed unexpectedly", digest)
            return False

    def _is_backing_off(self, digest: str) -> bool:
        """Whether making it anew failed and is not tried again yet; the lock is held."""
        fault = self._faults.get(digest)
        return fault is not None and self._clock() < fault.retry_at


def keep_only(digests: AbstractSet[str], *known: dict[str, Any]) -> None:
    """Forget all other digests. Jobs may add more meanwhile."""
    for one in known:
        for digest in set(one) - digests:
            one.pop(digest, None)
