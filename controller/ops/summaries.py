"""What `explain` tells without a name: of each pipeline the answer in a sentence."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from controller.ops.documents import documented
from controller.ops.explain import Chapter, Known, summary

if TYPE_CHECKING:
    from controller.journal import Reader


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


def tell(reader: Reader) -> list[SummaryDocument]:
    """Of each pipeline that is listed or on the cluster, and of each file that is not taken."""
    with reader.snapshot():
        known, conditions = Known.of(reader), reader.conditions()
    wheels = {revision.sha256: revision for revision in known.revisions}
    pipelines: dict[str, list[Chapter]] = {}
    for subject in sorted(known.records, key=attrgetter("key"), reverse=True):
        failed, wheel = known.quarantines.get(subject), wheels.get(subject.digest)
        chapter = Chapter(known.records[subject], failed, wheel)
        pipelines.setdefault(subject.name, []).append(chapter)
    found = [
        _summary(name, chapters)
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


def _summary(name: str, chapters: list[Chapter]) -> SummaryDocument:
    live = list(dict.fromkeys(c.record.subject.version for c in chapters if c.live))
    newest = next((chapter for chapter in chapters if chapter.wheel), None)
    why = ""
    if newest is not None and not newest.live:
        why = (newest.quarantine or newest.record).message
    return {
        "name": name,
        "summary": summary(name, chapters, live),
        "why": why,
        "live": list(map(str, live)),
    }
