"""Tells log, metrics and notifications of each pass. None of them can fail a pass.

Events are read from the journal, whoever wrote them and however the pass ended: each is told once,
also over a restart.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from controller import logs
from controller.errors import WheelwayError
from controller.telemetry.metrics import Metrics
from controller.telemetry.notifications import Notifications

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.config.settings import Config
    from controller.journal import Reader
    from controller.model import Event
    from controller.reconcile.assembly import Assembly
    from controller.reconcile.report import Report

log = logging.getLogger("wheelway")


class Telemetry:
    """The log, the metrics and the notifications of one daemon. Close it, or use `with`."""

    def __init__(self, config: Config, journal: Reader, *, version: str) -> None:
        """`version` is wheelway's. Raises WheelwayError when the journal cannot be read."""
        self._journal = journal
        self.told = _told(journal)
        """The number of the last event that was told; the journal keeps it over a restart."""
        self.metrics = Metrics(journal, version=version, cache=config.paths.cache)
        """`metrics.render()` may be called from any thread."""
        self.notifications = Notifications(config.notifications, journal, sources=_sources(config))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hand over what is queued, within seconds."""
        self.notifications.close()

    def renew(self, config: Config) -> None:
        """Another configuration is in force.

        Raises:
            WheelwayError: one of its receivers cannot be used, or the journal cannot be read; then
                the receivers before go on.
        """
        self.notifications.renew(config.notifications, _sources(config))

    def observe(self, report: Report, assembly: Assembly, *, duration: float) -> Report:
        """Tell of a pass. Returns its report with all events since the pass before, such as what a
        person ordered meanwhile.

        Args:
            report: what it found.
            assembly: the parts that made it.
            duration: seconds that it took.
        """
        plan = report.plan
        known = [transition.subject for transition in (plan.transitions if plan else ())]
        known += [quarantine.subject for quarantine in report.quarantines]
        digests = {str(release): release.digest for release in known}
        report = replace(report, events=self._news())
        for event in report.events:
            logs.tell(log, event, digest=digests.get(event.subject, ""))
        log.debug("%s", report.sentence)
        with _apart("metrics"):
            self.metrics.observe(
                report,
                assembly,
                duration=duration,
                notifications=self.notifications.counts(),
            )
        with _apart("notifications"):
            self.notifications.observe(report)
        return report

    def _news(self) -> tuple[Event, ...]:
        """What happened since this was last called; what cannot be read now is told later."""
        news: list[Event] = []
        with _apart("events"):
            while found := self._journal.events_after(self.told):
                self.told = found[-1][0]
                news.extend(event for _, event in found)
        return tuple(news)


def _told(journal: Reader) -> int:
    """Which events were told; all so far in the journal of a version that did not keep it."""
    told = journal.told()
    if told is not None:
        return told
    return 0 if journal.status() is None else journal.last_event()


@contextmanager
def _apart(what: str) -> Iterator[None]:
    """What goes wrong inside is logged and goes no further."""
    try:
        yield
    except WheelwayError as error:  # the journal: the pass itself tells more of it
        log.error("%s of this pass are incomplete: %s", what, error.message)
    except Exception:
        # A bug in what only tells must not take down what looks after the releases.
        log.exception("%s of this pass failed unexpectedly; please report this", what)


def _sources(config: Config) -> list[str]:
    return [source.name for source in config.sources]
