"""Wheels that no release comes of, remembered so that none is fetched twice.

A repository holds far more libraries than pipelines, and a file may have a bad name. Neither is a
failure: they are told, and the journal keeps them over restarts.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from controller.errors import NOT_A_PIPELINE, NoRelease
from controller.journal.records import RefusedWheel
from controller.model import Availability, Condition
from controller.planning.documents import same_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from packaging.version import Version

    from controller.model import Listing, Revision

_FOR_OTHERS = "TagsIncompatible"
LIBRARY_AFTER = 2
"""So many newest versions of a project must carry no pipeline before older ones are left alone: a
single one may be a mistake, or of a project whose pipelines are not seen yet."""
ONE_BY_ONE = 10
"""So many wheels of a source without a pipeline are told of one by one."""


class Refusals:
    """The refused wheels. Jobs add to them from their threads.

    Args:
        remembered: what the journal kept.
        by_bytes: what judges bytes, beside these: refusals under another one are forgotten.
        by_name: the same for names: the interpreter, whose tags decide what fits.
        carriers: digests of wheels that are known to carry pipelines.
    """

    def __init__(
        self,
        remembered: Iterable[RefusedWheel] = (),
        *,
        by_bytes: str = "",
        by_name: str = "",
        carriers: Collection[str] = (),
    ) -> None:
        self._inputs = {False: by_bytes, True: by_name}
        self._lock = threading.Lock()
        self._carriers = set(carriers)
        self._judged: dict[str, tuple[Sequence[Revision], bool]] = {}
        """By project: what was listed of it, and whether that makes it a library."""
        self._kept: tuple[list[Listing], list[RefusedWheel]] = [], []
        """What was listed, and the refused among it."""
        self._wheels = {
            (wheel.digest, wheel.filename): wheel
            for wheel in remembered
            if wheel.inputs == self._inputs[bool(wheel.filename)]
        }

    def add(self, revision: Revision, error: NoRelease, at: float) -> None:
        """Remember that a wheel was refused."""
        filename = revision.filename if error.by_name else ""
        inputs = self._inputs[error.by_name]
        wheel = RefusedWheel(revision.sha256, filename, error.reason, error.message, inputs, at)
        with self._lock:
            self._wheels[wheel.digest, filename] = wheel
            self._judged.pop(revision.project, None)
            self._kept = [], []

    def carries(self, revision: Revision) -> None:
        """Remember that a wheel has pipelines."""
        with self._lock:
            self._carriers.add(revision.sha256)
            self._judged.pop(revision.project, None)

    def keep_carriers(self, digests: AbstractSet[str]) -> None:
        """Forget which wheels have pipelines, but for these."""
        with self._lock:
            self._carriers &= digests

    def of(self, revision: Revision) -> RefusedWheel | None:
        """Why no release comes of a listed wheel, if that is known."""
        if not self._wheels:
            return None
        digest = revision.sha256
        return self._wheels.get((digest, "")) or self._wheels.get((digest, revision.filename))

    def error(
        self, revision: Revision, siblings: Callable[[str], Sequence[Revision]]
    ) -> NoRelease | None:
        """Why a listed wheel is not to be fetched; None if it is. `siblings` has all revisions of
        the project, the same object while the listings stay the same.
        """
        if not self._wheels:
            return None
        if (wheel := self.of(revision)) is not None:
            return NoRelease(wheel.reason, wheel.message, by_name=bool(wheel.filename))
        listed = siblings(revision.project)
        with self._lock:
            before, library = self._judged.get(revision.project, ((), False))
            if before is not listed:
                library = self._is_library(listed)
                self._judged[revision.project] = listed, library
        if not library:
            return None
        why = f"{revision.filename}: newer versions of {revision.project} carry no pipeline"
        return NoRelease(NOT_A_PIPELINE, why, by_name=False)

    def _is_library(self, revisions: Iterable[Revision]) -> bool:
        """Whether a project, by all that is listed of it, carries no pipelines."""
        selectable = [r for r in revisions if r.availability is Availability.SELECTABLE]
        if any(revision.sha256 in self._carriers for revision in selectable):
            return False
        fitting = [r for r in selectable if (w := self.of(r)) is None or w.reason != _FOR_OTHERS]
        finals = [r for r in fitting if not r.version.is_prerelease] or fitting
        versions = sorted({revision.version for revision in finals}, reverse=True)
        newest = [r for r in finals if r.version in versions[:LIBRARY_AFTER]]
        refused = [self.of(revision) for revision in newest]
        return bool(refused) and all(r is not None and r.reason == NOT_A_PIPELINE for r in refused)

    def listed(self, listings: Collection[Listing]) -> list[RefusedWheel]:
        """Those that some source still lists; the others are forgotten."""
        with self._lock:
            if same_objects(self._kept[0], listings):
                return self._kept[1]
            revisions = [r for listing in listings for r in listing.revisions]
            found = {(w.digest, w.filename): w for w in map(self.of, revisions) if w is not None}
            projects = {revision.project for revision in revisions}
            self._wheels = found
            self._judged = {name: one for name, one in self._judged.items() if name in projects}
            self._kept = list(listings), [found[key] for key in sorted(found)]
            return self._kept[1]

    def conditions(self, listing: Listing) -> list[Condition]:
        """Conditions for a source's refused wheels: one for all files of a release that are for
        other machines, and one for many wheels without a pipeline, which are no trouble.
        """
        found: list[Condition] = []
        libraries: list[Condition] = []
        elsewhere: dict[tuple[str, Version], list[Condition]] = {}
        known = [(r, w) for r in listing.revisions if (w := self.of(r))] if self._wheels else []
        bare = {(r.project, r.version) for r, wheel in known if wheel.reason == NOT_A_PIPELINE}
        for revision, wheel in known:
            named = revision.project, revision.version
            harmless = wheel.reason == NOT_A_PIPELINE
            condition = Condition(revision.filename, wheel.reason, wheel.message, ok=harmless)
            if wheel.reason != _FOR_OTHERS:
                (libraries if harmless else found).append(condition)
            elif named not in bare:  # a library has wheels for many machines: none is wanted
                elsewhere.setdefault(named, []).append(condition)
        found.extend(_at_once(*named, these) for named, these in elsewhere.items())
        if len(libraries) <= ONE_BY_ONE:
            return found + libraries
        names = ", ".join(condition.subject for condition in libraries[:3])
        message = (
            f"{len(libraries)} wheels of {listing.source} carry no pipeline and are left alone: "
            f"{names} and {len(libraries) - 3} more; `wheelway explain PROJECT` has each"
        )
        return [*found, Condition(listing.source, NOT_A_PIPELINE, message, ok=True)]


def _at_once(project: str, version: Version, conditions: Sequence[Condition]) -> Condition:
    """One condition for all files of a release that are for other machines."""
    first, *others = conditions
    if not others:
        return first
    why = f"{len(conditions)} wheels of it are for other machines: {first.message}"
    return Condition(f"{project}=={version}", first.reason, why)
