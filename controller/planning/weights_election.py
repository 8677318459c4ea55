"""The weights of every release, pass by pass: pure, but for what it remembers.

`weights.choose` elects for one release. Its inputs are put together here: whose the weights of a
pipeline are (by the rule for names, `ownership`), what is offered, pinned, proven and refused. A
pipeline that nobody offers weights for costs nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.planning import ownership
from controller.planning.catalogue import Catalogue
from controller.planning.remembered import Remembered
from controller.planning.weights import NONE, Choice, WeightsCase, choose
from controller.planning.weights_look import NONE_FITS, Look, allowed, look, none_fits, pinned
from controller.planning.weights_telling import WeightsStory

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from controller.config.settings import PipelinePolicy
    from controller.model import Condition, Release, Revision
    from controller.planning.overrides import Pin
    from controller.planning.weights import (
        JudgedWeights,
        KnownWeights,
        Proven,
        Weights,
        WeightsOffer,
        WeightsQuarantine,
    )

KEPT = 3
"""Proven weights of a release that stay in the cache though nobody lists them: those in force, the
former, and the ones behind, which are the former when those in force are refused.
"""


REMEMBERED = 40
"""Wheels of weights of a pipeline of which a later run knows what they fit: more than are looked
into in vain for each of some releases.
"""


@dataclass(frozen=True, slots=True)
class WeightsOffered:
    """What the sources offer, as far as it was inspected."""

    offers: Mapping[str, Sequence[WeightsOffer]] = field(default_factory=dict)
    """By pipeline, in order of preference."""
    pipelines: Collection[str] = ()
    """Those that are offered themselves."""
    catalogue: Catalogue = field(default_factory=Catalogue)
    complete: bool = True
    """Whether each source was listed."""
    awaited: Collection[Revision] = ()
    """Wheels that are to be inspected."""
    being_read: Collection[str] = ()
    """File names of those that are being fetched now."""
    unlisted: Collection[str] = ()
    """Sources of which nothing was ever listed."""
    unobserved: Collection[str] = ()
    """Projects whose files could not all be listed."""
    is_unfit: Callable[[Revision], bool] = lambda _: False
    """Whether a wheel is known to be no weights'."""
    is_there: Callable[[Weights], bool] = lambda _: True
    """Whether the files of weights are in the cache, or can be made again."""
    unsound: Callable[[Revision], str] = lambda _: ""
    """How a wheel failed its inspection, in a sentence with its name; empty: it did not."""
    first_seen: Callable[[str], float] = lambda _: 0.0
    """When the wheel of a digest was first seen, in seconds."""


@dataclass(frozen=True, slots=True)
class WeightsRecorded:
    """What was recorded and ordered."""

    proven: Mapping[Release, tuple[Proven, ...]] = field(default_factory=dict)
    """Those each release was live with, the last ones first."""
    refused: Mapping[Release, tuple[WeightsQuarantine, ...]] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    """By pipeline: the project whose weights it took so far."""
    pins: Mapping[str, Pin] = field(default_factory=dict)
    known: Mapping[str, tuple[KnownWeights, ...]] = field(default_factory=dict)
    """By digest: what wheels were found to hold, also in an earlier run."""


NOTHING_RECORDED = WeightsRecorded()


@dataclass(frozen=True, slots=True)
class RunningWeights:
    """What the documents of applications on the cluster say."""

    weights: Mapping[Release, Weights] = field(default_factory=dict)
    former: Mapping[Release, Weights] = field(default_factory=dict)
    """Those that releases fall back to."""
    without: Collection[Release] = ()
    """Releases that have served without any."""


@dataclass(slots=True)
class WeightsElected:
    """What the election comes to, for the releases that were asked about."""

    choices: dict[Release, Choice] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    judged: list[JudgedWeights] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    inspect: frozenset[Revision] = frozenset()
    """Wheels that must be looked into."""
    needed: set[str] = field(default_factory=set)
    """Digests of all wheels that the election goes by: the cache keeps them."""
    known: dict[str, tuple[KnownWeights, ...]] = field(default_factory=dict)
    """What is inside those that are offered, by digest: a later run need not look into them."""
    waiting: dict[Release, str] = field(default_factory=dict)
    """Releases that should not start yet, for their weights are being fetched, and what for."""
    is_timeless: bool = True
    """Whether the same facts give the same result at any later time."""

    @property
    def digests(self) -> set[str]:
        """Of all weights that releases have or fall back to."""
        chosen = [w for c in self.choices.values() for w in (c.wanted, c.former)]
        return {weights.digest for weights in chosen if weights is not None}

    @property
    def suspects(self) -> dict[Release, Weights]:
        """By release: the weights that a start which fails is blamed on."""
        return {r: c.wanted for r, c in self.choices.items() if c.wanted and c.is_suspect}


class WeightsElection:
    """The weights of one daemon's releases. Choices are remembered while their inputs stay the
    same; since when names wait is memory that decides.
    """

    def __init__(self) -> None:
        self._names = ownership.Names()
        self._choices = Remembered(choose)
        self._ordered: Remembered[tuple[Revision, ...], tuple[Revision, ...]] = Remembered(
            _newest_first
        )

    def judge(
        self,
        offered: WeightsOffered,
        recorded: WeightsRecorded,
        running: RunningWeights,
        rule_of: Callable[[str], PipelinePolicy],
        now: float,
    ) -> Round:
        """Begin a pass: the names get their owners. Call it every pass, and end it.

        Args:
            offered: by the sources.
            recorded: in the journal.
            running: what the documents of applications on the cluster say.
            rule_of: the operator's rule for a pipeline's weights, in the words of pipelines.
            now: seconds since the epoch.
        """
        found = WeightsElected()
        if offered.offers or recorded.owners:
            found.owners = self._owners(offered, recorded, running, rule_of, now)
            found.is_timeless = not self._names.are_waited_for
        return Round(offered, recorded, running, rule_of, found, self._choices, self._ordered)

    def _owners(
        self,
        offered: WeightsOffered,
        recorded: WeightsRecorded,
        running: RunningWeights,
        rule_of: Callable[[str], PipelinePolicy],
        now: float,
    ) -> dict[str, str]:
        serving = {
            release.pipeline: weights.project for release, weights in running.weights.items()
        }
        projects, unobserved = offered.catalogue.projects, offered.unobserved
        facts = ownership.Facts(
            {
                name: [offer.candidate for offer in offers]
                for name, offers in offered.offers.items()
            },
            ordered=lambda name: rule_of(name).project,
            recorded=recorded.owners,
            there=lambda name, owner: (
                not offered.complete
                or owner in projects
                or owner in unobserved
                or serving.get(name) == owner
            ),
            serving=serving,
            present=serving.keys(),
            first_seen=offered.first_seen,
        )
        unknown = ownership.Unknown(offered.awaited, offered.unlisted)
        return self._names.owners_of(facts, unknown, now)


@dataclass(slots=True)
class Round:
    """One pass of an election."""

    _offered: WeightsOffered
    _recorded: WeightsRecorded
    _running: RunningWeights
    _rule_of: Callable[[str], PipelinePolicy]
    _found: WeightsElected
    _choices: Remembered[WeightsCase, Choice]
    _ordered: Remembered[tuple[Revision, ...], tuple[Revision, ...]]
    _elsewhere: dict[str, frozenset[str]] = field(init=False)
    """By pipeline: digests of what its releases were live with."""

    def __post_init__(self) -> None:
        proven: dict[str, set[str]] = {}
        for release, served in self._recorded.proven.items():
            known = proven.setdefault(release.pipeline, set())
            known.update(one.weights.digest for one in served)
        self._elsewhere = {name: frozenset(digests) for name, digests in proven.items()}

    def of(self, release: Release) -> Choice:
        """The weights of a release."""
        case = self._case(release)
        return NONE if case is None else self._choices.of(release, case)

    def end(self, elected: Iterable[Release]) -> WeightsElected:
        """The result, for the releases that are to be served."""
        found, inspect = self._found, set()
        by_pipeline: dict[str, list[Release]] = {}
        for release in elected:
            by_pipeline.setdefault(release.pipeline, []).append(release)
            case = self._case(release)
            if case is None:
                continue
            choice = found.choices[release] = self._choices.of(release, case)
            looked = self._look(case)
            found.needed.update(looked.passed)
            found.needed.update(one.digest for one in case.sound[:KEPT])
            if looked.missing is not None:
                inspect.add(looked.missing)
            if choice.wanted is None and looked.in_vain:
                found.conditions.append(none_fits(case))
            if choice.wanted is None and (why := self._awaited(case, looked.missing)):
                found.waiting[release] = why
        found.inspect = frozenset(inspect)
        found.known = self._known(found.needed)
        for pipeline in sorted(self._offered.offers.keys() | (found.owners.keys() & by_pipeline)):
            offers = self._offered.offers.get(pipeline, ())
            releases = by_pipeline.get(pipeline, ())
            owner = found.owners.get(pipeline, "")
            judged, conditions = WeightsStory(
                *(pipeline, offers, owner),
                {release: found.choices.get(release, NONE) for release in releases},
                {release: self._recorded.refused.get(release, ()) for release in releases},
                self._rule_of(pipeline),
                is_offered=pipeline in self._offered.pipelines,
                unsound=self._unsound(pipeline, owner),
                bare=[release for release in releases if owner and self._is_bare(release)],
                pin=self._recorded.pins.get(pipeline),
            ).tell()
            found.judged += judged
            found.conditions += conditions
        self._choices.forget_unused()
        self._ordered.forget_unused()
        return found

    def _case(self, release: Release) -> WeightsCase | None:
        """What the choice depends on; None where there are no weights and never were."""
        name = release.pipeline
        offers = self._offered.offers.get(name, ())
        owner = self._found.owners.get(name, "")
        proven = self._recorded.proven.get(release, ())
        running, fallback = self._running.weights.get(release), self._running.former.get(release)
        served = [one.weights for one in proven] + ([fallback] if fallback else [])
        if not offers and not owner and not proven and running is None:
            return None
        at_hand = _at_hand(offers, release) if owner else ()  # undecided: what is in force stays
        return WeightsCase(
            release,
            at_hand,
            self._rule_of(name),
            self._recorded.pins.get(name),
            owner,
            proven=tuple(one.weights for one in proven),
            elsewhere=self._elsewhere.get(name, frozenset()),
            running=running,
            is_unread=running is not None and self._is_unread(running, at_hand),
            fallback=fallback,
            without=release in self._running.without,
            refused=frozenset(q.weights.digest for q in self._recorded.refused.get(release, ())),
            lost=frozenset(
                one.digest for one in served if one != running and not self._offered.is_there(one)
            ),
        )

    def _is_unread(self, running: Weights, offers: Iterable[WeightsOffer]) -> bool:
        """Whether what a document names is still to be listed, or looked into."""
        if any(offer.weights.digest == running.digest for offer in offers):
            return False
        listed = self._offered.catalogue.digests.get(running.digest, ())
        return (
            not all(map(self._offered.is_unfit, listed)) if listed else not self._offered.complete
        )

    def _known(self, needed: Collection[str]) -> dict[str, tuple[KnownWeights, ...]]:
        """Of what was known and is still listed, and of what was looked into: the newest."""
        listed = self._offered.catalogue.digests
        found = {d: set(known) for d, known in self._recorded.known.items() if d in listed}
        for offer in (one for offers in self._offered.offers.values() for one in offers):
            if offer.revision.sha256 in needed:
                found.setdefault(offer.revision.sha256, set()).add(offer.known)
        kept: Counter[str] = Counter()
        for digest, known in sorted(
            found.items(),
            key=lambda of: max((k.weights.version, of[0]) for k in of[1]),
            reverse=True,
        ):
            names = [one.pipeline for one in known]
            kept.update(names)
            if all(kept[name] > REMEMBERED for name in names):
                del found[digest]
        return {d: tuple(sorted(of, key=lambda one: one.pipeline)) for d, of in found.items()}

    def _unsound(self, pipeline: str, owner: str) -> str:
        """What is wrong with the newest wheel of a project that policy allows; often nothing."""
        project = self._offered.catalogue.projects.get(owner, ())
        rule = pinned(self._rule_of(pipeline), self._recorded.pins.get(pipeline))
        newest = next(iter(allowed(self._ordered.of(owner, project), rule)), None)
        return self._offered.unsound(newest) if newest is not None else ""

    def _is_bare(self, release: Release) -> bool:
        """Whether a release has no weights, and that is not for want of listings, nor wanted, nor
        told already.
        """
        found = self._found
        if not self._offered.complete or release in found.waiting:
            return False
        if any(c.subject == str(release) and c.reason == NONE_FITS for c in found.conditions):
            return False
        has_some = found.choices.get(release, NONE).wanted is not None
        return not has_some and self._rule_of(release.pipeline).active

    def _look(self, case: WeightsCase) -> Look:
        project = self._offered.catalogue.projects.get(case.owner, ())
        if not project:
            return Look(None, ())
        return look(case, self._ordered.of(case.owner, project), self._offered.is_unfit)

    def _awaited(self, case: WeightsCase, missing: Revision | None) -> str:
        """What a release without weights waits for; empty when nothing is on its way."""
        offered = self._offered
        if not case.rule.active:
            return ""
        if not case.owner:
            return f"whose weights {case.release.pipeline} takes is not known yet"
        coming = [r for r in offered.awaited if r.project == case.owner]
        reading = sorted(r.filename for r in coming if r.filename in offered.being_read)
        if missing is not None and missing not in coming:
            reading.append(missing.filename)
        return f"{reading[-1]} is being fetched and looked into" if reading else ""


def _at_hand(offers: Sequence[WeightsOffer], release: Release) -> tuple[WeightsOffer, ...]:
    """The offers without those that must be looked into first: what an earlier run found is good
    enough to pass them over, and not to take them.
    """
    if not any(offer.is_recalled for offer in offers):
        return tuple(offers)
    return tuple([o for o in offers if not (o.is_recalled and o.suits(release.version))])


def _newest_first(revisions: tuple[Revision, ...]) -> tuple[Revision, ...]:
    return tuple(sorted(revisions, key=lambda revision: revision.version, reverse=True))
