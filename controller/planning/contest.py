"""Whether somebody else changes what we sent: memory between passes, told the time.

What differs is corrected; but whoever is contradicted three times backs off, and says what differs.
"""

from __future__ import annotations

from collections import deque
from operator import is_
from typing import TYPE_CHECKING, Any

from controller.config.values import same
from controller.model import ApplicationStatus
from controller.planning import causes
from controller.planning.daemons import others, standing_down, taking_over
from controller.planning.documents import same_document
from controller.planning.plan import Cause
from controller.planning.restraint import Restraint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.model import JSON, Application, DaemonMark
    from controller.planning.overrides import Overrides, Suspension
    from controller.planning.plan import PlannedApplication

CORRECTIONS = 3
WINDOW = 600.0
"""Seconds within which as many corrections are too many; after as long in peace all is forgotten,
and longer no correction waits."""
FIRST_WAIT = 60.0
"""Seconds from the last of these to the next; each further one waits twice as long."""
PAUSE = 3600.0
"""Seconds after which a daemon that stood down looks whether the older one is gone."""
_NAMED = 3
"""Differences that are told."""


class Contest:
    """What was sent, and whether that is what is there, and whose it is.

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
        """Compare with what was sent; why nothing, or not everything, is sent now."""
        claimed = self._claim.judge(applications, overrides, now) if self._claim else None
        return self._compared(applications, now) if claimed is None else claimed

    def _compared(self, applications: Sequence[Application], now: float) -> Restraint | None:
        if self._observed is None or not _same(self._observed, applications):
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
        # What agrees is gone on with: the rest of what was taken away is not waited for again.
        until = self._corrected[-1] + wait if self._differs else now
        cause = Cause(self._reason, self._message(wait))
        return Restraint(cause, until, contested=self._rerouted(applications))

    def _rerouted(self, applications: Sequence[Application]) -> frozenset[str]:
        """Names of those that do not have the route that they were sent with."""
        there = {app.name: app.route for app in applications if app.document is not None}
        return frozenset(
            name
            for name, document in (self._sent or {}).items()
            if name not in there or there[name] != document.get("route_prefix")
        )

    def wait_for(self, seconds: float) -> None:
        """Give another daemon so long from now on."""
        if self._claim is not None:
            self._claim.wait = seconds

    def sent(self, applications: Iterable[PlannedApplication], now: float) -> None:
        """A config was taken; what differed before it is corrected by it."""
        if self._claim is not None:
            self._claim.sent(now)
        if self._differs:
            self._corrected.append(now)
            full = len(self._corrected) == CORRECTIONS
            if self._level or (full and now - self._corrected[0] <= WINDOW):
                self._level += 1
        self._sent = {
            str(planned.document["name"]): planned.document
            for planned in applications
            if planned.cause is not causes.FOREIGN
        }
        self._agreed, self._differs, self._observed = False, [], None

    def unknown(self) -> None:
        """A config may have been taken or not."""
        self._sent, self._differs, self._observed = None, [], None

    def _message(self, wait: float) -> str:
        if self._reason == "NotConverging":
            return (
                f"Ray reports the config otherwise than it was sent: {self._told}. It is sent "
                f"again every {wait:g} s; a template of `paths.templates`, or an option, has a "
                "form that this Ray changes"
            )
        return (
            f"somebody else changes the Serve config each time that it was corrected: {self._told}."
            f" It is corrected again every {wait:g} s; find who else sends configs to this "
            "cluster (`serve deploy`, a CI job, another daemon), and have it leave these alone"
        )


class _Claim:
    """Whose the applications are, for the daemon with the mark `own`; `wait` is how many seconds
    another one has to claim them back.
    """

    def __init__(self, own: DaemonMark, wait: float) -> None:
        self._own = own
        self.wait = wait
        self._rival: DaemonMark | None = None
        self._claimed_at: float | None = None
        self._checked: (
            tuple[Sequence[Application], Mapping[str, Suspension], set[DaemonMark]] | None
        ) = None
        self._down_until: float | None = None

    def judge(
        self, applications: Sequence[Application], overrides: Overrides, now: float
    ) -> Restraint | None:
        """What another daemon's marks forbid now, if there is one."""
        rivals = self._rivals(applications, overrides)
        self._rival = min(rivals, key=lambda mark: mark.age, default=self._rival)
        if self._down_until is not None and now >= self._down_until:
            self._down_until = self._claimed_at = None
        if self._rival is None:
            return None
        claimed_back = bool(rivals) and self._claimed_at is not None
        if self._down_until is None and claimed_back and self._rival.age < self._own.age:
            self._down_until = now + PAUSE
        if self._down_until is not None:
            return Restraint(standing_down(self._rival, PAUSE), self._down_until)
        return self._asking(self._rival, now, answered=bool(rivals))

    def _rivals(self, applications: Sequence[Application], overrides: Overrides) -> set[DaemonMark]:
        if self._checked is not None:
            before, suspended, rivals = self._checked
            if suspended == overrides.suspensions and _same(before, applications):
                return rivals
        rivals = others(applications, self._own, overrides)
        self._checked = (applications, overrides.suspensions, rivals)
        return rivals

    def _asking(self, rival: DaemonMark, now: float, *, answered: bool) -> Restraint | None:
        cause = taking_over(rival, self.wait)
        if self._claimed_at is None and answered:
            return Restraint(cause, now, mark=self._own)
        if answered:  # by a younger one: what we send next tells it to stand down
            return None
        if self._claimed_at is not None and now < self._claimed_at + self.wait:
            return Restraint(cause, self._claimed_at + self.wait)
        self._rival = self._claimed_at = None
        return None

    def sent(self, now: float) -> None:
        """A config was taken; all of ours bear our mark now."""
        if self._rival is not None and self._claimed_at is None:
            self._claimed_at = now


def _same(before: Sequence[Application], now: Sequence[Application]) -> bool:
    """Whether these are the same objects, as they are while the dashboard says the same."""
    return len(before) == len(now) and all(map(is_, before, now))


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
