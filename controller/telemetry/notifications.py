"""Notifications of what passes changed, handed over by threads.

Only transitions are told: a release that becomes live, is quarantined or retired; a condition that
lasts, and its end. No pass ever waits here: each receiver has a thread and a bounded queue of its
own. Reports of passes come in, the notices of `controller.telemetry.notifiers` go out.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from random import random
from typing import TYPE_CHECKING, Final

from controller import retry
from controller.errors import Transient, Waiting, WheelwayError
from controller.logs import about
from controller.model import Phase, named
from controller.planning.paths import version_path
from controller.telemetry.notifiers import Notice
from controller.telemetry.notifiers.notifier import Notifier

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from controller.config.telemetry import AnyNotification, Occasion
    from controller.journal import Reader
    from controller.model import JSON, Condition, Event
    from controller.reconcile.report import Report

log = logging.getLogger("wheelway")

QUEUED: Final = 100
"""Notices that may wait for one receiver; beyond that the oldest are dropped."""
RETRY_CAP: Final = 60.0
"""Most seconds between two tries, unless the receiver asks for more."""
_PASSING: Final = {"Queued", "CheckingFiles", "WaitingForDeletion", "SchemaStarting"}
"""Conditions that come and go with every rollout."""
_WORDS: Final[Mapping[Phase, tuple[Occasion, str]]] = {
    Phase.LIVE: ("live", "is live at {route}"),
    Phase.QUARANTINED: ("quarantined", "is quarantined: {reason}"),
    Phase.RETIRED: ("retired", "is retired: {reason}"),
}

_Key = tuple[str, str]


class Notifications:
    """All receivers of one daemon. `observe` and `renew` are for the thread that makes passes."""

    def __init__(
        self,
        options: Sequence[AnyNotification],
        journal: Reader,
        *,
        sources: Iterable[str],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random,
        host: str = "",
    ) -> None:
        """Start a thread for each receiver.

        Args:
            options: the sections.
            journal: says which conditions held before, and since when releases are known.
            sources: names of the sources; their conditions are told as `stalled`.
            clock: seconds since the epoch, for the dates of notices.
            monotonic: seconds, for how long something lasts.
            jitter: uniform in [0, 1).
            host: of this daemon; default: the machine's name.
        """
        self._journal = journal
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._host = host or socket.gethostname()
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._channels: list[_Channel] = []
        self._sources: frozenset[str] = frozenset()
        self.renew(options, sources)

    def renew(self, options: Sequence[AnyNotification], sources: Iterable[str]) -> None:
        """Another configuration is in force: receivers that it does not change go on.

        Raises:
            ConfigError: one cannot be used; then all stay as they were.
            JournalError: the journal cannot be read.
        """
        before = self._channels
        going_on = {channel.options: channel for channel in before}
        new = [section for section in options if section not in going_on]
        opened = [(section, Notifier(section, host=self._host)) for section in new]
        present = self._journal.conditions()
        self._sources = frozenset(sources)
        for section, notifier in opened:
            channel = _Channel(section, notifier, self._count, self._jitter)
            channel.lasting.begin(present, self._clock(), self._monotonic())
            going_on[section] = channel
        self._channels = [going_on[section] for section in options]
        for channel in before:
            if channel not in self._channels:
                channel.end()

    def observe(self, report: Report) -> None:
        """Queue what is worth telling of a pass; one that failed says nothing of what lasts."""
        if not self._channels:
            return
        now = self._clock()
        steps = [notice for event in report.events for notice in self._step(event, report)]
        for channel in self._channels:
            lasting: Iterable[Notice] = ()
            if not report.failed:
                counted = self._monotonic()
                lasting = channel.lasting.observe(report.conditions, now, counted, self._sources)
            for notice in (*steps, *lasting):
                if notice.event in channel.options.events:
                    channel.offer(notice)

    def counts(self) -> dict[tuple[str, str], int]:
        """How many notices were `sent` and `dropped` so far, by the receiver's name and result."""
        with self._lock:
            return dict(self._counts)

    def _count(self, name: str, result: str, number: int) -> None:
        with self._lock:
            self._counts[name, result] += number

    def close(self, timeout: float = 3.0) -> None:
        """Hand over what is queued, without retries, for at most `timeout` seconds; the rest is
        dropped.
        """
        for channel in self._channels:
            channel.end()
        until = time.monotonic() + timeout
        for channel in self._channels:
            channel.join(max(0.0, until - time.monotonic()))

    def _step(self, event: Event, report: Report) -> Iterator[Notice]:
        """A release's step into a phase that is worth telling, unless it was found there."""
        phase, before = event.fields.get("phase", ""), event.fields.get("before")
        release = named(event.subject)
        if phase not in _WORDS or release is None or before in {"", phase}:
            return
        pipeline, version = release
        digest = str(event.fields.get("digest", ""))
        fields: dict[str, JSON] = {
            "pipeline": pipeline,
            "version": version,
            "digest": digest,
            "message": event.message,
        }
        route = version_path(pipeline, version)
        if phase == Phase.LIVE:
            fields["route"] = route
            with suppress(WheelwayError):  # better told without the seconds than not at all
                fields |= self._seconds(event, pipeline)
        for quarantine in report.quarantines:
            if phase == Phase.QUARANTINED and str(quarantine.subject) == event.subject:
                fields["stage"] = quarantine.stage
        name, words = _WORDS[Phase(phase)]
        said = words.format(route=route, reason=event.reason)
        text = f"{pipeline} {version} ({digest[:8]}) {said}"
        yield Notice(name, text, event.subject, event.reason, event.at, fields)

    def _seconds(self, event: Event, pipeline: str) -> dict[str, JSON]:
        """How long it took from the listing of a release until it was live for the first time."""
        for record in self._journal.releases(pipeline):
            times = record.times
            first = times.get(Phase.LIVE) == event.at and Phase.DISCOVERED in times
            if str(record.subject) == event.subject and first:
                return {"seconds": round(event.at - times[Phase.DISCOVERED], 3)}
        return {}


class _Lasting:
    """Which conditions last, and which of them one receiver was told of."""

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self._since: dict[_Key, float] = {}
        self._told: set[_Key] = set()

    def begin(self, present: Iterable[tuple[Condition, float]], now: float, counted: float) -> None:
        """Count conditions that lasted before as told, so that a restart tells nothing twice. `now`
        is in seconds since the epoch, as they are dated; `counted` by the monotonic clock.
        """
        for condition, since in present:
            if not condition.ok:
                key = (condition.subject, condition.reason)
                lasted = max(0.0, now - since)
                self._since[key] = counted - lasted
                if lasted >= self._hold:
                    self._told.add(key)

    def observe(
        self,
        conditions: Iterable[Condition],
        now: float,
        counted: float,
        sources: Collection[str],
    ) -> Iterator[Notice]:
        """What to tell now: what lasts long enough, and the end of what was told."""
        there = {
            (item.subject, item.reason): item
            for item in conditions
            if not item.ok and item.reason not in _PASSING
        }
        for key in [key for key in self._since if key not in there]:
            since = self._since.pop(key)
            if key in self._told:
                self._told.discard(key)
                fields: dict[str, JSON] = {"seconds": round(counted - since, 3)}
                yield Notice("resolved", f"{_label(key[0])}: {key[1]} is over", *key, now, fields)
        for key, condition in sorted(there.items()):
            since = self._since.setdefault(key, counted)
            if key in self._told or counted - since < self._hold:
                continue
            self._told.add(key)
            text = f"{_label(key[0])}: {key[1]}"
            fields = {"message": condition.message, "seconds": round(counted - since, 3)}
            if key[0] in sources:
                yield Notice("stalled", f"source {text}", *key, now, fields)
            else:
                yield Notice("condition", text, *key, now, fields | _release(key[0]))


class _Channel:
    """One receiver with its queue and its thread."""

    def __init__(
        self,
        options: AnyNotification,
        notifier: Notifier,
        count: Callable[[str, str, int], None],
        jitter: Callable[[], float],
    ) -> None:
        self.options = options
        self.lasting = _Lasting(options.hold)
        self._notifier = notifier
        self._count = count
        self._jitter = jitter
        self._queue: deque[Notice] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._overflowing = False
        self._failing = False
        self._thread = threading.Thread(
            target=self._work, name=f"wheelway-notify-{options.name}", daemon=True
        )
        self._thread.start()

    def offer(self, notice: Notice) -> None:
        """Queue it; never waits."""
        with self._changed:
            self._queue.append(notice)
            full = len(self._queue) > QUEUED
            if full:
                self._queue.popleft()
                self._count(self.options.name, "dropped", 1)
            first = full and not self._overflowing
            self._overflowing |= full
            self._changed.notify_all()
        if first:
            self._tell_of_loss(f"more than {QUEUED} wait for it; the oldest are dropped")

    def end(self) -> None:
        """Stop retrying; the thread ends once the queue is empty."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def join(self, timeout: float) -> None:
        """Wait for the thread to hand over the rest; what is left then is dropped."""
        self._thread.join(timeout)
        with self._changed:
            left = len(self._queue)
            self._queue.clear()
        if left:
            self._count(self.options.name, "dropped", left)
            self._tell_of_loss(f"{left} were dropped, for the daemon ends")

    # -- the thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._ending)
                if not self._queue:
                    break
                notice = self._queue.popleft()
                self._overflowing &= bool(self._queue)
            self._count(self.options.name, "sent" if self._deliver(notice) else "dropped", 1)
        self._notifier.close()

    def _deliver(self, notice: Notice) -> bool:
        """Try until it is taken; whether it was."""
        began, failures = time.monotonic(), 0
        while True:
            try:
                self._notifier.send(notice)
            except WheelwayError as error:
                failures += 1
                if not self._waits(error, failures, began):
                    self._tell_of_loss(f"{notice.text!r} was dropped: {error.message}")
                    return False
            except Exception:
                # A bug in one notifier must not end the others, nor take its thread away.
                log.exception("notification %s failed unexpectedly", self.options.name)
                return False
            else:
                self._failing = False
                return True

    def _waits(self, error: WheelwayError, failures: int, began: float) -> bool:
        """Wait for the next try; False when there is none: it was refused, it took too long, or the
        daemon ends.
        """
        if not isinstance(error, Transient | Waiting):
            return False
        asked = error.retry_after if isinstance(error, Transient) else None
        wait = retry.delay(failures, jitter=self._jitter(), retry_after=asked, cap=RETRY_CAP)
        if time.monotonic() - began + wait > self.options.give_up:
            return False
        if not self._failing:
            self._failing = True
            log.warning("%s; it is tried again", error.message)
        with self._changed:
            return not self._changed.wait_for(lambda: self._ending, wait)

    def _tell_of_loss(self, what: str) -> None:
        name = self.options.name
        log.warning("notification %s: %s", name, what, extra=about("NotificationDropped"))


def _release(subject: str) -> dict[str, JSON]:
    release = named(subject)
    return {"pipeline": release[0], "version": release[1]} if release else {}


def _label(subject: str) -> str:
    release = named(subject)
    return f"{release[0]} {release[1]} ({subject[-8:]})" if release else subject
