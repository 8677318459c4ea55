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
    from controller.planning.plan import Plan
    from controller.reconcile.report import Report


WAITING = 8
"""Callers that may wait for a pass at a time, and as many for the configuration to be taken up:
each holds a thread, of which the API has 40."""


@dataclass(slots=True)
class _Requests:
    """How often something was asked for and done; how many wait for it."""

    asked: int = 0
    done: int = 0
    waiting: int = 0


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
        self._clock = clock
        self._turn = threading.Condition()
        self._polls, self._reloads = _Requests(), _Requests()
        self._taken = 0
        """Requests for a poll that the pass under way answers."""
        self._refusal: Condition | None = None
        self._last: tuple[int, Report] | None = None
        self._well, self._well_at = 0, clock()
        self._unrecorded: Condition | None = None
        self._over = False

    # -- for the daemon --------------------------------------------------------------------------

    def wanted(self) -> bool:
        """Whether somebody asked for a poll of all sources since this was last called."""
        with self._turn:
            new, self._taken = self._polls.asked > self._taken, self._polls.asked
            return new

    def reloads(self) -> int:
        """How often the configuration was to be taken up; for `reloaded`, after it was."""
        with self._turn:
            return self._reloads.asked

    def reloaded(self, asked: int, refusal: Condition | None) -> None:
        """The configuration was read, for as many as had `asked` before; why it is not in force."""
        with self._turn:
            self._reloads.done, self._refusal = asked, refusal
            self._turn.notify_all()

    @property
    def has_waiters(self) -> bool:
        """Whether somebody still waits for a pass that has seen all that was asked for."""
        with self._turn:
            return self._polls.done < self._polls.asked

    def ended(
        self, number: int, report: Report, *, complete: bool, unrecorded: Condition | None = None
    ) -> None:
        """A pass ended; `complete`: it did not fail, and every listing that was asked for was in
        before it began; `unrecorded`: what kept it from being written down.
        """
        with self._turn:
            self._unrecorded = unrecorded
            self._last = number, report
            if not report.failed:
                self._well, self._well_at = number, self._clock()
            if complete:
                self._polls.done = self._taken
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
        busy = Transient(
            "TooManyWait",
            f"{WAITING} others wait for a pass already, which sees what this would; ask again, or "
            "look at `wheelway status`",
            retry_after=5,
        )
        complete = self._await(self._polls, self._wake, timeout, busy)
        if self._over and not complete:
            raise Transient("DaemonEnding", "the daemon ends; ask again when it is back")
        number, report = self._last_pass()
        return {
            "number": number,
            "complete": complete,
            "sentence": report.sentence,
            "sent": report.sent,
            "plan": None if report.plan is None else planned(report),
            "conditions": notices(report.conditions),
        }

    def reload(self, timeout: float) -> ReloadDocument:
        """Have the configuration taken up as it is now, and tell whether it is in force.

        Raises:
            Waiting: that was not known within `timeout` seconds ("NotTakenUp").
            Transient: too many wait for it already ("TooManyWait").
        """
        busy = Transient(
            "TooManyWait",
            f"{WAITING} others wait for the configuration to be taken up already: the daemon "
            "hangs, or a pass takes long; its log says more. Ask again",
            retry_after=5,
        )
        if not self._await(self._reloads, self._reload, timeout, busy):
            why = f"the daemon has not taken up its configuration within {timeout:g} s"
            raise Waiting("NotTakenUp", f"{why}: it hangs, or a pass takes long; its log says more")
        refusal = self._refusal
        return {
            "in_force": refusal is None,
            "reason": refusal.reason if refusal else "",
            "message": refusal.message if refusal else "",
        }

    def _await(
        self, requests: _Requests, begin: Callable[[], None], timeout: float, busy: Transient
    ) -> bool:
        """Ask, and wait until it is done, `timeout` seconds are over or the daemon ends; whether it
        was done. Raises `busy` when too many wait already.
        """
        with self._turn:
            if requests.waiting >= WAITING:
                raise busy
            requests.waiting += 1
            requests.asked += 1
            mine = requests.asked
        begin()
        with self._turn:
            self._turn.wait_for(lambda: self._over or requests.done >= mine, timeout)
            requests.waiting -= 1
            return requests.done >= mine

    def plan(self) -> PlanDocument:
        """What the last pass planned; raises as `planned`, and Transient ("NoPassYet")."""
        return planned(self._last_pass()[1])

    def planned_config(self) -> str:
        """The Serve config of that plan, as YAML; raises as `rendered`, and Transient."""
        return rendered(self._last_pass()[1])

    def _last_pass(self) -> tuple[int, Report]:
        if (last := self._last) is None:
            raise Transient("NoPassYet", "the daemon has not finished a pass yet", retry_after=2)
        return last

    def liveness(self) -> Liveness:
        """Whether passes go on, and see Ray."""
        from controller.api import Liveness  # noqa: PLC0415 - slow; previews have no use for it

        with self._turn:
            report = self._last[1] if self._last is not None else None
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


def planned(report: Report) -> PlanDocument:
    """What a pass planned.

    Raises:
        Waiting: it failed ("PassFailed"), or could not observe Ray ("RayUnavailable").
    """
    return plan_document(
        report.sentence,
        _plan(report),
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
    _plan(report)
    if report.serve_config:
        return report.serve_config
    if broken := [c.message for c in report.conditions if c.reason == "TemplateInvalid"]:
        raise TemplateError("\n".join(dict.fromkeys(broken)))
    raise Stalled(
        "ConfigNotRendered",
        f"there is no config to print: {report.sentence}. `wheelway plan` and `wheelway config "
        "check` may say more",
    )


def _plan(report: Report) -> Plan:
    if report.plan is None:
        raise Waiting("PassFailed" if report.failed else "RayUnavailable", report.sentence)
    return report.plan
