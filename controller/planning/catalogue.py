"""What the sources list, in order of preference and by project: made once a listing, not a pass."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename

from controller.model import Availability
from controller.planning import wheel_names
from controller.planning.subjects import version_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from packaging.tags import Tag
    from packaging.version import Version

    from controller.model import Listing, Revision


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that is listed and can be had."""

    revisions: tuple[Revision, ...] = ()
    """Best first: by source, then by how well the wheel's tags fit."""
    ranks: Mapping[Revision, int] = field(default_factory=dict)
    """Where each of them stands in that order."""
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
        if len(listings) != len(self._listings) or any(map(_differ, listings, self._listings)):
            self._latest = self._made(listings)
            self._listings = listings
        return self._latest

    def _made(self, listings: Sequence[Listing]) -> Catalogue:
        listed = [r for listing in listings for r in listing.revisions]
        fits = self._fits
        self._fits = {r.filename: fits.get(r.filename) or self._fit(r.filename) for r in listed}
        revisions = tuple(
            self._as_before(revision)
            for listing in listings
            for revision in sorted(listing.revisions, key=self._preference)
            if revision.availability is not Availability.GONE
        )
        return Catalogue(
            revisions,
            {revision: rank for rank, revision in enumerate(revisions)},
            _grouped(revisions, lambda revision: revision.project, self._latest.projects),
            _grouped(revisions, lambda revision: revision.sha256, self._latest.digests),
        )

    def _as_before(self, revision: Revision) -> Revision:
        """What is the same stays the same object, so that comparing it costs nothing."""
        rank = self._latest.ranks.get(revision)
        return revision if rank is None else self._latest.revisions[rank]

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
        """What these have; this one as long as they are the same."""
        now = tuple(listings)
        if len(now) == len(self.listings) and not any(map(_differ, now, self.listings)):
            return self
        projects: dict[str, list[Revision]] = {}
        for revision in (revision for listing in now for revision in listing.revisions):
            projects.setdefault(revision.project, []).append(revision)
        digests = frozenset(r.sha256 for listing in now for r in listing.revisions)
        unobserved = frozenset(project for listing in now for project in listing.unobserved)
        return Listed(now, projects, digests, frozenset(_unread_in(now)), unobserved)


def _differ(listing: Listing, other: Listing) -> bool:
    return listing is not other


def _grouped(
    revisions: Iterable[Revision],
    key: Callable[[Revision], str],
    before: Mapping[str, tuple[Revision, ...]],
) -> dict[str, tuple[Revision, ...]]:
    groups: dict[str, list[Revision]] = {}
    for revision in revisions:
        groups.setdefault(key(revision), []).append(revision)
    found = {}
    for name, group in groups.items():
        now, known = tuple(group), before.get(name)
        found[name] = known if known == now else now
    return found


def completed(listing: Listing, before: Listing | None) -> Listing:
    """A listing with what was known before of the projects that it could not look at."""
    if before is None or not listing.unobserved:
        return listing
    listed = {revision.filename for revision in listing.revisions}
    kept = [
        revision
        for revision in before.revisions
        if revision.project in listing.unobserved and revision.filename not in listed
    ]
    return replace(listing, revisions=(*listing.revisions, *kept))


def _unread_in(listings: Iterable[Listing]) -> Iterator[tuple[str, Version]]:
    for listing in listings:
        for item in (*listing.pending, *listing.refused):
            if (named := version_named(item.subject)) is not None:
                yield named
