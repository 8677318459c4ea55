"""From what the sources list to what should run: candidates, verdicts, placements.

Decisions are made in `planning`; here the facts for them are gathered from the supply, and each
elected release that is ready is rendered into its placement.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from controller.cache.wishes import effective, effective_settings
from controller.errors import NoRelease, Rejected, WheelwayError, without_frames
from controller.model import (
    NOTHING_ORDERED,
    Artifact,
    Condition,
    Environment,
    Placement,
    Quarantine,
    Release,
)
from controller.planning.catalogue import Catalogue, Catalogues
from controller.planning.ownership import of_others, owners_of
from controller.planning.policy import (
    CONFLICT,
    MISSING,
    STANDS_IN,
    Candidate,
    Case,
    Verdict,
    judge,
    rule_for,
    unfetched,
    unmet,
)
from controller.planning.remembered import Remembered
from controller.planning.shelf import Shelf, Wheels, is_of, shelve
from controller.planning.situation import standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packaging.tags import Tag

    from controller.config import Config, PipelinePolicy
    from controller.model import (
        Application,
        Overrides,
        Pin,
        PipelineEntry,
        PlacementRecord,
        Revision,
    )
    from controller.planning.absence import Absences
    from controller.serve.rendering import Renderer
    from controller.supply import Supply


@dataclass(slots=True)
class Desired:
    """What should run, and what stands in the way; gathered anew in every pass."""

    verdicts: list[Verdict] = field(default_factory=list)
    placements: dict[Release, Placement] = field(default_factory=dict)
    inputs: dict[Release, str] = field(default_factory=dict)
    sources: dict[Release, str] = field(default_factory=dict)
    quarantines: dict[Release, Quarantine] = field(default_factory=dict)
    """Those that hold with the releases' present inputs, new ones included."""
    failed: list[Quarantine] = field(default_factory=list)
    """The new ones among them."""
    conditions: list[Condition] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)
    """By pipeline: the project that owns its name."""
    unread: list[str] = field(default_factory=list)
    """File names of the wheels that are being fetched and looked into."""


@dataclass(slots=True)
class _Gathering:
    """One pass on its way from what is listed to what should run."""

    catalogue: Catalogue
    recorded: Mapping[Release, Quarantine]
    pins: Mapping[str, Pin]
    common: str
    """What every release's chance depends on."""
    now: float
    found: Desired
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    """The inspected wheels, by digest."""
    unsound: dict[Revision, Quarantine] = field(default_factory=dict)
    """The wheels that failed inspection."""
    entries: dict[Release, tuple[Artifact, PipelineEntry]] = field(default_factory=dict)
    shelves: dict[str, list[Shelf]] = field(default_factory=dict)
    """By pipeline: those that have it."""
    present: frozenset[Release] = frozenset()
    """The releases on the cluster."""
    recorded_owners: Mapping[str, str] = field(default_factory=dict)


class Election:
    """Gathers the desired state of one configuration, pass by pass.

    What follows from inputs that stayed the same is remembered, by project, pipeline and release:
    a pass costs what is listed a few comparisons each, and what changed the work on it.
    `absences` is memory, too, but of what was seen when: it decides.
    """

    def __init__(
        self,
        config: Config,
        supply: Supply,
        renderer: Renderer,
        *,
        tags: Sequence[Tag],
        absences: Absences,
    ) -> None:
        self._config = config
        self._supply = supply
        self._renderer = renderer
        self._absences = absences
        self._catalogues = Catalogues(tags)
        parts = (config.serve, config.environments, config.inspection)
        ingress = config.ray.ingress_url  # with another one, what failed at it may answer
        self._sections = [ingress, *(part.model_dump_json() for part in parts)]
        self._rules = Remembered(self._rule_for)
        self._shelves = Remembered(shelve)
        self._inputs_of = Remembered(self._inputs_on)
        self._wanted = Remembered(self._unfetched)
        self._verdicts = Remembered(judge)
        self._placed = Remembered(self._rendered)

    def desired(
        self,
        applications: Sequence[Application],
        records: Mapping[str, PlacementRecord],
        quarantines: Sequence[Quarantine],
        now: float,
        *,
        fingerprint: str = "",
        overrides: Overrides = NOTHING_ORDERED,
        grace: float = 0.0,
        owners: Mapping[str, str] = MappingProxyType({}),
    ) -> Desired:
        """What should run, as far as it is known now. Starts the work that is missing.

        Args:
            applications: what is on the cluster.
            records: what is remembered of it, by name.
            quarantines: those recorded, whatever inputs they were with.
            now: seconds since the epoch.
            fingerprint: stands for everything beside the configuration that a release's chance
                depends on: the interpreter, Ray's and wheelway's versions, the templates.
            overrides: hold over policy.
            grace: seconds that a version must be missing before it counts as absent.
            owners: those recorded, by pipeline (`Desired.owners`).
        """
        gathered = _Gathering(
            catalogue=self._catalogues.of(self._supply.listings().values()),
            recorded={quarantine.release: quarantine for quarantine in quarantines},
            pins=overrides.pins,
            common="\n".join([fingerprint, *self._sections]),
            now=now,
            found=Desired(conditions=self._supply.conditions()),
            present=frozenset(app.release for app in applications if app.release is not None),
            recorded_owners=owners,
        )
        self._look_inside(gathered)
        self._hold(gathered)
        self._judge(gathered, applications, records, grace)
        for verdict in gathered.found.verdicts:
            if verdict.elected and verdict.reason != STANDS_IN:
                self._place(verdict.release, gathered)
        for remembered in (
            *(self._rules, self._shelves, self._inputs_of, self._wanted),
            *(self._verdicts, self._placed),
        ):
            remembered.forget_unused()
        return gathered.found

    # -- the wheels ------------------------------------------------------------------------------

    def _look_inside(self, gathered: _Gathering) -> None:
        """Gather what the wheels offer. Those that policy wants and nobody fetched are asked for;
        those that fail inspection are quarantined under their project's name.
        """
        self._unsound(gathered)
        catalogue, unsound = gathered.catalogue, gathered.unsound
        for revision in catalogue.revisions:
            known = self._supply.known(revision)
            if known is not None and (not unsound or revision not in unsound):
                gathered.artifacts[revision.sha256] = known
        offers = {
            project: self._offers(project, revisions, gathered)
            for project, revisions in catalogue.projects.items()
        }
        held = self._held(offers.values(), gathered)
        brought = [
            digest
            for project, offer in offers.items()
            for digest in self._fetch(project, offer, held, gathered)
        ]
        for project in {r.project for digest in brought for r in catalogue.digests[digest]}:
            offers[project] = self._offers(project, catalogue.projects[project], gathered)
        for project, (_, shelf) in offers.items():
            gathered.entries.update(shelf.entries)
            gathered.found.sources.update(shelf.sources)
            gathered.found.inputs.update(self._inputs_of.of(project, (shelf, gathered.common)))
            for name in shelf.claims:
                gathered.shelves.setdefault(name, []).append(shelf)

    def _unsound(self, gathered: _Gathering) -> None:
        """Find the listed wheels that failed inspection as it would be made now."""
        for failure in gathered.recorded.values():
            if failure.stage != "inspect":
                continue
            named = failure.release
            inputs = self._inputs(named, {}, {}, gathered.common)
            for revision in gathered.catalogue.projects.get(named.pipeline, ()):
                same = (revision.version, revision.sha256) == (named.version, named.digest)
                if same and failure.inputs == inputs:
                    gathered.unsound[revision] = failure
                    gathered.found.quarantines[named] = failure

    def _offers(
        self, project: str, revisions: tuple[Revision, ...], gathered: _Gathering
    ) -> tuple[Wheels, Shelf]:
        artifacts = gathered.artifacts
        inside = tuple([artifacts.get(revision.sha256) for revision in revisions])
        wheels = Wheels(revisions, inside)
        return wheels, self._shelves.of(project, wheels)

    def _held(
        self, offers: Iterable[tuple[Wheels, Shelf]], gathered: _Gathering
    ) -> dict[str, set[Release]]:
        """By pipeline: releases whose quarantine holds with their present inputs."""
        held: dict[str, set[Release]] = {}
        if not gathered.recorded:
            return held
        for _, shelf in offers:
            for release in gathered.recorded.keys() & shelf.entries.keys():
                _, entry = shelf.entries[release]
                inputs = self._inputs(release, entry.options, entry.settings, gathered.common)
                if gathered.recorded[release].inputs == inputs:
                    held.setdefault(release.pipeline, set()).add(release)
        return held

    def _fetch(
        self,
        project: str,
        offer: tuple[Wheels, Shelf],
        held: Mapping[str, set[Release]],
        gathered: _Gathering,
    ) -> list[str]:
        """Ask for a project's wheels that must be looked into; the digests of those that were
        brought at once.
        """
        wheels, shelf = offer
        failed = frozenset(r for name in held.keys() & shelf.claims.keys() for r in held[name])
        pins = tuple(gathered.pins[name] for name in gathered.pins.keys() & shelf.claims.keys())
        refused = self._supply.refusals.of
        bad = frozenset(r for r in wheels.revisions if r in gathered.unsound or refused(r))
        wanted = self._wanted.of(project, (wheels, failed, pins, bad))
        brought = []
        for revision in wanted:
            result = self._supply.artifact(revision)
            as_release = Release(revision.project, revision.version, revision.sha256)
            if isinstance(result, Artifact):
                gathered.artifacts[revision.sha256] = result
                brought.append(revision.sha256)
            elif isinstance(result, NoRelease):
                continue  # the supply tells of it
            elif isinstance(result, Rejected):
                inputs = self._inputs(as_release, {}, {}, gathered.common)
                gathered.found.sources[as_release] = revision.source
                gathered.unsound[revision] = _fail(gathered, as_release, "inspect", result, inputs)
            elif isinstance(result, WheelwayError):
                subject = revision.filename
                gathered.found.conditions.append(Condition(subject, result.reason, result.message))
            else:
                gathered.found.unread.append(revision.filename)
        return brought

    def _unfetched(
        self,
        inputs: tuple[Wheels, frozenset[Release], tuple[Pin, ...], frozenset[Revision]],
    ) -> tuple[Revision, ...]:
        """What must be looked into of a project: what policy wants, and what has a wrong name."""
        wheels, failed, pins, bad = inputs
        inside = {
            revision.sha256: artifact
            for revision, artifact in zip(*wheels, strict=True)
            if artifact is not None
        }
        sound = [revision for revision in wheels.revisions if revision not in bad]
        by_name = {pin.pipeline: pin for pin in pins}
        wanted = unfetched(sound, inside, self._config, failed, by_name)
        misnamed = [r for r in sound if r.sha256 in inside and not is_of(inside[r.sha256], r)]
        return *wanted, *misnamed

    def _hold(self, gathered: _Gathering) -> None:
        """Keep the quarantines whose inputs are still those of the attempt that failed."""
        found = gathered.found
        for release, failure in gathered.recorded.items():
            if found.inputs.get(release) == failure.inputs:
                found.quarantines[release] = failure

    # -- the verdicts ----------------------------------------------------------------------------

    def _judge(
        self,
        gathered: _Gathering,
        applications: Sequence[Application],
        records: Mapping[str, PlacementRecord],
        grace: float,
    ) -> None:
        """Have policy judge every pipeline that is offered or present."""
        found = gathered.found
        offers = {name: _merged(name, gathered) for name in gathered.shelves}
        ours = [app for app in applications if app.release is not None]
        for app in ours:
            for claim in self._claims_on(app, gathered):
                name = claim.release.pipeline
                offers[name] = (*offers.get(name, ()), claim)
        serving = _by_pipeline(standing(applications, records))
        present = _by_pipeline(app.release for app in ours if app.release is not None)
        names = sorted({*offers, *present})
        owners = found.owners = self._owners(gathered, offers, ours, records)
        unlisted = {
            release
            for name in names
            for release in serving.get(name, _NONE) | present.get(name, _NONE)
            if not _is_offered(release, offers.get(name, ()), owners.get(name, ""))
        }
        unknown = self._unknown(unlisted, ours, gathered)
        lately = self._absences.lately(unlisted - unknown, gathered.now, grace)
        quarantined = _by_pipeline(found.quarantines)
        missing = _by_pipeline(unknown | lately)
        for name in names:
            case = Case(
                candidates=offers.get(name, ()),
                rule=self._rules.of(name, name),
                pin=gathered.pins.get(name),
                serving=serving.get(name, _NONE),
                present=present.get(name, _NONE),
                quarantined=quarantined.get(name, _NONE),
                missing=missing.get(name, _NONE),
                owner=owners.get(name, ""),
            )
            verdicts = self._verdicts.of(name, case)
            if case.missing:
                verdicts = tuple(v for v in verdicts if v.reason != MISSING or v.release in lately)
            found.verdicts.extend(verdicts)
        found.conditions.extend(
            Condition(str(verdict.release), verdict.reason, verdict.message)
            for verdict in found.verdicts
            if verdict.reason == CONFLICT
        )
        if gathered.pins and self._supply.complete():
            claims = [claim for offer in offers.values() for claim in offer]
            refused = self._supply.refusals.of
            unread = [
                revision
                for revision in gathered.catalogue.revisions
                if revision.sha256 not in gathered.artifacts and refused(revision) is None
            ]
            found.conditions.extend(unmet(gathered.pins, found.verdicts, claims, unread))

    def _owners(
        self,
        gathered: _Gathering,
        offers: Mapping[str, Sequence[Candidate]],
        ours: Sequence[Application],
        records: Mapping[str, PlacementRecord],
    ) -> dict[str, str]:
        """Whose each pipeline's name is."""
        serving: dict[str, tuple[float, str]] = {}
        for app in ours:
            record = records.get(app.name)
            if app.release is not None and record is not None and record.live_at is not None:
                since = (record.live_at, _project(app))
                name = app.release.pipeline
                serving[name] = min(serving.get(name, since), since)
        on_cluster = {(app.release.pipeline, _project(app)) for app in ours if app.release}
        listed, complete = gathered.catalogue.projects, self._supply.complete()
        return owners_of(
            offers,
            ordered=lambda name: self._rules.of(name, name).project,
            recorded=gathered.recorded_owners,
            there=lambda name, owner: (
                not complete or owner in listed or (name, owner) in on_cluster
            ),
            serving={name: project for name, (_, project) in serving.items()},
            first_seen=self._supply.first_seen,
        )

    def _claims_on(self, app: Application, gathered: _Gathering) -> list[Candidate]:
        """Listed wheels that claim a running release's route though their inside is not known:
        its own bytes, when they are not fetched in this run yet, and bad bytes in their place.
        """
        release = app.release
        if release is None or (release.digest in gathered.artifacts and not gathered.unsound):
            return []
        catalogue, claims = gathered.catalogue, []
        same = catalogue.digests.get(release.digest, ())
        instead = (
            revision
            for revision in catalogue.projects.get(_project(app), ())
            if revision in gathered.unsound and revision.version == release.version
        )
        for revision in sorted({*same, *instead}, key=catalogue.places.__getitem__):
            if revision.sha256 in gathered.artifacts:
                continue
            claim = Release(release.pipeline, revision.version, revision.sha256)
            claims.append(Candidate(claim, revision.project, revision.source, revision.standing))
            if revision in gathered.unsound:
                gathered.found.quarantines.setdefault(claim, gathered.unsound[revision])
        return claims

    def _unknown(
        self, unlisted: set[Release], ours: Sequence[Application], gathered: _Gathering
    ) -> set[Release]:
        """Those that no known wheel offers, but one may that nobody has looked into yet."""
        if not unlisted or not self._supply.complete():
            return unlisted
        unread, unobserved = self._supply.unread(), self._supply.unobserved()
        unknown = set()
        for app in ours:
            release, project = app.release, _project(app)
            if release is None or release not in unlisted:
                continue
            unseen = any(
                revision.version == release.version
                and revision.sha256 not in gathered.artifacts
                and revision not in gathered.unsound
                for revision in gathered.catalogue.projects.get(project, ())
            )
            if unseen or project in unobserved or (project, release.version) in unread:
                unknown.add(release)
        return unknown

    # -- the placements --------------------------------------------------------------------------

    def _place(self, release: Release, gathered: _Gathering) -> None:
        """Render an elected release, once its environment is there."""
        if release not in gathered.entries:
            return
        artifact, entry = gathered.entries[release]
        if artifact.notes:
            note = Condition(str(release), "WithoutEffect", "; ".join(artifact.notes), ok=True)
            gathered.found.conditions.append(note)
        if (refusal := entry.refusal) is not None:
            error = Rejected(refusal.reason, refusal.message)
            _fail(gathered, release, "wishes", error, gathered.found.inputs[release])
            return
        environment = self._supply.environment(artifact, runs=release in gathered.present)
        placed: Placement | WheelwayError | None
        if isinstance(environment, Environment):
            rule = self._rules.of(release.pipeline, release.pipeline)
            offered = (release, artifact, entry, environment, rule, gathered.common)
            placed = self._placed.of(release, offered)
        else:
            placed = environment
        if isinstance(placed, Placement):
            gathered.found.placements[release] = placed
        elif isinstance(placed, Rejected):  # the release's own fault
            _fail(gathered, release, "prepare", placed, gathered.found.inputs[release])
        elif placed is not None:
            condition = Condition(str(release), placed.reason, placed.message)
            gathered.found.conditions.append(condition)

    def _rendered(
        self,
        inputs: tuple[Release, Artifact, PipelineEntry, Environment, PipelinePolicy, str],
    ) -> Placement | WheelwayError:
        """A release's placement, or why there is none."""
        release, artifact, entry, environment, rule, _ = inputs
        serve = self._config.serve
        try:
            return self._renderer.place(
                release,
                entry,
                artifact,
                environment,
                effective(serve, entry.options, rule),
                effective_settings(entry.settings, rule),
            )
        except WheelwayError as error:
            return without_frames(error)

    # -- inputs ----------------------------------------------------------------------------------

    def _rule_for(self, name: str) -> PipelinePolicy:
        return rule_for(name, self._config)

    def _inputs_on(self, inputs: tuple[Shelf, str]) -> dict[Release, str]:
        shelf, common = inputs
        return {
            release: self._inputs(release, entry.options, entry.settings, common)
            for release, (_, entry) in shelf.entries.items()
        }

    def _inputs(
        self,
        release: Release,
        wishes: Mapping[str, object],
        settings: Mapping[str, object],
        common: str,
    ) -> str:
        """A digest of everything but the bytes that decides whether the release can run."""
        rule = self._rules.of(release.pipeline, release.pipeline)
        own = [dict(wishes), dict(settings), rule.settings, rule.options.model_dump_json()]
        text = f"{common}\n{json.dumps(own, sort_keys=True, default=str)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _merged(name: str, gathered: _Gathering) -> tuple[Candidate, ...]:
    """What several projects offer of one pipeline, in order of preference."""
    shelves = gathered.shelves[name]
    if len(shelves) == 1:
        return shelves[0].candidates[name]
    claims = [claim for shelf in shelves for claim in shelf.claims[name]]
    claims.sort(key=lambda claim: gathered.catalogue.places[claim.revision])
    return tuple(claim.candidate for claim in claims)


def _fail(
    gathered: _Gathering, release: Release, stage: str, error: Rejected, inputs: str
) -> Quarantine:
    failure = Quarantine(
        release, stage, error.reason, error.message, inputs, error.log_tail, gathered.now
    )
    gathered.found.quarantines[release] = failure
    gathered.found.failed.append(failure)
    return failure


def _is_offered(release: Release, offered: Sequence[Candidate], owner: str) -> bool:
    """Whether a source offers the release itself, or its name's owner that version."""
    others = {candidate.release for candidate in of_others(offered, owner)}
    return release in others or any(
        release.version == candidate.release.version
        for candidate in offered
        if candidate.release not in others
    )


_NONE: frozenset[Release] = frozenset()


def _by_pipeline(releases: Iterable[Release]) -> dict[str, frozenset[Release]]:
    grouped: dict[str, list[Release]] = {}
    for release in releases:
        grouped.setdefault(release.pipeline, []).append(release)
    return {name: frozenset(group) for name, group in grouped.items()}


def _project(app: Application) -> str:
    """The distribution that a running release came from, by its own arguments."""
    arguments = (app.document or {}).get("args") or {}
    return str(arguments.get("release", {}).get("project", ""))
