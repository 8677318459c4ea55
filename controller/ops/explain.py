"""What `explain` tells: all that the journal knows about one name, a pipeline, project or file.

A wheel that was refused before its pipelines were known goes by its project's name, one that no
source takes by its file's name. People ask by whichever they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from typing_extensions import TypedDict

from controller.journal import ReleaseRecord
from controller.model import Phase, Release
from controller.ops.advice import remedies
from controller.ops.documents import (
    ConditionDocument,
    EventDocument,
    OverridesDocument,
    ReleaseDocument,
    WeightsOfAll,
    condition_document,
    documented,
    event_document,
    overrides_document,
    release_document,
)
from controller.ops.listed import own_wheels, refused_wheels
from controller.ops.names import Subject, may_be_about, unknown_name, unknown_version
from controller.ops.status import last_seen
from controller.ops.times import ago, iso
from controller.ops.weights import (
    OfferedWeightsDocument,
    asked_for,
    is_of_weights,
    offered_weights,
    summary_of_weights,
)
from controller.planning.overrides import Overrides

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packaging.version import Version

    from controller.journal import Reader
    from controller.model import Quarantine, Revision, Tracked
    from controller.observed import Part

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
    former_weights: list[str]
    """Those that it was live with before, the last ones first."""


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
    last_seen: str | None
    """When a daemon that is down was last seen, and all this was so; null while it runs."""
    releases: list[ChapterDocument]
    """The newest version first."""
    weights: list[OfferedWeightsDocument]
    """Those for the pipeline, or of the project, that were looked into; the newest first."""
    unread: list[UnreadDocument]
    conditions: list[ConditionDocument]
    overrides: OverridesDocument


@documented
class SummaryDocument(TypedDict):
    """Whether a pipeline is live, or why a file is not taken."""

    name: str
    """Of the pipeline; of a wheel that nobody could look into its project's, or the file's."""
    summary: str
    """The answer in a sentence."""
    why: str
    """Of the newest version that is not live, or of the file: what stands in its way; may be empty.
    """
    live: list[str]
    """Every version that is live; the newest first."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What the journal has of all releases."""

    records: Mapping[Tracked, ReleaseRecord]
    quarantines: Mapping[Tracked, Quarantine]
    revisions: Sequence[Revision]
    """What the sources list."""

    @classmethod
    def of(cls, reader: Reader) -> _Known:
        """What the journal has now; of a release nothing but its quarantine may be left."""
        failed = {quarantine.subject.key: quarantine for quarantine in reader.quarantines()}
        records = {key: _left_of(quarantine) for key, quarantine in failed.items()}
        records |= {record.subject.key: record for record in reader.releases()}
        return cls(
            {record.subject: record for record in records.values()},
            {records[key].subject: quarantine for key, quarantine in failed.items()},
            [r for found in reader.listings().values() for r in found.revisions],
        )


@dataclass(frozen=True, slots=True)
class _Chapter:
    """One release."""

    record: ReleaseRecord
    quarantine: Quarantine | None
    wheel: Revision | None
    """None when no source lists it any more."""

    @property
    def live(self) -> bool:
        """Whether it serves its route now."""
        return self.record.phase is Phase.LIVE


def tell(reader: Reader, name: str, version: Version | None = None, *, now: float) -> StoryDocument:
    """Gather what is known about a name, all versions or one.

    Raises:
        WheelwayError: nothing is known of it (`NameUnknown`, `VersionUnknown`); the message names
            what comes near.
    """
    with reader.snapshot():
        known, overrides, conditions = _Known.of(reader), reader.overrides(), reader.conditions()
        records, revisions = known.records, known.revisions
        conditions += refused_wheels(reader, revisions, conditions)
        subject = Subject.of(name, records, revisions)
        meant = [r for r in records if subject.has(r)]
        weights = offered_weights(reader, subject.name)
        seen = {release.digest for release in records} | {c.subject for c, _ in conditions}
        seen |= {one.digest for one in reader.judged_weights()}
        unread = [
            revision
            for revision in revisions
            if subject.lists(revision) and seen.isdisjoint((revision.sha256, revision.filename))
        ]
        marks = {one["mark"] for one in weights}
        troubles = [
            pair
            for pair in conditions
            if pair[0].subject in marks or subject.is_meant_by(pair[0].subject)
        ]
        if not (meant or unread or troubles or weights):
            raise unknown_name(name, records, revisions, [c for c, _ in conditions])
        wanted = [r for r in meant if version is None or r.version == version]
        unread = [r for r in unread if version is None or r.version == version]
        troubles = [p for p in troubles if version is None or may_be_about(p[0].subject, version)]
        if version is not None:
            is_release = bool(wanted or unread)
            weights = asked_for(weights, subject.name, version, is_release=is_release)
        if version is not None and not (wanted or unread or troubles or weights):
            raise unknown_version(name, version, meant)
        wanted.sort(key=lambda r: (r.version, records[r].since))
        wheels = own_wheels(reader, [records[release] for release in wanted], revisions)
        chapters = [
            _Chapter(records[release], known.quarantines.get(release), wheels[release])
            for release in reversed(wanted)
        ]
        of_all, parts = WeightsOfAll.of(reader), reader.parts()
        told = [_chapter_document(chapter, reader, of_all, parts) for chapter in chapters]
        gone = last_seen(reader)
    serving = {release.version for release in meant if records[release].phase is Phase.LIVE}
    live = sorted(serving, reverse=True)
    return {
        "name": subject.name,
        "summary": summary_of_weights(weights)
        if weights and (not (chapters or unread) or is_of_weights(subject.name, weights))
        else _summary(subject.name, chapters, live, version, down_for=_since(gone, now)),
        "asked": None if version is None else str(version),
        "live": list(map(str, live)),
        "last_seen": None if gone is None else iso(gone),
        "releases": told,
        "weights": weights,
        "unread": [
            {
                "source": revision.source,
                "project": revision.project,
                "version": str(revision.version),
                "file": revision.filename,
                "digest": revision.sha256,
                "note": revision.note,
            }
            for revision in unread
        ],
        "conditions": [condition_document(*pair) for pair in troubles],
        "overrides": overrides_document(_about(subject.name, overrides)),
    }


def _chapter_document(
    chapter: _Chapter,
    reader: Reader,
    weights: WeightsOfAll,
    parts: Mapping[str, Iterable[Part]],
) -> ChapterDocument:
    record, failed, wheel = chapter.record, chapter.quarantine, chapter.wheel
    placement, subject = record.placement, record.subject
    events = reader.events(subject=str(subject), pipeline=subject.name, limit=EVENTS)
    served = weights.proven.get(subject, ()) if isinstance(subject, Release) else ()
    return {
        **release_document(record, failed, parts, weights),
        "file": wheel.filename if wheel else "",
        "note": wheel.note if wheel else "",
        "live": chapter.live,
        "log": f"logs/serve/replica_{placement}_*.log" if placement else "",
        "remedies": remedies(failed) if failed else [],
        "events": [event_document(event) for event in events],
        "former_weights": [str(one.weights) for one in served[1:]],
    }


def _left_of(failed: Quarantine) -> ReleaseRecord:
    """A record for a release of which only the quarantine is left."""
    return ReleaseRecord(
        failed.subject, Phase.QUARANTINED, failed.reason, failed.message, "", "", failed.at, {}
    )


def _about(name: str, overrides: Overrides) -> Overrides:
    return Overrides(
        {key: pin for key, pin in overrides.pins.items() if key == name},
        {key: order for key, order in overrides.suspensions.items() if key in {"", name}},
        {key: pin for key, pin in overrides.weights.items() if key == name},
    )


# -- in a sentence -------------------------------------------------------------------------------


def tell_all(reader: Reader, *, now: float) -> list[SummaryDocument]:
    """Of each pipeline that is listed or on the cluster, and of each file that is not taken."""
    with reader.snapshot():
        known, conditions = _Known.of(reader), reader.conditions()
        down_for = _since(last_seen(reader), now)
    wheels = {revision.sha256: revision for revision in known.revisions}
    pipelines: dict[str, list[_Chapter]] = {}
    for subject in sorted(known.records, key=attrgetter("key"), reverse=True):
        failed, wheel = known.quarantines.get(subject), wheels.get(subject.digest)
        chapter = _Chapter(known.records[subject], failed, wheel)
        pipelines.setdefault(subject.name, []).append(chapter)
    found = [
        _of_pipeline(name, chapters, down_for)
        for name, chapters in sorted(pipelines.items())
        if any(chapter.wheel or chapter.live for chapter in chapters)
    ]
    return found + [
        {
            "name": condition.subject,
            "summary": f"{condition.subject}: not taken ({condition.reason})",
            "why": condition.message,
            "live": [],
        }
        for condition, _ in conditions
        if condition.subject.endswith(".whl") and not condition.ok
    ]


def _of_pipeline(name: str, chapters: list[_Chapter], down_for: str) -> SummaryDocument:
    live = list(dict.fromkeys(c.record.subject.version for c in chapters if c.live))
    newest = next((chapter for chapter in chapters if chapter.wheel), None)
    why = ""
    if newest is not None and not newest.live:
        why = (newest.quarantine or newest.record).message
    return {
        "name": name,
        "summary": _summary(name, chapters, live, down_for=down_for),
        "why": why,
        "live": list(map(str, live)),
    }


def _summary(
    name: str,
    chapters: Sequence[_Chapter],
    live: Sequence[Version],
    asked: Version | None = None,
    *,
    down_for: str = "",
) -> str:
    """Whether a pipeline, project or file is live, in a sentence; chapters and live versions come
    with the newest first, the chapters of one version alone if that was asked for.
    """
    said = f"{', '.join(map(str, live))} {_are(len(live), down_for)}" if live else ""
    newest = next((c for c in chapters if c.wheel or asked), None)
    if not chapters and asked is None:
        return f"{name}: no release of it is known yet"
    if asked is not None and asked not in live:
        why = f": {_phase(newest)}" if newest is not None else ""
        return f"{name}: {asked} is not live{why}{f'; {said}' if said else ''}"
    if not said:
        return f"{name}: none is live"
    if newest is None or newest.live:
        return f"{name}: {said}"
    subject = newest.record.subject
    what = str(subject.version)
    if subject.version in live:
        what += f" with other bytes ({subject.digest[:8]})"
    return f"{name}: {said}; the newest, {what}, is not: {_phase(newest)}"


def _are(many: int, down_for: str) -> str:
    if down_for:
        what = "was" if many == 1 else "were"
        return f"{what} live when the daemon was last seen, {down_for} ago"
    return "is live" if many == 1 else "are live"


def _since(seen: float | None, now: float) -> str:
    return "" if seen is None else ago(now - seen)


def _phase(chapter: _Chapter) -> str:
    """How far a release came that is not live."""
    if chapter.quarantine is not None:
        return f"it failed {WHEN.get(chapter.quarantine.stage, '')} ({chapter.quarantine.reason})"
    return f"{chapter.record.phase.value} ({chapter.record.reason})"
