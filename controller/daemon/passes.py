"""The daemon's passes as others see them: the last one, and one that was asked for.

The daemon tells of each pass; any thread may read the last, or wait for one that has seen all that
the sources list now. What comes in are the reconciler's reports, what goes out documents.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.errors import Stalled, TemplateError, Transient, Waiting
from controller.ops.plans import PassDocument, PlanDocument, ReloadDocument, notices, plan_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.api import Liveness
    from controller.model import Condition
    from controller.reconcile.report import Report


WAITING = 8
"""Callers that may wait for a pass at a time, and as many for the configuration to be taken up:
each holds a thread, of which the API has 40."""


@dataclass(frozen=True, slots=True)
class _Pass:
    number: int
    report: Report


class Passes:
    """The passes of one daemon. `wake` makes it begin one, `late_after` is how many seconds may lie
    between two before it is late. Implements what the API asks of a daemon (`api.Controls`).
    """

    def __init__(
        self,
        wake: Callable[[], None],
        late_after: Callable[[], float],
        *,
        reload: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wake = wake
        self._late_after = late_after
        self._reload = reload
        self._reloads_asked = self._reloads_done = self._reloads_waiting = 0
        self._refusal: Condition | None = None
        self._clock = clock
        self._well_at = clock()
        self._well = 0
        self._turn = threading.Condition()
        self._last: _Pass | None = None
        self._asked = self._taken = self._answered = 0
        self._waiting = 0
        self._unrecorded: Condition | None = None
        self._over = False

    # -- for the daemon --------------------------------------------------------------------------

    def wanted(self) -> bool:
        """Whether somebody asked for a look at all sources since this was last called."""
        with self._turn:
            new, self._taken = self._asked > self._taken, self._asked
            return new

    def reloads(self) -> int:
        """How often the configuration was to be taken up; for `reloaded`, after it was."""
        with self._turn:
            return self._reloads_asked

    def reloaded(self, asked: int, refusal: Condition | None) -> None:
        """The configuration was looked at, for as many as had `asked` before; why it is not in
        force.
        """
        with self._turn:
            self._reloads_done, self._refusal = asked, refusal
            self._turn.notify_all()

    @property
    def has_waiters(self) -> bool:
        """Whether somebody still waits for a pass that has seen all that was asked for."""
        with self._turn:
            return self._answered < self._asked

    def ended(
        self, number: int, report: Report, *, complete: bool, unrecorded: Condition | None = None
    ) -> None:
        """A pass ended; `complete`: it did not fail, and every listing that was asked for was in
        before it began; `unrecorded`: what kept it from being written down.
        """
        with self._turn:
            self._unrecorded = unrecorded
            self._last = _Pass(number, report)
            if not report.failed:
                self._well, self._well_at = number, self._clock()
            if complete:
                self._answered = self._taken
            self._turn.notify_all()

    def over(self) -> None:
        """There will be no more: whoever waits is told."""
        with self._turn:
            self._over = True
            self._turn.notify_all()

    # -- for others ------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have a pass begin now: something was written that it should see."""
        self._wake()

    def reconcile(self, timeout: float) -> PassDocument:
        """Have all sources listed, and tell of the first pass that knew what they list and did not
        fail; when that takes longer than `timeout` seconds, of the last pass until then.

        Raises:
            Transient: there was none in that time ("NoPassYet"), the daemon ends
                ("DaemonEnding"), or too many wait already ("TooManyWait").
        """
        with self._turn:
            if self._waiting >= WAITING:
                raise Transient(
                    "TooManyWait",
                    f"{WAITING} others wait for a pass already, which sees what this would; "
                    "ask again, or look at `wheelway status`",
                    retry_after=5,
                )
            self._waiting += 1
            self._asked += 1
            mine = self._asked
        self._wake()
        with self._turn:
            self._turn.wait_for(lambda: self._over or self._answered >= mine, timeout)
            self._waiting -= 1
            complete, last = self._answered >= mine, self._last
            if self._over and not complete:
                raise Transient("DaemonEnding", "the daemon ends; ask again when it is back")
        if last is None:
            raise _no_pass_yet()
        return _as_document(last, complete=complete)

    def reload(self, timeout: float) -> ReloadDocument:
        """Have the configuration taken up as it is now, and tell whether it is in force.

        Raises:
            Waiting: that was not known within `timeout` seconds ("NotTakenUp").
            Transient: too many wait for it already ("TooManyWait").
        """
        with self._turn:
            if self._reloads_waiting >= WAITING:
                raise Transient(
                    "TooManyWait",
                    f"{WAITING} others wait for the configuration to be taken up already: the "
                    "daemon hangs, or a pass takes long; its log says more. Ask again",
                    retry_after=5,
                )
            self._reloads_waiting += 1
            self._reloads_asked += 1
            mine = self._reloads_asked
        self._reload()
        with self._turn:
            self._turn.wait_for(lambda: self._over or self._reloads_done >= mine, timeout)
            self._reloads_waiting -= 1
            done, refusal = self._reloads_done >= mine, self._refusal
        if not done:
            why = f"the daemon has not taken up its configuration within {timeout:g} s"
            raise Waiting("NotTakenUp", f"{why}: it hangs, or a pass takes long; its log says more")
        return {
            "in_force": refusal is None,
            "reason": refusal.reason if refusal else "",
            "message": refusal.message if refusal else "",
        }

    def plan(self) -> PlanDocument:
        """What the last pass planned.

        Raises:
            Transient: there was none yet ("NoPassYet").
            Waiting: it failed ("PassFailed"), or could not observe Ray ("RayUnavailable").
        """
        return planned(self._last_report())

    def planned_config(self) -> str:
        """The Serve config of that plan, as YAML.

        Raises:
            Transient, Waiting: as `plan`.
            Stalled: it cannot be rendered.
        """
        return rendered(self._last_report())

    def _last_report(self) -> Report:
        with self._turn:
            last = self._last
        if last is None:
            raise _no_pass_yet()
        return last.report

    def liveness(self) -> Liveness:
        """Whether passes go on, and see Ray."""
        from controller.api import Liveness  # noqa: PLC0415 - slow; previews have no use for it

        with self._turn:
            report = self._last.report if self._last is not None else None
            number, age = self._well, self._clock() - self._well_at
            unrecorded = self._unrecorded
        return Liveness(
            number=number,
            age=age,
            limit=self._late_after(),
            sentence="no pass has ended yet" if report is None else report.sentence,
            observed=report is not None and report.plan is not None,
            failed=report is not None and report.failed,
            unrecorded=unrecorded,
        )


def _no_pass_yet() -> Transient:
    return Transient("NoPassYet", "the daemon has not finished a pass yet", retry_after=2)


def planned(report: Report) -> PlanDocument:
    """What a pass planned.

    Raises:
        Waiting: it failed ("PassFailed"), or could not observe Ray ("RayUnavailable").
    """
    if report.plan is None:
        raise Waiting("PassFailed" if report.failed else "RayUnavailable", report.sentence)
    return plan_document(
        report.sentence,
        report.plan,
        waiting=report.waiting,
        quarantines=report.quarantines,
        failures=report.failures,
        conditions=report.conditions,
    )


def rendered(report: Report) -> str:
    """The Serve config that a pass planned, as YAML.

    Raises:
        Waiting: as `planned`.
        TemplateError: a template cannot be used.
        Stalled: it cannot be rendered for another reason ("ConfigNotRendered").
    """
    if report.plan is None:
        raise Waiting("PassFailed" if report.failed else "RayUnavailable", report.sentence)
    if report.config:
        return report.config
    if broken := [c.message for c in report.conditions if c.reason == "TemplateInvalid"]:
        raise TemplateError("\n".join(dict.fromkeys(broken)))
    raise Stalled(
        "ConfigNotRendered",
        f"there is no config to print: {report.sentence}. `wheelway plan` and `wheelway config "
        "check` may say more",
    )


def _plan_of(report: Report) -> PlanDocument | None:
    return None if report.plan is None else planned(report)


def _as_document(one: _Pass, *, complete: bool) -> PassDocument:
    report = one.report
    return {
        "number": one.number,
        "complete": complete,
        "sentence": report.sentence,
        "sent": report.sent,
        "plan": _plan_of(report),
        "conditions": notices(report.conditions),
    }
