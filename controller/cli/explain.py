"""`wheelway explain`: why each version of a pipeline is live, or why it is not."""

import time
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from controller.cli.completion import pipelines, versions
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
    name: Annotated[
        str,
        typer.Argument(
            help="A pipeline, a project or a wheel's file name.", autocompletion=pipelines
        ),
    ],
    version: Annotated[
        str | None,
        typer.Argument(help="One version; default: all.", autocompletion=versions),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Say why each version is live, or exactly why it is not.

    Of each version: how far it came and when, what stands in its way with what helps, and of one
    that failed the stage, the reason and the last lines of its log. A file that no pipeline is
    known of yet is found by its name.
    """
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
        parts += [
            "",
            paragraph(
                f"{revision.filename}: listed by {revision.source}, not fetched: policy asks for "
                "other versions, or it has just been noticed"
            ),
        ]
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
    live = [str(c.release.version) for c in story.chapters if c.live]
    said = f"{', '.join(live)} {'is' if len(live) == 1 else 'are'} live" if live else "none is live"
    if not story.chapters:
        said = "no release of it is known yet"
    newest = story.chapters[0] if story.chapters else None
    if newest is not None and not newest.live and live:
        said += f"; the newest, {newest.release.version}, is not: {_standing(newest)}"
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
        said = f"not live: it failed at stage {quarantine.stage!r}, {when}: {quarantine.reason}"
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
                longer listed), live, remedies (sentences) and events (at, reason, message,
                fields)
    unread      listed wheels that nobody looked into: source, project, version, file, digest
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
        "live": chapter.live,
        "remedies": remedies(quarantine) if quarantine else [],
        "events": [event_document(event) for event in chapter.events],
    }
