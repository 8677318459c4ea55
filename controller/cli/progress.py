"""The steps of each release as they happen, one line a step, for `wheelway up`.

    14:03:07  greeter 1.0    fetched, verified    0.1 s
    14:03:07  greeter 1.0    prepared             0.4 s  +0.3 s
    14:03:10  greeter 1.0    live                 3.2 s  +0.2 s  /predict/greeter/1.0
              curl -sS http://127.0.0.1:8000/predict/greeter/1.0 -H ... -d ...

First the seconds since the wheel was noticed, then since the step before. It is fed with the report
of every pass and reads only its events; a log file of it reads as well as a terminal.
"""

from __future__ import annotations

import logging
import math
import shlex
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from rich.text import Text

from controller.cli.lasting import Lasting
from controller.cli.output import PHASE_STYLES, clean, console, first_line, time_of_day
from controller.cli.sample import arguments_of
from controller.logs import LOGGERS, tells_event
from controller.model import Phase, named
from controller.planning.causes import HEAD_ENDED
from controller.planning.paths import version_path
from controller.planning.policy import CONFLICT, UNDECIDED
from controller.planning.weights_telling import REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from controller.model import JSON, Event
    from controller.reconcile.report import Report
    from controller.serve.log_records import FailedRequest

TIMEOUT: Final = 1.0
"""Seconds for asking a new release for its first example; passes wait meanwhile."""
LOOKS: Final = (2.0, 5.0, 15.0)
"""Seconds until it is asked again while it does not answer, which is busy then."""
LASTS: Final = 3.0
"""Seconds that a condition must last to be shown: most of a rollout are over sooner."""
MOMENT: Final = 2.0
"""The same of a release that waits to know whose its name is."""
TURN: Final = 10.0
"""The same of one that waits for others to start: what is built now is often ready by then."""
BETWEEN_FAILURES: Final = 5.0
"""Least seconds between two failed requests of a release that are shown."""

_UNDERWAY: Final = {"Verified", "Preparing"}
"""Reasons of a fetched release that goes on; with any other it stays where it is."""
_LEAVING: Final = {Phase.RETIRING, Phase.RETIRED, Phase.SUPERSEDED}
_STARTING: Final = {Phase.PREPARED, Phase.STAGED, Phase.READY}
_SHORT: Final = "InsufficientResources"
_QUEUED: Final = "Queued"
_BRIEF: Final = {"StillCopying", "WaitingForDeletion", "CheckingFiles", "SchemaStarting"}
"""Conditions that come and go with every rollout; `wheelway status` has them."""
_LABEL_WIDTH: Final = 20
_STEP_WIDTH: Final = 17


@dataclass(slots=True)
class _Run:
    """How far a release has been shown."""

    pipeline: str
    version: str
    noticed: float | None = None
    """When its wheel was first listed, and when the step before was; None for what ran already."""
    before: float | None = None
    shown: tuple[Phase, str] | None = None
    """Phase and reason of the last line."""
    arguments: list[str] = field(default_factory=list)
    """What curl was told to send; a release is always asked the same."""

    @property
    def label(self) -> str:
        """The release for a person."""
        return f"{self.pipeline} {self.version}"

    def reach(self, phase: Phase, at: float) -> str:
        """Seconds for the next line: since the wheel was first listed, and since the step before. A
        release that comes back is counted anew, and one that is live and starts once more, as with
        new weights that restart replicas.
        """
        former = None if self.shown is None else self.shown[0]
        back = former in _LEAVING and phase not in _LEAVING
        if back or (former is Phase.LIVE and phase in _STARTING):
            self.noticed = self.before = at
        self.shown = (phase, "")
        if self.noticed is None or self.before is None:
            return ""
        step = "" if self.before == self.noticed else f"  +{at - self.before:.1f} s"
        self.before = at
        return f"{at - self.noticed:6.1f} s{step}"


class Progress:
    """Called with the report of every pass.

    Args:
        ingress_url: where routes answer, for the `curl` line.
        out: where to print; default: stdout.
        get: fetches a JSON document from a URL, or None when it cannot be had quickly.
        command: how this program is called, for the lines to copy.
        clock: seconds since the epoch.
        monotonic: seconds, of a clock that nobody sets.
        later: calls a function after some seconds, in any thread.
    """

    def __init__(
        self,
        ingress_url: str,
        *,
        out: Console | None = None,
        get: Callable[[str], JSON] | None = None,
        command: str = "wheelway",
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], None] | None = None,
    ) -> None:
        self._ingress_url = ingress_url.rstrip("/")
        self._out = out or console()
        self._get = get or _fetched
        self._command = command
        self._clock = clock
        self._later = later or _later
        self._runs: dict[str, _Run] = {}
        self._failures: dict[tuple[str, str], str] = {}  # of one pass: by which release first
        self._lasting = Lasting(monotonic)
        """Conditions and waits, by subject and reason."""
        self._failed_weights: dict[str, str] = {}
        """By release: those that were told last to have failed with it."""
        self._told_at = float("-inf")
        self._failed: dict[str, list[FailedRequest]] = {}
        """By release of which one was just told: those that are to be told next."""
        self._failing = threading.Lock()

    def __call__(self, report: Report) -> None:
        """Show what is new."""
        self._failures.clear()
        self._head_ended([event for event in report.events if event.reason == HEAD_ENDED.reason])
        for event in report.events:
            release, phase = named(event.subject), event.fields.get("phase")
            if event.reason == HEAD_ENDED.reason:
                continue  # told of all at once
            if release is not None and "weights" in event.fields and "by" not in event.fields:
                self._weights(" ".join(release), event)
            elif phase is None or release is None:
                self._note(event)
            else:
                run = self._runs.setdefault(event.subject, _Run(*release))
                self._step(run, Phase(phase), event)
        self._lasting.tell()

    def say(self, sentence: str, *, style: str = "") -> None:
        """A sentence about the run itself, with the time of the day before it."""
        told = self._time_of(self._clock())
        self._out.print(Text(f"{told}  {clean(sentence)}", style=style), soft_wrap=True)

    def failed(self, found: FailedRequest) -> None:
        """Show a request that a pipeline answered with 500; of many in a row the first, and later
        the latest with their number.
        """
        label = _label(found.release)
        with self._failing:
            if (waiting := self._failed.get(label)) is not None:
                waiting.append(found)
                return
            self._failed[label] = []
        self._tell_failed(label, [found])

    def _tell_failed(self, label: str, found: list[FailedRequest]) -> None:
        latest, more = found[-1], len(found) - 1
        cause = first_line(latest.cause) or "see its log"
        detail = f"{cause} (and {more} more before it)" if more else cause
        read_on = f"{self._command} logs {label} --request {shlex.quote(latest.request)}"
        self._line(self._clock(), label, "request failed", detail, style="red", more=read_on)
        self._later(BETWEEN_FAILURES, lambda: self._tell_rest(label))

    def _tell_rest(self, label: str) -> None:
        with self._failing:
            if waiting := self._failed.pop(label):
                self._failed[label] = []
        if waiting:
            self._tell_failed(label, waiting)

    def _time_of(self, at: float) -> str:
        """The time of day before a line. It never goes back, though a pass shows steps that ended
        before it; the seconds in the line are exact.
        """
        self._told_at = max(self._told_at, at)
        return time_of_day(self._told_at)

    def _step(self, run: _Run, phase: Phase, event: Event) -> None:
        """One line, unless this step was shown already."""
        unnamed, key = (phase, event.reason) == (Phase.FETCHED, UNDECIDED), (run.label, UNDECIDED)
        if not unnamed:
            self._lasting.end(key)
        if phase is Phase.DISCOVERED:
            run.noticed = run.before = event.at
        elif unnamed:
            tell = partial(self._aside, run, phase, event, "waiting", event.message)
            self._lasting.begin(key, MOMENT, tell)
        elif (phase, event.reason) == (Phase.STAGED, _SHORT):
            self._aside(run, phase, event, "waiting", event.message)
        elif phase is Phase.FETCHED and event.reason not in _UNDERWAY:
            self._aside(run, phase, event, "not served", f"{event.reason}: {event.message}")
        elif run.shown != (phase, ""):
            seconds = run.reach(phase, event.at)
            step, detail, more = self._said(run, phase, event)
            style = PHASE_STYLES.get(phase.value, "")
            self._line(event.at, run.label, step, detail, seconds, style=style, more=more)

    def _weights(self, label: str, event: Event) -> None:
        """What became of weights with a release that serves."""
        live = event.reason == "WeightsLive"
        step, style = ("weights live", "green") if live else ("weights failed", "red")
        detail = str(event.fields["weights"]) if live else f"{event.reason}: {event.message}"
        more = "" if live else f"{self._command} explain {label}"
        if not live:
            self._failed_weights[event.subject] = str(event.fields["weights"])
        self._line(event.at, label, step, first_line(detail), style=style, more=more)

    def _said(self, run: _Run, phase: Phase, event: Event) -> tuple[str, str, str]:
        """What a step is called, what is told of it, and what there is to copy."""
        if event.reason == "Lost":
            return "gone", "no longer on the cluster; what is wanted is started again", ""
        if phase is Phase.LIVE and event.reason == REFUSED:
            return "back", first_line(event.message), ""
        if phase is Phase.LIVE:
            route = version_path(run.pipeline, run.version)
            return "live", route, self._curl(run, route)
        if phase is Phase.QUARANTINED:
            # What others of its wheel failed by is told once.
            first = self._failures.setdefault((event.reason, event.message), run.label)
            own = first == run.label
            why = f": {first_line(event.message)}" if own else f", as {first}"
            return "quarantined", event.reason + why, f"{self._command} explain {run.label}"
        word = "fetched, verified" if phase is Phase.FETCHED else phase.value.lower()
        leaves = phase in {Phase.RETIRING, Phase.SUPERSEDED}
        return word, first_line(event.message) if leaves else "", ""

    def _aside(self, run: _Run, phase: Phase, event: Event, step: str, why: str) -> None:
        """Show a release that does not go on, once for each reason."""
        if run.shown != (phase, event.reason):
            run.shown = (phase, event.reason)
            self._line(event.at, run.label, step, first_line(why), style="yellow")

    def _note(self, event: Event) -> None:
        """Show an event that is no step of a release."""
        change, key = event.fields.get("condition"), (event.subject, event.reason)
        # Of a shortage a release's own step tells.
        if change and (event.reason in _BRIEF or (event.reason == _SHORT and named(event.subject))):
            return
        if change == "appeared":
            tell, lasts = partial(self._notice, event), LASTS
            if event.reason == _QUEUED:
                tell, lasts = partial(self._queued, event), TURN
            self._lasting.begin(key, math.inf if self._is_told(event) else lasts, tell)
        elif change != "gone":
            self._notice(event)
        elif self._lasting.end(key) and event.reason != _QUEUED:
            self._line(event.at, _label(event.subject), "resolved", event.reason, style="dim")

    def _is_told(self, event: Event) -> bool:
        """Whether a line said already what a condition says: that this keeps a release from being
        served, or that these weights failed with it.
        """
        run, weights = self._runs.get(event.subject), self._failed_weights.get(event.subject)
        if event.reason == REFUSED:
            return weights is not None and event.message.startswith(f"{weights} failed ")
        return (
            run is not None and event.reason == CONFLICT and run.shown == (Phase.FETCHED, CONFLICT)
        )

    def _queued(self, event: Event) -> None:
        """That a release waits for others to start."""
        why = f"for its turn: {first_line(event.message)}"
        self._line(self._clock(), _label(event.subject), "waiting", why, style="yellow")

    def _head_ended(self, ended: Sequence[Event]) -> None:
        """One line for all that ran on a Ray head which is there no more; each is counted anew."""
        for event in ended:
            if (release := named(event.subject)) is not None:
                run = self._runs.setdefault(event.subject, _Run(*release))
                run.reach(Phase(event.fields["phase"]), event.at)
        if ended:
            count = f"{len(ended)} release{'s'[: len(ended) > 1]}"
            self.say(
                f"the former Ray head has ended, and {count} with it; what is wanted starts anew"
            )

    def _notice(self, event: Event) -> None:
        """Something that a person should know of."""
        style = "" if event.fields.get("ok", True) else "yellow"
        said = first_line(" ".join(event.message.split()))
        self._line(event.at, _label(event.subject), event.reason, said, style=style)

    def _line(
        self,
        at: float,
        label: str,
        step: str,
        detail: str,
        seconds: str = "",
        *,
        style: str = "",
        more: str = "",
    ) -> None:
        """A line, and what there is to copy below it."""
        line = Text.assemble(
            (f"{self._time_of(at)}  ", "dim"),
            f"{clean(label):{_LABEL_WIDTH}}  ",
            (f"{step:{_STEP_WIDTH}}", style),
            f"  {seconds:17}" if seconds else "",
            (f"  {' '.join(clean(detail).split())}", "" if style == "green" else style),
        )
        line.rstrip()
        self._out.print(line, soft_wrap=True)
        if more:
            self._out.print(Text(f"{'':10}{clean(more)}", style="bold"), soft_wrap=True)

    def _curl(self, run: _Run, route: str) -> str:
        """A command that works: the release's own first example, else a GET of its metadata. What
        came back is asked as before: just then its document may not be had in time.
        """
        url = f"{self._ingress_url}{route}"
        if not run.arguments:
            self._look(run, url, LOOKS)
        return shlex.join(["curl", "-sS", url, *run.arguments])

    def _look(self, run: _Run, url: str, pauses: Sequence[float]) -> None:
        """Find out how to ask it: now, or after one of these pauses while its document cannot be
        had.
        """
        document = self._get(f"{url}/openapi.json")
        run.arguments = arguments_of(document)
        if document is None and pauses:
            self._later(pauses[0], lambda: self._look_again(run, url, pauses[1:]))

    def _look_again(self, run: _Run, url: str, pauses: Sequence[float]) -> None:
        """The same, and show what was found; unless the release left, or was asked meanwhile."""
        if run.arguments or run.shown != (Phase.LIVE, ""):
            return
        self._look(run, url, pauses)
        if run.arguments:
            more = shlex.join(["curl", "-sS", url, *run.arguments])
            self._line(self._clock(), run.label, "answers", "its first example:", more=more)


class Warnings(logging.Handler):
    """Shows warnings of the log that no event tells, for steps are shown instead of the log."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, but for its traceback: `--debug` shows that."""
        if not tells_event(record):
            self._progress.say(first_line(record.getMessage()), style="yellow")

    def attach(self) -> None:
        """Take the place of the log from here on."""
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.setLevel(logging.WARNING)
            logger.propagate = False
            logger.addHandler(self)


def _label(subject: str) -> str:
    """A release for a person; anything else as it is."""
    return " ".join(named(subject) or (subject,))


def _later(seconds: float, function: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()


def _fetched(url: str) -> JSON:
    from controller.exchange import answer, document, own_client  # noqa: PLC0415 - seldom wanted

    with own_client() as client:
        found = answer(client, url, seconds=TIMEOUT, limit=16 << 20)
    try:
        return document(found) if found is not None and found.is_success else None
    except ValueError:  # a nicety: without it the line is a plain GET
        return None
