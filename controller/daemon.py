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
from importlib.metadata import version
from typing import TYPE_CHECKING

from controller import config as configuration
from controller.assembly import Assembly, assemble, watch
from controller.errors import ConfigError, WheelwayError
from controller.fitness import misfits
from controller.journal import DaemonStatus, Journal
from controller.model import Condition, Phase
from controller.reconciler import Report
from controller.serve import cluster, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from controller.model import Event

log = logging.getLogger("wheelway")

SETTLE = 0.5
"""Seconds between two looks at a configuration file that is being edited."""
INQUIRE_EVERY = 30.0
"""Seconds between two looks at what Ray's side is."""


class Daemon:
    """Passes over one configuration file. `watcher` is shown the report of every pass."""

    def __init__(self, path: Path, *, watcher: Callable[[Report], None] | None = None) -> None:
        """Reads the configuration.

        Raises:
            ConfigError: it cannot be used.
        """
        self.config = configuration.load(path)
        self._path = path
        self._read = path.read_bytes()
        self._watcher = watcher
        self._seen = self._read
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._started_at = time.time()
        self._session = ""
        self._inquired_at = float("-inf")
        self._broken: Condition | None = None
        self._number = 0
        self._version = version("wheelway")

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
            assembly = self._assemble(journal)
            try:
                while not self._ending.is_set():
                    self._wake.clear()
                    if self._edited() or self._head_changed(assembly):
                        assembly = self._reassemble(assembly, journal)
                    report = self._pass(assembly, journal)
                    settling = self._seen != self._read
                    self._wake.wait(min(report.next_in, SETTLE) if settling else report.next_in)
            finally:
                assembly.close()

    # -- the parts -------------------------------------------------------------------------------

    def _assemble(self, journal: Journal) -> Assembly:
        assembly = assemble(self.config, journal, wake=self._wake.set)
        watch(assembly, self._wake.set)
        self._inquired_at = float("-inf")
        return assembly

    def _reassemble(self, assembly: Assembly, journal: Journal) -> Assembly:
        """The same with the new configuration or interpreter; the old parts, if that fails."""
        try:
            renewed = self._assemble(journal)
        except WheelwayError as error:
            self._broken = Condition("config", error.reason, error.message)
            log.error("the new configuration is not used: %s", error.message)
            return assembly
        assembly.close()
        return renewed

    def _edited(self) -> bool:
        """Whether there is a new, good configuration. A broken one is reported once and left."""
        try:
            content = self._path.read_bytes()
        except OSError as error:
            self._broken = Condition("config", "ConfigUnreadable", f"{self._path}: {error}")
            return False
        if content == self._read:
            return False
        if content != self._seen:  # somebody may still be writing: two looks must agree
            self._seen = content
            return False
        self._read = content
        try:
            config = configuration.load(self._path)
        except ConfigError as error:
            self._broken = Condition(
                "config", error.reason, f"{error.message}; the last good configuration is in force"
            )
            log.error("%s", self._broken.message)
            return False
        self._broken = None
        if config.paths.state != self.config.paths.state:
            why = "paths.state is read at start only: restart the daemon for it"
            self._broken = Condition("config", "RestartNeeded", why)
        changed = config != self.config
        self.config = config
        if changed:
            log.info("%s was edited: the new configuration is in force", self._path)
        return changed

    def _head_changed(self, assembly: Assembly) -> bool:
        """Look at Ray's side now and then; whether another head answers than before."""
        now = time.monotonic()
        if now - self._inquired_at < INQUIRE_EVERY:
            return False
        self._inquired_at = now
        try:
            found = cluster.inspect(assembly.dashboard)
        except WheelwayError:
            self._inquired_at = now - INQUIRE_EVERY + 2.0  # the pass itself reports it
            return False
        notes = misfits(found, assembly.base, self._version)
        if self._broken is not None:
            notes.append(self._broken)
        assembly.reconciler.notes = tuple(notes)
        before, self._session = self._session, found.session
        return before not in {"", found.session}

    # -- one pass --------------------------------------------------------------------------------

    def _pass(self, assembly: Assembly, journal: Journal) -> Report:
        began = time.monotonic()
        self._number += 1
        if self._broken is not None and self._broken not in assembly.reconciler.notes:
            assembly.reconciler.notes = (*assembly.reconciler.notes, self._broken)
        try:
            report = assembly.reconciler.run_pass()
        except WheelwayError as error:
            log.error("%s", error.message)
            report = Report(f"the pass was cut short: {error.message}", 2.0)
        except Exception:
            # A bug must not take the daemon down with every release it looks after: it is told
            # with its traceback, and the next pass observes anew.
            log.exception("the pass failed unexpectedly; please report this")
            report = Report("the pass failed unexpectedly, see the log", 5.0)
        for event in report.events:
            _tell(event)
        status = DaemonStatus(
            self._number,
            time.time(),
            report.sentence,
            time.monotonic() - began,
            os.getpid(),
            self._version,
            self._started_at,
        )
        try:
            journal.set_status(status)
        except WheelwayError as error:  # a full disk must not end what looks after the releases
            log.error("the pass could not be recorded: %s", error.message)
        if self._watcher is not None:
            self._watcher(report)
        return report


def _tell(event: Event) -> None:
    """An event as a line of the log; failures stand out."""
    bad = event.fields.get("phase") == Phase.QUARANTINED or (
        event.fields.get("condition") == "appeared" and not event.fields.get("ok")
    )
    level = logging.WARNING if bad else logging.INFO
    log.log(level, "%s %s: %s", event.subject, event.reason, event.message)


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


def run(path: Path, *, watcher: Callable[[Report], None] | None = None) -> int:
    """The daemon in the foreground, until a signal ends it.

    Raises:
        WheelwayError: it cannot start.
    """
    daemon = Daemon(path, watcher=watcher)
    with signals(daemon):
        daemon.run()
    return 0
