"""From what the sources list to what should run: candidates, verdicts, placements.

Decisions are made in `planning`; here the facts for them are gathered from the supply, and each
elected release that is ready is rendered into its placement.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename

from controller import wheel_names
from controller.cache.wishes import effective, effective_settings
from controller.errors import Rejected, WheelwayError
from controller.model import (
    NOTHING_ORDERED,
    Artifact,
    Condition,
    Environment,
    Quarantine,
    Release,
    Standing,
)
from controller.planning.policy import (
    CONFLICT,
    MISSING,
    STANDS_IN,
    Candidate,
    Verdict,
    elect,
    rule_for,
    unfetched,
    unmet,
)
from controller.planning.situation import standing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.tags import Tag

    from controller.config import Config
    from controller.model import (
        Application,
        Overrides,
        PipelineEntry,
        Placement,
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
    unread: list[str] = field(default_factory=list)
    """File names of the wheels that are being fetched and looked into."""


class Election:
    """Gathers the desired state. `fingerprint` stands for everything beside the configuration that
    a release's chance depends on: the interpreter, Ray's and wheelway's versions, the templates.
    `absences` lasts longer than one pass; `grace` is in seconds; `overrides` holds over policy.
    """

    def __init__(
        self,
        config: Config,
        supply: Supply,
        renderer: Renderer,
        *,
        tags: Sequence[Tag],
        fingerprint: str,
        absences: Absences,
        grace: float,
        overrides: Overrides = NOTHING_ORDERED,
    ) -> None:
        self._config = config
        self._supply = supply
        self._renderer = renderer
        self._rank = _ranks(tuple(tags))
        self._absences = absences
        self._grace = grace
        self._pins = overrides.pins
        parts = (config.serve, config.environments, config.inspection)
        ingress = config.ray.ingress_url  # with another one, what failed at it may answer
        self._common = "\n".join(
            [fingerprint, ingress, *(part.model_dump_json() for part in parts)]
        )

    def desired(
        self,
        applications: Sequence[Application],
        records: Mapping[str, PlacementRecord],
        quarantines: Sequence[Quarantine],
        now: float,
    ) -> Desired:
        """What should run, as far as it is known now. Starts the work that is missing."""
        found = Desired(conditions=self._supply.conditions())
        revisions = self._revisions()
        recorded = {quarantine.release: quarantine for quarantine in quarantines}
        artifacts = self._artifacts(revisions, recorded, found, now)
        entries, candidates = self._candidates(revisions, artifacts, found)
        self._hold(candidates, recorded, found)
        self._judge(candidates, revisions, artifacts, applications, records, found, now)
        for verdict in found.verdicts:
            placeable = verdict.elected and verdict.reason != STANDS_IN
            if placeable and verdict.release in entries:
                self._place(*entries[verdict.release], verdict.release, found, now)
        return found

    def _revisions(self) -> list[Revision]:
        """All that is listed, best first: by source, then by how well the wheel's tags fit."""
        listings = self._supply.listings()
        return [
            revision
            for listing in listings.values()
            for revision in sorted(listing.revisions, key=self._preference)
            if revision.standing is not Standing.GONE
        ]

    def _preference(self, revision: Revision) -> tuple[int, int, str]:
        try:
            _, _, build, tags = wheel_names.parse(revision.filename)
        except InvalidWheelFilename:  # remembered by an earlier wheelway; inspection refuses it
            return len(self._rank), 0, revision.filename
        rank = min((self._rank.get(tag, len(self._rank)) for tag in tags), default=0)
        return rank, -(build[0] if build else -1), revision.filename

    def _artifacts(
        self,
        revisions: Sequence[Revision],
        recorded: Mapping[Release, Quarantine],
        found: Desired,
        now: float,
    ) -> dict[str, Artifact]:
        """The inspected wheels by digest. Wheels that policy wants and nobody fetched are asked
        for; those that fail inspection are quarantined under their project's name.
        """
        artifacts: dict[str, Artifact] = {}
        sound = []
        for revision in revisions:
            as_release = Release(revision.project, revision.version, revision.sha256)
            inputs = self._inputs(as_release, {}, {})
            failure = recorded.get(as_release)
            if failure and failure.stage == "inspect" and failure.inputs == inputs:
                found.quarantines[as_release] = failure
                continue
            sound.append(revision)
            known = self._supply.known(revision)
            if known is not None:
                artifacts[revision.sha256] = known
        failed = self._held(artifacts, recorded)
        misnamed = [r for r in sound if r.sha256 in artifacts and not _is(artifacts[r.sha256], r)]
        wanted = unfetched(sound, artifacts, self._config, failed, self._pins)
        for revision in (*wanted, *misnamed):
            result = self._supply.artifact(revision)
            as_release = Release(revision.project, revision.version, revision.sha256)
            if isinstance(result, Artifact):
                artifacts[revision.sha256] = result
            elif isinstance(result, Rejected):
                inputs = self._inputs(as_release, {}, {})
                self._fail(found, as_release, "inspect", result, inputs, now)
            elif isinstance(result, WheelwayError):
                subject = revision.filename
                found.conditions.append(Condition(subject, result.reason, result.message))
            else:
                found.unread.append(revision.filename)
        return artifacts

    def _held(
        self, artifacts: Mapping[str, Artifact], recorded: Mapping[Release, Quarantine]
    ) -> set[Release]:
        """Releases of known wheels whose quarantine holds with their present inputs."""
        return {
            release
            for artifact in artifacts.values()
            for entry in artifact.pipelines
            if (release := Release(entry.name, artifact.version, artifact.digest)) in recorded
            and recorded[release].inputs == self._inputs(release, entry.options, entry.settings)
        }

    def _candidates(
        self, revisions: Sequence[Revision], artifacts: Mapping[str, Artifact], found: Desired
    ) -> tuple[dict[Release, tuple[Artifact, PipelineEntry]], list[Candidate]]:
        entries: dict[Release, tuple[Artifact, PipelineEntry]] = {}
        candidates = []
        for revision in revisions:
            artifact = artifacts.get(revision.sha256)
            if artifact is not None and not _is(artifact, revision):
                continue
            for entry in artifact.pipelines if artifact else ():
                release = Release(entry.name, revision.version, revision.sha256)
                candidates.append(
                    Candidate(release, revision.project, revision.source, revision.standing)
                )
                if artifact and release not in entries:
                    entries[release] = (artifact, entry)
                    found.sources[release] = revision.source
                    found.inputs[release] = self._inputs(release, entry.options, entry.settings)
        return entries, candidates

    def _hold(
        self,
        candidates: Sequence[Candidate],
        recorded: Mapping[Release, Quarantine],
        found: Desired,
    ) -> None:
        """Keep the quarantines whose inputs are still those of the attempt that failed."""
        for candidate in candidates:
            failure = recorded.get(candidate.release)
            if failure is not None and failure.inputs == found.inputs[candidate.release]:
                found.quarantines[candidate.release] = failure

    def _judge(
        self,
        candidates: list[Candidate],
        revisions: Sequence[Revision],
        artifacts: Mapping[str, Artifact],
        applications: Sequence[Application],
        records: Mapping[str, PlacementRecord],
        found: Desired,
        now: float,
    ) -> None:
        """Have policy judge every pipeline that is offered or present."""
        serving = standing(applications, records)
        present = {app.release for app in applications if app.release is not None}
        uncertain: set[Release] = set()
        claims = list(candidates)
        for app in applications:
            if app.release is not None:
                claims.extend(self._claims_on(app, app.release, revisions, artifacts, found))
                if self._may_be_offered(app, app.release, revisions, artifacts, found):
                    uncertain.add(app.release)
        offered = {(claim.release.pipeline, claim.release.version) for claim in claims}
        unlisted = {r for r in serving | present if (r.pipeline, r.version) not in offered}
        unknown = uncertain if self._supply.complete() else unlisted
        lately = self._absences.lately(unlisted - unknown, now, self._grace)
        names = {claim.release.pipeline for claim in claims} | {r.pipeline for r in present}
        for name in sorted(names):
            verdicts = elect(
                [claim for claim in claims if claim.release.pipeline == name],
                rule_for(name, self._config),
                pin=self._pins.get(name),
                serving={release for release in serving if release.pipeline == name},
                present={release for release in present if release.pipeline == name},
                quarantined=found.quarantines.keys(),
                missing=unknown | lately,
            )
            found.verdicts.extend(
                verdict
                for verdict in verdicts
                if verdict.reason != MISSING or verdict.release in lately
            )
            found.conditions.extend(
                Condition(str(verdict.release), verdict.reason, verdict.message)
                for verdict in verdicts
                if verdict.reason == CONFLICT
            )
        if self._pins and self._supply.complete():
            unread = [r for r in revisions if r.sha256 not in artifacts]
            found.conditions.extend(unmet(self._pins, found.verdicts, claims, unread))

    def _claims_on(
        self,
        app: Application,
        release: Release,
        revisions: Sequence[Revision],
        artifacts: Mapping[str, Artifact],
        found: Desired,
    ) -> list[Candidate]:
        """Listed wheels that claim a running release's route though their inside is not known:
        its own bytes, when they are not fetched in this run yet, and bad bytes in their place.
        """
        claims = []
        for revision in revisions:
            as_release = Release(revision.project, revision.version, revision.sha256)
            same = revision.sha256 == release.digest and revision.sha256 not in artifacts
            bad = as_release in found.quarantines and revision.sha256 not in artifacts
            instead = bad and _project(app) == revision.project
            if same or (instead and revision.version == release.version):
                claim = Release(release.pipeline, revision.version, revision.sha256)
                claims.append(
                    Candidate(claim, revision.project, revision.source, revision.standing)
                )
                if bad:
                    found.quarantines.setdefault(claim, found.quarantines[as_release])
        return claims

    def _may_be_offered(
        self,
        app: Application,
        release: Release,
        revisions: Sequence[Revision],
        artifacts: Mapping[str, Artifact],
        found: Desired,
    ) -> bool:
        """Whether a wheel that nobody has looked into yet may hold this version."""
        wanted = (_project(app), release.version)
        if wanted in self._supply.unread() or _project(app) in self._supply.unobserved():
            return True
        return any(
            (revision.project, revision.version) == wanted
            and revision.sha256 not in artifacts
            and Release(revision.project, revision.version, revision.sha256)
            not in found.quarantines
            for revision in revisions
        )

    def _place(
        self,
        artifact: Artifact,
        entry: PipelineEntry,
        release: Release,
        found: Desired,
        now: float,
    ) -> None:
        """Render an elected release, once its environment is there."""
        if (refusal := entry.refusal) is not None:
            error = Rejected(refusal.reason, refusal.message)
            self._fail(found, release, "wishes", error, found.inputs[release], now)
            return
        try:
            serve, rule = self._config.serve, rule_for(release.pipeline, self._config)
            options = effective(serve.defaults, entry.options, rule, serve.caps)
            environment = self._supply.environment(artifact)
            if isinstance(environment, Environment):
                found.placements[release] = self._renderer.place(
                    release,
                    entry,
                    artifact,
                    environment,
                    options,
                    effective_settings(entry.settings, rule),
                )
            elif environment is not None:
                self._report(found, release, environment, now)
        except WheelwayError as error:
            self._report(found, release, error, now)

    def _report(self, found: Desired, release: Release, error: WheelwayError, now: float) -> None:
        """A release's own fault is a quarantine, anything else a condition that may pass."""
        if isinstance(error, Rejected):
            self._fail(found, release, "prepare", error, found.inputs[release], now)
        else:
            found.conditions.append(Condition(str(release), error.reason, error.message))

    def _fail(
        self,
        found: Desired,
        release: Release,
        stage: str,
        error: Rejected,
        inputs: str,
        now: float,
    ) -> None:
        failure = Quarantine(
            release, stage, error.reason, error.message, inputs, error.log_tail, now
        )
        found.quarantines[release] = failure
        found.failed.append(failure)

    def _inputs(
        self, release: Release, wishes: Mapping[str, object], settings: Mapping[str, object]
    ) -> str:
        """A digest of everything but the bytes that decides whether the release can run."""
        rule = rule_for(release.pipeline, self._config)
        own = [dict(wishes), dict(settings), rule.settings, rule.options.model_dump_json()]
        text = f"{self._common}\n{json.dumps(own, sort_keys=True, default=str)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=4)
def _ranks(tags: tuple[Tag, ...]) -> Mapping[Tag, int]:
    """How well a wheel with the tag fits, 0 for best. There are a thousand, the same each pass."""
    return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}


def _is(artifact: Artifact, revision: Revision) -> bool:
    """Whether the wheel is what this file name says: the same bytes may have a wrong one too."""
    return (artifact.project, artifact.version) == (revision.project, revision.version)


def _project(app: Application) -> str:
    """The distribution that a running release came from, by its own arguments."""
    arguments = (app.document or {}).get("args") or {}
    return str(arguments.get("release", {}).get("project", ""))
