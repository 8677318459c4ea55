"""Everything that the journal knows about one name: a pipeline, a project or a file.

A wheel that was refused before anybody saw its pipelines is known by its project's name, one that
no source would take by its file's name. People ask by whichever they have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name

from controller.errors import WheelwayError
from controller.model import Condition, Event, Phase, Quarantine, Release, Revision
from controller.planning.subjects import version_named

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.version import Version

    from controller.journal import Reader, ReleaseRecord

EVENTS: Final = 30
"""The last events of a release that are told."""
_SUGGESTED: Final = 5
_ALIKE: Final = 0.5
_RELEASE: Final = re.compile(r"(?P<pipeline>[a-z0-9-]+)@(?P<version>.+)\+[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Chapter:
    """One release and what happened to it."""

    release: Release
    record: ReleaseRecord | None
    """None for a quarantine of which nothing else is left."""
    quarantine: Quarantine | None
    filename: str
    """Empty when no source lists it any more."""
    events: tuple[Event, ...]
    note: str = ""
    """What its source says of its standing."""

    @property
    def live(self) -> bool:
        """Whether it serves its route now."""
        return self.record is not None and self.record.phase is Phase.LIVE


@dataclass(frozen=True, slots=True)
class Story:
    """What there is to tell about a name."""

    name: str
    chapters: tuple[Chapter, ...]
    """The newest version first."""
    unread: tuple[Revision, ...]
    """Listed wheels that nobody has looked into."""
    conditions: tuple[tuple[Condition, float], ...]
    live: tuple[Version, ...] = ()
    """Every version of it that is live, asked for or not; the newest first."""
    asked: Version | None = None
    """The one version that was asked for."""


def tell(reader: Reader, name: str, version: Version | None = None) -> Story:
    """Gather what is known about a name, all versions or one.

    Raises:
        WheelwayError: nothing is known of it (`NameUnknown`, `VersionUnknown`); the message names
            what comes near.
    """
    with reader.snapshot():
        records = {record.release: record for record in reader.releases()}
        quarantines = {quarantine.release: quarantine for quarantine in reader.quarantines()}
        revisions = [r for found in reader.listings().values() for r in found.revisions]
        conditions = reader.conditions()
        subject = _Subject.of(name, records, revisions)
        named = [r for r in {*records, *quarantines} if subject.has(r, quarantines.get(r))]
        unread = [
            revision
            for revision in revisions
            if subject.lists(revision) and revision.sha256 not in {r.digest for r in records}
        ]
        troubles = [pair for pair in conditions if subject.is_meant_by(pair[0].subject)]
        if not (named or unread or troubles):
            raise _unknown_name(name, records, revisions, [c for c, _ in conditions])
        wanted = [r for r in named if version is None or r.version == version]
        unread = [r for r in unread if version is None or r.version == version]
        troubles = [p for p in troubles if version is None or _may_be(p[0].subject, version)]
        if version is not None and not (wanted or unread or troubles):
            raise _unknown_version(name, version, named)
        listed = {revision.sha256: revision for revision in revisions}
        chapters = tuple(
            Chapter(
                release=release,
                record=records.get(release),
                quarantine=quarantines.get(release),
                filename=listed[release.digest].filename if release.digest in listed else "",
                events=tuple(reader.events(subject=str(release), limit=EVENTS)),
                note=listed[release.digest].note if release.digest in listed else "",
            )
            for release in sorted(wanted, key=lambda r: (r.version, _since(records.get(r))))[::-1]
        )
    live = {r.version for r in named if r in records and records[r].phase is Phase.LIVE}
    return Story(
        subject.name,
        chapters,
        tuple(unread),
        tuple(troubles),
        live=tuple(sorted(live, reverse=True)),
        asked=version,
    )


def _since(record: ReleaseRecord | None) -> float:
    return record.since if record else 0.0


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a name stands for."""

    name: str
    """Normalised (PEP 503), or a file's name as it is."""
    projects: frozenset[str]
    """Under which distributions its wheels are listed."""
    digests: frozenset[str]
    """Of the listed wheels that go by this name."""

    @classmethod
    def of(cls, name: str, records: Iterable[Release], revisions: Iterable[Revision]) -> _Subject:
        if name.endswith(".whl"):
            same = {r.sha256 for r in revisions if r.filename == name}
            return cls(name, frozenset(), frozenset(same))
        normalised = canonicalize_name(name)
        carried = {release.digest for release in records if release.pipeline == normalised}
        projects = {r.project for r in revisions if r.sha256 in carried} | {normalised}
        same = {r.sha256 for r in revisions if r.project == normalised}
        return cls(normalised, frozenset(projects), frozenset(same))

    def has(self, release: Release, quarantine: Quarantine | None) -> bool:
        unopened = quarantine is not None and quarantine.stage == "inspect"
        return (
            release.pipeline == self.name
            or release.digest in self.digests
            or (unopened and release.pipeline in self.projects)
        )

    def lists(self, revision: Revision) -> bool:
        return revision.sha256 in self.digests or revision.project in self.projects

    def is_meant_by(self, subject: str) -> bool:
        """Whether a condition's subject, a release or a file, is about this."""
        if subject == self.name:
            return True
        if match := _RELEASE.fullmatch(subject):
            return match["pipeline"] == self.name
        if subject.endswith(".whl"):
            return _project_of(subject) in self.projects
        named = version_named(subject)
        return subject in self.projects or (named is not None and named[0] in self.projects)


def _project_of(filename: str) -> str:
    """The project that a file's name claims, even when it is no valid wheel name."""
    return canonicalize_name(filename.removesuffix(".whl").split("-")[0])


def _may_be(subject: str, version: Version) -> bool:
    """Whether a condition's subject may be about a version; one that names none may."""
    if match := _RELEASE.fullmatch(subject):
        return match["version"] == str(version)
    named = version_named(subject)
    return named is None or named[1] == version


def _unknown_name(
    name: str,
    releases: Iterable[Release],
    revisions: Iterable[Revision],
    conditions: Iterable[Condition],
) -> WheelwayError:
    known = {release.pipeline for release in releases}
    for revision in revisions:
        known |= {revision.project, revision.filename}
    known |= {c.subject for c in conditions if c.subject.endswith(".whl")}
    near = get_close_matches(name.lower(), sorted(known), _SUGGESTED, _ALIKE)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif pipelines := sorted({release.pipeline for release in releases}):
        hint = f"known are {', '.join(pipelines[:20])}"
    else:
        hint = "no source has listed any wheel yet; see `wheelway status`"
    return WheelwayError("NameUnknown", f"no pipeline, project or wheel is called {name!r}; {hint}")


def _unknown_version(name: str, version: Version, named: Iterable[Release]) -> WheelwayError:
    versions = ", ".join(str(v) for v in sorted({r.version for r in named}, reverse=True))
    hint = f"there is {versions}" if versions else "no version of it is known"
    return WheelwayError("VersionUnknown", f"{name} has no version {version}; {hint}")
