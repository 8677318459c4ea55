"""What the sources list, and what is inside, by project and in order of preference. It is made for
each new listing, not for each pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from packaging.utils import InvalidWheelFilename

from controller.model import Availability, Release
from controller.planning import wheel_names
from controller.planning.documents import same_objects
from controller.planning.policy import Candidate
from controller.planning.weights import Weights, WeightsOffer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packaging.tags import Tag
    from packaging.version import Version

    from controller.model import Artifact, Listing, PipelineEntry, Revision

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that is listed and can be had."""

    revisions: tuple[Revision, ...] = ()
    """Best first: by source, then by how well the wheel's tags fit."""
    ranks: Mapping[Revision, int] = field(default_factory=dict)
    """The index of each in that order."""
    projects: Mapping[str, tuple[Revision, ...]] = field(default_factory=dict)
    """By project, each best first; the same tuple as before where nothing changed."""
    digests: Mapping[str, tuple[Revision, ...]] = field(default_factory=dict)
    """The same by digest."""


class Catalogues:
    """Catalogues for one interpreter, whose `tags` (best first) say how well a wheel fits."""

    def __init__(self, tags: Sequence[Tag]) -> None:
        self._rank = {tag: rank for rank, tag in reversed(list(enumerate(tags)))}
        self._fits: dict[str, tuple[int, int]] = {}
        self._listings: tuple[Listing, ...] = ()
        self._latest = Catalogue()

    def of(self, listings: Iterable[Listing]) -> Catalogue:
        """The catalogue of some listings, the preferred source's first; the same one as before if
        these are the same listings.
        """
        listings = tuple(listings)
        if not same_objects(listings, self._listings):
            self._latest = self._made(listings)
            self._listings = listings
        return self._latest

    def _made(self, listings: Sequence[Listing]) -> Catalogue:
        listed = [r for listing in listings for r in listing.revisions]
        fits, before = self._fits, self._latest
        self._fits = {r.filename: fits.get(r.filename) or self._fit(r.filename) for r in listed}
        revisions = []
        for listing in listings:
            for revision in sorted(listing.revisions, key=self._preference):
                if revision.availability is not Availability.GONE:
                    # Unchanged values stay the same objects, so that comparing them costs nothing.
                    rank = before.ranks.get(revision)
                    revisions.append(revision if rank is None else before.revisions[rank])
        projects = _grouped([(revision.project, revision) for revision in revisions])
        digests = _grouped([(revision.sha256, revision) for revision in revisions])
        return Catalogue(
            tuple(revisions),
            {revision: rank for rank, revision in enumerate(revisions)},
            _as_before(projects, before.projects),
            _as_before(digests, before.digests),
        )

    def _preference(self, revision: Revision) -> tuple[int, int, str]:
        return *self._fits[revision.filename], revision.filename

    def _fit(self, filename: str) -> tuple[int, int]:
        """How well a wheel's tags fit and how young its build is; less is better."""
        try:
            _, _, build, tags = wheel_names.parse(filename)
        except InvalidWheelFilename:  # remembered by an earlier wheelway; inspection refuses it
            return len(self._rank), 0
        rank = min((self._rank.get(tag, len(self._rank)) for tag in tags), default=0)
        return rank, -(build[0] if build else -1)


@dataclass(frozen=True, slots=True)
class Listed:
    """All that some listings have, whether it can be had or not."""

    listings: tuple[Listing, ...] = ()
    projects: Mapping[str, Sequence[Revision]] = field(default_factory=dict)
    digests: frozenset[str] = frozenset()
    unread: frozenset[tuple[str, Version]] = frozenset()
    """Projects and versions of files that are there but cannot be read yet, or at all."""
    unobserved: frozenset[str] = frozenset()
    """Projects whose files could not all be listed."""

    def of(self, listings: Iterable[Listing]) -> Listed:
        """What these listings have; the same object while they are the same."""
        now = tuple(listings)
        if same_objects(now, self.listings):
            return self
        revisions = [revision for listing in now for revision in listing.revisions]
        items = (item for one in now for item in (*one.pending, *one.refused))
        versions = (wheel_names.version_named(item.subject) for item in items)
        return Listed(
            now,
            _grouped([(revision.project, revision) for revision in revisions]),
            digests=frozenset([revision.sha256 for revision in revisions]),
            unread=frozenset(version for version in versions if version is not None),
            unobserved=frozenset(project for one in now for project in one.unobserved),
        )


def _grouped(keyed: Iterable[tuple[_Key, Revision]]) -> dict[_Key, list[Revision]]:
    groups: dict[_Key, list[Revision]] = {}
    for key, revision in keyed:
        groups.setdefault(key, []).append(revision)
    return groups


def _as_before(
    groups: Mapping[str, Iterable[Revision]], before: Mapping[str, tuple[Revision, ...]]
) -> dict[str, tuple[Revision, ...]]:
    now = {name: tuple(group) for name, group in groups.items()}
    return {name: before[name] if before.get(name) == one else one for name, one in now.items()}


def completed(listing: Listing, before: Listing | None) -> Listing:
    """A listing, completed by what was known before of the projects that it could not observe."""
    if before is None or not listing.unobserved:
        return listing
    listed = {revision.filename for revision in listing.revisions}
    kept = [
        revision
        for revision in before.revisions
        if revision.project in listing.unobserved and revision.filename not in listed
    ]
    return replace(listing, revisions=(*listing.revisions, *kept))


# -- what is inside ------------------------------------------------------------------------------


class Wheels(NamedTuple):
    """A project's wheels, best first."""

    revisions: tuple[Revision, ...]
    artifacts: tuple[Artifact | None, ...]
    """What is inside each; None while that is unknown, or when it failed inspection."""


class Claim(NamedTuple):
    """A wheel's offer of one pipeline."""

    revision: Revision
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Shelf:
    """What one project offers, as far as its wheels were inspected."""

    claims: Mapping[str, tuple[Claim, ...]] = field(default_factory=dict)
    """By pipeline, best first."""
    candidates: Mapping[str, tuple[Candidate, ...]] = field(default_factory=dict)
    """The same without the wheels."""
    entries: Mapping[Release, tuple[Artifact, PipelineEntry]] = field(default_factory=dict)
    sources: Mapping[Release, str] = field(default_factory=dict)
    weights: Mapping[str, tuple[WeightsOffer, ...]] = field(default_factory=dict)
    """By pipeline, best first: what of it is weights."""


def is_of(artifact: Artifact, revision: Revision) -> bool:
    """Whether the wheel is what this file's name says, for bytes may also have a wrong name."""
    return artifact.project == revision.project and artifact.version == revision.version


def shelve(wheels: Wheels) -> Shelf:
    """What some wheels of one project offer."""
    claims: dict[str, list[Claim]] = {}
    entries: dict[Release, tuple[Artifact, PipelineEntry]] = {}
    sources: dict[Release, str] = {}
    weights: dict[str, list[WeightsOffer]] = {}
    for revision, artifact in zip(*wheels, strict=True):
        if artifact is None or not is_of(artifact, revision):
            continue
        for entry in artifact.pipelines:
            release = Release(entry.name, artifact.version, revision.sha256)
            offer = Candidate(release, revision.project, revision.source, revision.availability)
            claims.setdefault(entry.name, []).append(Claim(revision, offer))
            entries.setdefault(release, (artifact, entry))
            sources.setdefault(release, revision.source)
        for given in _weights_in(revision, artifact):
            weights.setdefault(given.candidate.release.pipeline, []).append(given)
    return Shelf(
        {name: tuple(made) for name, made in claims.items()},
        {name: tuple(claim.candidate for claim in made) for name, made in claims.items()},
        entries,
        sources,
        {name: tuple(made) for name, made in weights.items()},
    )


def _weights_in(revision: Revision, artifact: Artifact) -> Iterable[WeightsOffer]:
    for entry in artifact.weights:
        weights = Weights(
            project=artifact.project,
            version=artifact.version,
            digest=revision.sha256,
            tree=str(artifact.tree),
            record_digest=artifact.record_digest,
            package=entry.package,
        )
        judged = weights.as_release(entry.pipeline)
        offer = Candidate(judged, revision.project, revision.source, revision.availability)
        yield WeightsOffer(revision, offer, weights, entry.fits)
