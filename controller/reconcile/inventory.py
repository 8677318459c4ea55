"""What is inside the listed wheels, as far as they were inspected; what policy needs is fetched.

Results of inputs that stayed the same are remembered by project. Once nothing is left to inspect,
the whole inventory is, until something is listed, fetched, recorded or ordered.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.config.serve import PartOptions
from controller.errors import NoRelease, Rejected, WheelwayError
from controller.model import INSPECT, Artifact, Condition, Quarantine, UnsoundWheel
from controller.planning.catalogue import Catalogue, Catalogues, Shelf, Wheels, is_of, shelve
from controller.planning.policy import rule_for, unfetched
from controller.planning.remembered import Remembered
from controller.reconcile.mismatches import WRONG_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packaging.tags import Tag

    from controller.config.settings import Config, PipelinePolicy
    from controller.model import PipelineEntry, Release, Revision, Tracked
    from controller.planning.overrides import Pin
    from controller.planning.policy import Candidate
    from controller.planning.weights import Weights, WeightsOffer
    from controller.reconcile.artifacts import Artifacts


@dataclass(frozen=True, slots=True)
class Recorded:
    """Inputs of a stocktaking, beside what is listed and fetched."""

    quarantines: Mapping[Tracked, Quarantine]
    """With whatever inputs."""
    pins: Mapping[str, Pin]
    common: str
    """What every release's chance depends on."""
    more: frozenset[Revision] = frozenset()
    """Wheels that are to be inspected besides, for what they may hold is wanted."""


@dataclass(slots=True, eq=False)
class Inventory:
    """What the listed wheels offer. It is shared, so it must not be changed."""

    catalogue: Catalogue
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    """The inspected wheels, by digest."""
    unsound: dict[Revision, Quarantine] = field(default_factory=dict)
    """The wheels that failed inspection, those that failed just now included."""
    failed: list[Quarantine] = field(default_factory=list)
    """Those that failed just now."""
    entries: dict[Release, tuple[Artifact, PipelineEntry]] = field(default_factory=dict)
    sources: dict[Tracked, str] = field(default_factory=dict)
    inputs: dict[Release, str] = field(default_factory=dict)
    """By release: a digest of everything but the bytes that decides whether it can run."""
    shelves: dict[str, list[Shelf]] = field(default_factory=dict)
    """By pipeline: the shelves that have it."""
    weights_shelves: dict[str, list[Shelf]] = field(default_factory=dict)
    """By pipeline: the shelves that have weights for it."""
    conditions: list[Condition] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """File names of the wheels that are being fetched and looked into."""
    awaited: list[Revision] = field(default_factory=list)
    """Wheels that are to be inspected, those that cannot be fetched for now included."""
    is_complete: bool = True
    """Whether nothing is left to be inspected."""

    def candidates(self, pipeline: str) -> tuple[Candidate, ...]:
        """What is offered of a pipeline, in order of preference."""
        shelves = self.shelves[pipeline]
        if len(shelves) == 1:
            return shelves[0].candidates[pipeline]
        claims = [claim for shelf in shelves for claim in shelf.claims[pipeline]]
        claims.sort(key=lambda claim: self.catalogue.ranks[claim.revision])
        return tuple(claim.candidate for claim in claims)

    def weights(self, pipeline: str) -> tuple[WeightsOffer, ...]:
        """The weights that are offered for a pipeline, in order of preference."""
        shelves = self.weights_shelves[pipeline]
        if len(shelves) == 1:
            return shelves[0].weights[pipeline]
        offers = [offer for shelf in shelves for offer in shelf.weights[pipeline]]
        return tuple(sorted(offers, key=lambda offer: self.catalogue.ranks[offer.revision]))


class Stocktaking:
    """Takes stock of one configuration's sources, pass by pass."""

    def __init__(self, config: Config, artifacts: Artifacts, *, tags: Sequence[Tag]) -> None:
        self._artifacts = artifacts
        self._catalogues = Catalogues(tags)
        self._shelves = Remembered(shelve)
        self.renew(config)

    def renew(self, config: Config) -> None:
        """Go by another configuration from now on."""
        self._config = config
        self._rules: Remembered[str, PipelinePolicy] = Remembered(
            lambda name: rule_for(name, config)
        )
        self._inputs_of = Remembered(self._inputs_on)
        self._wanted = Remembered(self._unfetched)
        self._latest: tuple[Catalogue, int, Recorded, Inventory] | None = None

    def take(self, recorded: Recorded, now: float) -> Inventory:
        """What the listed wheels offer; the inventory of the pass before, while nothing changed and
        nothing is left to inspect. Wheels that policy needs are fetched; those that fail inspection
        are unsound.
        """
        catalogue = self._catalogues.of(self._artifacts.listings().values())
        fetches = self._artifacts.fetches
        if self._latest is not None:
            *inputs, before = self._latest
            if before.is_complete and inputs == [catalogue, fetches, recorded]:
                return before
        found = Inventory(catalogue)
        self._find_unsound(found, recorded)
        self._inspect_wanted(found, recorded, now)
        self._latest = catalogue, fetches, recorded, found
        for remembered in (self._rules, self._shelves, self._inputs_of, self._wanted):
            remembered.forget_unused()
        return found

    def _find_unsound(self, found: Inventory, recorded: Recorded) -> None:
        """The listed wheels that failed inspection as it would be made now."""
        for failure in recorded.quarantines.values():
            wheel = failure.subject
            if not isinstance(wheel, UnsoundWheel):
                continue
            inputs = self._inputs_of_failure(wheel, failure.reason, found, recorded)
            for revision in found.catalogue.projects.get(wheel.project, ()):
                same = (revision.version, revision.sha256) == (wheel.version, wheel.digest)
                if same and failure.inputs == inputs:
                    found.unsound[revision] = failure

    def _inspect_wanted(self, found: Inventory, recorded: Recorded, now: float) -> None:
        catalogue, unsound = found.catalogue, found.unsound
        for revision in catalogue.revisions:
            known = self._artifacts.known(revision)
            if known is not None and (not unsound or revision not in unsound):
                found.artifacts[revision.sha256] = known
        offers = {project: self._offers(project, found) for project in catalogue.projects}
        wanted = [
            revision
            for project, offer in offers.items()
            for revision in self._wanted_of(project, offer, found, recorded)
        ]
        wanted += (revision for revision in recorded.more if self._is_open(revision, found))
        # A wheel that came first is inspected first, so that the owner of a name is known soonest.
        wanted.sort(key=lambda revision: self._artifacts.first_seen(revision.sha256))
        brought = [
            digest for revision in wanted for digest in self._fetch(revision, found, recorded, now)
        ]
        for project in {r.project for digest in brought for r in catalogue.digests[digest]}:
            offers[project] = self._offers(project, found)
            found.awaited += self._wanted_of(project, offers[project], found, recorded)
        for project, (_, shelf) in offers.items():
            found.entries.update(shelf.entries)
            found.sources.update(shelf.sources.items())
            found.inputs.update(self._inputs_of.of(project, (shelf, recorded.common)))
            for name in shelf.claims:
                found.shelves.setdefault(name, []).append(shelf)
            for name in shelf.weights:
                found.weights_shelves.setdefault(name, []).append(shelf)

    def _is_open(self, revision: Revision, found: Inventory) -> bool:
        """Whether it is listed and nobody knows what is inside."""
        return (
            revision in found.catalogue.ranks
            and revision.sha256 not in found.artifacts
            and revision not in found.unsound
            and self._artifacts.refusals.of(revision) is None
        )

    def _offers(self, project: str, found: Inventory) -> tuple[Wheels, Shelf]:
        revisions, artifacts = found.catalogue.projects[project], found.artifacts
        wheels = Wheels(revisions, tuple([artifacts.get(r.sha256) for r in revisions]))
        return wheels, self._shelves.of(project, wheels)

    def _wanted_of(
        self, project: str, offer: tuple[Wheels, Shelf], found: Inventory, recorded: Recorded
    ) -> tuple[Revision, ...]:
        """A project's wheels that must be inspected."""
        wheels, shelf = offer
        failed: frozenset[Release] = frozenset()
        if known := shelf.entries.keys() & recorded.quarantines.keys():
            inputs = self._inputs_of.of(project, (shelf, recorded.common))
            failed = frozenset(
                r for r in known if without_weights(recorded.quarantines[r].inputs) == inputs[r]
            )
        pins = tuple(recorded.pins[name] for name in recorded.pins.keys() & shelf.claims.keys())
        refused = self._artifacts.refusals.of
        unsound = found.unsound
        bad = frozenset([r for r in wheels.revisions if (unsound and r in unsound) or refused(r)])
        return self._wanted.of(project, (wheels, failed, pins, bad))

    def _unfetched(
        self,
        inputs: tuple[Wheels, frozenset[Release], tuple[Pin, ...], frozenset[Revision]],
    ) -> tuple[Revision, ...]:
        """What must be inspected of a project: what policy wants, and what has a wrong name."""
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

    def _fetch(
        self, revision: Revision, found: Inventory, recorded: Recorded, now: float
    ) -> Iterator[str]:
        """Ask for a wheel; its digest, if it was brought at once."""
        result = self._artifacts.artifact(revision)
        if isinstance(result, NoRelease):
            return  # `Artifacts.conditions` tells of it
        found.is_complete = False
        if isinstance(result, Artifact):
            found.artifacts[revision.sha256] = result
            yield revision.sha256
        elif isinstance(result, Rejected):
            wheel = UnsoundWheel(revision.project, revision.version, revision.sha256)
            inputs = self._inputs_of_failure(wheel, result.reason, found, recorded)
            failure = failed(wheel, INSPECT, result, inputs, now)
            found.sources[wheel] = revision.source
            found.unsound[revision] = failure
            found.failed.append(failure)
        elif isinstance(result, WheelwayError):
            found.awaited.append(revision)
            found.conditions.append(Condition(revision.filename, result.reason, result.message))
        else:
            found.awaited.append(revision)
            found.unread.append(revision.filename)

    # -- inputs ----------------------------------------------------------------------------------

    def _inputs_on(self, inputs: tuple[Shelf, str]) -> dict[Release, str]:
        shelf, common = inputs
        return {
            release: self._inputs(release.pipeline, entry, common)
            for release, (_, entry) in shelf.entries.items()
        }

    def _inputs_of_failure(
        self, wheel: UnsoundWheel, reason: str, found: Inventory, recorded: Recorded
    ) -> str:
        """Of a wheel, which says nothing of what its pipelines wish. The operator's rule is that
        for its project's name, which most pipelines share.
        """
        common = recorded.common
        if reason == WRONG_BYTES:  # those that list it now sent them, not one that comes to it
            offers = found.catalogue.digests.get(wheel.digest, ())
            common = "\n".join([common, *sorted({offer.source for offer in offers})])
        return self._inputs(wheel.project, None, common)

    def _inputs(self, name: str, entry: PipelineEntry | None, common: str) -> str:
        """Of a pipeline, or of a name of which the pipelines are not known."""
        rule = self._rules.of(name, name)
        wishes = (entry.options, entry.settings) if entry is not None else ({}, {})
        own = [*map(dict, wishes), rule.settings, rule.options.model_dump_json()]
        for part in entry.parts if entry is not None else ():
            over = rule.parts.get(part.name, PartOptions())
            own += [part.name, dict(part.options), over.model_dump_json()]
        text = f"{common}\n{json.dumps(own, sort_keys=True, default=str)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def with_weights(inputs: str, weights: Weights | None) -> str:
    """The inputs of a release that takes these: with others it is tried again."""
    return inputs if weights is None else f"{inputs}+{weights.digest[:16]}"


def without_weights(inputs: str) -> str:
    """The inverse."""
    return inputs.partition("+")[0]


def failed(subject: Tracked, stage: str, error: Rejected, inputs: str, at: float) -> Quarantine:
    """The quarantine of what failed just now."""
    return Quarantine(subject, stage, error.reason, error.message, inputs, error.log_tail, at)
