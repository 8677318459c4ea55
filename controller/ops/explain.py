"""What `explain` tells: all that the journal knows about one name, a pipeline, project or file.

A wheel that was refused before anybody saw its pipelines is known by its project's name, one that
no source would take by its file's name. People ask by whichever they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.version import Version
from typing_extensions import TypedDict

from controller.journal import ReleaseRecord
from controller.model import Condition, Event, Phase, Quarantine, Release, Revision
from controller.ops.advice import remedies
from controller.ops.documents import (
    ConditionDocument,
    EventDocument,
    OverridesDocument,
    ReleaseDocument,
    condition_document,
    condition_of,
    documented,
    event_document,
    event_of,
    overrides_document,
    overrides_of,
    release_document,
    release_of,
)
from controller.ops.names import Subject, may_be_about, unknown_name, unknown_version
from controller.planning.overrides import Overrides

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from controller.journal import Reader

EVENTS: Final = 30
"""The last events of a release that are told."""
WHEN: Final = {
    "inspect": "when the wheel was inspected",
    "wishes": "when its wheelway.toml was read",
    "prepare": "when its environment was prepared",
    "stage": "when it was started",
    "promote": "when it was given its route",
}
"""The stages of a quarantine in words."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One release and what happened to it."""

    release: Release
    record: ReleaseRecord
    quarantine: Quarantine | None
    filename: str
    """Empty when no source lists it any more."""
    events: tuple[Event, ...]
    note: str = ""
    """What its source says of its standing."""

    @property
    def live(self) -> bool:
        """Whether it serves its route now."""
        return self.record.phase is Phase.LIVE

    @property
    def reason_since(self) -> float:
        """Since when its reason holds, which may be newer than its phase."""
        entered = [event.at for event in self.events if "phase" in event.fields]
        return max([self.record.since, *entered[-1:]])

    @property
    def log(self) -> str:
        """The files that its replicas log to; empty when none was ever started."""
        placement = self.record.placement
        return f"logs/serve/replica_{placement}_*.log" if placement else ""


@dataclass(frozen=True, slots=True)
class Story:
    """What there is to tell about a name."""

    name: str
    chapters: tuple[Chapter, ...]
    """The newest version first."""
    unread: tuple[Revision, ...]
    """Listed wheels that nobody has looked into."""
    conditions: tuple[tuple[Condition, float], ...]
    overrides: Overrides
    """Those that are in force for this pipeline."""
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
        quarantines = {quarantine.release: quarantine for quarantine in reader.quarantines()}
        records = {release: left_of(failed) for release, failed in quarantines.items()}
        records |= {record.release: record for record in reader.releases()}
        revisions = [r for found in reader.listings().values() for r in found.revisions]
        overrides, conditions = reader.overrides(), reader.conditions()
        conditions += _refused(reader, revisions, conditions)
        subject = Subject.of(name, records, revisions)
        meant = [r for r in records if subject.has(r, quarantines.get(r))]
        seen = {release.digest for release in records} | {c.subject for c, _ in conditions}
        unread = [
            revision
            for revision in revisions
            if subject.lists(revision) and seen.isdisjoint((revision.sha256, revision.filename))
        ]
        troubles = [pair for pair in conditions if subject.is_meant_by(pair[0].subject)]
        if not (meant or unread or troubles):
            raise unknown_name(name, records, revisions, [c for c, _ in conditions])
        wanted = [r for r in meant if version is None or r.version == version]
        unread = [r for r in unread if version is None or r.version == version]
        troubles = [p for p in troubles if version is None or may_be_about(p[0].subject, version)]
        if version is not None and not (wanted or unread or troubles):
            raise unknown_version(name, version, meant)
        own = _own_wheels(reader, [records[release] for release in wanted], revisions)
        chapters = tuple(
            Chapter(
                release=release,
                record=records[release],
                quarantine=quarantines.get(release),
                filename="" if (wheel := own[release]) is None else wheel.filename,
                events=tuple(
                    reader.events(subject=str(release), pipeline=release.pipeline, limit=EVENTS)
                ),
                note="" if wheel is None else wheel.note,
            )
            for release in sorted(wanted, key=lambda r: (r.version, records[r].since))[::-1]
        )
    live = {release.version for release in meant if records[release].phase is Phase.LIVE}
    return Story(
        subject.name,
        chapters,
        tuple(unread),
        tuple(troubles),
        _about(subject.name, overrides),
        live=tuple(sorted(live, reverse=True)),
        asked=version,
    )


def _own_wheels(
    reader: Reader, records: Collection[ReleaseRecord], revisions: Iterable[Revision]
) -> dict[Release, Revision | None]:
    """By release: the listed wheel that it is of. Its bytes may be listed under other names as
    well, which are refused.
    """
    refused = {(wheel.digest, wheel.filename) for wheel in reader.refused_wheels()}
    copies: dict[str, list[Revision]] = {record.release.digest: [] for record in records}
    for revision in revisions:
        if revision.sha256 in copies:
            copies[revision.sha256].append(revision)

    def own(record: ReleaseRecord) -> Revision | None:
        release = record.release
        return min(
            copies[release.digest],
            key=lambda copy: (
                (copy.sha256, copy.filename) in refused,
                copy.version != release.version,
                copy.project != release.pipeline,
                copy.source != record.source,
            ),
            default=None,
        )

    return {record.release: own(record) for record in records}


def _refused(
    reader: Reader, revisions: Iterable[Revision], told: Iterable[tuple[Condition, float]]
) -> list[tuple[Condition, float]]:
    """Why no release comes of listed wheels, where no condition says so of each."""
    subjects = {condition.subject for condition, _ in told}
    refused = {wheel.digest: wheel for wheel in reader.refused_wheels() if not wheel.filename}
    return [
        (Condition(revision.filename, wheel.reason, wheel.message, ok=True), wheel.at)
        for revision in revisions
        if (wheel := refused.get(revision.sha256)) and revision.filename not in subjects
    ]


def left_of(failed: Quarantine) -> ReleaseRecord:
    """The record of a release of which nothing but its quarantine is left."""
    return ReleaseRecord(
        failed.release, Phase.QUARANTINED, failed.reason, failed.message, "", "", failed.at, {}
    )


def _about(name: str, overrides: Overrides) -> Overrides:
    return Overrides(
        {key: pin for key, pin in overrides.pins.items() if key == name},
        {key: order for key, order in overrides.suspensions.items() if key in {"", name}},
    )


# -- as a document -------------------------------------------------------------------------------


@documented
class ChapterDocument(ReleaseDocument):
    """A release, and what happened to it."""

    file: str
    """Empty when no source lists it any more."""
    note: str
    """What its source says of its standing; may be empty."""
    live: bool
    log: str
    """The files that its replicas log to, in the folder of Ray's session on their node; empty when
    none was ever started."""
    remedies: list[str]
    """What helps, in sentences, the most useful first."""
    events: list[EventDocument]
    """The last ones, oldest first."""


@documented
class UnreadDocument(TypedDict):
    """A listed wheel that nobody looked into."""

    source: str
    project: str
    version: str
    file: str
    digest: str
    note: str
    """What its source says of its standing; may be empty."""


@documented
class StoryDocument(TypedDict):
    """Why each version of a pipeline is live, or exactly why it is not."""

    name: str
    """Normalised (PEP 503), or the file's name."""
    summary: str
    """The answer in a sentence."""
    asked: str | None
    """The one version that was asked for; null: all of them."""
    live: list[str]
    """Every version of it that is live, asked for or not; the newest first."""
    releases: list[ChapterDocument]
    """The newest version first."""
    unread: list[UnreadDocument]
    conditions: list[ConditionDocument]
    overrides: OverridesDocument


def summary(story: Story) -> str:
    """The whole story in a sentence."""
    versions = ", ".join(map(str, story.live))
    live = f"{versions} {'is' if len(story.live) == 1 else 'are'} live" if story.live else ""
    newest = next((c for c in story.chapters if c.filename or story.asked), None)
    if not story.chapters and story.asked is None:
        return f"{story.name}: no release of it is known yet"
    if story.asked is not None and story.asked not in story.live:
        why = f": {_standing(newest)}" if newest is not None else ""
        return f"{story.name}: {story.asked} is not live{why}{f'; {live}' if live else ''}"
    said = live or "none is live"
    if newest is not None and not newest.live and live:
        what = str(newest.release.version)
        if newest.release.version in story.live:
            what += f" with other bytes ({newest.release.digest[:8]})"
        said += f"; the newest, {what}, is not: {_standing(newest)}"
    return f"{story.name}: {said}"


def _standing(chapter: Chapter) -> str:
    if chapter.quarantine is not None:
        return f"it failed {WHEN.get(chapter.quarantine.stage, '')} ({chapter.quarantine.reason})"
    return f"{chapter.record.phase.value} ({chapter.record.reason})"


def as_document(story: Story) -> StoryDocument:
    """The story as JSON."""
    return {
        "name": story.name,
        "summary": summary(story),
        "asked": None if story.asked is None else str(story.asked),
        "live": [str(version) for version in story.live],
        "releases": [_chapter_document(chapter) for chapter in story.chapters],
        "unread": [
            {
                "source": revision.source,
                "project": revision.project,
                "version": str(revision.version),
                "file": revision.filename,
                "digest": revision.sha256,
                "note": revision.note,
            }
            for revision in story.unread
        ],
        "conditions": [condition_document(*pair) for pair in story.conditions],
        "overrides": overrides_document(story.overrides),
    }


def _chapter_document(chapter: Chapter) -> ChapterDocument:
    return {
        **release_document(chapter.record, chapter.quarantine),
        "file": chapter.filename,
        "note": chapter.note,
        "live": chapter.live,
        "log": chapter.log,
        "remedies": remedies(chapter.quarantine) if chapter.quarantine else [],
        "events": [event_document(event) for event in chapter.events],
    }


def from_document(document: StoryDocument) -> Story:
    """The inverse of `as_document`, but for what it does not tell of unread wheels."""
    return Story(
        name=document["name"],
        chapters=tuple(_chapter_of(item) for item in document["releases"]),
        unread=tuple(
            Revision(
                source=item["source"],
                project=item["project"],
                version=Version(item["version"]),
                filename=item["file"],
                locator="",
                sha256=item["digest"],
                size=None,
                note=item["note"],
            )
            for item in document["unread"]
        ),
        conditions=tuple(condition_of(item) for item in document["conditions"]),
        overrides=overrides_of(document["overrides"]),
        live=tuple(Version(text) for text in document["live"]),
        asked=None if document["asked"] is None else Version(document["asked"]),
    )


def _chapter_of(document: ChapterDocument) -> Chapter:
    record, quarantine = release_of(document)
    events = tuple(event_of(item) for item in document["events"])
    file, note = document["file"], document["note"]
    return Chapter(record.release, record, quarantine, file, events, note)
