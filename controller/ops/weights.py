"""What is told of weights, and what a person orders of them: the same words as for pipelines, but
that a version is that of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name
from typing_extensions import TypedDict

from controller.errors import WheelwayError
from controller.model import Availability, Phase, Release
from controller.ops.documents import (
    PinDocument,
    QuarantinedDocument,
    documented,
    pin_document,
    refused_weights_document,
)
from controller.ops.names import weights_takers
from controller.planning.causes import EVERYTHING
from controller.planning.overrides import Pin
from controller.planning.weights_telling import REFUSED, clearing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from packaging.version import Version

    from controller.journal import Journal, Reader
    from controller.planning.weights import Weights, WeightsQuarantine

_WITHOUT_WHICH: Final = {EVERYTHING, "ray", "serve config"}
"""Subjects of conditions without which no config is sent."""


@documented
class OfferedWeightsDocument(TypedDict):
    """A wheel of weights that a source offers, and what became of it."""

    pipeline: str
    project: str
    version: str
    digest: str
    mark: str
    """The value of `x-wheelway-weights` in answers with them."""
    reason: str
    message: str
    takers: list[str]
    """The versions of the pipeline that have them, or are about to; the newest first."""


def offered_weights(reader: Reader, name: str) -> list[OfferedWeightsDocument]:
    """The weights of a pipeline, or of a project, that were looked into; the newest first."""
    return [
        {
            "pipeline": one.pipeline,
            "project": one.project,
            "version": str(one.version),
            "digest": one.digest,
            "mark": one.mark,
            "reason": one.reason,
            "message": one.message,
            "takers": [*one.takers],
        }
        for one in reader.judged_weights()
        if name in {one.pipeline, one.project}
    ]


def asked_for(
    weights: list[OfferedWeightsDocument], name: str, version: Version, *, is_release: bool
) -> list[OfferedWeightsDocument]:
    """Those that are told of where a version was asked for: all where it is that of a release of
    their pipeline, else those of this version.
    """
    return [
        one
        for one in weights
        if (is_release and one["pipeline"] == name) or one["version"] == str(version)
    ]


def is_of_weights(name: str, weights: Sequence[OfferedWeightsDocument]) -> bool:
    """Whether a name is that of a project of weights, and of no pipeline that takes them."""
    return any(one["project"] == name != one["pipeline"] for one in weights)


def summary_of_weights(weights: Sequence[OfferedWeightsDocument]) -> str:
    """What a project of weights comes to, in a sentence."""
    one = weights[0]
    said = f"{one['project']}: weights for {one['pipeline']}; {one['version']}: {one['reason']}"
    taken = next((other for other in weights if other["takers"]), one)
    if taken is one:
        return said
    return f"{said}; {taken['version']} are for {', '.join(taken['takers'])}"


def pin(
    journal: Journal,
    name: str,
    versions: Iterable[Version],
    *,
    by: str,
    at: float,
    note: str = "",
) -> PinDocument:
    """Have the newest of these weights that fits in force, whatever the configuration says.

    Raises:
        WheelwayError: no weights for it are known ("WeightsUnknown"), no source lists one of the
            versions ("VersionUnlisted"), or all failed with what is live ("WeightsRefused").
    """
    with journal.transaction():
        shelf = _Shelf.of(journal, name)
        wanted = tuple(sorted(set(versions), reverse=True))
        if missing := [version for version in wanted if version not in shelf.versions]:
            raise WheelwayError(
                "VersionUnlisted",
                f"no source lists {shelf.project} {_listed(missing)}; {shelf}",
            )
        if failed := _failed_everywhere(journal, shelf, wanted):
            raise WheelwayError(
                REFUSED,
                f"{failed.weights} failed with {failed.release} ({failed.reason}), so they would "
                f"not be in force: `{clearing(failed)}` has them tried again, then pin them. Why: "
                f"{failed.message}",
            )
        order = Pin(shelf.pipeline, wanted, by, note, at, of_weights=True)
        journal.order(order, message=str(order))
    return pin_document(order)


def _failed_everywhere(
    journal: Journal, shelf: _Shelf, wanted: Sequence[Version]
) -> WeightsQuarantine | None:
    """How the newest of these versions failed with the newest live release; None where there is
    none, or one of them may be in force for any that is live.
    """
    refused = journal.refused_weights()
    found: WeightsQuarantine | None = None
    for release in _live(journal, shelf.pipeline):
        failed = {one.weights.digest: one for one in refused.get(release, ())}
        for version in wanted:
            if not shelf.digests[version] <= failed.keys():
                return None
            found = found or next(failed[digest] for digest in shelf.digests[version])
    return found


def _live(journal: Journal, pipeline: str) -> list[Release]:
    """The releases that are live, the newest first."""
    live = [r.subject for r in journal.releases(pipeline) if r.phase is Phase.LIVE]
    return sorted((one for one in live if isinstance(one, Release)), reverse=True)


def unpin(journal: Journal, name: str, *, by: str, at: float, note: str = "") -> PinDocument:
    """Let the configuration decide again; returns the pin that was lifted.

    Raises:
        WheelwayError: there is none ("NotPinned").
    """
    with journal.transaction():
        pins = journal.overrides().weights
        order = pins.get(canonicalize_name(name))
        if order is None:
            known = f"those of {', '.join(pins)} are" if pins else "none are"
            raise WheelwayError(
                "NotPinned", f"the weights of {name} are not pinned by command; {known}"
            )
        journal.lift(order, at=at, by=by, note=note)
    return pin_document(order)


@documented
class WeightsRollbackDocument(TypedDict):
    """From which weights to which."""

    before: str
    after: str
    pin: PinDocument


def roll_back(
    journal: Journal, name: str, *, by: str, at: float, note: str = ""
) -> WeightsRollbackDocument:
    """Pin the weights that the newest live release was last live with, of those older than what it
    has now, or is about to.

    Raises:
        WheelwayError: there are none, no source lists their wheel any more, or they are quarantined
            ("RollbackImpossible"); no weights for it are known ("WeightsUnknown").
    """
    with journal.transaction():
        shelf = _Shelf.of(journal, name)
        before, after = _former(journal, shelf)
        told = f"rolled back from {before} to {after}"
        order = Pin(shelf.pipeline, (after,), by, note or told, at, of_weights=True)
        journal.order(order, message=f"{told}: {order}" if note else str(order))
    return {"before": str(before), "after": str(after), "pin": pin_document(order)}


def _former(journal: Journal, shelf: _Shelf) -> tuple[Version, Version]:
    """The versions of the weights that are in force, and of those to go back to."""
    proven, refused = journal.proven_weights(), journal.refused_weights()
    for release in _live(journal, shelf.pipeline):
        served = [p.weights for p in proven.get(release, ()) if p.weights.project == shelf.project]
        if not served:
            continue
        present = _present(journal, release, served)
        older = [weights for weights in served if weights.version < present]
        failed = {one.weights.digest for one in refused.get(release, ())}
        former = [w for w in older if w.digest not in failed and w.version in shelf.versions]
        if former:
            return present, former[0].version
        if older:
            raise WheelwayError(
                "RollbackImpossible",
                f"{release} was live with {older[0]} before {present}, but these failed since, "
                "or no source lists their wheel any more: publish it again, or `wheelway pin "
                f"{shelf.pipeline} VERSION --weights`; {shelf}",
            )
    raise WheelwayError(
        "RollbackImpossible",
        f"no version of {shelf.pipeline} was live with older weights before; {shelf}. To choose: "
        f"`wheelway pin {shelf.pipeline} VERSION --weights`",
    )


def _present(journal: Journal, release: Release, served: Sequence[Weights]) -> Version:
    """The version of the weights that a release is told to have: it may still load them, and no
    pass may have seen the last order yet.

    Args:
        journal: has what passes elected, and the orders.
        release: the one that is asked about.
        served: what it was live with, the last ones first.
    """
    elected = next(
        (
            one.version
            for one in journal.judged_weights()
            if one.pipeline == release.pipeline and str(release.version) in one.takers
        ),
        served[0].version,
    )
    pin = journal.overrides().weights.get(release.pipeline)
    ordered = [w.version for w in served if pin is not None and w.version in pin.versions]
    return elected if elected in ordered or not ordered else max(ordered)


@documented
class LiftedWeightsDocument(QuarantinedDocument):
    """Weights whose quarantine was lifted."""

    then: str
    """What follows, in a sentence."""


def clear_quarantine(
    journal: Journal, name: str, version: Version | None, *, by: str, at: float, note: str = ""
) -> list[LiftedWeightsDocument]:
    """Have weights that failed tried again, all of a pipeline or one version; returns them.

    Raises:
        WheelwayError: none are quarantined ("NotQuarantined"); no weights for the pipeline are
            known ("WeightsUnknown").
    """
    pipeline = canonicalize_name(name)

    def is_meant(one: WeightsQuarantine) -> bool:
        same = version is None or one.weights.version == version
        return one.release.pipeline == pipeline and same

    with journal.transaction():
        lifted = journal.clear_refused_weights(is_meant, at=at, by=by, note=note)
        found = [(one, _follows(journal, one)) for one in lifted]
    if not lifted:
        with journal.snapshot():
            _Shelf.of(journal, name)
        which = name if version is None else f"{name} with {version}"
        raise WheelwayError(
            "NotQuarantined",
            f"no weights are quarantined for {which}; `wheelway quarantine list` shows what is",
        )
    return [{**refused_weights_document(one), "then": told} for one, told in found]


def _follows(journal: Journal, one: WeightsQuarantine) -> str:
    """What follows when a quarantine is lifted."""
    release, weights = one.release, one.weights
    order = f"`wheelway pin {release.pipeline} {weights.version} --weights`"
    if weights.digest not in journal.listed():
        return f"No source lists {weights} any more: publish them again to have them tried."
    overrides = journal.overrides()
    pin = overrides.weights.get(release.pipeline)
    if pin is not None and weights.version not in pin.versions:
        return f"The weights of {release.pipeline} are {pin}: {order} has {weights} tried instead."
    others = [
        judged.mark
        for judged in journal.judged_weights()
        if judged.pipeline == release.pipeline
        and str(release.version) in judged.takers
        and judged.version > weights.version
    ]
    if others:
        return f"{others[0]} are newer and serve on; {weights} may be chosen again: {order}."
    if (suspension := overrides.suspension_of(release.pipeline)) is not None:
        resume = f"wheelway resume {suspension.pipeline}".rstrip()
        what = suspension.pipeline or "everything"
        return f"{weights} are tried again once {what} is no longer suspended: `{resume}`."
    for condition, _ in journal.conditions():
        if condition.subject in _WITHOUT_WHICH and not condition.ok:
            why = f"{condition.subject}: {condition.reason}"
            return f"{weights} are tried again once a config can be sent, which now fails ({why})."
    return f"The daemon has {weights} tried again at its next pass; see `wheelway status`."


# -- what there is -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shelf:
    """What the sources list of one pipeline's weights, as the daemon last saw it."""

    pipeline: str
    project: str
    digests: Mapping[Version, frozenset[str]]
    """Of the wheels of each version."""

    @property
    def versions(self) -> Collection[Version]:
        """All that are listed."""
        return self.digests.keys()

    @classmethod
    def of(cls, journal: Journal, name: str) -> _Shelf:
        pipeline, owners = canonicalize_name(name), journal.weights_owners()
        project = owners.get(pipeline)
        if project is None:
            known = f"those of {', '.join(owners)} are" if owners else "no source lists any"
            if takers := weights_takers(journal, pipeline):
                known = f"they are those of {' and '.join(takers)}: give that name"
            raise WheelwayError(
                "WeightsUnknown", f"no weights for a pipeline called {name!r} are known; {known}"
            )
        own = {one.digest for one in journal.judged_weights() if one.project == project}
        digests: dict[Version, frozenset[str]] = {}
        for listing in journal.listings().values():
            for one in listing.revisions:
                # One that its source retains may stay where it is in force.
                stays = one.availability is Availability.SELECTABLE or one.sha256 in own
                if one.project == project and stays:
                    digests[one.version] = digests.get(one.version, frozenset()) | {one.sha256}
        return cls(pipeline, project, digests)

    def __str__(self) -> str:
        if not self.versions:
            return f"no version of {self.project} is listed"
        return f"listed are {_listed(sorted(self.versions, reverse=True))}"


def _listed(versions: Iterable[Version]) -> str:
    return ", ".join(map(str, versions))
