"""The daemon: passes, one after another, until it is told to end.

It wakes for events (a source, a finished job, a signal) and at the latest after the interval, which
stays the authority: events only make it look sooner. The configuration file is read again when it
changes; a broken edit is reported and the last good one stays in force.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from enum import Enum, auto
from importlib.metadata import version
from typing import TYPE_CHECKING

from controller import logs
from controller.assembly import Assembly, assemble, watch
from controller.configuration_file import ConfigurationFile
from controller.errors import WheelwayError
from controller.fitness import misfits
from controller.journal import DaemonStatus, Journal
from controller.model import Condition
from controller.reconciler import Report
from controller.serve import cluster, schema
from controller.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from controller.config import Config

log = logging.getLogger("wheelway")

SETTLE = 0.5
"""Seconds between two looks at a configuration file that is being edited."""
SPACING = 0.1
"""Seconds from the begin of one pass to that of the next at least: however many events come, a
pass sees them all."""
INQUIRE_EVERY = 30.0
"""Seconds between two looks at what Ray's side is."""


class Head(Enum):
    """What answers at the dashboard's address, compared with the look before."""

    SAME = auto()
    ANOTHER = auto()


class Daemon:
    """Passes over one configuration file. `watcher` is shown the report of every pass, `renewed`
    each configuration that comes into force while it runs.
    """

    def __init__(
        self,
        path: Path,
        *,
        watcher: Callable[[Report], None] | None = None,
        renewed: Callable[[Config], None] | None = None,
    ) -> None:
        """Reads the configuration.

        Raises:
            ConfigError: it cannot be used.
        """
        self._file = ConfigurationFile(path)
        self._watcher = watcher
        self._renewed = renewed
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._started_at = time.time()
        self._session = ""
        self._inquired_at = float("-inf")
        self._misfits: tuple[Condition, ...] = ()
        self._unassembled: Condition | None = None
        self._number = 0
        self._version = version("wheelway")

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._file.config

    def end(self) -> None:
        """Finish the present pass and return from `run`. Serving goes on without us."""
        self._ending.set()
        self._wake.set()

    def look(self) -> None:
        """Make a pass now."""
        self._wake.set()

    def run(self) -> None:
        """Make passes until `end`.

        Raises:
            WheelwayError: the daemon cannot start: the journal, the cache or the interpreter
                cannot be used.
        """
        threading.Thread(target=schema.preload, name="wheelway-preload", daemon=True).start()
        with ExitStack() as stack:
            journal = stack.enter_context(Journal.open(self.config.paths.state))
            telemetry = stack.enter_context(Telemetry(self.config, journal, version=self._version))
            log.info("wheelway %s begins", self._version, extra=logs.about("DaemonStarted"))
            assembly = self._assemble(journal)
            try:
                while not self._ending.is_set():
                    self._wake.clear()
                    began = time.monotonic()
                    if self._renewal_due(assembly):
                        assembly = self._reassemble(assembly, journal, telemetry)
                    report = self._pass(assembly, journal, telemetry)
                    wait = min(report.next_in, SETTLE) if self._file.settling else report.next_in
                    self._wake.wait(wait)
                    self._ending.wait(max(0.0, began + SPACING - time.monotonic()))
            finally:
                log.info("wheelway ends; serving goes on", extra=logs.about("DaemonEnding"))
                assembly.close()

    # -- the parts -------------------------------------------------------------------------------

    def _assemble(self, journal: Journal) -> Assembly:
        assembly = assemble(self.config, journal, wake=self._wake.set)
        for source in journal.listings().keys() - assembly.supply.sources.keys():
            journal.forget_listing(source)
        watch(assembly, self._wake.set)
        self._inquired_at = float("-inf")
        return assembly

    def _reassemble(self, assembly: Assembly, journal: Journal, telemetry: Telemetry) -> Assembly:
        """The same with the new configuration or interpreter; the old parts as long as that fails.

        The old parts' running jobs end beside the passes of the new ones.
        """
        telemetry.renew(self.config)
        if self._renewed is not None:
            self._renewed(self.config)
        try:
            renewed = self._assemble(journal)
        except WheelwayError as error:
            message = f"{error.message}; until then it goes on with the configuration before"
            self._unassembled = Condition("config", error.reason, message)
            log.error("%s", message)
            return assembly
        self._unassembled = None
        threading.Thread(target=assembly.close, name="wheelway-closing").start()
        return renewed

    def _renewal_due(self, assembly: Assembly) -> bool:
        """Whether the parts must be put together anew: the configuration or Ray's head is another,
        or it is time to try again what failed.
        """
        edited = self._file.edited()
        inquired = self._inquire(assembly)
        return (
            edited
            or inquired is Head.ANOTHER
            or (inquired is Head.SAME and self._unassembled is not None)
        )

    def _inquire(self, assembly: Assembly) -> Head | None:
        """Look at Ray's side now and then; None when it was not looked at."""
        now = time.monotonic()
        if now - self._inquired_at < INQUIRE_EVERY:
            return None
        self._inquired_at = now
        try:
            found = cluster.inspect(assembly.dashboard)
        except WheelwayError:
            self._inquired_at = now - INQUIRE_EVERY + 2.0  # the pass itself reports it
            return None
        self._misfits = tuple(misfits(found, assembly.base, self._version))
        before, self._session = self._session, found.session
        return Head.SAME if before in {"", found.session} else Head.ANOTHER

    # -- one pass --------------------------------------------------------------------------------

    def _pass(self, assembly: Assembly, journal: Journal, telemetry: Telemetry) -> Report:
        began = time.monotonic()
        failed = False
        self._number += 1
        logs.PASS.set(self._number)
        troubles = (self._file.trouble, self._unassembled)
        assembly.reconciler.notes = (*self._misfits, *filter(None, troubles))
        try:
            report = assembly.reconciler.run_pass()
        except WheelwayError as error:
            failed = True
            log.error("%s", error.message, extra=logs.about("PassFailed", REASON=error.reason))
            report = Report(f"the pass was cut short: {error.message}", 2.0)
        except Exception:
            # A bug must not take the daemon down with every release it looks after: it is told
            # with its traceback, and the next pass observes anew.
            failed = True
            log.exception(
                "the pass failed unexpectedly; please report this", extra=logs.about("PassFailed")
            )
            report = Report("the pass failed unexpectedly, see the log", 5.0)
        duration = time.monotonic() - began
        telemetry.observe(report, assembly, duration=duration, failed=failed)
        status = DaemonStatus(
            self._number,
            time.time(),
            report.sentence,
            duration,
            os.getpid(),
            self._version,
            self._started_at,
        )
        try:
            journal.set_status(status)
        except WheelwayError as error:  # a full disk must not end what looks after the releases
            log.error("the pass could not be recorded: %s", error.message)
        logs.PASS.set(0)
        if self._watcher is not None:
            self._watcher(report)
        return report


@contextmanager
def signals(daemon: Daemon) -> Iterator[None]:
    """SIGTERM and SIGINT end the daemon, SIGHUP makes it look now."""
    handlers = {
        signal.SIGTERM: lambda *_: daemon.end(),
        signal.SIGINT: lambda *_: daemon.end(),
        signal.SIGHUP: lambda *_: daemon.look(),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    path: Path,
    *,
    watcher: Callable[[Report], None] | None = None,
    renewed: Callable[[Config], None] | None = None,
) -> int:
    """The daemon in the foreground, until a signal ends it; arguments as those of `Daemon`.

    Raises:
        WheelwayError: it cannot start.
    """
    daemon = Daemon(path, watcher=watcher, renewed=renewed)
    with signals(daemon):
        daemon.run()
    return 0
