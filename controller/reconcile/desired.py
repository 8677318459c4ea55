"""From what the sources list to what should run: candidates, verdicts, placements.

`planning.election` elects. Here its facts are gathered, and each elected release that is ready is
rendered into its placement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from controller.cache.option_layers import effective, effective_parts, effective_settings
from controller.config.settings import PipelinePolicy
from controller.errors import Rejected, Waiting, WheelwayError, without_frames
from controller.model import Artifact, Condition, Environment, Placement, Quarantine, Release
from controller.planning.election import Election, Offered, Present
from controller.planning.overrides import NOTHING_ORDERED
from controller.planning.ownership import RECHECK
from controller.planning.policy import STANDS_IN, Verdict, rule_for
from controller.planning.remembered import Remembered
from controller.planning.weights import NONE, Choice
from controller.planning.weights_election import NOTHING_RECORDED, WeightsElected
from controller.reconcile.inventory import Inventory, Recorded, Stocktaking, failed, with_weights
from controller.reconcile.weights import WeightsGatherer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from packaging.tags import Tag

    from controller.config.settings import Config
    from controller.model import PipelineEntry, PlacementRecord, Revision, Tracked
    from controller.observed import Application
    from controller.planning.disappearance import Absences
    from controller.planning.overrides import Overrides
    from controller.planning.weights_election import WeightsRecorded
    from controller.reconcile.artifacts import Artifacts
    from controller.serve.rendering import Renderer


@dataclass(slots=True, eq=False)
class Desired:
    """What should run, and what stands in the way. It is shared, so it must not be changed."""

    verdicts: list[Verdict] = field(default_factory=list)
    placements: dict[Release, Placement] = field(default_factory=dict)
    inputs: dict[Release, str] = field(default_factory=dict)
    sources: dict[Tracked, str] = field(default_factory=dict)
    quarantines: dict[Tracked, Quarantine] = field(default_factory=dict)
    """Those that hold with the present inputs, new ones included."""
    failed: list[Quarantine] = field(default_factory=list)
    """The new ones among them."""
    conditions: list[Condition] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)
    """By pipeline: the project that owns its name."""
    unread: list[str] = field(default_factory=list)
    """File names of the wheels that are being fetched and looked into."""
    concerned: set[Release] = field(default_factory=set)
    """The releases that were judged or are on the cluster, of which something may be new."""
    recheck_in: float = float("inf")
    """Seconds within which to look again."""
    weights: WeightsElected = field(default_factory=WeightsElected)


@dataclass(frozen=True, slots=True)
class _Pass:
    """What placements of one pass depend on."""

    inventory: Inventory
    common: str
    """What every release's chance depends on."""
    now: float
    weights: WeightsElected
    present: AbstractSet[Release]


class Gatherer:
    """Gathers the desired state of one configuration, pass by pass.

    Results of inputs that stayed the same are remembered, by project, pipeline and release: a pass
    makes a few comparisons for each listed wheel, and works on what changed. Once time alone
    changes nothing any more, the whole result is remembered until an input changes.
    """

    def __init__(
        self,
        config: Config,
        artifacts: Artifacts,
        renderer: Renderer,
        *,
        tags: Sequence[Tag],
        absences: Absences,
    ) -> None:
        self._artifacts = artifacts
        self._renderer = renderer
        self._election = Election(absences)
        self._stocktaking = Stocktaking(config, artifacts, tags=tags)
        self._weights = WeightsGatherer(config, artifacts)
        self._more: frozenset[Revision] = frozenset()
        self._placed = Remembered(self._rendered)
        self._latest: tuple[tuple[object, ...], Desired] | None = None
        self.renew(config)

    def renew(self, config: Config) -> None:
        """Use another configuration from now on; what it does not change stays remembered."""
        self._config = config
        self._stocktaking.renew(config)
        self._weights.renew(config)
        parts = (config.serve, config.environments, config.inspection)
        ingress = config.ray.ingress_url  # with another one, what failed at it may answer
        self._sections = [ingress, *(part.model_dump_json() for part in parts)]
        self._rules: Remembered[str, PipelinePolicy] = Remembered(
            lambda name: rule_for(name, config)
        )
        self._manners: Remembered[str, PipelinePolicy] = Remembered(
            lambda name: _manner(rule_for(name, config))
        )
        self._latest = None

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
        weights: WeightsRecorded = NOTHING_RECORDED,
    ) -> Desired:
        """What should run, as far as it is known now; the same object as before while nothing is
        another. Starts the work that is missing.

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
            weights: what was recorded of weights, and ordered.
        """
        common = "\n".join([fingerprint, *self._sections])
        recorded = {quarantine.subject: quarantine for quarantine in quarantines}
        of_all = Recorded(recorded, overrides.pins, common, self._more)
        inventory = self._stocktaking.take(of_all, now)
        artifacts = self._artifacts
        hindrances = artifacts.conditions()
        # What else it depends on changes with the inventory, or is asked about each time.
        inputs = (
            *(inventory, artifacts.listed(), artifacts.preparations, hindrances, common),
            *(tuple(applications), records, recorded, overrides, owners, weights),
        )
        if self._latest is not None and self._latest[0] == inputs:
            return self._latest[1]
        found = Desired(
            inputs=inventory.inputs,
            sources=inventory.sources,
            failed=list(inventory.failed),
            conditions=[*hindrances, *inventory.conditions],
            unread=inventory.unread,
        )
        ours = [app for app in applications if app.release is not None]
        weighing = self._weights.begin(inventory, ours, records, weights, now)
        held = {  # with still the inputs that it failed with
            subject: failure
            for subject, failure in recorded.items()
            if isinstance(subject, Release)
            and subject in inventory.inputs
            and failure.inputs
            == with_weights(inventory.inputs[subject], weighing.of(subject).wanted)
        }
        present = Present(ours, records, held, overrides.pins, owners)
        elected = self._election.judge(
            self._offered(inventory), present, self._rule_of, now, grace=grace
        )
        found.verdicts, found.owners = elected.verdicts, elected.owners
        unsound = {failure.subject: failure for failure in inventory.unsound.values()}
        for failures in (elected.quarantines, unsound, held):
            found.quarantines.update(failures.items())
        found.conditions += elected.conditions
        found.recheck_in = elected.recheck_in
        found.concerned = {verdict.release for verdict in found.verdicts}.union(present.releases)
        weighed = weighing.end(verdict.release for verdict in found.verdicts if verdict.elected)
        self._weigh(weighed, inventory, found)
        known = _Pass(inventory, common, now, weighed, frozenset(present.releases))
        for verdict in found.verdicts:
            if verdict.elected and verdict.reason != STANDS_IN:
                self._place(verdict.release, known, found)
        for remembered in (self._rules, self._manners, self._placed):
            remembered.forget_unused()
        running = sum(v.elected and v.reason != STANDS_IN for v in found.verdicts)
        timeless = elected.is_timeless and weighed.is_timeless and weighed.inspect == of_all.more
        at_rest = timeless and not found.failed and len(found.placements) == running
        self._latest = (inputs, found) if at_rest else None
        return found

    def _offered(self, inventory: Inventory) -> Offered:
        listed = self._artifacts.listed()
        return Offered(
            {name: inventory.candidates(name) for name in inventory.shelves},
            inventory.artifacts.keys(),
            complete=self._artifacts.complete(),
            catalogue=inventory.catalogue,
            unsound=inventory.unsound,
            is_refused=self._artifacts.refusals.of,
            awaited=inventory.awaited,
            unlisted=self._artifacts.unlisted(),
            unread=listed.unread,
            unobserved=listed.unobserved,
            first_seen=self._artifacts.first_seen,
        )

    def _rule_of(self, pipeline: str) -> PipelinePolicy:
        return self._rules.of(pipeline, pipeline)

    def _weigh(self, weighed: WeightsElected, inventory: Inventory, found: Desired) -> None:
        """Take in which weights each release has, and what must be looked into for that."""
        found.weights = weighed
        found.conditions += weighed.conditions
        taken = {r: choice.wanted for r, choice in weighed.choices.items() if choice.wanted}
        if taken:
            known = inventory.inputs
            given = {r: with_weights(known[r], w) for r, w in taken.items() if r in known}
            found.inputs = {**known, **given}
        if weighed.inspect != self._more:
            self._more, found.recheck_in = weighed.inspect, 0.0
        elif not weighed.is_timeless:
            found.recheck_in = min(found.recheck_in, RECHECK)

    # -- the placements --------------------------------------------------------------------------

    def _place(self, release: Release, known: _Pass, found: Desired) -> None:
        """Render an elected release, once its environment is there."""
        inside = known.inventory.entries.get(release)
        if inside is None:
            return
        artifact, entry = inside
        found.conditions += self._notes(release, artifact, entry)
        placed: Placement | WheelwayError | None
        stage = "prepare"
        if (refusal := entry.refusal) is not None:
            stage, placed = "wishes", Rejected(refusal.reason, refusal.message)
        elif (why := known.weights.waiting.get(release)) and release not in known.present:
            placed = Waiting("WaitingForWeights", f"its weights come first: {why}")
        else:
            placed = self._placement(release, artifact, entry, known)
        if isinstance(placed, Placement):
            found.placements[release] = placed
        elif isinstance(placed, Rejected):  # the release's own fault
            failure = failed(release, stage, placed, found.inputs[release], known.now)
            found.quarantines[release] = failure
            found.failed.append(failure)
        elif placed is not None:
            found.conditions.append(Condition(str(release), placed.reason, placed.message))

    def _notes(
        self, release: Release, artifact: Artifact, entry: PipelineEntry
    ) -> Iterator[Condition]:
        """What of the wheel, or of the operator's rule for just this pipeline, does nothing."""
        if artifact.notes:
            yield Condition(str(release), "WithoutEffect", "; ".join(artifact.notes), ok=True)
        rule = self._manners.of(release.pipeline, release.pipeline)
        unknown = rule.parts.keys() - {part.name for part in entry.parts} if rule.parts else ()
        if unknown and rule.name == release.pipeline:  # a glob is for many
            names = ", ".join(sorted(unknown))
            why = f"[[pipelines]] has options for {names}, no part of this release: they are idle"
            yield Condition(str(release), "PartUnknown", why, ok=True)

    def _placement(
        self, release: Release, artifact: Artifact, entry: PipelineEntry, known: _Pass
    ) -> Placement | WheelwayError | None:
        environment = self._artifacts.environment(artifact)
        rule = self._manners.of(release.pipeline, release.pipeline)
        try:
            if environment is None:
                serve = self._config.serve
                options = effective(serve, entry.options, rule)
                self._renderer.expect(options, effective_parts(serve, entry, rule))
            if not isinstance(environment, Environment):
                return environment
            # That digest tells settings apart that are equal to Python, as 0 and false are.
            digest = known.inventory.inputs[release]
            weights = known.weights.choices.get(release, NONE)
            # Verdicts on others change nothing.
            taken = Choice(weights.wanted, weights.former, without=weights.without)
            deadline = self._config.rollout.ready_deadline
            more = (taken, deadline, known.common, digest)
            inputs = (release, artifact, entry, environment, rule, *more)
            return self._placed.of(release, inputs)
        except (Rejected, Waiting) as error:  # whatever comes of the environment; or not of inputs
            return without_frames(error)

    def _rendered(
        self,
        inputs: tuple[
            Release, Artifact, PipelineEntry, Environment, PipelinePolicy, Choice, float, str, str
        ],
    ) -> Placement | WheelwayError:
        """A release's placement, or why there is none."""
        release, artifact, entry, environment, rule, weights, deadline, *_ = inputs
        serve = self._config.serve
        try:
            return self._renderer.place(
                release,
                entry,
                artifact,
                environment,
                effective(serve, entry.options, rule),
                effective_settings(entry.settings, rule),
                effective_parts(serve, entry, rule),
                weights,
                deadline,
            )
        except Waiting:
            raise
        except WheelwayError as error:
            return without_frames(error)


def _manner(rule: PipelinePolicy) -> PipelinePolicy:
    """The part of a rule that says how releases run; the rest does not change placements."""
    return PipelinePolicy(
        name=rule.name, options=rule.options, settings=rule.settings, parts=rule.parts
    )
