"""What a person is told of the weights that are offered for a pipeline: one reason for each wheel,
and conditions for what stands in the way. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from controller.model import Condition
from controller.planning.policy import CONFLICT, PIN_UNMET, UNDECIDED, Case, elect
from controller.planning.weights import INACTIVE, UNFIT, JudgedWeights, unnamed
from controller.planning.weights_look import allowed, pinned

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from packaging.version import Version

    from controller.config.settings import PipelinePolicy
    from controller.model import Release
    from controller.observed import WeightsError
    from controller.planning.overrides import Pin
    from controller.planning.policy import Verdict
    from controller.planning.weights import Choice, Weights, WeightsOffer, WeightsQuarantine

QUARANTINED = "Quarantined"
"""Weights failed with a release, and none takes them."""
FITS_NOTHING = "FitsNothing"
"""Weights fit no version of their pipeline that is served."""
UNREAD = "AwaitsInspection"
"""Weights that an earlier run knew are to be looked into again."""
NO_PIPELINE = "WaitingForPipeline"
"""Weights are there before their pipeline."""
NOT_SERVED = "NotServed"
"""Nothing of their pipeline is to be served."""
WITHOUT = "WithoutWeights"
"""A release is served without weights, though its pipeline has some."""
UNSOUND = "WeightsUnsound"
"""The newest wheel of weights failed its inspection."""
REFUSED = "WeightsRefused"
"""Weights failed with a release, which goes on with others."""

MIXED = "WeightsMixed"
"""Some replicas cannot take weights that the others serve with."""
BACK_OFF = "WeightsBackOff"
"""No replica can take weights that served before, and each tries again after a pause."""


AWAITED = "WeightsAwaited"
"""What is to replace an application with the same weights cannot take these now."""


@dataclass(frozen=True, slots=True)
class WeightsStory:
    """All that is told of one pipeline's weights depends on this."""

    pipeline: str
    offers: Sequence[WeightsOffer]
    owner: str
    """The project whose weights it takes; empty while that is unknown."""
    choices: Mapping[Release, Choice]
    """Of its releases that are to be served."""
    refused: Mapping[Release, Sequence[WeightsQuarantine]]
    """By the same releases: what failed with them."""
    rule: PipelinePolicy
    """The operator's for its weights, in the words of pipelines."""
    is_offered: bool
    """Whether a source offers the pipeline itself."""
    bare: Collection[Release] = ()
    """Those of its releases that have none, though nothing is on its way and the rule has some."""
    unsound: str = ""
    """Why the newest wheel that policy allows is not offered: its name, and how it failed."""
    pin: Pin | None = None
    """What an operator ordered."""

    def tell(self) -> tuple[list[JudgedWeights], list[Condition]]:
        """What became of each offer; and what stands in the way of the newest of each project."""
        said: dict[str, list[Verdict]] = {}
        failed: dict[str, list[WeightsQuarantine]] = {}
        for release in sorted(self.choices, reverse=True):
            for verdict in self.choices[release].verdicts:
                said.setdefault(verdict.release.digest, []).append(verdict)
            for one in self.refused[release]:
                failed.setdefault(one.weights.digest, []).append(one)
        judged: dict[str, JudgedWeights] = {}
        newest: dict[str, JudgedWeights] = {}
        for offer in self.offers:
            weights = offer.weights
            if weights.digest in judged:
                continue
            of = said.get(weights.digest, ()), failed.get(weights.digest, ())
            judged[weights.digest] = told = self._judged(offer, *of)
            if told.version >= newest.setdefault(told.project, told).version:
                newest[told.project] = told
        conditions = [*self._conditions(newest.values())]
        for choice in self.choices.values():
            if (wanted := choice.wanted) is not None and wanted.digest not in judged:
                judged[wanted.digest] = self._taken(wanted, "; no source lists it any more")
        return list(judged.values()), conditions

    def _judged(
        self, offer: WeightsOffer, said: Sequence[Verdict], failed: Sequence[WeightsQuarantine]
    ) -> JudgedWeights:
        weights, takers = offer.weights, [*self._takers(offer.weights)]
        why = self._reason(offer)
        if why is None and takers:
            return self._taken(weights)
        named = self.pipeline, weights.project, weights.version, weights.digest
        reason, message = why or self._verdict(offer, said, failed)
        versions = tuple(str(release.version) for release in takers)
        return JudgedWeights(*named, reason, message, versions)

    def _taken(self, weights: Weights, more: str = "") -> JudgedWeights:
        """Of weights that releases have."""
        takers = [*self._takers(weights)]
        verdict = self.choices[takers[0]].verdict
        reason = verdict.reason if verdict is not None else "Elected"
        versions = [str(release.version) for release in takers]
        named = self.pipeline, weights.project, weights.version, weights.digest
        return JudgedWeights(*named, reason, f"for {', '.join(versions)}{more}", tuple(versions))

    def _takers(self, weights: Weights) -> Iterator[Release]:
        """The releases that have them, or are about to; the newest first."""
        for release in sorted(self.choices, reverse=True):
            wanted = self.choices[release].wanted
            if wanted is not None and wanted.digest == weights.digest:
                yield release

    def _conditions(self, newest: Collection[JudgedWeights]) -> Iterator[Condition]:
        for one in newest:
            if one.reason in {CONFLICT, FITS_NOTHING, NO_PIPELINE}:
                waits = one.reason == NO_PIPELINE
                yield Condition(one.mark, one.reason, one.message, ok=waits)
        if self.unsound and self.choices:
            text = (
                f"its newest weights failed their inspection, so others stay in force, or none: "
                f"{self.unsound}. `wheelway explain {self.owner}` has all of it. "
                "Publish a version that is mended"
            )
            yield Condition(self.pipeline, UNSOUND, text)
        unmet = self._unmet()
        yield from unmet
        refused = [*self._refused()]
        yield from refused
        told = {condition.subject for condition in (*unmet, *refused)}
        takes = any(choice.wanted is not None for choice in self.choices.values())
        fits_none = not takes and any(one.reason == FITS_NOTHING for one in newest)
        if self.pipeline in told or fits_none:
            return
        for release in self.bare:
            if str(release) not in told:
                yield Condition(str(release), WITHOUT, self._lacks(release), ok=True)

    def _refused(self) -> Iterator[Condition]:
        """Of each release: the newest weights that failed with it, where it would have them rather
        than what it has. What several failed by is told of the newest of them.
        """
        electable = self._electable({q.weights.digest for of in self.refused.values() for q in of})
        if not electable:
            return
        places = {offer.weights.digest: -n for n, offer in reversed([*enumerate(self.offers)])}

        def rank(weights: Weights) -> tuple[bool, Version, int]:
            place = places.get(weights.digest, -len(self.offers))
            return weights.project == self.owner, weights.version, place

        told: dict[tuple[str, str, str], Release] = {}
        for release in sorted(self.choices, reverse=True):
            wanted = self.choices[release].wanted
            failed = max(
                (one for one in self.refused[release] if one.weights.digest in electable),
                key=lambda one: rank(one.weights),
                default=None,
            )
            if failed is None or (wanted is not None and rank(wanted) >= rank(failed.weights)):
                continue
            why = failed.weights.digest, failed.reason, failed.message
            first = told.setdefault(why, release)
            text = _goes_on(failed, wanted, like=first if first != release else None)
            yield Condition(str(release), REFUSED, text)

    def _electable(self, digests: Collection[str]) -> set[str]:
        """Those of some weights that policy would elect, were they fit."""
        listed = (
            offer.revision
            for offer in self.offers
            if offer.weights.digest in digests and offer.weights.project == self.owner
        )
        return {revision.sha256 for revision in allowed(listed, pinned(self.rule, self.pin))}

    def _unmet(self) -> list[Condition]:
        """That a pin is not met: by no release, or by some of them."""
        if self.pin is None or not self.owner:
            return []
        ordered = self.pin.versions
        others = [
            release
            for release, choice in self.choices.items()
            if choice.wanted is None or choice.wanted.version not in ordered
        ]
        why = [self._why_unmet(self.refused[release], self.pin) for release in others]
        if len(others) == len(self.choices) and len({*why}) <= 1:
            return [
                Condition(self.pipeline, PIN_UNMET, next(iter(why), self._why_unmet((), self.pin)))
            ]
        return [
            Condition(str(release), PIN_UNMET, text)
            for release, text in zip(others, why, strict=True)
        ]

    def _why_unmet(self, refused: Sequence[WeightsQuarantine], pin: Pin) -> str:
        what, more = "no such version is listed, fits and works", ""
        for failed in refused:
            if failed.weights.version in pin.versions and failed.weights.project == self.owner:
                what = f"{failed.weights} failed ({failed.reason})"
                more = f"`{clearing(failed)}` has these tried again. "
        return (
            f"its weights are {pin}, but {what}; those in force stay. {more}Pin others, or "
            f"`wheelway unpin {self.pipeline} --weights`"
        )

    def _lacks(self, release: Release) -> str:
        owned = {one.weights.digest for one in self.offers if one.weights.project == self.owner}
        verdicts = [v for v in self.choices[release].verdicts if v.release.digest in owned]
        why = f"no source lists any of {self.owner}"
        if verdicts:
            newest = max(verdicts, key=lambda v: (v.reason != UNFIT, v.release.version))
            why = f"{self.owner} {newest.release.version}: {newest.reason}: {newest.message}"
        return f"it has no weights ({why}). If it needs some, publish others that fit it"

    def _reason(self, offer: WeightsOffer) -> tuple[str, str] | None:
        """Why no release may have them; None: it is up to each release."""
        project, pipeline = offer.weights.project, self.pipeline
        if not self.owner:
            return UNDECIDED, f"whose weights {pipeline} takes is not known yet"
        if project != self.owner:
            return CONFLICT, (
                f"the weights of {pipeline} are those of {self.owner}: "
                f'`weights = {{ project = "{project}" }}` in its [[pipelines]] takes those of '
                f"{project} instead"
            )
        if not self.choices and not self.is_offered:
            return NO_PIPELINE, (
                f"weights for {pipeline}, of which no source offers a version yet: they wait for it"
            )
        if not self.choices:
            return NOT_SERVED, f"no version of {pipeline} is to be served"
        return None

    def _verdict(
        self, offer: WeightsOffer, said: Sequence[Verdict], failed: Sequence[WeightsQuarantine]
    ) -> tuple[str, str]:
        if failed:
            versions = ", ".join(str(one.release.version) for one in failed)
            if all(one.is_lifted for one in failed):
                return QUARANTINED, (
                    f"failed with {versions}; that was lifted, and they are tried again once the "
                    "config on the cluster has named others meanwhile"
                )
            return QUARANTINED, f"failed with {versions}, see `wheelway explain {self.pipeline}`"
        for verdict in said:
            if verdict.reason != UNFIT:
                return verdict.reason, verdict.message
        releases = sorted(self.choices, reverse=True)
        for release in releases:
            if offer.suits(release.version):
                return self._unread(offer, self.choices[release])
        versions = ", ".join(str(release.version) for release in releases)
        return FITS_NOTHING, (
            f"{self.pipeline} is to be served as {versions}, and fits = {offer.told_fits} in the "
            "wheel admits none of these. Publish weights whose `fits` admits one, or a version of "
            f"{self.pipeline} that it admits"
        )

    def _unread(self, offer: WeightsOffer, choice: Choice) -> tuple[str, str]:
        """Of what would suit a release that did not judge it, since only an earlier run looked into
        the wheel: what policy says of it beside those that the release has.
        """
        rule, wanted, pipeline = self.rule, choice.wanted, self.pipeline
        if not rule.active:
            return INACTIVE
        has = wanted.as_release(pipeline) if wanted is not None else None
        beside = [replace(offer.candidate, release=has)] if has is not None else []
        serving = frozenset(one.release for one in beside)
        case = Case([*beside, offer.candidate], rule, self.pin, serving, owner=self.owner)
        verdict = next(v for v in elect(case) if v.release.digest == offer.weights.digest)
        if verdict.elected:
            return UNREAD, "its wheel is looked into once more before a release takes it"
        return verdict.reason, verdict.message


def _goes_on(failed: WeightsQuarantine, wanted: Weights | None, *, like: Release | None) -> str:
    """That weights failed with a release; `like`: another, of which it is told why."""
    others = f"{wanted} stay in force" if wanted else "it goes on without any"
    then = (
        "That was lifted: they are tried again once the config on the cluster has named others "
        "meanwhile, and that cannot be changed just now"
        if failed.is_lifted
        else f"Publish others, or `{clearing(failed)}` has these tried again"
    )
    # What to do comes first, for lines are cut at their end.
    cause = (failed.message.splitlines() or [""])[0] if like is None else f"as with {like.version}"
    return f"{failed.weights} failed with it ({failed.reason}); {others}. {then}. Why: {cause}"


def clearing(failed: WeightsQuarantine) -> str:
    """The order that has weights tried again."""
    pipeline, version = failed.release.pipeline, failed.weights.version
    return f"wheelway quarantine clear {pipeline} {version} --weights"


def mixed(
    release: Release,
    weights: Weights,
    errors: Mapping[str, WeightsError],
    served: Sequence[Weights],
    of: int,
) -> Condition:
    """That some of a release's replicas cannot take what it was live with: their `errors`;
    `served` is all that it was live with.
    """
    text = (
        f"{len(errors)} of {of} replicas could not take {weights}, with which the release was "
        f"live, and serve with others ({_cause(errors, weights)}). They stay in force, and are "
        "tried again: by a replica itself while what it failed by may pass, else by one that "
        f"starts anew. {_way_out(release, weights, served)}"
    )
    return Condition(str(release), MIXED, text)


def backing_off(
    release: Release,
    weights: Weights,
    errors: Mapping[str, WeightsError],
    served: Sequence[Weights],
) -> Condition:
    """The same of all its replicas."""
    text = (
        f"no replica could take {weights}, with which the release was live, and others serve "
        f"({_cause(errors, weights)}). They stay in force, and the replicas try again, about once "
        f"a minute: mend what they failed by. {_way_out(release, weights, served)}"
    )
    return Condition(str(release), BACK_OFF, text)


def awaited(
    release: Release, weights: Weights, errors: Mapping[str, WeightsError], of: int
) -> Condition:
    """That replicas of a release which is started with other options could not take what it serves
    with: their `errors`.
    """
    text = (
        f"as it is to be started now, {len(errors)} of {of} replicas could not take {weights}, "
        f"with which it serves ({_cause(errors, weights)}). So it goes on as it was. The new "
        "replicas wait beside it, try the weights again by themselves, and are given the route to "
        "show it, at the latest every quarter of an hour: mend what they failed by, or take the "
        "options back"
    )
    return Condition(str(release), AWAITED, text)


def _cause(errors: Mapping[str, WeightsError], weights: Weights) -> str:
    replica = min(errors)
    error = errors[replica]
    return f"replica {replica}: {error.reason}: {unnamed(error.message, weights)}"


def _way_out(release: Release, weights: Weights, served: Sequence[Weights]) -> str:
    """Which order gives weights up."""
    if any(one.version < weights.version for one in served):
        return f"To give them up: `wheelway rollback {release.pipeline} --weights`"
    return (
        "To give them up: publish others, or set `active = false` in the `weights` of its "
        "[[pipelines]]"
    )
