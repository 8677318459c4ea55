"""Work that takes long, beside the passes: listing, fetching, building environments.

A job is named by its key and done at most once at a time. What failed for a passing reason is tried
again with backoff when it is next asked for; what failed for good stays failed until forgiven.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from random import random
from typing import TYPE_CHECKING, Any

from controller.errors import Rejected, Transient, WheelwayError, class_of, without_frames
from controller.planning import backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


Key = tuple[str, ...]
"""What kind of work, and on what."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended last: a value, or an error and when it may be tried again."""

    value: Any = None
    error: WheelwayError | None = None
    failures: int = 0
    """In a row."""
    retry_at: float = 0.0
    """On the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What went wrong so far, by the kind of work: the first part of the jobs' keys."""

    errors: Mapping[tuple[str, str], int]
    """By kind of work and class of error (`errors.class_of`)."""
    retries: Mapping[str, int]


class Jobs:
    """Runs jobs on a few threads and remembers their outcomes; `wake` is called after each end.

    With `workers=0` a job runs at once in the caller's thread, for commands that do one thing.
    Kinds of work in `apart` (the first part of a job's key) have that many threads of their own, so
    that none of it waits for the slower rest.
    """

    def __init__(
        self,
        workers: int,
        wake: Callable[[], None],
        *,
        apart: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random,
    ) -> None:
        self._pool = ThreadPoolExecutor(workers, "wheelway-job") if workers else None
        self._apart = {
            kind: ThreadPoolExecutor(threads, f"wheelway-{kind}")
            for kind, threads in (apart or {}).items()
            if workers and threads
        }
        self._wake = wake
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._running: set[Key] = set()
        self._outcomes: dict[Key, Outcome] = {}
        self._errors: Counter[tuple[str, str]] = Counter()
        self._retries: Counter[str] = Counter()
        self._changes: Counter[str] = Counter()

    def changes(self, kind: str) -> int:
        """How often an outcome of a kind of work (the first part of its jobs' keys) was set or
        forgotten: as long as that stays the same, so do they.
        """
        with self._lock:
            return self._changes[kind]

    def counts(self) -> Counts:
        """How often jobs failed and were tried again."""
        with self._lock:
            return Counts(dict(self._errors), dict(self._retries))

    def ensure(self, key: Key, work: Callable[[], Any]) -> Outcome | None:
        """The job's outcome; None while it runs. Starts it when it never ran or is due again."""
        with self._lock:
            outcome = self._outcomes.get(key)
            if key in self._running:
                return outcome if outcome and outcome.error else None
            if outcome is not None:
                if outcome.error is None or not self._may_run(outcome):
                    return outcome
                self._retries[key[0]] += 1
            self._running.add(key)
        if self._pool is None:
            self._run(key, work)
            with self._lock:
                return self._outcomes.get(key)
        self._apart.get(key[0], self._pool).submit(self._run, key, work)
        return outcome

    def again(self, key: Key, work: Callable[[], Any]) -> bool:
        """Start the job though it succeeded before, unless it runs or must wait after a failure;
        whether it was started.
        """
        with self._lock:
            outcome = self._outcomes.get(key)
            if key in self._running or not self._may_run(outcome):
                return False
            if outcome is not None and outcome.error is None:
                self._drop(key)
        self.ensure(key, work)
        return True

    def _may_run(self, outcome: Outcome | None) -> bool:
        """Whether a job that ended so may be done again."""
        if outcome is None or outcome.error is None:
            return True
        return not isinstance(outcome.error, Rejected) and self._clock() >= outcome.retry_at

    def hasten(self, key: Key) -> None:
        """Let a job that failed be done again at once, unless what it asked said when."""
        with self._lock:
            outcome = self._outcomes.get(key)
            if outcome is None or getattr(outcome.error, "retry_after", None) is not None:
                return
            self._outcomes[key] = replace(outcome, retry_at=self._clock())

    def follow(self, key: Key, work: Callable[[], Any]) -> None:
        """From within a job: do the next one in the same thread, before the wake-up."""
        with self._lock:
            if key in self._running or key in self._outcomes:
                return
            self._running.add(key)
        self._run(key, work, wake=False)

    def outcome(self, key: Key) -> Outcome | None:
        """How the job ended last; None when it never did."""
        with self._lock:
            return self._outcomes.get(key)

    def forgive(self, which: Callable[[Key], bool]) -> None:
        """Forget that jobs failed, so that they are done anew when they are next asked for."""
        with self._lock:
            for key in [k for k, o in self._outcomes.items() if o.error is not None and which(k)]:
                self._drop(key)

    def forget(self, which: Callable[[Key], bool]) -> None:
        """Forget how jobs ended, well or badly."""
        with self._lock:
            for key in [key for key in self._outcomes if which(key)]:
                self._drop(key)

    def _drop(self, key: Key) -> None:
        del self._outcomes[key]
        self._changes[key[0]] += 1

    def busy(self) -> bool:
        """Whether any job runs now, or waits for a thread."""
        with self._lock:
            return bool(self._running)

    def running(self, key: Key) -> bool:
        """Whether this job runs now, or waits for a thread."""
        with self._lock:
            return key in self._running

    def close(self) -> None:
        """Wait for the running jobs; those not begun are dropped."""
        for pool in (*self._apart.values(), self._pool):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, key: Key, work: Callable[[], Any], *, wake: bool = True) -> None:
        value, error = None, None
        try:
            value = work()
        except WheelwayError as caught:
            error = caught
        except Exception as caught:
            # A bug in one job must not end the others, nor vanish: it is told and retried.
            log.exception("job %s failed unexpectedly", key)
            error = Transient("InternalError", f"{key}: {caught!r}; the log has the traceback")
            error.__cause__ = caught
        with self._lock:
            before = self._outcomes.get(key)
            failures = (before.failures if before else 0) + 1 if error else 0
            retry_at = 0.0
            if error is not None:
                self._errors[key[0], class_of(error)] += 1
                asked = error.retry_after if isinstance(error, Transient) else None
                wait = backoff.delay(failures, jitter=self._jitter(), retry_after=asked)
                retry_at = self._clock() + wait
            kept = without_frames(error) if error is not None else None
            self._outcomes[key] = Outcome(value, kept, failures, retry_at)
            self._changes[key[0]] += 1
            self._running.discard(key)
        if wake:
            self._wake()
