"""Which of the listed wheels are a release's own, and which no release comes of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.model import Condition

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from controller.journal import Reader, ReleaseRecord
    from controller.model import Revision, Tracked


def own_wheels(
    reader: Reader, records: Collection[ReleaseRecord], revisions: Iterable[Revision]
) -> dict[Tracked, Revision | None]:
    """By release: the listed wheel that it is of. Its bytes may be listed under other names as
    well, which are refused.
    """
    refused = {(wheel.digest, wheel.filename) for wheel in reader.refused_wheels()}
    copies: dict[str, list[Revision]] = {record.subject.digest: [] for record in records}
    for revision in revisions:
        if revision.sha256 in copies:
            copies[revision.sha256].append(revision)

    def own(record: ReleaseRecord) -> Revision | None:
        subject = record.subject
        return min(
            copies[subject.digest],
            key=lambda copy: (
                (copy.sha256, copy.filename) in refused,
                copy.version != subject.version,
                copy.project != subject.name,
                copy.source != record.source,
            ),
            default=None,
        )

    return {record.subject: own(record) for record in records}


def refused_wheels(
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
