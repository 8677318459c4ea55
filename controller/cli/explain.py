"""`wheelway explain`: why each version of a pipeline is live, or why it is not."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.completion import pipelines, versions
from controller.cli.gathering import drawn_conditions
from controller.cli.invocation import invocation
from controller.cli.link import told
from controller.cli.output import (
    PHASE_STYLES,
    clean,
    console,
    day_and_time,
    drawn_orders,
    first_line,
    paragraph,
    print_json,
    stack,
)
from controller.model import Phase
from controller.ops import summaries
from controller.ops.advice import remedies
from controller.ops.explain import WHEN, Chapter, Story, as_document, from_document, summary, tell
from controller.ops.times import ago

if TYPE_CHECKING:
    from packaging.version import Version
    from rich.console import RenderableType

    from controller.cli.invocation import Invocation
    from controller.model import Event
    from controller.ops.summaries import SummaryDocument


def explain(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            help="A pipeline, a project or a wheel's file name; default: all in a sentence each.",
            autocompletion=pipelines,
        ),
    ] = None,
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
    known of yet is found by its name. Without a name, each pipeline is told of in a sentence.
    """
    if name is None:
        _explain_all(invocation(ctx), as_json=as_json)
        return
    asked, wanted = invocation(ctx), None if version is None else parsed_version(version)
    document = told(
        asked,
        lambda daemon: daemon.get(
            *("v1", "explain", name), version=None if wanted is None else str(wanted)
        ),
        lambda reader: as_document(tell(reader, name, wanted)),
    )
    if as_json:
        print_json(document)
    else:
        console().print(drawn(from_document(document), time.time()))


def _explain_all(asked: "Invocation", *, as_json: bool) -> None:
    found: list[SummaryDocument] = told(
        asked,
        lambda daemon: daemon.get("v1", "explain"),
        summaries.tell,
    )
    if as_json:
        print_json(found)
        return
    out = console()
    if not found:
        out.print(paragraph("No source has listed any wheel yet; see `wheelway status`."))
        return
    for document in found:
        out.print(paragraph(document["summary"], style="" if document["live"] else "yellow"))
        if document["why"]:
            out.print(paragraph(first_line(document["why"]), indent=2, style="dim"))
    out.print(paragraph("\n`wheelway explain NAME` tells the rest."))


def parsed_version(text: str) -> "Version":
    """A version from the command line; a usage error when it is none (PEP 440)."""
    from packaging.version import Version  # noqa: PLC0415 - not always needed

    try:
        return Version(text)
    except ValueError as error:  # InvalidVersion, and numbers of thousands of digits
        raise typer.BadParameter(
            f"{text[:40]!r} is not a version (PEP 440), such as 1.2.0"
        ) from error


# -- for people ----------------------------------------------------------------------------------


def drawn(story: Story, now: float) -> "RenderableType":
    """The story for a person: the answer in a sentence, then each release."""
    parts: list[RenderableType | None] = [paragraph(summary(story), style="bold")]
    parts += drawn_orders(story.overrides, now)
    for chapter in story.chapters:
        parts += ["", *_chapter(chapter, now)]
    for revision in story.unread:
        why = revision.note or "policy asks for other versions, or it has just been noticed"
        said = f"{revision.filename}: listed by {revision.source}, not fetched: {why}"
        parts += ["", paragraph(said)]
    if story.conditions:
        parts += ["", paragraph("Conditions", style="bold")]
        parts += drawn_conditions(story.conditions, now)
    return stack(*parts)


def _chapter(chapter: Chapter, now: float) -> "list[RenderableType]":
    release, record, quarantine = chapter.release, chapter.record, chapter.quarantine
    phase = record.phase.value
    from rich.text import Text  # noqa: PLC0415 - not for `--help`

    span, whole = ago(now - chapter.reason_since), ago(now - record.since)
    head = Text.assemble(
        (f"{release.pipeline} {release.version}", "bold"),
        (f" ({release.digest[:8]})  ", "dim"),
        (phase, PHASE_STYLES.get(phase, "")),
        f"  {record.reason}, for {span}",
        f" ({phase} for {whole})" if span != whole else "",
    )
    parts: list[RenderableType] = [head]
    if chapter.live:
        parts.append(paragraph(f"live at {release.route}", indent=2))
    elif quarantine is None and record.phase is Phase.QUARANTINED:
        lifted = "not live: its quarantine was lifted; the daemon tries it at its next pass"
        parts.append(paragraph(lifted, indent=2))
    elif quarantine is None:
        parts.append(paragraph(f"not live: {record.message or record.reason}", indent=2))
    if quarantine is not None:
        when = WHEN.get(quarantine.stage, f"at stage {quarantine.stage!r}")
        said = f"it failed {when}: {quarantine.reason}"
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
    return [*parts, *_known(chapter), *_timeline(chapter), *_events(chapter)]


def _known(chapter: Chapter) -> "list[RenderableType]":
    """Where its bytes, its application and its log are."""
    release, record = chapter.release, chapter.record
    known = {"file": chapter.filename, "source": record.source, "placement": record.placement}
    said = [", ".join(f"{what} {value}" for what, value in known.items() if value)]
    if chapter.log:
        command = f"wheelway logs {release.pipeline} {release.version}"
        said.append(f"log {chapter.log} in Ray's session folder: `{command}`")
    return [paragraph(line, indent=2, style="dim") for line in said if line]


def _timeline(chapter: Chapter) -> "list[RenderableType]":
    """When each phase was first reached, how long that took, and where it is now if that is not the
    last of them: it may have come back, or gone a second time.
    """
    record = chapter.record
    if not record.times:
        return []
    head = "timeline, each phase when it was first reached:"
    parts: list[RenderableType] = [paragraph(head, indent=2)]
    before: float | None = None
    for phase, at in sorted(record.times.items(), key=lambda item: item[1]):
        took = "" if before is None else f"+{at - before:.1f} s"
        parts.append(paragraph(f"{day_and_time(at)}  {took:>10}  {phase.value}", indent=4))
        before = at
    if before != record.since or record.times.get(record.phase) != before:
        again = f"{day_and_time(record.since)}  {'now':>10}  {record.phase.value}"
        parts.append(paragraph(again, indent=4))
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
