"""`wheelway explain`: why each version of a pipeline is live, or why it is not."""

import time
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from controller.cli.documents import (
    condition_document,
    event_document,
    quarantine_document,
    release_document,
)
from controller.cli.invocation import invocation
from controller.cli.output import (
    PHASE_STYLES,
    ago,
    clean,
    console,
    day_and_time,
    first_line,
    paragraph,
    print_json,
    stack,
)
from controller.cli.remedies import remedies
from controller.cli.story import Chapter, Story, tell
from controller.model import Phase

if TYPE_CHECKING:
    from packaging.version import Version
    from rich.console import RenderableType

    from controller.model import JSON, Event

WHEN: Final = {
    "inspect": "when the wheel was inspected",
    "wishes": "when its wheelway.toml was read",
    "prepare": "when its environment was prepared",
    "stage": "when it was started",
    "promote": "when it was given its route",
}
"""The stages of a quarantine in words."""


def explain(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A pipeline, a project or a wheel's file name.")],
    version: Annotated[str | None, typer.Argument(help="One version; default: all.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Say why each version is live, or exactly why it is not."""
    with invocation(ctx).reader() as reader:
        story = tell(reader, name, None if version is None else parsed_version(version))
    if as_json:
        print_json(as_document(story))
    else:
        console().print(drawn(story, time.time()))


def parsed_version(text: str) -> "Version":
    """A version from the command line; a usage error when it is none (PEP 440)."""
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415 - not always needed

    try:
        return Version(text)
    except InvalidVersion as error:
        raise typer.BadParameter(f"{text!r} is not a version (PEP 440), such as 1.2.0") from error


# -- for people ----------------------------------------------------------------------------------


def drawn(story: Story, now: float) -> "RenderableType":
    """The story for a person: the answer in a sentence, then each release."""
    parts: list[RenderableType | None] = [paragraph(summary(story), style="bold")]
    for chapter in story.chapters:
        parts += ["", *_chapter(chapter, now)]
    for revision in story.unread:
        why = revision.note or "policy asks for other versions, or it has just been noticed"
        said = f"{revision.filename}: listed by {revision.source}, not fetched: {why}"
        parts += ["", paragraph(said)]
    if story.conditions:
        parts += ["", paragraph("Conditions", style="bold")]
        for condition, since in story.conditions:
            head = f"{condition.subject}: {condition.reason}, for {ago(now - since)}"
            parts += [
                paragraph(head, indent=2, style="" if condition.ok else "yellow"),
                paragraph(condition.message, indent=4),
            ]
    return stack(*parts)


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
    if chapter.record is None:
        return "nothing is known of it"
    return f"{chapter.record.phase.value} ({chapter.record.reason})"


def _chapter(chapter: Chapter, now: float) -> "list[RenderableType]":
    release, record, quarantine = chapter.release, chapter.record, chapter.quarantine
    phase = record.phase.value if record else "Quarantined"
    head = Text.assemble(
        (f"{release.pipeline} {release.version}", "bold"),
        (f" ({release.digest[:8]})  ", "dim"),
        (phase, PHASE_STYLES.get(phase, "")),
        f"  {record.reason if record else ''}",
        f", for {ago(now - record.since)}" if record else "",
    )
    parts: list[RenderableType] = [head]
    if chapter.live:
        parts.append(paragraph(f"live at {release.route}", indent=2))
    elif record is not None and quarantine is None and record.phase is Phase.QUARANTINED:
        lifted = "not live: its quarantine was lifted; the daemon tries it at its next pass"
        parts.append(paragraph(lifted, indent=2))
    elif record is not None and quarantine is None:
        parts.append(paragraph(f"not live: {record.message or record.reason}", indent=2))
    if quarantine is not None:
        when = WHEN.get(quarantine.stage, "then")
        said = f"it failed at stage {quarantine.stage!r}, {when}: {quarantine.reason}"
        said = f"as it is configured now, {said}" if chapter.live else f"not live: {said}"
        parts += [
            paragraph(said, indent=2, style="red"),
            paragraph(quarantine.message, indent=4),
        ]
        if quarantine.log_tail.strip():
            parts.append(paragraph("what it said last:", indent=2))
            parts += [
                paragraph(f"| {line}", indent=4, style="dim")
                for line in quarantine.log_tail.rstrip().splitlines()
            ]
        parts.append(paragraph("what to do:", indent=2))
        parts += [paragraph(sentence, indent=4) for sentence in remedies(quarantine)]
    if chapter.note:
        parts.append(paragraph(chapter.note, indent=2))
    known = [f"file {chapter.filename}"] if chapter.filename else []
    if record is not None and record.source:
        known.append(f"source {record.source}")
    if record is not None and record.placement:
        known.append(f"placement {record.placement}")
    if known:
        parts.append(paragraph(", ".join(known), indent=2, style="dim"))
    return [*parts, *_timeline(chapter), *_events(chapter)]


def _timeline(chapter: Chapter) -> "list[RenderableType]":
    """When each phase was first reached, and how long that took."""
    record = chapter.record
    if record is None or not record.times:
        return []
    parts: list[RenderableType] = [paragraph("timeline:", indent=2)]
    before: float | None = None
    for phase, at in sorted(record.times.items(), key=lambda item: item[1]):
        took = "" if before is None else f"+{at - before:.1f} s"
        parts.append(paragraph(f"{day_and_time(at)}  {took:>10}  {phase.value}", indent=4))
        before = at
    return parts


def _events(chapter: Chapter) -> "list[RenderableType]":
    if not chapter.events:
        return []
    lines = [
        paragraph(
            f"{day_and_time(e.at)}  {_happened(e)}: {first_line(e.message)}",
            indent=4,
        )
        for e in chapter.events
    ]
    return [paragraph("events:", indent=2), *lines]


def _happened(event: "Event") -> str:
    phase = event.fields.get("phase")
    return clean(f"{phase} ({event.reason})" if phase else event.reason)


# -- for scripts ---------------------------------------------------------------------------------


def as_document(story: Story) -> "JSON":
    """The story as JSON. Keys are only ever added; times are ISO 8601 in UTC.

    name        normalised, or the file's name
    summary     the answer in a sentence
    releases    newest version first; each as in `status --json`, with file ("" when it is no
                longer listed), note (of its source, on its standing there), live, remedies
                (sentences) and events (at, reason, message, fields)
    unread      listed wheels that nobody looked into: source, project, version, file, digest,

    Note:
    conditions  as in `status --json`
    """
    return {
        "name": story.name,
        "summary": summary(story),
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
    }


def _chapter_document(chapter: Chapter) -> "JSON":
    release, quarantine = chapter.release, chapter.quarantine
    if chapter.record is not None:
        document = release_document(chapter.record, quarantine)
    else:
        document = {
            "pipeline": release.pipeline,
            "version": str(release.version),
            "digest": release.digest,
            "phase": "Quarantined",
            "quarantine": quarantine and quarantine_document(quarantine),
        }
    return document | {
        "file": chapter.filename,
        "note": chapter.note,
        "live": chapter.live,
        "remedies": remedies(quarantine) if quarantine else [],
        "events": [event_document(event) for event in chapter.events],
    }
