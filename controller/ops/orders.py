"""What a person orders: written into the journal, by the API or by a command beside the daemon.

A daemon takes it up at its next pass. `at` is in seconds since the epoch, `by` says who orders it,
`note` why; both are told wherever the order is. Every function is one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from typing_extensions import TypedDict

from controller.errors import WheelwayError
from controller.model import Availability, Phase, Release
from controller.ops.documents import (
    PinDocument,
    QuarantinedDocument,
    SuspensionDocument,
    documented,
    pin_document,
    quarantined_document,
    suspension_document,
)
from controller.ops.names import require_pipeline, unknown_name
from controller.planning.overrides import Pin, Suspension

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.version import Version

    from controller.journal import Journal, ReleaseRecord
    from controller.model import Quarantine


def pin(
    journal: Journal,
    name: str,
    versions: Iterable[Version],
    *,
    by: str,
    at: float,
    note: str = "",
) -> PinDocument:
    """Have exactly these versions of a pipeline served, whatever the configuration says.

    Raises:
        WheelwayError: nothing is called so ("NameUnknown"), or no source lists one of the versions
            ("VersionUnlisted").
    """
    with journal.transaction():
        wanted = tuple(sorted(set(versions), reverse=True))
        typed = " ".join(map(str, wanted))
        require_pipeline(journal, name, f"wheelway pin NAME {typed} --weights")
        shelf = _Shelf.of(journal, name)
        if missing := [version for version in wanted if version not in shelf.versions]:
            raise WheelwayError(
                "VersionUnlisted",
                f"no source lists {shelf.pipeline} {_listed(missing)}; {shelf}",
            )
        order = Pin(shelf.pipeline, wanted, by, note, at)
        journal.order(order, message=str(order))
    return pin_document(order)


def unpin(journal: Journal, name: str, *, by: str, at: float, note: str = "") -> PinDocument:
    """Let the configuration's policy decide again; returns the pin that was lifted.

    Raises:
        WheelwayError: there is none ("NotPinned").
    """
    with journal.transaction():
        pins = journal.overrides().pins
        order = pins.get(canonicalize_name(name))
        if order is None:
            require_pipeline(journal, name, "wheelway unpin NAME --weights")
            known = f"pinned by command: {', '.join(pins)}" if pins else "nothing is"
            raise WheelwayError("NotPinned", f"{name} is not pinned by command; {known}")
        journal.lift(order, at=at, by=by, note=note)
    return pin_document(order)


@documented
class RollbackDocument(TypedDict):
    """From which version to which."""

    before: str | None
    """The newest that was live; null when none was."""
    after: str
    pin: PinDocument


def roll_back(
    journal: Journal, name: str, *, by: str, at: float, note: str = ""
) -> RollbackDocument:
    """Pin the newest version that was live before the present one, the newest that is live.

    Raises:
        WheelwayError: there is none, no source lists its wheel any more, or it is quarantined
            ("RollbackImpossible"); nothing is called so ("NameUnknown").
    """
    with journal.transaction():
        require_pipeline(journal, name, "wheelway rollback NAME --weights")
        shelf = _Shelf.of(journal, name)
        records = journal.releases(shelf.pipeline)
        live = [record.subject.version for record in records if record.phase is Phase.LIVE]
        before = max(live, default=None)
        after = _former(records, before, shelf)
        told = f"rolled back from {before} to {after}" if before else f"rolled back to {after}"
        order = Pin(shelf.pipeline, (after,), by, note or told, at)
        journal.order(order, message=f"{told}: {order}" if note else str(order))
    return {
        "before": str(before) if before else None,
        "after": str(after),
        "pin": pin_document(order),
    }


def _former(records: list[ReleaseRecord], before: Version | None, shelf: _Shelf) -> Version:
    """The version to go back to."""
    served = {
        record.subject.version
        for record in records
        if Phase.LIVE in record.times and (before is None or record.subject.version < before)
    }
    if not served:
        which = f" before {before}" if before else ""
        raise WheelwayError(
            "RollbackImpossible",
            f"no version of {shelf.pipeline} was live{which}; {shelf}. To choose one: "
            f"`wheelway pin {shelf.pipeline} VERSION`",
        )
    after = max(served)
    if after not in shelf.versions:
        raise WheelwayError(
            "RollbackImpossible",
            f"{shelf.pipeline} {after} was live before {before}, but no source lists its wheel any "
            f"more: publish it again, or `wheelway pin` another; {shelf}",
        )
    failed = [q for q in shelf.quarantines if q.subject.version == after]
    if failed and not any(
        record.phase is Phase.LIVE for record in records if record.subject.version == after
    ):
        raise WheelwayError(
            "RollbackImpossible",
            f"{shelf.pipeline} {after} was live before {before}, but failed since "
            f"({failed[-1].reason}): mend it, or `wheelway quarantine clear {shelf.pipeline} "
            f"{after}`, then try again",
        )
    return after


def suspend(
    journal: Journal, name: str, *, by: str, at: float, note: str = ""
) -> SuspensionDocument:
    """Have nothing changed on the cluster for a pipeline, or at all when `name` is empty.

    Raises:
        WheelwayError: nothing is called so ("NameUnknown").
    """
    with journal.transaction():
        require_pipeline(journal, name, "wheelway suspend NAME")
        pipeline = _Shelf.of(journal, name).pipeline if name else ""
        order = Suspension(pipeline, by, note, at)
        journal.order(order, message=str(order))
    return suspension_document(order)


def resume(
    journal: Journal, name: str, *, by: str, at: float, note: str = ""
) -> SuspensionDocument:
    """End a suspension, that of everything when `name` is empty; returns what was lifted.

    Raises:
        WheelwayError: there is none ("NotSuspended").
    """
    with journal.transaction():
        suspensions = journal.overrides().suspensions
        order = suspensions.get(canonicalize_name(name) if name else "")
        if order is None:
            require_pipeline(journal, name, "wheelway resume NAME")
            known = [key or "everything" for key in suspensions]
            hint = f"suspended: {', '.join(known)}" if known else "nothing is"
            what = f"{name} is not suspended by itself" if name else "not everything is suspended"
            raise WheelwayError("NotSuspended", f"{what}; {hint}")
        journal.lift(order, at=at, by=by, note=note)
    return suspension_document(order)


def clear_quarantine(
    journal: Journal, name: str, version: Version | None, *, by: str, at: float, note: str = ""
) -> list[QuarantinedDocument]:
    """Have a pipeline's failed releases tried again, all or one version; returns them.

    Raises:
        WheelwayError: none is quarantined ("NotQuarantined"); nothing is called so ("NameUnknown").
    """
    lifted = journal.clear_quarantine(canonicalize_name(name), version, at=at, by=by, note=note)
    if not lifted:
        with journal.snapshot():
            typed = f"wheelway quarantine clear NAME {version or ''}".rstrip()
            require_pipeline(journal, name, f"{typed} --weights")
            _Shelf.of(journal, name)
        which = name if version is None else f"{name} {version}"
        raise WheelwayError(
            "NotQuarantined",
            f"{which} is not quarantined; `wheelway quarantine list` shows what is",
        )
    return [quarantined_document(quarantine) for quarantine in lifted]


# -- what could be served ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shelf:
    """What the sources list of one pipeline, as the daemon last saw it."""

    pipeline: str
    versions: frozenset[Version]
    quarantines: tuple[Quarantine, ...]

    @classmethod
    def of(cls, journal: Journal, name: str) -> _Shelf:
        pipeline = canonicalize_name(name)
        subjects = [record.subject for record in journal.releases()]
        releases = [subject for subject in subjects if isinstance(subject, Release)]
        revisions = [r for found in journal.listings().values() for r in found.revisions]
        known = {release.digest for release in releases}
        own = {release.digest for release in releases if release.pipeline == pipeline}
        projects = {r.project for r in revisions if r.sha256 in own} | {pipeline}
        # A wheel that nobody looked into is judged by its project.
        offered = [
            r
            for r in revisions
            if r.sha256 in own or (r.sha256 not in known and r.project in projects)
        ]
        if not offered and not any(subject.name == pipeline for subject in subjects):
            raise unknown_name(name, subjects, revisions, [])
        # One that its source retains may stay where it runs.
        selectable = {
            r.version
            for r in offered
            if r.availability is Availability.SELECTABLE or r.sha256 in own
        }
        failed = [q for q in journal.quarantines(pipeline) if q.subject.version in selectable]
        return cls(pipeline, frozenset(selectable), tuple(failed))

    def __str__(self) -> str:
        if not self.versions:
            return "no version of it is listed"
        return f"listed are {_listed(sorted(self.versions, reverse=True))}"


def _listed(versions: Iterable[Version]) -> str:
    return ", ".join(map(str, versions))
