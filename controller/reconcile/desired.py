"""From what the sources list to what should run: candidates, verdicts, placements.

Decisions are made in `planning`; here the facts for them are gathered from the supply, and each
elected release that is ready is rendered into its placement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from controller.cache.author_options import effective, effective_settings
from controller.config.settings import PipelinePolicy
from controller.errors import Rejected, Waiting, WheelwayError, without_frames
from controller.model import Artifact, Condition, Environment, Placement, Quarantine, Release
from controller.planning import ownership
from controller.planning.overrides import NOTHING_ORDERED
from controller.planning.ownership import is_offered, project_of
from controller.planning.policy import (
    CONFLICT,
    MISSING,
    STANDS_IN,
    Candidate,
    Case,
    Verdict,
    elect,
    rule_for,
    undecided,
    unmet,
)
from controller.planning.remembered import Remembered
from controller.planning.situation import serving
from controller.reconcile.inventory import Inventory, Recorded, Stocktaking, failed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.tags import Tag

    from controller.config.settings import Config
    from controller.model import Application, PipelineEntry, PlacementRecord
    from controller.planning.disappearance import Absences
    from controller.planning.overrides import Overrides, Pin
    from controller.reconcile.artifacts import Artifacts
    from controller.serve.rendering import Renderer


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
    look_in: float = float("inf")
    """Seconds within which to look again."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one pass knows before anything is judged."""

    inventory: Inventory
    ours: Sequence[Application]
    """What is on the cluster of wheelway's."""
    present: frozenset[Release]
    """Its releases."""
    records: Mapping[str, PlacementRecord]
    serving: frozenset[Release]
    """The releases that serve, or would again."""
    pins: Mapping[str, Pin]
    owners: Mapping[str, str]
    """Those recorded."""
    common: str
    now: float
    grace: float


class Election:
    """Gathers the desired state of one configuration, pass by pass.

    What follows from inputs that stayed the same is remembered, by project, pipeline and release:
    a pass costs what is listed a few comparisons each, and what changed the work on it.
    `absences` is memory, too, but of what was seen when: it decides.
    """

    def __init__(
        self,
        config: Config,
        supply: Artifacts,
        renderer: Renderer,
        *,
        tags: Sequence[Tag],
        absences: Absences,
    ) -> None:
        self._artifacts = supply
        self._renderer = renderer
        self._absences = absences
        self._names = ownership.Names()
        self._stocktaking = Stocktaking(config, supply, tags=tags)
        self._verdicts = Remembered(elect)
        self._placed = Remembered(self._rendered)
        self.renew(config)

    def renew(self, config: Config) -> None:
        """Go by another configuration from now on; what it does not change stays remembered."""
        self._config = config
        self._stocktaking.renew(config)
        parts = (config.serve, config.environments, config.inspection)
        ingress = config.ray.ingress_url  # with another one, what failed at it may answer
        self._sections = [ingress, *(part.model_dump_json() for part in parts)]
        self._rules: Remembered[str, PipelinePolicy] = Remembered(
            lambda name: rule_for(name, config)
        )
        self._manners: Remembered[str, PipelinePolicy] = Remembered(
            lambda name: _manner(rule_for(name, config))
        )

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
        common = "\n".join([fingerprint, *self._sections])
        recorded = {quarantine.release: quarantine for quarantine in quarantines}
        inventory = self._stocktaking.take(Recorded(recorded, overrides.pins, common), now)
        ours = [app for app in applications if app.release is not None]
        seen = _Seen(
            inventory,
            ours,
            frozenset(app.release for app in ours if app.release is not None),
            records,
            serving(applications, records),
            overrides.pins,
            owners,
            common,
            now,
            grace,
        )
        found = Desired(
            inputs=inventory.inputs,
            sources=inventory.sources,
            quarantines={failure.release: failure for failure in inventory.unsound.values()},
            failed=list(inventory.failed),
            conditions=[*self._artifacts.conditions(), *inventory.conditions],
            unread=inventory.unread,
        )
        for release, failure in recorded.items():  # with still the inputs that it failed with
            if inventory.inputs.get(release) == failure.inputs:
                found.quarantines[release] = failure
        self._judge(seen, found)
        for verdict in found.verdicts:
            if verdict.elected and verdict.reason != STANDS_IN:
                self._place(verdict.release, seen, found)
        for remembered in (self._rules, self._manners, self._verdicts, self._placed):
            remembered.forget_unused()
        return found

    # -- the verdicts ----------------------------------------------------------------------------

    def _judge(self, seen: _Seen, found: Desired) -> None:
        """Have policy judge every pipeline that is offered or present."""
        offers = self._offers(seen, found)
        serving, present = _by_pipeline(seen.serving), _by_pipeline(seen.present)
        names = sorted({*offers, *present})
        owners = found.owners = self._owners(seen, offers)
        unlisted = {
            release
            for name in names
            for release in serving.get(name, _NONE) | present.get(name, _NONE)
            if not is_offered(release, offers.get(name, ()), owners.get(name, ""))
        }
        unknown = self._unknown(unlisted, seen)
        lately = self._absences.lately(unlisted - unknown, seen.now, seen.grace)
        quarantined = _by_pipeline(found.quarantines)
        missing = _by_pipeline(unknown | lately)
        waited_for = str(self._names.unknown)  # once a pass: it may be thousands of wheels
        for name in names:
            case = Case(
                candidates=offers.get(name, ()),
                rule=self._rules.of(name, name),
                pin=seen.pins.get(name),
                serving=serving.get(name, _NONE),
                present=present.get(name, _NONE),
                quarantined=quarantined.get(name, _NONE),
                missing=missing.get(name, _NONE),
                owner=owners.get(name, ""),
            )
            if name in offers and name not in owners:
                found.verdicts.extend(undecided(case, waited_for))
                found.look_in = ownership.LOOK_AGAIN
                continue
            verdicts = self._verdicts.of(name, case)
            if case.missing:
                verdicts = tuple(v for v in verdicts if v.reason != MISSING or v.release in lately)
            found.verdicts.extend(verdicts)
        found.conditions.extend(self._told_of(found.verdicts, offers, seen))

    def _offers(self, seen: _Seen, found: Desired) -> dict[str, tuple[Candidate, ...]]:
        """By pipeline: what the sources offer, as far as it is known."""
        inventory = seen.inventory
        offers = {name: inventory.candidates(name) for name in inventory.shelves}
        for app in seen.ours:
            for claim in self._claims_on(app, inventory, found):
                name = claim.release.pipeline
                offers[name] = (*offers.get(name, ()), claim)
        return offers

    def _told_of(
        self, verdicts: Sequence[Verdict], offers: Mapping[str, Sequence[Candidate]], seen: _Seen
    ) -> Iterator[Condition]:
        """What a person should know of the verdicts: names that two projects claim, unmet pins."""
        for verdict in verdicts:
            if verdict.reason == CONFLICT:
                yield Condition(str(verdict.release), verdict.reason, verdict.message)
        if seen.pins and self._artifacts.complete():
            inventory, refused = seen.inventory, self._artifacts.refusals.of
            claims = [claim for offer in offers.values() for claim in offer]
            unread = [
                revision
                for revision in inventory.catalogue.revisions
                if revision.sha256 not in inventory.artifacts and refused(revision) is None
            ]
            yield from unmet(seen.pins, verdicts, claims, unread)

    def _owners(self, seen: _Seen, offers: Mapping[str, Sequence[Candidate]]) -> dict[str, str]:
        """Whose each pipeline's name is."""
        on_cluster = {(app.release.pipeline, project_of(app)) for app in seen.ours if app.release}
        listed, complete = self._artifacts.listed(), self._artifacts.complete()
        projects = seen.inventory.catalogue.projects
        facts = ownership.Facts(
            offers,
            ordered=lambda name: self._rules.of(name, name).project,
            recorded=seen.owners,
            there=lambda name, owner: (
                not complete
                or owner in projects
                or owner in listed.unobserved
                or (name, owner) in on_cluster
            ),
            serving=ownership.served_longest(seen.ours, seen.records),
            present={name for name, _ in on_cluster},
            first_seen=self._artifacts.first_seen,
        )
        unknown = ownership.Unknown(seen.inventory.awaited, self._artifacts.unlisted())
        return self._names.owners_of(facts, unknown, seen.now)

    def _claims_on(self, app: Application, inventory: Inventory, found: Desired) -> list[Candidate]:
        """Listed wheels that claim a running release's route though their inside is not known:
        its own bytes, when they are not fetched in this run yet, and bad bytes in their place.
        """
        release, unsound = app.release, inventory.unsound
        if release is None or (release.digest in inventory.artifacts and not unsound):
            return []
        catalogue, claims = inventory.catalogue, []
        same = catalogue.digests.get(release.digest, ())
        instead = (
            revision
            for revision in catalogue.projects.get(project_of(app), ())
            if revision in unsound and revision.version == release.version
        )
        for revision in sorted({*same, *instead}, key=catalogue.places.__getitem__):
            if revision.sha256 in inventory.artifacts:
                continue
            claim = Release(release.pipeline, revision.version, revision.sha256)
            claims.append(Candidate(claim, revision.project, revision.source, revision.standing))
            if revision in unsound:
                found.quarantines.setdefault(claim, unsound[revision])
        return claims

    def _unknown(self, unlisted: set[Release], seen: _Seen) -> set[Release]:
        """Those that no known wheel offers, but one may that nobody has looked into yet."""
        if not unlisted or not self._artifacts.complete():
            return unlisted
        inventory = seen.inventory
        listed = self._artifacts.listed()
        unread, unobserved = listed.unread, listed.unobserved
        refused, unknown = self._artifacts.refusals.of, set()
        for app in seen.ours:
            release, project = app.release, project_of(app)
            if release is None or release not in unlisted:
                continue
            unseen = any(
                revision.version == release.version
                and (revision.sha256 not in inventory.artifacts or refused(revision) is not None)
                and revision not in inventory.unsound
                for revision in inventory.catalogue.projects.get(project, ())
            )
            if unseen or project in unobserved or (project, release.version) in unread:
                unknown.add(release)
        return unknown

    # -- the placements --------------------------------------------------------------------------

    def _place(self, release: Release, seen: _Seen, found: Desired) -> None:
        """Render an elected release, once its environment is there."""
        known = seen.inventory.entries.get(release)
        if known is None:
            return
        artifact, entry = known
        if artifact.notes:
            note = Condition(str(release), "WithoutEffect", "; ".join(artifact.notes), ok=True)
            found.conditions.append(note)
        placed: Placement | WheelwayError | None
        stage = "prepare"
        if (refusal := entry.refusal) is not None:
            stage, placed = "wishes", Rejected(refusal.reason, refusal.message)
        else:
            placed = self._placement(release, artifact, entry, seen)
        if isinstance(placed, Placement):
            found.placements[release] = placed
        elif isinstance(placed, Rejected):  # the release's own fault
            failure = failed(release, stage, placed, seen.inventory.inputs[release], seen.now)
            found.quarantines[release] = failure
            found.failed.append(failure)
        elif placed is not None:
            found.conditions.append(Condition(str(release), placed.reason, placed.message))

    def _placement(
        self, release: Release, artifact: Artifact, entry: PipelineEntry, seen: _Seen
    ) -> Placement | WheelwayError | None:
        environment = self._artifacts.environment(artifact)
        rule = self._manners.of(release.pipeline, release.pipeline)
        try:
            if environment is None:
                self._renderer.expect(effective(self._config.serve, entry.options, rule))
            if not isinstance(environment, Environment):
                return environment
            # That digest tells settings apart that are equal to Python, as 0 and false are.
            digest = seen.inventory.inputs[release]
            inputs = (release, artifact, entry, environment, rule, seen.common, digest)
            return self._placed.of(release, inputs)
        except (Rejected, Waiting) as error:  # whatever comes of the environment; or not of inputs
            return without_frames(error)

    def _rendered(
        self,
        inputs: tuple[Release, Artifact, PipelineEntry, Environment, PipelinePolicy, str, str],
    ) -> Placement | WheelwayError:
        """A release's placement, or why there is none."""
        release, artifact, entry, environment, rule, *_ = inputs
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
        except Waiting:
            raise
        except WheelwayError as error:
            return without_frames(error)


def _manner(rule: PipelinePolicy) -> PipelinePolicy:
    """What a rule says of how releases run: whatever else it says makes no other placements."""
    return PipelinePolicy(name=rule.name, options=rule.options, settings=rule.settings)


_NONE: frozenset[Release] = frozenset()


def _by_pipeline(releases: Iterable[Release]) -> dict[str, frozenset[Release]]:
    grouped: dict[str, list[Release]] = {}
    for release in releases:
        grouped.setdefault(release.pipeline, []).append(release)
    return {name: frozenset(group) for name, group in grouped.items()}
