"""Nobody fights: why a planned config is not sent yet, though nothing is wrong with it.

Somebody else may change what was sent: that is corrected, but after three corrections the daemon
backs off and says what differs.

Another daemon may have the cluster. A daemon that finds another's mark (`daemons`) replaces the
mark and nothing else, and waits: a daemon that lives answers in the same way, one that is gone does
not. Of two that live the younger stands down.

This is memory between passes; the time is a parameter.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from controller.config.values import same
from controller.model import Condition, Phase
from controller.observed import ApplicationStatus
from controller.planning import bindings, causes
from controller.planning.changes import differences, hold_back
from controller.planning.daemons import mark_of, marked
from controller.planning.documents import same_document, same_objects
from controller.planning.plan import Cause, PlannedApplication
from controller.planning.situation import as_it_is, in_force

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.model import JSON
    from controller.observed import Application
    from controller.planning.daemons import DaemonMark
    from controller.planning.overrides import Overrides, Suspension
    from controller.planning.plan import Plan
    from controller.planning.situation import Situation

CORRECTIONS = 3
WINDOW = 600.0
"""Seconds within which so many corrections are too many. After as long in peace they are forgotten,
and no correction waits longer."""
FIRST_WAIT = 60.0
"""Seconds from the last of them to the next; each further one waits twice as long."""
PAUSE = 3600.0
"""Seconds after which a daemon that stood down checks whether the older one is gone."""
_NAMED = 3
"""How many differences are told."""


@dataclass(frozen=True, slots=True)
class Restraint:
    """Why nothing is sent before `until`, by the clock of the passes; afterwards it is still told.

    Two configs go all the same: one that only sets a mark, and one that gives a route back from
    what failed there.
    """

    cause: Cause
    until: float
    mark: DaemonMark | None = None
    """The mark to set on all of ours; nothing else is sent then."""
    contested: frozenset[str] | None = None
    """Names of applications whose route somebody else changed: others that get a route back do not
    wait. None: everything waits, as the applications may be another daemon's."""


class Contest:
    """Compares what was sent with what is on the cluster, and whose that is.

    `mark` is this daemon's own; `wait` is how many seconds another one has to claim back what this
    one claims.
    """

    def __init__(self, mark: DaemonMark | None, *, wait: float) -> None:
        self._claim = _Claim(mark, wait) if mark is not None else None
        self._sent: dict[str, Mapping[str, JSON]] | None = None
        self._agreed = False
        self._differs: list[str] = []
        self._observed: Sequence[Application] | None = None
        self._told = ""
        self._reason = "Contested"
        self._different_at = 0.0
        self._corrected: deque[float] = deque(maxlen=CORRECTIONS)
        self._level = 0

    def judge(
        self, applications: Sequence[Application], overrides: Overrides, now: float
    ) -> Restraint | None:
        """Compare with what was sent. Returns why nothing, or not everything, is sent now."""
        claimed = self._claim.judge(applications, overrides, now) if self._claim else None
        return self._compared(applications, now) if claimed is None else claimed

    def _compared(self, applications: Sequence[Application], now: float) -> Restraint | None:
        if self._observed is None or not same_objects(self._observed, applications):
            self._observed = applications
            self._differs = [] if self._sent is None else _differences(self._sent, applications)
        if self._differs:
            self._different_at = now
            self._reason = "Contested" if self._agreed else "NotConverging"
            self._told = "; ".join(self._differs[:_NAMED])
            if len(self._differs) > _NAMED:
                self._told += f"; and {len(self._differs) - _NAMED} more"
        elif self._sent is not None:
            self._agreed = True
        if self._level and now - self._different_at >= WINDOW:
            self._level = 0
            self._corrected.clear()
        if not self._level:
            return None
        wait = min(FIRST_WAIT * 2.0 ** (self._level - 1), WINDOW)
        # What agrees goes on at once; it does not wait again for the rest.
        until = self._corrected[-1] + wait if self._differs else now
        return Restraint(self._cause(wait), until, contested=self._rerouted(applications))

    def _rerouted(self, applications: Sequence[Application]) -> frozenset[str]:
        """Names of applications that do not have the route they were sent with."""
        there = {app.name: app.route for app in applications if app.document is not None}
        return frozenset(
            name
            for name, document in (self._sent or {}).items()
            if name not in there or there[name] != document.get("route_prefix")
        )

    def wait_for(self, seconds: float) -> None:
        """Set how many seconds another daemon has to claim back."""
        if self._claim is not None:
            self._claim.wait = seconds

    def sent(self, applications: Iterable[PlannedApplication], now: float) -> None:
        """Ray took a config, which corrects what differed before."""
        if self._claim is not None:
            self._claim.sent(now)
        if self._differs:
            self._corrected.append(now)
            full = len(self._corrected) == CORRECTIONS
            if self._level or (full and now - self._corrected[0] <= WINDOW):
                self._level += 1
        self._agreed = False
        self.unknown()
        self._sent = {
            str(planned.document["name"]): planned.document
            for planned in applications
            if planned.cause is not causes.FOREIGN
        }

    def unknown(self) -> None:
        """Ray may have taken a config or not."""
        self._sent, self._differs, self._observed = None, [], None

    def _cause(self, wait: float) -> Cause:
        if self._reason == "NotConverging":
            message = (
                f"Ray reports the config otherwise than it was sent: {self._told}. It is sent "
                f"again every {wait:g} s; a template of `paths.templates`, or an option, has a "
                "form that this Ray changes"
            )
        else:
            message = (
                "somebody else changes the Serve config each time that it was corrected: "
                f"{self._told}. It is corrected again every {wait:g} s; find who else sends "
                "configs to this cluster (`serve deploy`, a CI job, another daemon), and have it "
                "leave these alone"
            )
        return Cause(self._reason, message)


class _Claim:
    """Decides whose the applications are, for the daemon with the mark `own`; `wait` as for
    `Contest`.
    """

    def __init__(self, own: DaemonMark, wait: float) -> None:
        self._own = own
        self.wait = wait
        self._rival: DaemonMark | None = None
        self._claimed_at: float | None = None
        self._checked: tuple[Sequence[Application], Mapping[str, Suspension]] = (), {}
        self._rivals: set[DaemonMark] = set()
        self._down_until: float | None = None

    def judge(
        self, applications: Sequence[Application], overrides: Overrides, now: float
    ) -> Restraint | None:
        """What another daemon's marks forbid now, if there is one."""
        self._check(applications, overrides)
        self._rival = rival = min(self._rivals, key=lambda mark: mark.age, default=self._rival)
        if self._down_until is not None and now >= self._down_until:
            self._down_until = self._claimed_at = None
        if rival is None:
            return None
        claimed_back = bool(self._rivals) and self._claimed_at is not None
        if self._down_until is None and claimed_back and rival.age < self._own.age:
            self._down_until = now + PAUSE
        if self._down_until is not None:
            cause = Cause(
                "AnotherDaemon",
                f"another daemon, {rival}, has this cluster and is older: this one sends nothing. "
                "Stop one of the two, or give each a cluster of its own "
                "(ray.dashboard_url); this one looks whether the other is gone each "
                f"{PAUSE / 60:g} minutes, or when it is restarted",
            )
            return Restraint(cause, self._down_until)
        return self._claiming(rival, now)

    def _check(self, applications: Sequence[Application], overrides: Overrides) -> None:
        before, suspended = self._checked
        if suspended == overrides.suspensions and same_objects(before, applications):
            return
        self._checked = applications, overrides.suspensions
        marks = {mark_of(app.document) for app in applications if _is_ours(app, overrides)}
        self._rivals = {mark for mark in marks if mark is not None and mark.id != self._own.id}

    def _claiming(self, rival: DaemonMark, now: float) -> Restraint | None:
        """What holds while it is unknown whether the other daemon is still there."""
        if rival.age < self._own.age:
            cause = Cause(
                "TakingOver",
                f"the applications are another daemon's, {rival}; it is gone if it does not claim "
                f"them back within {self.wait:g} s, and nothing else is sent before",
            )
        else:
            cause = Cause(
                "TakingOver",
                f"a younger daemon, {rival}, has marked the applications as its own: they are "
                "marked back, and it stands down if it runs. End it, or give it a cluster of its "
                f"own; nothing else is sent for {self.wait:g} s",
            )
        if self._claimed_at is None and self._rivals:
            return Restraint(cause, now, mark=self._own)
        if self._rivals:  # by a younger one: what we send next tells it to stand down
            return None
        if self._claimed_at is not None and now < self._claimed_at + self.wait:
            return Restraint(cause, self._claimed_at + self.wait)
        self._rival = self._claimed_at = None
        return None

    def sent(self, now: float) -> None:
        """Ray took a config: all of ours bear this daemon's mark now."""
        if self._rival is not None and self._claimed_at is None:
            self._claimed_at = now


def to_claim_back(interval: float) -> float:
    """Seconds in which another daemon that makes passes as often as this one shows itself."""
    return max(15.0, 3 * interval)


def _is_ours(app: Application, overrides: Overrides) -> bool:
    """Whether an application is one of wheelway's that may be changed."""
    return (
        app.release is not None
        and app.status is not ApplicationStatus.DELETING
        and overrides.suspension_of(app.release.pipeline) is None
    )


def _differences(
    sent: Mapping[str, Mapping[str, JSON]], applications: Iterable[Application]
) -> list[str]:
    there = {app.name: app for app in applications if app.status is not ApplicationStatus.DELETING}
    found = [f"{name} was removed" for name in sent if name not in there]
    for name, app in there.items():
        if name not in sent:
            found += [f"{name} was added"] if app.release is not None else []
        elif not same_document(app.document, sent[name]):
            found.append(f"{name}: {_difference(sent[name], app.document or {})}")
    return sorted(found)


def _difference(sent: Any, seen: Any, path: str = "") -> str:
    """Where two documents differ first, as a person would write it."""
    if isinstance(sent, dict) and isinstance(seen, dict):
        for key in sorted({*sent, *seen}):
            if key not in sent or key not in seen or not same(sent[key], seen[key]):
                return _difference(sent.get(key), seen.get(key), f"{path}.{key}".lstrip("."))
    if isinstance(sent, list) and isinstance(seen, list) and len(sent) == len(seen):
        for number, (ours, theirs) in enumerate(zip(sent, seen, strict=True)):
            if not same(ours, theirs):
                return _difference(ours, theirs, f"{path}[{number}]")
    return f"{path} is {_short(seen)}, not {_short(sent)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def restrained(decided: Plan, situation: Situation, restraint: Restraint | None) -> Plan:
    """The plan, held back or reduced to marks; and the condition that says why."""
    if restraint is None:
        return decided
    cause, mark = restraint.cause, restraint.mark
    told = Condition(causes.EVERYTHING, cause.reason, cause.message)
    holds = mark is not None or situation.now < restraint.until
    others = holds and restraint.contested is None  # then what may be retired is not ours to say
    found = (c for c in decided.conditions if not (others and c.reason == causes.RETIRE_LIMIT))
    decided = replace(decided, conditions=(*found, told))
    # A route that is to go back, and that nobody else changed, does not wait: who changes other
    # things cannot have it sent again and again.
    urgent = restraint.contested is not None and decided.urgent - restraint.contested
    if not holds or not (decided.changes or mark) or urgent:
        return decided
    staying = tuple(t for t in decided.transitions if t.phase is not Phase.RETIRING)
    decided = replace(decided, transitions=staying, bindings=bindings.as_they_are(situation))
    if mark is None:
        wakes = [at for at in (decided.wake_at, restraint.until) if at is not None]
        return replace(decided, hold=cause, wake_at=min(wakes))
    # What is in force, with this mark on what is ours and not suspended.
    bearing = tuple(
        PlannedApplication(marked(app.document or {}, mark), cause)
        if _is_ours(app, situation.overrides)
        else as_it_is(app, cause if app.release is not None else causes.FOREIGN)
        for app in in_force(situation)
    )
    hold, until = hold_back(situation, promoting=False)
    return replace(
        decided,
        applications=bearing,
        changes=differences(bearing, situation, {}),
        hold=hold,
        wake_at=until,
    )
