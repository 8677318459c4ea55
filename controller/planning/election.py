"""A verdict on every release that is offered or present: pure, but for what it remembers.

Policy judges each pipeline by itself (`policy.elect`). Its inputs are put together here: whose each
name is (`ownership`), which offers were not inspected, and what is missing, perhaps only for a
moment (`disappearance`). The reconciler gathers the facts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.model import Condition, Release
from controller.planning import ownership
from controller.planning.catalogue import Catalogue
from controller.planning.ownership import is_offered
from controller.planning.policy import CONFLICT, MISSING, Candidate, Case, elect, undecided, unmet
from controller.planning.remembered import Remembered
from controller.planning.situation import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from packaging.version import Version

    from controller.config.settings import PipelinePolicy
    from controller.model import PlacementRecord, Quarantine, Revision
    from controller.observed import Application
    from controller.planning.disappearance import Absences
    from controller.planning.overrides import Pin
    from controller.planning.policy import Verdict


@dataclass(frozen=True, slots=True)
class Offered:
    """What the sources offer, as far as it was inspected."""

    candidates: Mapping[str, tuple[Candidate, ...]]
    """By pipeline: the offers of inspected wheels, in order of preference."""
    inspected: Collection[str]
    """Digests of these wheels."""
    complete: bool
    """Whether each source was listed; until then what is not offered is unknown, not gone."""
    catalogue: Catalogue = field(default_factory=Catalogue)
    """All that is listed and can be had."""
    unsound: Mapping[Revision, Quarantine] = field(default_factory=dict)
    """The wheels that failed inspection."""
    is_refused: Callable[[Revision], object | None] = lambda _: None
    """Whether a wheel is known to be no release's."""
    awaited: Collection[Revision] = ()
    """Wheels that are to be inspected."""
    unlisted: Collection[str] = ()
    """Sources, and projects of sources, of which nothing was ever listed; for a person."""
    unread: Collection[tuple[str, Version]] = ()
    """Projects and versions of files that are there but cannot be read yet, or at all."""
    unobserved: Collection[str] = ()
    """Projects whose files could not all be listed."""
    first_seen: Callable[[str], float] = lambda _: 0.0
    """When the wheel of a digest was first seen, in seconds."""


@dataclass(frozen=True, slots=True)
class Present:
    """What is on the cluster, and what was recorded and ordered."""

    applications: Sequence[Application]
    """Those of wheelway's."""
    records: Mapping[str, PlacementRecord]
    """By application name."""
    quarantines: Mapping[Release, Quarantine]
    """Those that hold with the releases' present inputs."""
    pins: Mapping[str, Pin] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    """By pipeline: the project that owned its name so far."""

    @property
    def releases(self) -> Iterator[Release]:
        """Of these applications, serving or not."""
        return (app.release for app in self.applications if app.release is not None)


@dataclass(slots=True)
class Elected:
    """What an election comes to."""

    verdicts: list[Verdict] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)
    """By pipeline: the project that owns its name."""
    quarantines: dict[Release, Quarantine] = field(default_factory=dict)
    """Those of bad bytes that claim a running release's place."""
    conditions: list[Condition] = field(default_factory=list)
    recheck_in: float = float("inf")
    """Seconds within which to look again."""
    is_timeless: bool = True
    """Whether the same facts give the same result at any later time."""


class Election:
    """The verdicts of one daemon, pass by pass.

    Verdicts on a pipeline are remembered while their inputs stay the same, which only saves time.
    `absences`, and since when names wait, are memory that decides.
    """

    def __init__(self, absences: Absences) -> None:
        self._absences = absences
        self._names = ownership.Names()
        self._verdicts = Remembered(elect)

    def judge(
        self,
        offered: Offered,
        present: Present,
        rule_of: Callable[[str], PipelinePolicy],
        now: float,
        *,
        grace: float = 0.0,
    ) -> Elected:
        """Have policy judge every pipeline that is offered or present. Call it every pass.

        Args:
            offered: by the sources.
            present: on the cluster.
            rule_of: the operator's rule for a pipeline.
            now: seconds since the epoch.
            grace: seconds that a version must be missing before it counts as absent.
        """
        found = Elected()
        offers = _offers(offered, present, found)
        served = _by_pipeline(serving(present.applications, present.records))
        there = _by_pipeline(present.releases)
        names = sorted({*offers, *there})
        owners = found.owners = self._owners(offers, offered, present, rule_of, now)
        unlisted = {
            release
            for name in names
            for release in served.get(name, _NONE) | there.get(name, _NONE)
            if not is_offered(release, offers.get(name, ()), owners.get(name, ""))
        }
        unknown = _unknown(unlisted, offered, present)
        lately = self._absences.lately(unlisted - unknown, now, grace)
        found.is_timeless = not unlisted and not self._names.are_waited_for
        quarantined = _by_pipeline({**found.quarantines, **present.quarantines})
        missing = _by_pipeline(unknown | lately)
        waited_for = str(self._names.unknown)  # once a pass: it may be thousands of wheels
        for name in names:
            case = Case(
                candidates=offers.get(name, ()),
                rule=rule_of(name),
                pin=present.pins.get(name),
                serving=served.get(name, _NONE),
                present=there.get(name, _NONE),
                quarantined=quarantined.get(name, _NONE),
                missing=missing.get(name, _NONE),
                owner=owners.get(name, ""),
            )
            if name in offers and name not in owners:
                found.verdicts.extend(undecided(case, waited_for))
                found.recheck_in = ownership.RECHECK
                continue
            verdicts = self._verdicts.of(name, case)
            if case.missing:
                verdicts = tuple(v for v in verdicts if v.reason != MISSING or v.release in lately)
            found.verdicts.extend(verdicts)
        found.conditions.extend(_told_of(found.verdicts, offers, offered, present))
        self._verdicts.forget_unused()
        return found

    def _owners(
        self,
        offers: Mapping[str, Sequence[Candidate]],
        offered: Offered,
        present: Present,
        rule_of: Callable[[str], PipelinePolicy],
        now: float,
    ) -> dict[str, str]:
        """Whose each pipeline's name is."""
        ours = present.applications
        on_cluster = {(app.release.pipeline, app.project) for app in ours if app.release}
        projects, unobserved = offered.catalogue.projects, offered.unobserved
        facts = ownership.Facts(
            offers,
            ordered=lambda name: rule_of(name).project,
            recorded=present.owners,
            there=lambda name, owner: (
                not offered.complete
                or owner in projects
                or owner in unobserved
                or (name, owner) in on_cluster
            ),
            serving=ownership.served_longest(ours, present.records),
            present={name for name, _ in on_cluster},
            first_seen=offered.first_seen,
        )
        unknown = ownership.Unknown(offered.awaited, offered.unlisted)
        return self._names.owners_of(facts, unknown, now)


def _offers(offered: Offered, present: Present, found: Elected) -> dict[str, tuple[Candidate, ...]]:
    """By pipeline: what the sources offer, as far as it is known."""
    offers = dict(offered.candidates)
    for app in present.applications:
        for claim in _claims_on(app, offered, found):
            name = claim.release.pipeline
            offers[name] = (*offers.get(name, ()), claim)
    return offers


def _claims_on(app: Application, offered: Offered, found: Elected) -> list[Candidate]:
    """Listed wheels that claim a running release's route without being inspected: its own bytes,
    when they were not fetched in this run yet, and bad bytes instead of these.
    """
    release, unsound = app.release, offered.unsound
    if release is None or (release.digest in offered.inspected and not unsound):
        return []
    catalogue, claims = offered.catalogue, []
    same = catalogue.digests.get(release.digest, ())
    instead = (
        revision
        for revision in catalogue.projects.get(app.project, ())
        if revision in unsound and revision.version == release.version
    )
    for revision in sorted({*same, *instead}, key=catalogue.ranks.__getitem__):
        if revision.sha256 in offered.inspected:
            continue
        claim = Release(release.pipeline, revision.version, revision.sha256)
        claims.append(Candidate(claim, revision.project, revision.source, revision.availability))
        if revision in unsound:
            found.quarantines.setdefault(claim, unsound[revision])
    return claims


def _unknown(unlisted: set[Release], offered: Offered, present: Present) -> set[Release]:
    """Releases that no inspected wheel offers, but another may."""
    if not unlisted or not offered.complete:
        return unlisted
    unknown = set()
    for app in present.applications:
        release, project = app.release, app.project
        if release is None or release not in unlisted:
            continue
        unseen = any(
            revision.version == release.version
            and (
                revision.sha256 not in offered.inspected or offered.is_refused(revision) is not None
            )
            and revision not in offered.unsound
            for revision in offered.catalogue.projects.get(project, ())
        )
        cannot_be_read = (project, release.version) in offered.unread
        if unseen or project in offered.unobserved or cannot_be_read:
            unknown.add(release)
    return unknown


def _told_of(
    verdicts: Sequence[Verdict],
    offers: Mapping[str, Sequence[Candidate]],
    offered: Offered,
    present: Present,
) -> Iterator[Condition]:
    """Conditions by the verdicts: names that two projects claim, unmet pins."""
    for verdict in verdicts:
        if verdict.reason == CONFLICT:
            yield Condition(str(verdict.release), verdict.reason, verdict.message)
    if present.pins and offered.complete:
        claims = [claim for offer in offers.values() for claim in offer]
        unread = [
            revision
            for revision in offered.catalogue.revisions
            if revision.sha256 not in offered.inspected and offered.is_refused(revision) is None
        ]
        yield from unmet(present.pins, verdicts, claims, unread)


_NONE: frozenset[Release] = frozenset()


def _by_pipeline(releases: Iterable[Release]) -> dict[str, frozenset[Release]]:
    grouped: dict[str, list[Release]] = {}
    for release in releases:
        grouped.setdefault(release.pipeline, []).append(release)
    return {name: frozenset(group) for name, group in grouped.items()}
