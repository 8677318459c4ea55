"""Which weights a release takes: the operator's policy applied to what the sources offer. Pure.

Weights are judged by the words of pipelines (`policy.elect`), for each release by itself, since a
wheel says which versions it fits. What is in force for a release stays until others are elected:
their absence takes nothing away from what serves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from controller.model import Availability, Release
from controller.planning.policy import Candidate, Case, Verdict, elect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from controller.config.settings import PipelinePolicy
    from controller.model import JSON, Revision
    from controller.planning.overrides import Pin

UNFIT = "FitsNot"
"""The weights do not fit the release's version, by what their wheel says."""
KEPT = "WeightsStay"
"""Nothing else is fit to take the place of what is in force."""
INACTIVE = "Inactive", "the policy sets active = false for weights"
"""Why a pipeline takes none: reason and message."""
MOST_TRIED = 3
"""Weights that a release which was never live is tried with, before it is itself to blame."""
_TOOK_PART = re.compile(r"(the part '[^']*': )?with the weights ")
"""What a host's report of a failed start begins with, where weights took part in what failed."""
_UNSAID = {"OutOfMemory", "ReplicaDied", "StartTimeout"}
"""Reasons of failures that nobody is left to tell more of."""
NOT_SINCE = 0.0
"""The time of weights that a release was live with on a head that ended."""
LONGEST_FITS = 60
"""Characters of a wheel's `fits` that are told."""
_KEPT_BY = "the cache"
"""The source of what is in force and listed no more."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights for a pipeline as a replica is told of them."""

    project: str
    """The distribution's name, normalised (PEP 503)."""
    version: Version
    digest: str
    """SHA-256 of the wheel."""
    tree: str
    """The wheel unpacked."""
    record_digest: str
    package: str
    """The package whose folder holds the files."""

    @property
    def mark(self) -> str:
        """The value of `x-wheelway-weights` in every answer with them."""
        return f"{self.project}@{self.version}+{self.digest[:8]}"

    @property
    def document(self) -> dict[str, JSON]:
        """What stands in an application's document."""
        return {
            "project": self.project,
            "version": str(self.version),
            "digest": self.digest,
            "tree": self.tree,
            "record_digest": self.record_digest,
            "package": self.package,
        }

    @classmethod
    def read(cls, said: object) -> Weights | None:
        """The same of a document that may name none, or be another's."""
        try:
            return cls.of(said) if isinstance(said, dict) else None
        except (KeyError, InvalidVersion):
            return None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Weights:
        """The inverse of `document`."""
        return cls(
            str(document["project"]),
            Version(str(document["version"])),
            *(str(document[key]) for key in ("digest", "tree", "record_digest", "package")),
        )

    def as_release(self, pipeline: str) -> Release:
        """What policy judges."""
        return Release(pipeline, self.version, self.digest)

    def __str__(self) -> str:
        return self.mark


@dataclass(frozen=True, slots=True)
class Proven:
    """Weights that a release was seen live with: every replica answered with them."""

    weights: Weights
    at: float
    """When that was last seen to begin, seconds since the epoch; `NOT_SINCE`: not since the head
    that it was seen on ended.
    """


@dataclass(frozen=True, slots=True)
class WeightsQuarantine:
    """Weights that failed with a release. Other bytes are other weights."""

    release: Release
    weights: Weights
    reason: str
    message: str
    log_tail: str = ""
    at: float = 0.0
    is_lifted: bool = False
    """A person lifted it, but the config on the cluster still names the weights: nobody tries them
    anew before that has named others.
    """


@dataclass(frozen=True, slots=True)
class JudgedWeights:
    """What became of one offer of weights, for all releases of its pipeline; for a person."""

    pipeline: str
    project: str
    version: Version
    digest: str
    reason: str
    message: str
    takers: tuple[str, ...] = ()
    """The versions of the pipeline that have them, or are about to; the newest first."""

    @property
    def mark(self) -> str:
        """The name that answers have them under."""
        return f"{self.project}@{self.version}+{self.digest[:8]}"


class KnownWeights(NamedTuple):
    """What a wheel was found to hold for one pipeline, also in an earlier run."""

    pipeline: str
    weights: Weights
    fits: str


class WeightsOffer(NamedTuple):
    """A wheel's offer of weights for one pipeline."""

    revision: Revision
    candidate: Candidate
    """Its release has the pipeline's name, and version and digest of the weights."""
    weights: Weights
    fits: str = ""
    """Which versions of the pipeline can take them (PEP 440); empty for all."""
    is_recalled: bool = False
    """An earlier run looked into the wheel; its files may be anything by now."""

    @property
    def known(self) -> KnownWeights:
        """What is remembered of it."""
        return KnownWeights(self.candidate.release.pipeline, self.weights, self.fits)

    @property
    def told_fits(self) -> str:
        """The same for a person, so long at most as makes a sentence."""
        return repr(
            self.fits if len(self.fits) <= LONGEST_FITS else f"{self.fits[: LONGEST_FITS - 3]}..."
        )

    def suits(self, version: Version) -> bool:
        """Whether a version of the pipeline can take them."""
        return not self.fits or SpecifierSet(self.fits).contains(version, prereleases=True)


@dataclass(frozen=True, slots=True)
class Choice:
    """The weights of one release."""

    wanted: Weights | None = None
    former: Weights | None = None
    """What it falls back to: those that were proven last, other than these."""
    without: bool = False
    """Whether it falls back to none, for it has served so."""
    is_suspect: bool = False
    """Whether a start that fails is blamed on the wanted ones rather than on the release."""
    verdicts: tuple[Verdict, ...] = ()
    """On all that is offered."""
    verdict: Verdict | None = None
    """That on the wanted ones."""


NONE = Choice()


@dataclass(frozen=True, slots=True)
class WeightsCase:
    """All that the weights of one release depend on."""

    release: Release
    offers: Sequence[WeightsOffer]
    """For its pipeline, in order of preference."""
    rule: PipelinePolicy
    """The operator's, in the words of pipelines."""
    pin: Pin | None = None
    owner: str = ""
    """The project whose weights these are; empty: whoever offers them."""
    proven: Sequence[Weights] = ()
    """Those that this release was seen live with, the last ones first."""
    elsewhere: AbstractSet[str] = frozenset()
    """Digests of those that any release of the pipeline was live with."""
    running: Weights | None = None
    """Those in its application's document, for when nothing was recorded."""
    is_unread: bool = False
    """Nobody looked into these in this run yet, but somebody will: they stay until then."""
    fallback: Weights | None = None
    """The former ones in it, likewise."""
    without: bool = False
    """Whether it has served without any."""
    refused: AbstractSet[str] = frozenset()
    """Digests of those that failed with this release."""
    lost: AbstractSet[str] = frozenset()
    """Digests of those of which no files are left."""

    @property
    def sound(self) -> list[Weights]:
        """Those that it was live with and could serve with again, the last ones first."""
        return self._sound(self.proven)

    @property
    def spare(self) -> list[Weights]:
        """The former ones, where a journal that was lost knew of them."""
        return self._sound([self.fallback] if self.fallback else [])

    @property
    def in_force(self) -> Weights | None:
        """What it serves with, as far as is known."""
        running = self._sound([self.running] if self.running else [])
        known = *(running if self.is_unread else ()), *self.sound, *running, *self.spare
        return next(iter(known), None) or self._unfounded

    @property
    def _unfounded(self) -> Weights | None:
        """The former ones, whose files are lost: replicas that serve with them can go on."""
        fallback = self.fallback
        return fallback if fallback and fallback.digest not in self.refused else None

    def _sound(self, served: Iterable[Weights]) -> list[Weights]:
        known = {offer.weights.digest: offer.weights for offer in reversed(self.offers)}
        out = self.refused | (self.lost - known.keys())
        return [known.get(one.digest, one) for one in served if one.digest not in out]


def choose(case: WeightsCase) -> Choice:
    """Elect the weights of one release: the newest that policy allows, that fit, and that did not
    fail with it.
    """
    pipeline, version = case.release.pipeline, case.release.version
    if not case.rule.active:
        return Choice(verdicts=tuple(_inactive(case)))
    known = {offer.weights.digest: offer.weights for offer in reversed(case.offers)}
    in_force = case.in_force
    fitting = [offer.candidate for offer in case.offers if offer.suits(version)]
    if in_force is not None and all(c.release.digest != in_force.digest for c in fitting):
        fitting.append(_retained(in_force, pipeline))
        known.setdefault(in_force.digest, in_force)
    verdicts = elect(
        Case(
            candidates=fitting,
            rule=case.rule,
            pin=case.pin,
            serving=frozenset([in_force.as_release(pipeline)] if in_force else ()),
            quarantined=frozenset(c.release for c in fitting if c.release.digest in case.refused),
            owner=case.owner,
        )
    )
    chosen = next((verdict for verdict in verdicts if verdict.elected), None)
    if chosen is None and in_force is not None:
        chosen = _stays(in_force.as_release(pipeline), verdicts)
        verdicts = tuple(chosen if v.release.digest == in_force.digest else v for v in verdicts)
    wanted = known[chosen.release.digest] if chosen is not None else None
    verdicts = (*verdicts, *_unfit(case))
    if wanted is None:
        return Choice(verdicts=verdicts)
    served = *case.sound, *case.spare
    former = next((weights for weights in served if weights.digest != wanted.digest), None)
    return Choice(
        wanted,
        former,
        without=former is None and case.without,
        is_suspect=_is_suspect(wanted, case),
        verdicts=verdicts,
        verdict=chosen,
    )


def _is_suspect(wanted: Weights, case: WeightsCase) -> bool:
    """Whether weights are what is new: to a release that has served, or to everybody. A release
    that was never live is tried with a few such at most.
    """
    if any(wanted.digest == weights.digest for weights in case.proven):
        return False
    has_served = bool(case.proven) or case.without
    return has_served or (wanted.digest not in case.elsewhere and len(case.refused) < MOST_TRIED)


def _retained(weights: Weights, pipeline: str) -> Candidate:
    """What is in force and offered no more: it stays, and is never newly elected."""
    release = weights.as_release(pipeline)
    return Candidate(release, weights.project, _KEPT_BY, Availability.RETAINED)


def _stays(release: Release, verdicts: Iterable[Verdict]) -> Verdict:
    said = next((v for v in verdicts if v.release.digest == release.digest), None)
    why = f" ({said.reason}: {said.message})" if said else ""
    return Verdict(release, True, KEPT, f"in force until others are fit to be{why}")


def _unfit(case: WeightsCase) -> Iterable[Verdict]:
    version = case.release.version
    for offer in case.offers:
        if not offer.suits(version):
            why = f"its wheel says fits = {offer.told_fits}, which {version} is not"
            yield Verdict(offer.candidate.release, False, UNFIT, why)


def _inactive(case: WeightsCase) -> Iterable[Verdict]:
    for offer in case.offers:
        yield Verdict(offer.candidate.release, False, *INACTIVE)


def blamed(
    suspect: Weights | None, document: Mapping[str, Any] | None, reason: str, message: str
) -> bool:
    """Whether a failed start of an application is the fault of its weights: they are what is new,
    and took part in what failed.
    """
    named = in_document(document)
    is_new = suspect is not None and named is not None and named.digest == suspect.digest
    return is_new and (reason in _UNSAID or _TOOK_PART.match(message) is not None)


def unnamed(message: str, weights: Weights) -> str:
    """A host's report without the name of the weights, which is told beside it."""
    return message.replace(f"with the weights {weights}: ", "", 1)


# -- in documents --------------------------------------------------------------------------------


def in_document(document: Mapping[str, Any] | None) -> Weights | None:
    """The weights that an application's replicas are to have: by its arguments, or its settings."""
    arguments = (document or {}).get("args")
    if isinstance(arguments, dict) and arguments.get("weights"):
        return Weights.read(arguments["weights"])
    return Weights.read(_said(document).get("weights"))


def former_in_document(document: Mapping[str, Any] | None) -> Weights | None:
    """The weights that they fall back to."""
    return Weights.read(_said(document).get("former_weights"))


def falls_back_to_none(document: Mapping[str, Any] | None) -> bool:
    """Whether they fall back to serving without any."""
    said = _said(document)
    return "former_weights" in said and said["former_weights"] is None


def weights_named(document: Mapping[str, Any] | None) -> list[Weights]:
    """All weights that a document names: what its replicas may read at any time."""
    named = in_document(document), former_in_document(document)
    return [weights for weights in named if weights is not None]


def _said(document: Mapping[str, Any] | None) -> Mapping[str, Any]:
    for deployment in (document or {}).get("deployments") or ():
        config = deployment.get("user_config")
        if isinstance(config, dict):
            return config
    return {}
