"""The daemon: passes, one after another, until it is told to end.

It wakes for events (a source, a finished job, a signal) and at the latest after the interval, which
stays the authority: events only make it look sooner. The configuration file is read again when it
changes; a broken edit is reported and the last good one stays in force. Whoever supervises it (see
`notify.py`) hears of every complete pass, and of nothing that is not done.
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

from controller.account.overview import patience
from controller.api import Api, Inside, nothing_measured
from controller.assembly import Assembly, assemble, watch
from controller.configuration_file import ConfigurationFile
from controller.errors import WheelwayError
from controller.fitness import misfits
from controller.journal import DaemonStatus, Journal
from controller.model import Condition, Phase
from controller.notify import Supervisor, supervisor
from controller.passes import Passes
from controller.reconciler import Report
from controller.serve import cluster, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from controller.api import Exposition
    from controller.config import Config
    from controller.model import Event

log = logging.getLogger("wheelway")

SETTLE = 0.5
"""Seconds between two looks at a configuration file that is being edited."""
SPACING = 0.1
"""Seconds from the begin of one pass to that of the next at least: however many events come, a
pass sees them all."""
INQUIRE_EVERY = 30.0
"""Seconds between two looks at what Ray's side is."""
STEP = 180.0
"""Seconds that one step of the start may take: a journal to be migrated, an interpreter to be asked
(60 at most), a pass that starts Serve (as much again). They are granted a step at a time."""
ENDING = 90.0
"""Seconds for the pass and the jobs that are under way when the end is asked for."""


class Head(Enum):
    """What answers at the dashboard's address, compared with the look before."""

    SAME = auto()
    ANOTHER = auto()


class Daemon:
    """Passes over one configuration file. `watcher` is shown the report of every pass, `supervisor`
    told how far the daemon is.
    """

    def __init__(
        self,
        path: Path,
        *,
        watcher: Callable[[Report], None] | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        """Reads the configuration.

        Raises:
            ConfigError: it cannot be used.
        """
        self._file = ConfigurationFile(path)
        self.watcher = watcher
        self._supervisor = supervisor or Supervisor()
        self._reload = threading.Event()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._started_at = time.time()
        self._session = ""
        self._inquired_at = float("-inf")
        self._misfits: tuple[Condition, ...] = ()
        self._unassembled: Condition | None = None
        self._unopened: tuple[Condition, ...] = ()
        self._number = 0
        self._version = version("wheelway")
        self.passes = Passes(self._wake.set, lambda: patience(self.config))
        self.exposition: Callable[[], Exposition] = nothing_measured
        """Metrics for the API; to be set before `run`."""

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

    def reload(self) -> None:
        """Take up the configuration file as it is now, look at every source, and make a pass."""
        self._reload.set()
        self._wake.set()

    def run(self) -> None:
        """Make passes until `end`.

        Raises:
            WheelwayError: the daemon cannot start: the journal, the cache or the interpreter
                cannot be used.
        """
        threading.Thread(target=schema.preload, name="wheelway-preload", daemon=True).start()
        with ExitStack() as stack:
            self._supervisor.starting("opening the journal", STEP)
            journal = stack.enter_context(Journal.open(self.config.paths.state))
            api = stack.enter_context(self._answering(journal.path.parent))
            self._supervisor.starting("looking at the cache and at Ray's interpreter", STEP)
            assembly = self._assemble(journal)
            self._supervisor.starting("making the first pass", STEP)
            announce = True  # that the start, or a reload, is done
            try:
                while not self._ending.is_set():
                    self._wake.clear()
                    began = time.monotonic()
                    if asked := self._reload.is_set():
                        self._reload.clear()
                        self._supervisor.reloading()
                    if self._renewal_due(assembly, asked=asked):
                        assembly = self._reassemble(assembly, journal)
                    self._unopened = api.apply(self.config.api)
                    if self.passes.wanted() or asked:
                        assembly.supply.look_again(*assembly.supply.sources)
                    complete = not assembly.supply.looking()
                    report = self._pass(assembly, journal)
                    self.passes.ended(self._number, report, complete=complete)
                    self._supervisor.alive(report.sentence)
                    if announce or asked:
                        announce = False
                        self._supervisor.ready()
                    self._rest(assembly, report, began)
                self._supervisor.stopping(ENDING)
            finally:
                self.passes.over()
                assembly.close()

    @contextmanager
    def _answering(self, state: Path) -> Iterator[Api]:
        """The control socket, which answers from before the first pass until after the last."""
        with Journal.read(state) as reader, Journal.amend(state) as writer:
            inside = Inside(reader, writer, self.passes, lambda: self.config, self.exposition)
            api = Api(inside, state=state)
            try:
                yield api
            finally:
                api.close()

    def _rest(self, assembly: Assembly, report: Report, began: float) -> None:
        """Until something wakes us, the next pass is due, or the supervisor wants to see one."""
        if self.passes.someone_waits and not assembly.supply.looking():
            self._wake.set()
        waits = [report.next_in, self._supervisor.patience]
        if self._file.settling:
            waits.append(SETTLE)
        self._wake.wait(min(wait for wait in waits if wait is not None))
        self._ending.wait(max(0.0, began + SPACING - time.monotonic()))

    # -- the parts -------------------------------------------------------------------------------

    def _assemble(self, journal: Journal) -> Assembly:
        assembly = assemble(self.config, journal, wake=self._wake.set)
        for source in journal.listings().keys() - assembly.supply.sources.keys():
            journal.forget_listing(source)
        watch(assembly, self._wake.set)
        self._inquired_at = float("-inf")
        return assembly

    def _reassemble(self, assembly: Assembly, journal: Journal) -> Assembly:
        """The same with the new configuration or interpreter; the old parts as long as that fails.

        The old parts' running jobs end beside the passes of the new ones.
        """
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

    def _renewal_due(self, assembly: Assembly, *, asked: bool) -> bool:
        """Whether the parts must be put together anew: the configuration or Ray's head is another,
        or it is time to try again what failed. Who asks for it says that the file is whole.
        """
        edited = self._file.edited(whole=asked)
        inquired = self._inquire(assembly)
        return (
            edited
            or inquired is Head.ANOTHER
            or ((asked or inquired is Head.SAME) and self._unassembled is not None)
        )

    def _inquire(self, assembly: Assembly) -> Head | None:
        """Look at Ray's side now and then; None when it was not looked at."""
        now = time.monotonic()
        if now - self._inquired_at < INQUIRE_EVERY or assembly.reconciler.resting():
            return None
        self._inquired_at = now
        assembly.reconciler.inspected = False
        try:
            found = cluster.inspect(assembly.dashboard)
        except WheelwayError:
            self._inquired_at = now - INQUIRE_EVERY + 2.0  # the pass itself reports it
            return None
        assembly.reconciler.inspected = True
        self._misfits = tuple(misfits(found, assembly.base, self._version))
        before, self._session = self._session, found.session
        return Head.SAME if before in {"", found.session} else Head.ANOTHER

    # -- one pass --------------------------------------------------------------------------------

    def _pass(self, assembly: Assembly, journal: Journal) -> Report:
        began = time.monotonic()
        self._number += 1
        troubles = (self._file.trouble, self._unassembled, *self._unopened)
        assembly.reconciler.notes = (*self._misfits, *filter(None, troubles))
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
        if report.plan is None:  # what answers next may be another head: nothing starts unseen
            self._inquired_at = float("-inf")
            assembly.reconciler.inspected = False
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
        if self.watcher is not None:
            self.watcher(report)
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
    """SIGTERM and SIGINT end the daemon, SIGHUP makes it read its file and look now."""
    handlers = {
        signal.SIGTERM: lambda *_: daemon.end(),
        signal.SIGINT: lambda *_: daemon.end(),
        signal.SIGHUP: lambda *_: daemon.reload(),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(path: Path, *, watcher: Callable[[Report], None] | None = None) -> int:
    """The daemon in the foreground, until a signal ends it; a service manager is kept informed.

    Raises:
        WheelwayError: it cannot start.
    """
    daemon = Daemon(path, watcher=watcher, supervisor=supervisor(os.environ))
    with signals(daemon):
        daemon.run()
    return 0
