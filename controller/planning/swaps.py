"""Whether the weights in the config are those that serve: by what each replica says at the ingress.

A release is only told live with new weights when every replica that the dashboard lists has
answered with their header, and they are only refused by a replica's own word, or when one goes on
with others for too long. What a release was live with is not so easily refused (doubts.py). This is
memory between passes; the time is a parameter. A process that comes later observes anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from controller.model import Condition
from controller.observed import ApplicationStatus
from controller.planning.doubts import Doubts, Uptake, serving_replicas
from controller.planning.health import DIGEST_MISMATCH
from controller.planning.remembered import Remembered
from controller.planning.weights import NOT_SINCE, Proven, WeightsQuarantine, in_document, unnamed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.model import Release
    from controller.observed import Answer, Application
    from controller.planning.weights import Weights
    from controller.planning.weights_election import WeightsRecorded

LOADING = "WeightsLoading"
"""Replicas are about to serve with the weights in the config."""
UNOBSERVED = "WeightsUnobserved"
"""Nobody knows whether all replicas serve with the weights in the config, though they had time."""
GRACE: Final = 60.0
"""Seconds beyond the deadline that replicas keep by themselves."""
LONG: Final = 5.0
"""Seconds after which it is told that they still load."""
_AT_ONCE: Final = 16
"""Questions for one application in one pass."""
_ALL_AT_ONCE: Final = 64
"""The same for all of them."""


@dataclass(frozen=True, slots=True)
class Swap:
    """An application that holds its route, and is not known to serve with its weights."""

    application: str
    release: Release
    weights: Weights
    route: str
    replicas: frozenset[str]
    """Ids of those that may answer."""
    is_back: bool = False
    """The release was live with these last: replicas go back to them, if they have others."""
    succeeds: bool = False
    """Another application of the release serves with them, which this one is to replace."""


@dataclass(slots=True)
class _Progress:
    weights: Weights
    turn: int = 0
    """In which round of questions it was asked last."""
    is_over: bool = False
    """Every replica answered with them."""
    judged: float = 0.0
    """Seconds in which it was followed, whether somebody answered or not."""
    judged_at: float | None = None
    """When it was judged last; None after a time in which the cluster could not be observed."""
    heard: dict[str, str] = field(default_factory=dict)
    """By replica: the mark of the weights that it answered with last."""
    late: dict[str, str] = field(default_factory=dict)
    """The same, of answers that came when all should have loaded."""
    waited: float = 0.0
    """Seconds in which somebody answered."""
    at: float | None = None
    """When somebody answered last."""

    def hear(
        self, answers: Sequence[Answer], replicas: frozenset[str], *, now: float, due: float
    ) -> None:
        """Note what was answered in a pass; what is gone is forgotten."""
        if self.judged_at is not None:
            self.judged += now - self.judged_at
        self.judged_at = now
        if answers and self.at is not None:
            self.waited += now - self.at
        self.at = now if answers else None
        said = {answer.replica: answer.weights for answer in answers}
        known = self.heard | said
        self.heard = {replica: known[replica] for replica in replicas & known.keys()}
        late = self.late | (said if self.waited >= due else {})
        self.late = {replica: late[replica] for replica in replicas & late.keys()}


@dataclass(slots=True)
class Judged:
    """What answers say of weights."""

    live: list[tuple[Release, Weights]] = field(default_factory=list)
    """Every replica serves with them."""
    refused: list[WeightsQuarantine] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)
    """Digests of those whose files are not as they were published."""
    conditions: list[Condition] = field(default_factory=list)
    uptake: dict[str, Uptake] = field(default_factory=dict)
    """Of applications that are to replace others with the same weights, or had to give the route
    back, by name."""
    hurries: bool = False
    """Whether replicas are about to serve with other weights: to be asked again soon."""

    def leave_out(self, refused: Mapping[Release, Sequence[WeightsQuarantine]]) -> None:
        """Leave out what is known to be refused: its config may have to wait before it changes."""
        known = {(q.release, q.weights.digest) for found in refused.values() for q in found}
        self.refused = [q for q in self.refused if (q.release, q.weights.digest) not in known]
        self.live = [(r, weights) for r, weights in self.live if (r, weights.digest) not in known]


class Swaps:
    """Follows the swaps of one cluster."""

    def __init__(self) -> None:
        self._all = Remembered(_all)
        self._settled: dict[str, Swap] = {}
        self._turn = 0
        self._astray: set[str] = set()
        """Applications that answered with other weights than those that they were live with."""
        self._progress: dict[str, _Progress] = {}
        self._proven: Mapping[Release, Sequence[Proven]] = {}
        self._doubts = Doubts()

    def under_way(
        self,
        applications: Sequence[Application],
        proven: Mapping[Release, Sequence[Proven]],
    ) -> list[Swap]:
        """The applications that must be asked. Call it every pass."""
        self._proven = proven
        new, self._settled = self._all.of(None, (tuple(applications), proven))
        swaps = [*new, *(one for one in self._settled.values() if self._goes_back(one))]
        self._astray.clear()
        if self._progress or swaps:
            known = self._progress
            self._progress = {
                one.application: before
                if (before := known.get(one.application)) and before.weights == one.weights
                else _Progress(one.weights)
                for one in swaps
            }
        return swaps

    def _goes_back(self, swap: Swap) -> bool:
        """Whether replicas have other weights than those that their release was live with last:
        the config had others until now, or one of them said so; or whether they are not known to
        have those of the application that they replace.
        """
        if swap.succeeds:
            return True
        before = self._progress.get(swap.application)
        if before is not None and (before.weights != swap.weights or not before.is_over):
            return True
        return swap.application in self._astray

    def interrupted(self) -> None:
        """Note that the cluster could not be observed: that time counts against no replica."""
        for progress in self._progress.values():
            progress.at = progress.judged_at = None

    def questions(self, swaps: Sequence[Swap]) -> list[str]:
        """Routes to ask, each several times, as any replica may answer; those first that waited
        longest for their turn, and of these the ones of the fewest replicas. Call it once a pass.
        """
        self._turn += 1
        routes: list[str] = []
        in_turn = ((self._progress[s.application], s) for s in swaps)
        for progress, swap in sorted(in_turn, key=_by_turn):
            if len(routes) >= _ALL_AT_ONCE:
                break
            progress.turn = self._turn
            unheard = [r for r in swap.replicas if progress.heard.get(r) != swap.weights.mark]
            number = max(2 * len(unheard) - 1, len(swap.replicas))
            routes += [swap.route] * min(number, _AT_ONCE)
        return routes[:_ALL_AT_ONCE]

    def judge(
        self,
        swaps: Sequence[Swap],
        applications: Sequence[Application],
        answers: Mapping[str, Answer],
        heard: Mapping[str, Sequence[Answer]],
        *,
        now: float,
        deadline: float,
    ) -> Judged:
        """What follows from the `answers` that are known, and all that were `heard` in this pass,
        both by route. Replicas have `deadline` seconds to load, and say themselves when they have
        not.
        """
        # What was told before its config changed says nothing of what it was told to load since.
        swapping = {swap.route for swap in swaps}
        known = {route: [said] for route, said in answers.items() if route not in swapping}
        told = known | dict(heard)
        found = complaints(applications, told, now)
        doubted = [q for q in found.refused if self._is_proven(q.release, q.weights)]
        refused, conditions = self._doubts.weigh(doubted, applications, told, self._proven)
        found.refused = [q for q in found.refused if q not in doubted] + refused
        found.conditions += conditions
        self._astray = {
            swap.application
            for route, said in heard.items()
            if route not in swapping and (swap := self._settled.get(route)) is not None
            if any(_is_astray(answer, swap) for answer in said)
        }
        over = {(one.release, one.weights) for one in found.refused} | self._doubts.keys()
        due = deadline + GRACE
        for swap in swaps:
            own = [a for a in heard.get(swap.route, ()) if a.application == swap.application]
            progress = self._progress[swap.application]
            progress.hear(own, swap.replicas, now=now, due=due)
            if swap.succeeds:
                have = {r for r, mark in progress.heard.items() if mark == swap.weights.mark}
                found.uptake[swap.application] = self._doubts.uptake(
                    (swap.release, swap.weights), swap.replicas, have
                )
            if (swap.release, swap.weights) not in over:
                self._judge(swap, found, now=now, due=due)
        found.uptake |= self._doubts.aside(applications, found.uptake, now)
        return found

    def _judge(self, swap: Swap, found: Judged, *, now: float, due: float) -> None:
        progress = self._progress[swap.application]
        heard, mark = progress.heard, swap.weights.mark
        if all(heard.get(replica) == mark for replica in swap.replicas):
            progress.is_over = True
            progress.judged = progress.waited = 0.0  # a replica that comes later has its time too
            if not swap.is_back:
                found.live.append((swap.release, swap.weights))
            return
        # What was heard while they still had time is no proof that they did not use it.
        others = [said for _, said in sorted(progress.late.items()) if said != mark]
        blames = others and not swap.is_back and not self._is_proven(swap.release, swap.weights)
        if blames and swap.weights.digest not in found.damaged:
            found.refused.append(_late(swap, others[0] or "none", due, now))
            return
        if progress.judged >= due:
            unheard = len(swap.replicas) - list(heard.values()).count(mark)
            found.conditions.append(_unknown(swap, unheard, due))
            return
        found.hurries = True
        if progress.waited >= LONG:
            former = next((said for _, said in sorted(heard.items()) if said not in {"", mark}), "")
            until = f"; {former} serve until then" if former else ""
            text = f"replicas {'go back to' if swap.is_back else 'load'} {swap.weights}{until}"
            found.conditions.append(Condition(str(swap.release), LOADING, text, ok=True))

    def _is_proven(self, release: Release, weights: Weights) -> bool:
        return any(p.weights.digest == weights.digest for p in self._proven.get(release, ()))


def complaints(
    applications: Iterable[Application], heard: Mapping[str, Sequence[Answer]], now: float
) -> Judged:
    """What replicas say of weights that they could not take, be it those that served before."""
    complaining = {
        route: errors
        for route, said in heard.items()
        if (errors := [(a.application, a.weights_error) for a in said if a.weights_error])
    }
    found = Judged()
    if not complaining:
        return found
    for app in applications:
        errors = complaining.get(app.route or "", [])
        error = next((error for name, error in errors if name == app.name), None)
        wanted = in_document(app.document)
        if app.release is None or error is None:
            continue
        if wanted is None and not error.digest:
            text = f"it cannot serve without weights, and goes on with what it has: {error.message}"
            found.conditions.append(Condition(str(app.release), error.reason, text))
        elif wanted is not None and error.digest == wanted.digest:
            message = unnamed(error.message, wanted)
            if error.reason == DIGEST_MISMATCH:
                found.damaged.add(wanted.digest)
                text = f"the files of {wanted} are made again: {message}"
                found.conditions.append(Condition(str(app.release), error.reason, text))
                continue
            said = error.reason, message, error.log_tail
            found.refused.append(WeightsQuarantine(app.release, wanted, *said, now))
    return found


def with_news(recorded: WeightsRecorded, judged: Judged, at: float) -> WeightsRecorded:
    """What is recorded once this is. The time is only told."""
    if not judged.live and not judged.refused:
        return recorded
    proven, refused = dict(recorded.proven), dict(recorded.refused)
    for release, weights in judged.live:
        others = [p for p in proven.get(release, ()) if p.weights.digest != weights.digest]
        proven[release] = (Proven(weights, at), *others)
    for one in judged.refused:
        refused[one.release] = (*refused.get(one.release, ()), one)
    return replace(recorded, proven=proven, refused=refused)


def _all(
    seen: tuple[tuple[Application, ...], Mapping[Release, Sequence[Proven]]],
) -> tuple[list[Swap], dict[str, Swap]]:
    """The applications with weights that can be asked: those that are to be live with others than
    their release was last, and by route those that were.
    """
    applications, proven = seen
    new, settled = [], {}
    replaced = {
        (app.release, weights.digest)
        for app in applications
        if app.release is not None and app.route is None
        if app.status is not ApplicationStatus.DELETING and (weights := in_document(app.document))
    }
    for app in applications:
        if app.release is None or app.route is None or app.status is ApplicationStatus.DELETING:
            continue
        weights = in_document(app.document)
        ids = serving_replicas(app)
        if weights is None or not ids:  # one that is scaled to none would be woken
            continue
        last = [one for one in proven.get(app.release, ())[:1] if one.at != NOT_SINCE]
        is_back = any(one.weights.digest == weights.digest for one in last)
        succeeds = (app.release, weights.digest) in replaced
        swap = Swap(app.name, app.release, weights, app.route, ids, is_back, succeeds)
        if is_back:
            settled[app.route] = swap
        else:
            new.append(swap)
    return new, settled


def _by_turn(asked: tuple[_Progress, Swap]) -> tuple[int, int, str]:
    progress, swap = asked
    return progress.turn, len(swap.replicas), swap.route


def _is_astray(answer: Answer, swap: Swap) -> bool:
    """Whether a replica has other weights, and does not say that it cannot take those."""
    if answer.application != swap.application or answer.replica not in swap.replicas:
        return False
    error = answer.weights_error
    refuses = error is not None and error.digest == swap.weights.digest
    return answer.weights != swap.weights.mark and not refuses


def _late(swap: Swap, others: str, seconds: float, now: float) -> WeightsQuarantine:
    why = (
        f"a replica still serves with {others} {seconds:g} s after it was told to load "
        f"{swap.weights}, and says nothing of why; its log may (`wheelway logs "
        f"{swap.release.pipeline} {swap.release.version}`)"
    )
    return WeightsQuarantine(swap.release, swap.weights, "StartTimeout", why, at=now)


def _unknown(swap: Swap, unheard: int, seconds: float) -> Condition:
    text = (
        f"{unheard} of {len(swap.replicas)} replicas were not heard to serve with {swap.weights}, "
        f"{seconds:g} s after they were told to load them: what those serve with is unknown. They "
        f"are still asked; look whether {swap.route} answers, and at `wheelway logs "
        f"{swap.release.pipeline} {swap.release.version}`"
    )
    return Condition(str(swap.release), UNOBSERVED, text)
