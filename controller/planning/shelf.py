"""What a project's wheels offer, as far as anybody has looked into them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from controller.model import Release
from controller.planning.policy import Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.model import Artifact, PipelineEntry, Revision


class Wheels(NamedTuple):
    """A project's wheels, best first."""

    revisions: tuple[Revision, ...]
    artifacts: tuple[Artifact | None, ...]
    """What is inside each; None: nobody knows yet, or it failed inspection."""


class Claim(NamedTuple):
    """A wheel's offer of one pipeline."""

    revision: Revision
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Shelf:
    """What one project offers."""

    claims: Mapping[str, tuple[Claim, ...]] = field(default_factory=dict)
    """By pipeline, best first."""
    candidates: Mapping[str, tuple[Candidate, ...]] = field(default_factory=dict)
    """The same without the wheels."""
    entries: Mapping[Release, tuple[Artifact, PipelineEntry]] = field(default_factory=dict)
    sources: Mapping[Release, str] = field(default_factory=dict)


def is_of(artifact: Artifact, revision: Revision) -> bool:
    """Whether the wheel is what this file name says: the same bytes may have a wrong one too."""
    return artifact.project == revision.project and artifact.version == revision.version


def shelve(wheels: Wheels) -> Shelf:
    """What some wheels of one project offer."""
    claims: dict[str, list[Claim]] = {}
    entries: dict[Release, tuple[Artifact, PipelineEntry]] = {}
    sources: dict[Release, str] = {}
    for revision, artifact in zip(*wheels, strict=True):
        if artifact is None or not is_of(artifact, revision):
            continue
        for entry in artifact.pipelines:
            release = Release(entry.name, artifact.version, revision.sha256)
            offer = Candidate(release, revision.project, revision.source, revision.availability)
            claims.setdefault(entry.name, []).append(Claim(revision, offer))
            if release not in entries:
                entries[release] = artifact, entry
                sources[release] = revision.source
    return Shelf(
        {name: tuple(made) for name, made in claims.items()},
        {name: tuple(claim.candidate for claim in made) for name, made in claims.items()},
        entries,
        sources,
    )
