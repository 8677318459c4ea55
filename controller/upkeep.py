"""Whether what replicas are given is still what was verified; what is not is made again.

A tree or an environment can be altered, damaged or deleted at any time by whoever may write there.
What is in use is looked at in turns, a little each time, so that the cost stays the same however
much there is; what somebody has reason to doubt is looked at next, and from the bytes up.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from controller.errors import WheelwayError, without_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from controller.jobs import Jobs

EVERY = 30.0
"""Seconds between two rounds, and between two looks at the same artifact."""
BUDGET = 0.25
"""Seconds that a round may take for what nobody doubts; the next one goes on from there."""
STALE = 90.0
"""Seconds after which a look no longer vouches for what is about to be put on the cluster."""
_ROUND = ("check",)


class Upkeep:
    """Looks at artifacts, known by their digests.

    Args:
        jobs: does the rounds, one at a time.
        is_sound: whether an artifact is as it was made, by a quick look at its files.
        mend: makes again what is damaged of one; True when anything was. Told whether there is a
            reason for doubt: then every byte is looked at. Raises WheelwayError.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        jobs: Jobs,
        is_sound: Callable[[str], bool],
        mend: Callable[[str, bool], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = jobs
        self._is_sound = is_sound
        self._mend = mend
        self._clock = clock
        self._lock = threading.Lock()
        self._vouched: dict[str, float] = {}
        self._doubted_at: dict[str, float] = {}
        self._urgent: dict[str, bool] = {}  # and whether there is a reason for doubt
        self._faults: dict[str, WheelwayError] = {}
        self._restored: set[str] = set()
        self._looked_at = float("-inf")
        self._spent = 0.0  # seconds of quick looks, in the second that began at `_spending`
        self._spending = float("-inf")

    def vouch(self, digest: str) -> None:
        """It was just made, or looked at."""
        with self._lock:
            self._vouched[digest] = self._clock()

    def vouches_for(self, digest: str) -> bool:
        """Whether it may be put on the cluster: somebody looked not long ago, or just now. If not,
        it is looked at, and mended, next.
        """
        with self._lock:
            if self._clock() - self._vouched.get(digest, float("-inf")) < STALE:
                return True
        if self._clock() - self._spending >= 1.0:
            self._spending, self._spent = self._clock(), 0.0
        begin = time.monotonic()
        if self._spent < BUDGET and self._is_sound(digest):
            self._spent += time.monotonic() - begin
            self.vouch(digest)
            return True
        with self._lock:
            self._urgent.setdefault(digest, False)
        return False

    def distrust(self, digest: str) -> None:
        """Nothing vouches for it any more."""
        with self._lock:
            self._vouched.pop(digest, None)
            self._doubted_at.pop(digest, None)

    def distrust_all(self) -> None:
        """Nothing vouches for anything any more, and nobody knows what is damaged."""
        with self._lock:
            for known in (self._vouched, self._doubted_at, self._faults):
                known.clear()
            self._looked_at = float("-inf")

    def is_due(self) -> bool:
        """Whether the next round is, or something is urgent."""
        return bool(self._urgent) or self._clock() - self._looked_at >= EVERY

    def look(self, in_use: Collection[str], doubted: Iterable[str]) -> None:
        """Start the next round, if it is due or something is urgent.

        Args:
            in_use: what is on the cluster or about to be.
            doubted: whose files a replica found other than they were published. A doubt that
                stays is followed once in `EVERY` seconds.
        """
        if self._jobs.running(_ROUND):
            return
        now = self._clock()
        with self._lock:
            for digest in doubted:
                if now - self._doubted_at.get(digest, float("-inf")) >= EVERY:
                    self._doubted_at[digest] = now
                    self._urgent[digest] = True
            urgent, due = self._urgent, now - self._looked_at >= EVERY
            if not urgent and not due:
                return
            self._urgent, self._looked_at = {}, now
            for known in (self._vouched, self._doubted_at, self._faults):
                keep_only({*in_use, *urgent}, known)
            age = {digest: now - self._vouched.get(digest, float("-inf")) for digest in in_use}
        late = [digest for digest in age if age[digest] >= EVERY and digest not in urgent]
        late.sort(key=age.__getitem__, reverse=True)
        self._jobs.again(_ROUND, lambda: self._round(urgent, late))

    def faults(self) -> Mapping[str, WheelwayError]:
        """By digest: why something damaged is not made again yet."""
        with self._lock:
            return dict(self._faults)

    def take_restored(self) -> set[str]:
        """What was found damaged and is sound again, since this was last asked."""
        with self._lock:
            restored, self._restored = self._restored, set()
        return restored

    def _round(self, urgent: Mapping[str, bool], late: Iterable[str]) -> None:
        for digest, doubted in urgent.items():
            self._check(digest, doubted=doubted)
        until = time.monotonic() + BUDGET
        for digest in late:
            if time.monotonic() >= until:
                break
            self._check(digest, doubted=False)

    def _check(self, digest: str, *, doubted: bool) -> None:
        if not doubted and self._is_sound(digest):
            with self._lock:
                self._faults.pop(digest, None)
            self.vouch(digest)
            return
        try:
            mended = self._mend(digest, doubted)
        except WheelwayError as error:
            with self._lock:
                self._faults[digest] = without_frames(error)
            return
        with self._lock:
            self._faults.pop(digest, None)
            if mended:
                self._restored.add(digest)
                self._doubted_at.pop(digest, None)  # the next doubt is another one
        self.vouch(digest)


def keep_only(digests: AbstractSet[str], *known: dict[str, Any]) -> None:
    """Forget what is known of all other digests. Jobs may learn more meanwhile."""
    for one in known:
        for digest in set(one) - digests:
            one.pop(digest, None)
