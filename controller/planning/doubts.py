"""Weights that a release was live with, and replicas that cannot take them now.

What served is not taken away because a replica started at a bad moment. What a replica says may
pass, for it tries again by itself (wheelway/instances.py): that is told, and refuses nothing. Only
what does not pass refuses such weights, and only when every replica says so. An application that is
to replace another with such weights, and cannot take them, gives the route back until a later try.
This is memory between passes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from controller.planning.health import DIGEST_MISMATCH
from controller.planning.weights import in_document
from controller.planning.weights_telling import backing_off, mixed
from wheelway.failure import LASTING

if TYPE_CHECKING:
    from collections.abc import Iterable, KeysView, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from controller.model import Condition, Release
    from controller.observed import Answer, Application, WeightsError
    from controller.planning.weights import Proven, Weights, WeightsQuarantine

TRIES: Final = (60.0, 900.0)
"""Seconds until what gave the route back has it again: at first, and at most; doubled each time."""
_SERVING: Final = {"RUNNING", "UPDATING", "RECOVERING", "PENDING_MIGRATION"}
"""States of replicas that may answer (ray.serve._private.common.ReplicaState)."""

_Key: TypeAlias = "tuple[Release, Weights]"


@dataclass(frozen=True, slots=True)
class Uptake:
    """How far the replicas of an application have the weights of the one that it replaces, or that
    replaces it; without a route, by what they said last.
    """

    errors: Mapping[str, WeightsError]
    """By replica: why it cannot take them."""
    unheard: frozenset[str] = frozenset()
    """Those that said neither."""
    number: int = 0
    """How many there are."""
    again_at: float | None = None
    """When one that cannot take them, and so has no route, may have it again."""
    is_again: bool = False
    """Whether it has the route again."""

    @property
    def is_whole(self) -> bool:
        """Whether every replica has them."""
        return not self.errors and not self.unheard

    @property
    def is_refused(self) -> bool:
        """Whether every replica said that it cannot take them."""
        return bool(self.errors) and len(self.errors) == self.number

    @property
    def may_pass(self) -> bool:
        """Whether some of those that cannot take them try again."""
        return any(error.reason not in LASTING for error in self.errors.values())


@dataclass(frozen=True, slots=True)
class _Trial:
    """What became of weights in an application that had a route beside another one."""

    weights: Weights
    uptake: Uptake
    number: int = 0
    """How many times it lost the route without them."""


def does_last(errors: Mapping[str, WeightsError]) -> bool:
    """Whether none of these replicas tries again."""
    return all(error.reason in LASTING for error in errors.values())


def serving_replicas(app: Application) -> frozenset[str]:
    """Ids of the replicas that may answer."""
    return frozenset(replica.id for replica in app.replicas if replica.state in _SERVING)


class Doubts:
    """The doubts about one cluster's weights."""

    def __init__(self) -> None:
        self._errors: dict[_Key, dict[str, WeightsError]] = {}
        """By weights that a release was live with: the replicas that cannot take them now."""
        self._trials: dict[str, _Trial] = {}
        """By application."""

    def keys(self) -> KeysView[_Key]:
        """The releases and weights of which some replica says so."""
        return self._errors.keys()

    def weigh(
        self,
        doubted: Sequence[WeightsQuarantine],
        applications: Iterable[Application],
        heard: Mapping[str, Sequence[Answer]],
        proven: Mapping[Release, Sequence[Proven]],
    ) -> tuple[list[WeightsQuarantine], list[Condition]]:
        """Which of the `doubted` weights, each `proven`, are refused after all by what was `heard`;
        and what a person is told of the others.
        """
        refused: list[WeightsQuarantine] = []
        conditions: list[Condition] = []
        if not doubted and not self._errors:
            return refused, conditions
        found, listed = _said(applications, heard, self._errors)
        self._errors = {}
        for (release, weights), errors in found.items():
            served = [one.weights for one in proven.get(release, ())]
            if not errors or all(one.digest != weights.digest for one in served):
                continue
            self._errors[release, weights] = errors
            replicas, at_route = listed[release, weights]
            lasts = does_last(errors)
            if errors.keys() < (replicas if lasts else at_route):
                conditions.append(mixed(release, weights, errors, served, len(replicas)))
            elif lasts:
                refused += [q for q in doubted if (q.release, q.weights) == (release, weights)]
            else:
                conditions.append(backing_off(release, weights, errors, served))
        return refused, conditions

    def uptake(self, key: _Key, replicas: frozenset[str], have: AbstractSet[str]) -> Uptake:
        """How far the `replicas` of one application take the weights; `have` are those that did."""
        said = self._errors.get(key, {})
        errors = {replica: said[replica] for replica in replicas & said.keys()}
        return Uptake(errors, replicas - have - errors.keys(), len(replicas))

    def aside(
        self, applications: Iterable[Application], uptake: Mapping[str, Uptake], now: float
    ) -> dict[str, Uptake]:
        """The uptake of applications that lost their route, or have it again after they did, by
        name; `uptake` is that of all that have one.
        """
        trials = {}
        for app in applications:
            weights, before = in_document(app.document), self._trials.get(app.name)
            if before is not None and before.weights != weights:
                before = None
            number = before.number if before else 0
            if app.route is not None:
                at_route = uptake.get(app.name)
                if weights is not None and at_route is not None and not at_route.is_whole:
                    at_route = replace(at_route, is_again=number > 0)
                    trials[app.name] = _Trial(weights, at_route, number)
            elif before is not None and before.uptake.errors:
                if before.uptake.again_at is None:
                    again_at = now + min(TRIES[0] * 2**number, TRIES[1])
                    said = replace(before.uptake, again_at=again_at, is_again=False)
                    before = replace(before, uptake=said, number=number + 1)
                trials[app.name] = before
        self._trials = trials
        return {name: trial.uptake for name, trial in trials.items()}


def _said(
    applications: Iterable[Application],
    heard: Mapping[str, Sequence[Answer]],
    before: Mapping[_Key, Mapping[str, WeightsError]],
) -> tuple[dict[_Key, dict[str, WeightsError]], dict[_Key, tuple[set[str], set[str]]]]:
    """By release and the weights that it is told to have: the replicas that last said that they
    cannot take them, at its route; and all that are listed, in whichever application of the
    release, and those of them at the route.
    """
    errors_of: dict[_Key, dict[str, WeightsError]] = {}
    listed: dict[_Key, tuple[set[str], set[str]]] = {}
    for app in applications:
        weights = in_document(app.document)
        if app.release is None or weights is None:
            continue
        key = app.release, weights
        ids = serving_replicas(app)
        replicas, at_route = listed.setdefault(key, (set(), set()))
        replicas |= ids
        if app.route is None:  # nobody hears whether they took them meanwhile
            continue
        at_route |= ids
        errors = errors_of.setdefault(key, {})
        errors |= {r: error for r, error in before.get(key, {}).items() if r in ids}
        for answer in heard.get(app.route, ()):
            if answer.application != app.name or answer.replica not in ids:
                continue
            error = answer.weights_error
            errors.pop(answer.replica, None)
            if error and error.digest == weights.digest and error.reason != DIGEST_MISMATCH:
                errors[answer.replica] = error
    return errors_of, listed
