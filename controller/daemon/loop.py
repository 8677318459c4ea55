"""The daemon: makes one pass after another until it is told to end.

It wakes for events (a source, a finished job, a signal, an order) and at the latest after the
interval. The configuration file is read again when it changes; a broken edit is reported and the
last good one stays in force.

Three rooms are told of every pass once it is over: the service manager (`supervisor.py`), the
control socket (`api`, by way of `passes.py`), and log, metrics and notifications
(`telemetry/observer.py`). None of them can fail a pass. A pass that failed is no sign of life, and
a daemon that makes no other is restarted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from controller import logs
from controller.api import Api, ApiContext
from controller.daemon import heap
from controller.daemon.config_file import ConfigurationFile
from controller.daemon.passes import Passes
from controller.daemon.supervisor import Supervisor
from controller.errors import WheelwayError
from controller.journal import DaemonStatus, Journal
from controller.model import Condition
from controller.ops.status import late_after
from controller.reconcile.assembly import Assembly, assemble, origins, watch
from controller.reconcile.preflight import head_unknown, misfits
from controller.reconcile.report import Report
from controller.serve import cluster
from controller.serve.outline import Schema
from controller.serve.schema_process import SchemaProcess
from controller.telemetry.observer import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from controller.config.settings import Config
    from controller.serve.schema import Asker

log = logging.getLogger("wheelway")

SETTLE = 0.5
"""Seconds between two readings of a configuration file that is being edited."""
SPACING = 0.1
"""Least seconds from the begin of one pass to that of the next, however many events come."""
PROGRESS_EVERY = 1.0
"""Least seconds between two signs of life within a pass."""
INSPECT_EVERY = 30.0
"""Seconds between two inspections of the cluster: its version, its head, its size."""
STEP = 180.0
"""Seconds that one step of the start may take: migrating the journal, asking the interpreter (60 at
most), a pass that starts Serve (as much again). The service manager grants them step by step."""
ENDING = 90.0
"""Seconds for the pass and the jobs that are under way when the end is asked for."""


@dataclass(slots=True)
class _Run:
    """What is open while the daemon runs."""

    journal: Journal
    telemetry: Telemetry
    api: Api
    assembly: Assembly
    """Made anew for another configuration or another head."""


class Daemon:
    """Passes over one configuration file.

    `watcher` takes the report of every pass, `supervisor` is told how far the daemon is, `renewed`
    takes each configuration that comes into force while it runs; `asker` knows Ray's schema, by
    default in a process of its own.
    """

    def __init__(
        self,
        path: Path,
        *,
        watcher: Callable[[Report], None] | None = None,
        supervisor: Supervisor | None = None,
        renewed: Callable[[Config], None] | None = None,
        asker: Asker | None = None,
    ) -> None:
        """Reads the configuration.

        Raises:
            ConfigError: it cannot be used.
        """
        self._file = ConfigurationFile(path)
        self.watcher = watcher
        self._supervisor = supervisor or Supervisor()
        self._renewed = renewed
        self._asker = asker or SchemaProcess()
        self._schema = Schema(self._asker)
        self._reload = threading.Event()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._started_at = time.time()
        self._session = ""
        self._inspected_at = float("-inf")
        self._known = False
        """Whether the cluster was inspected since that last failed."""
        self._unknown: Condition | None = None
        """Why it could not be inspected."""
        self._misfits: tuple[Condition, ...] = ()
        self._pending = False
        self._another_head = False
        self._untaken: Condition | None = None
        self._unrecorded: Condition | None = None
        self._unopened: tuple[Condition, ...] = ()
        self._number = 0
        self._well = False
        self._progressed_at = float("-inf")
        self._version = version("wheelway")
        self.passes = Passes(self._wake.set, lambda: late_after(self.config), reload=self.reload)

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._file.config

    def end(self) -> None:
        """Finish the present pass and return from `run`. Serving goes on without us."""
        self._ending.set()
        self._wake.set()

    def poll(self) -> None:
        """Make a pass now."""
        self._wake.set()

    def reload(self) -> None:
        """Take up the configuration file as it is now, poll every source, and make a pass."""
        self._reload.set()
        self._wake.set()

    def run(self) -> None:
        """Make passes until `end`.

        Raises:
            WheelwayError: the daemon cannot start: the journal, the cache or the interpreter
                cannot be used.
        """
        heap.collect_seldom()
        heap.return_large()
        with ExitStack() as stack:
            stack.callback(self._asker.close)
            self._schema.expect()  # the first pass renders what there is
            self._supervisor.starting("opening the journal", STEP)
            journal = stack.enter_context(Journal.open(self.config.paths.state))
            telemetry = stack.enter_context(Telemetry(self.config, journal, version=self._version))
            log.info("wheelway %s begins", self._version, extra=logs.about("DaemonStarted"))
            api = stack.enter_context(self._answering(journal.path.parent, telemetry))
            self._supervisor.starting("looking at the cache and at Ray's interpreter", STEP)
            run = _Run(journal, telemetry, api, self._assemble(journal))
            self._supervisor.starting("making the first pass", STEP)
            try:
                journal.keep_listings_of(origins(self.config))
                self._make_passes(run)
                self._supervisor.stopping(ENDING)
            finally:
                log.info("wheelway ends; serving goes on", extra=logs.about("DaemonEnding"))
                self.passes.over()
                run.assembly.close()

    def _make_passes(self, run: _Run) -> None:
        announced = False
        while not self._ending.is_set():
            self._wake.clear()
            began = time.monotonic()
            if reload := self._reload.is_set():
                self._reload.clear()
                self._supervisor.reloading()
            asked = self.passes.reloads()
            self._renew(run, asked=reload)
            if reload:
                refusals = (self._file.trouble, self._untaken)
                self.passes.reloaded(asked, next(filter(None, refusals), None))
            artifacts = run.assembly.artifacts
            if self.passes.wanted() or reload:
                artifacts.poll_now()
            listed = not artifacts.polling()
            self._progressed()
            report = self._pass(run)
            self._well = not report.failed
            complete = listed and not report.failed
            unrecorded = self._unrecorded
            self.passes.ended(self._number, report, complete=complete, unrecorded=unrecorded)
            # A restart brings no room on a disk: that a pass was cut short by that is no hang.
            self._supervisor.passed(report.sentence, well=not report.failed or bool(unrecorded))
            if (reload or not announced) and (announced or not report.failed):
                announced = True
                self._supervisor.ready()
            if self.passes.has_waiters and not (artifacts.polling() or report.failed):
                self._wake.set()
            self._rest(report, began)

    def _progressed(self) -> None:
        """A part of a pass, which has a deadline of its own, is done: give a sign of life, for all
        parts together may take longer than the watchdog waits. After a pass that failed there is
        none; the first pass is given more time instead.
        """
        now = time.monotonic()
        if now - self._progressed_at < PROGRESS_EVERY:
            return
        self._progressed_at = now
        if self._well:
            self._supervisor.progressed()
        elif self._number == 1:
            self._supervisor.starting("making the first pass", STEP)

    def _rest(self, report: Report, began: float) -> None:
        """Wait until something wakes us, the next pass is due, or the watchdog wants one."""
        waits = [report.next_in, self._supervisor.ping_interval]
        if self._file.settling:
            waits.append(SETTLE)
        self._wake.wait(min(wait for wait in waits if wait is not None))
        self._ending.wait(max(0.0, began + SPACING - time.monotonic()))

    # -- the parts -------------------------------------------------------------------------------

    @contextmanager
    def _answering(self, state: Path, telemetry: Telemetry) -> Iterator[Api]:
        """The control socket, which answers from the first pass on until after the last."""
        with Journal.read(state) as reader, Journal.amend(state) as writer:
            context = ApiContext(
                reader, writer, self.passes, lambda: self.config, telemetry.metrics.render
            )
            with closing(Api(context, state=state)) as api:
                yield api

    def _assemble(self, journal: Journal, before: Assembly | None = None) -> Assembly:
        """The parts for the configuration in force; those `before` that fit it go on."""
        assembly = assemble(
            self.config,
            journal,
            wake=self._wake.set,
            schema=self._schema,
            before=before,
            another_head=self._another_head,
        )
        self._another_head = False
        watch(assembly, self._wake.set, before=before)
        assembly.reconciler.progressed = self._progressed
        self._inspected_at = float("-inf")
        return assembly

    def _renew(self, run: _Run, *, asked: bool) -> None:
        """Take up what changed: the configuration, or Ray's head; or try again what failed before.
        Whoever `asked` says that the file is whole. If anything goes wrong, all stays as it was.
        """
        try:
            self._take_up(run, asked=asked)
        except WheelwayError as error:
            message = f"{error.message}; until then it goes on with the configuration before"
            self._untaken = Condition("config", error.reason, message)
        except Exception as error:
            # A bug: as in a pass, it must not take the daemon down, now and at every start.
            log.exception("what changed could not be taken up; please report this")
            self._untaken = Condition(
                "config", "InternalError", f"what changed is not in force: {error!r}"
            )
        else:
            if not self._pending:
                self._untaken = None

    def _take_up(self, run: _Run, *, asked: bool) -> None:
        failed_before = self._pending
        edited = self._file.edited(whole=asked)
        self._pending |= edited
        self._unopened = run.api.apply(self.config.api)
        another = self._inspect_cluster(run.assembly)
        self._pending |= bool(another)
        self._another_head |= bool(another)
        again = failed_before and (asked or another is False)
        if edited or another or again:
            run.telemetry.renew(self.config)
            if self._renewed is not None:
                self._renewed(self.config)
            self._reassemble(run)
            run.journal.keep_listings_of(origins(self.config))
            self._pending = False

    def _reassemble(self, run: _Run) -> None:
        """Make the parts that are another now. Those before are closed beside the passes of the
        new ones, for that may take a while.
        """
        before, run.assembly = run.assembly, self._assemble(run.journal, run.assembly)
        if names := run.assembly.parts.besides(before.parts):
            log.info("made anew: %s; all else goes on", ", ".join(names))
        close = partial(before.close, keep=run.assembly)
        threading.Thread(target=close, name="wheelway-closing").start()

    def _inspect_cluster(self, assembly: Assembly) -> bool | None:
        """Inspect the cluster, if it is time; whether another head answers than the time before,
        None when it was not inspected.
        """
        now = time.monotonic()
        if now - self._inspected_at < INSPECT_EVERY or assembly.reconciler.backing_off():
            return None
        self._inspected_at = now
        try:
            found = cluster.inspect(assembly.dashboard)
        except WheelwayError as error:
            self._unknown = head_unknown(error, known=self._known)
            if not self._known:
                self._inspected_at = now - INSPECT_EVERY + 2.0
            return None
        self._known, self._unknown = True, None
        longest = assembly.reconciler.config.serve.longest_request
        self._misfits = tuple(misfits(found, assembly.base, self._version, longest_request=longest))
        before, self._session = self._session, found.session
        return before not in {"", found.session}

    # -- one pass --------------------------------------------------------------------------------

    def _pass(self, run: _Run) -> Report:
        """One pass, counted, recorded and told of, whatever became of it."""
        self._number += 1
        with logs.in_pass(self._number):
            began = time.monotonic()
            report = self._attempted(run.assembly, run.journal)
            duration = time.monotonic() - began
            if self._unrecorded is not None:
                report = replace(report, conditions=(*report.conditions, self._unrecorded))
            report = run.telemetry.observe(report, run.assembly, duration=duration)
            self._record(run, report, duration)
        if self.watcher is not None:
            self.watcher(report)
        return report

    def _attempted(self, assembly: Assembly, journal: Journal) -> Report:
        """What a pass reports, or that it failed."""
        try:
            lost = journal.keep_file(time.time())
            troubles = (self._file.trouble, self._untaken, lost)
            assembly.reconciler.notes = (*self._misfits, *self._unopened, *filter(None, troubles))
            assembly.reconciler.inspected, assembly.reconciler.unknown = self._known, self._unknown
            report = assembly.reconciler.run_pass()
        except WheelwayError as error:
            log.error("%s", error.message, extra=logs.about("PassFailed", REASON=error.reason))
            report = Report(f"the pass was cut short: {error.message}", 2.0, failed=True)
        except Exception:
            # A bug must not take the daemon down with every release it looks after: it is told
            # with its traceback, and the next pass observes anew.
            message = "the pass failed unexpectedly; please report this"
            log.exception(message, extra=logs.about("PassFailed"))
            report = Report("the pass failed unexpectedly, see the log", 5.0, failed=True)
        if report.plan is None:  # what answers next may be another head: nothing starts unseen
            self._inspected_at, self._known = float("-inf"), False
        return report

    def _record(self, run: _Run, report: Report, duration: float) -> None:
        status = DaemonStatus(
            *(self._number, time.time(), report.sentence, duration),
            *(os.getpid(), self._version, self._started_at),
        )
        try:
            run.journal.set_status(status, told=run.telemetry.told)
        except WheelwayError as error:  # a full disk must not end what looks after the releases
            if self._unrecorded is None:
                log.error("the pass could not be recorded: %s", error.message)
            self._unrecorded = Condition("journal", error.reason, error.message)
        else:
            if self._unrecorded is not None:
                log.info("passes are recorded again")
            self._unrecorded = None
        run.telemetry.metrics.recorded(well=self._unrecorded is None)
