"""Work that takes long, beside the passes: listing, fetching, building environments.

A job is named by its key and runs at most once at a time. A job that failed for a passing reason is
tried again, with backoff, when it is next asked for; one that failed for good stays failed until
that is cleared. A disowned job goes on to its end, but its outcome does not count.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from random import random
from typing import TYPE_CHECKING, Any

from controller import retry
from controller.errors import Rejected, Transient, WheelwayError, class_of, without_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

log = logging.getLogger(__name__)

Key = tuple[str, ...]
"""What kind of work, and on what."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The last outcome of a job: a value, or an error and when it may be tried again."""

    value: Any = None
    error: WheelwayError | None = None
    failures: int = 0
    """Failures in a row."""
    retry_at: float = 0.0
    """On the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What went wrong so far, by the kind of work: the first part of the jobs' keys."""

    errors: Mapping[tuple[str, str], int]
    """By kind of work and class of error (`errors.class_of`)."""
    retries: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    key: Key
    work: Callable[[], Any]


class Jobs:
    """Runs jobs on a few threads and remembers their outcomes; `wake` is called after each end.

    With `workers=0` a job runs at once in the caller's thread, for commands that do one thing.
    Jobs of a kind in `apart` (the first part of their key) have a thread each, so that none of them
    waits for another, nor for the slower rest. Threads end when there is nothing to do.
    """

    def __init__(
        self,
        workers: int,
        wake: Callable[[], None],
        *,
        apart: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random,
    ) -> None:
        self._inline = workers == 0
        self._workers = workers
        self._apart = apart
        self._wake = wake
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._running: dict[Key, _Job] = {}
        self._waiting: deque[_Job] = deque()
        self._shared: set[threading.Thread] = set()
        self._single: set[threading.Thread] = set()
        self._outcomes: dict[Key, Outcome] = {}
        self._errors: Counter[tuple[str, str]] = Counter()
        self._retries: Counter[str] = Counter()
        self._changes: Counter[str] = Counter()

    def share(self, workers: int) -> None:
        """Use that many threads from now on. What runs goes on."""
        with self._lock:
            self._workers = workers
            for _ in self._waiting:
                self._employ()

    def changes(self, kind: str) -> int:
        """How often an outcome of a kind of work (the first part of its jobs' keys) was set or
        forgotten: while that stays the same, so do the outcomes.
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
            job = _Job(key, work)
            if not self._inline:
                self._submit(job)
            self._running[key] = job
        if not self._inline:
            return outcome
        self._run(job)
        return self.outcome(key)

    def rerun(self, key: Key, work: Callable[[], Any]) -> bool:
        """Start the job though it succeeded before, unless it runs or must wait after a failure.
        Returns whether it was started.
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
        """Let a failed job be done again at once, unless the other side said when."""
        with self._lock:
            outcome = self._outcomes.get(key)
            if outcome and outcome.error and outcome.error.retry_after is None:
                self._outcomes[key] = replace(outcome, retry_at=self._clock())

    def run_inline(self, key: Key, work: Callable[[], Any]) -> None:
        """Do the next job from within one, in the same thread, before the wake-up."""
        with self._lock:
            if key in self._running or key in self._outcomes:
                return
            job = self._running[key] = _Job(key, work)
        self._run(job, wake=False)

    def outcome(self, key: Key) -> Outcome | None:
        """How the job ended last; None when it never did."""
        with self._lock:
            return self._outcomes.get(key)

    def clear_failures(self, which: Callable[[Key], bool]) -> None:
        """Forget that jobs failed, so that they are done anew when they are next asked for."""
        with self._lock:
            for key in [k for k, o in self._outcomes.items() if o.error is not None and which(k)]:
                self._drop(key)

    def drop(self, which: Callable[[Key], bool]) -> None:
        """Forget the outcomes of jobs, and `disown` those that run."""
        with self._lock:
            for key in [key for key in self._outcomes if which(key)]:
                self._drop(key)
        self.disown(which)

    def disown(self, which: Callable[[Key], bool]) -> None:
        """Ignore the end of those that run, so that they can begin anew at once. Outcomes stay."""
        with self._lock:
            for key in [key for key in self._running if which(key)]:
                del self._running[key]
            self._waiting = deque(filter(self._is_wanted, self._waiting))

    def _drop(self, key: Key) -> None:
        del self._outcomes[key]
        self._changes[key[0]] += 1

    def _is_wanted(self, job: _Job) -> bool:
        return self._running.get(job.key) is job

    def busy(self) -> bool:
        """Whether any job runs now, or waits for a thread."""
        with self._lock:
            return bool(self._running)

    def running(self, key: Key) -> bool:
        """Whether this job runs now, or waits for a thread."""
        with self._lock:
            return key in self._running

    def close(self) -> None:
        """Wait for all that runs; what has not begun is dropped."""
        with self._lock:
            self._workers = 0
            for job in self._waiting:
                del self._running[job.key]
            self._waiting.clear()
            threads = self._shared | self._single
        for thread in threads:
            thread.join()

    # -- threads ---------------------------------------------------------------------------------

    def _submit(self, job: _Job) -> None:
        """Have a thread do it, at once or when one is free. The lock is held, here and below: the
        thread waits for it before it takes what there is to do.
        """
        if job.key[0] in self._apart:
            self._begin(self._single, f"wheelway-{job.key[0]}", lambda: self._run(job))
        else:
            self._employ()
            self._waiting.append(job)

    def _employ(self) -> None:
        """Start one more thread, if there may be one."""
        if len(self._shared) < self._workers:
            self._begin(self._shared, "wheelway-job", self._run_what_waits)

    def _begin(self, group: set[threading.Thread], name: str, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    group.discard(thread)

        thread = threading.Thread(target=run, name=name)
        thread.start()
        group.add(thread)

    def _run_what_waits(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or len(self._shared) > self._workers:
                    self._shared.discard(threading.current_thread())  # it ends: it counts no more
                    return
                job = self._waiting.popleft()
            self._run(job)

    def _run(self, job: _Job, *, wake: bool = True) -> None:
        key, value, error = job.key, None, None
        try:
            value = job.work()
        except WheelwayError as caught:
            error = caught
        except Exception as caught:
            # A bug in one job must not end the others, nor vanish: it is logged and retried. A
            # disowned job may fail by what was closed.
            with self._lock:
                wanted = self._is_wanted(job)
            if wanted:
                log.exception("job %s failed unexpectedly", key)
            error = Transient("InternalError", f"{key}: {caught!r}; the log has the traceback")
            error.__cause__ = caught
        with self._lock:
            if not self._is_wanted(job):
                return
            before = self._outcomes.get(key) or Outcome()
            outcome = Outcome(value)
            if error is not None:
                self._errors[key[0], class_of(error)] += 1
                number = before.failures + 1
                wait = retry.delay(number, jitter=self._jitter(), retry_after=error.retry_after)
                outcome = Outcome(None, without_frames(error), number, self._clock() + wait)
            self._outcomes[key] = outcome
            self._changes[key[0]] += 1
            del self._running[key]
        if wake:
            self._wake()
