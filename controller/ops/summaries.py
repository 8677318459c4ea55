"""What `explain` tells of everything at once: of each pipeline the answer in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from controller.model import Phase
from controller.ops import explain
from controller.ops.documents import documented
from controller.ops.explain import Chapter, Story
from controller.planning.overrides import NOTHING_ORDERED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.journal import Reader, ReleaseRecord
    from controller.model import Quarantine, Release


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

    records: Mapping[Release, ReleaseRecord]
    quarantines: Mapping[Release, Quarantine]
    filenames: Mapping[str, str]
    """Of listed wheels, by digest."""


def tell(reader: Reader) -> list[SummaryDocument]:
    """Of each pipeline that is listed or on the cluster, and of each file that is not taken."""
    with reader.snapshot():
        failed = {quarantine.release: quarantine for quarantine in reader.quarantines()}
        records = {release: explain.left_of(quarantine) for release, quarantine in failed.items()}
        records |= {record.release: record for record in reader.releases()}
        revisions = [r for found in reader.listings().values() for r in found.revisions]
        conditions = reader.conditions()
    known = _Known(records, failed, {r.sha256: r.filename for r in revisions})
    pipelines: dict[str, list[Release]] = {}
    for release in sorted(records, reverse=True):
        pipelines.setdefault(release.pipeline, []).append(release)
    found = [
        _summary(name, releases, known)
        for name, releases in sorted(pipelines.items())
        if any(_is_present(release, known) for release in releases)
    ]
    refused = [c for c, _ in conditions if c.subject.endswith(".whl") and not c.ok]
    for condition in refused:
        said = f"{condition.subject}: not taken ({condition.reason})"
        found.append(_document(condition.subject, said, condition.message, []))
    return found


def _is_present(release: Release, known: _Known) -> bool:
    return release.digest in known.filenames or known.records[release].phase is Phase.LIVE


def _summary(name: str, releases: list[Release], known: _Known) -> SummaryDocument:
    chapters = tuple(
        Chapter(
            release=release,
            record=known.records[release],
            quarantine=known.quarantines.get(release),
            filename=known.filenames.get(release.digest, ""),
            events=(),
        )
        for release in releases
    )
    live = tuple(dict.fromkeys(c.release.version for c in chapters if c.live))
    told = Story(name, chapters, (), (), NOTHING_ORDERED, live=live)
    newest = next((chapter for chapter in chapters if chapter.filename), None)
    why = ""
    if newest is not None and not newest.live:
        why = (newest.quarantine or newest.record).message
    return _document(name, explain.summary(told), why, [str(version) for version in live])


def _document(name: str, summary: str, why: str, live: list[str]) -> SummaryDocument:
    return {"name": name, "summary": summary, "why": why, "live": live}
