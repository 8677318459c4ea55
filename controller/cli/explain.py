"""`wheelway explain`: why each version of a pipeline is live, or why it is not."""

import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final

import typer
from packaging.version import Version

from controller.cli.invocation import Invocation, invocation
from controller.cli.link import told
from controller.cli.output import (
    PHASE_STYLES,
    day_and_time,
    drawn_conditions,
    drawn_orders,
    first_line,
    paragraph,
    show,
)
from controller.cli.parameters import AsJson, parsed_version, pipelines, versions
from controller.cli.status import replicas_of
from controller.model import Phase
from controller.ops.explain import WHEN, ChapterDocument, StoryDocument, tell, tell_all
from controller.ops.times import ago, seconds
from controller.planning.weights_telling import REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from controller.ops.documents import EventDocument, QuarantineDocument
    from controller.ops.explain import SummaryDocument
    from controller.ops.weights import OfferedWeightsDocument

NEWEST: Final = 10
"""Weights of a pipeline that a person is told of, and wheels that were not fetched."""


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
    as_json: AsJson = False,
) -> None:
    """Say why each version is live, or exactly why it is not.

    Of each version: how far it came and when, what stands in its way with what helps, and of one
    that failed the stage, the reason and the last lines of its log. A file that no pipeline is
    known of yet is found by its name. Without a name, each pipeline is told of in a sentence.
    """
    if name is None:
        asked = invocation(ctx)
        everything = told(asked, "explain", otherwise=lambda r: tell_all(r, now=time.time()))
        show(everything, _drawn_all, as_json=as_json)
    else:
        show(story_of(invocation(ctx), name, version), drawn, as_json=as_json)


def story_of(asked: Invocation, name: str, version: str | None) -> StoryDocument:
    """What is known of a pipeline, or of one version of it, as a document."""
    wanted = None if version is None else parsed_version(version)
    return told(
        *(asked, "explain", name),
        otherwise=lambda reader: tell(reader, name, wanted, now=time.time()),
        version=None if wanted is None else str(wanted),
    )


# -- for people ----------------------------------------------------------------------------------


def _drawn_all(found: "list[SummaryDocument]") -> "Iterable[RenderableType]":
    if not found:
        yield "No source has listed any wheel yet; see `wheelway status`."
        return
    for document in found:
        yield paragraph(document["summary"], style="" if document["live"] else "yellow")
        if document["why"]:
            yield paragraph(first_line(document["why"]), indent=2, style="dim")
    yield "\n`wheelway explain NAME` tells the rest."


def drawn(story: StoryDocument) -> "Iterable[RenderableType]":
    """The story for a person: the answer in a sentence, then each release."""
    now = time.time()
    yield paragraph(story["summary"], style="bold")
    yield from drawn_orders(story["overrides"], now)
    for chapter in story["releases"]:
        yield from ("", *_chapter(chapter, now, story.get("last_seen")))
    if weights := story.get("weights"):
        yield from ("", paragraph("Weights", style="bold"))
        yield from _offered(weights)
    unread = sorted(story["unread"], key=lambda wheel: Version(wheel["version"]), reverse=True)
    for wheel in unread[:NEWEST]:
        why = wheel["note"] or "policy asks for other versions, or it has just been noticed"
        said = f"{wheel['file']}: listed by {wheel['source']}, not fetched: {why}"
        yield from ("", said)
    if len(unread) > NEWEST:
        yield from ("", _older(len(unread) - NEWEST, "not fetched"))
    if story["conditions"]:
        yield from ("", paragraph("Conditions", style="bold"))
        yield from drawn_conditions(story["conditions"], now)


def _offered(weights: "Sequence[OfferedWeightsDocument]") -> "Iterable[RenderableType]":
    """The newest weights of each pipeline, and those that are in force."""
    counts = Counter[tuple[str, str]]()
    left = 0
    for one in weights:
        place = one["pipeline"], one["project"]
        counts[place] += 1
        if counts[place] > NEWEST and not one.get("takers"):
            left += 1
            continue
        named = f"{one['project']} {one['version']} ({one['digest'][:8]})"
        said = f"{named} for {one['pipeline']}: {one['reason']}: {one['message']}"
        yield paragraph(said, indent=2)
    if left:
        yield paragraph(_older(left, "looked into"), indent=2)


def _older(many: int, what: str) -> str:
    return f"and {many} older, {what}: `--json` has all, `wheelway explain NAME VERSION` one"


def _chapter(
    chapter: ChapterDocument, now: float, last_seen: str | None
) -> "Iterable[RenderableType]":
    from rich.text import Text  # noqa: PLC0415 - not for `--help`

    phase, reason, quarantine = chapter["phase"], chapter["reason"], chapter["quarantine"]
    # A reason may be newer than the phase.
    entered = [event["at"] for event in chapter["events"] if "phase" in event["fields"]]
    times = [seconds(at) for at in (chapter["since"], *entered[-1:])]
    span, whole = ago(now - max(times)), ago(now - times[0])
    yield Text.assemble(
        (f"{chapter['pipeline']} {chapter['version']}", "bold"),
        (f" ({chapter['digest'][:8]})  ", "dim"),
        (phase, PHASE_STYLES.get(phase, "")),
        f"  {reason}, for {span}",
        f" ({phase} for {whole})" if span != whole else "",
    )
    if chapter["live"]:
        then = " when the daemon was last seen" if last_seen else ""
        yield paragraph(f"live at {chapter['route']}{then}", indent=2)
        if reason == REFUSED:
            yield paragraph(chapter["message"], indent=2)
    elif quarantine is None and phase == Phase.QUARANTINED:
        lifted = "not live: its quarantine was lifted; the daemon tries it at its next pass"
        yield paragraph(lifted, indent=2)
    elif quarantine is None:
        yield paragraph(f"not live: {chapter['message'] or reason}", indent=2)
    if quarantine is not None:
        yield from _failure(quarantine, chapter["remedies"], live=chapter["live"])
    if chapter["note"]:
        yield paragraph(chapter["note"], indent=2)
    yield from _place(chapter)
    yield from _weights(chapter, now)
    yield from _timeline(chapter)
    if chapter["events"]:
        yield paragraph("events:", indent=2)
    for event in chapter["events"]:
        said = f"{happened(event)}: {first_line(event['message'])}"
        yield paragraph(f"{day_and_time(seconds(event['at']))}  {said}", indent=4)


def _place(chapter: ChapterDocument) -> "Iterable[RenderableType]":
    """Where it comes from, where it runs and logs, and its parts."""
    known = {key: chapter[key] for key in ("file", "source", "placement")}
    if said := ", ".join(f"{what} {value}" for what, value in known.items() if value):
        yield paragraph(said, indent=2, style="dim")
    for part in chapter["parts"]:
        why = f": {first_line(part['message'])}" if part["message"] else ""
        state = f"{part['state']}, " if part["state"] else ""
        yield paragraph(f"part {part['name']}: {state}{replicas_of(part)}{why}", indent=2)
    if chapter["log"]:
        command = f"wheelway logs {chapter['pipeline']} {chapter['version']}"
        said = f"log {chapter['log']} in Ray's session folder: `{command}`"
        yield paragraph(said, indent=2, style="dim")


def _weights(chapter: ChapterDocument, now: float) -> "Iterable[RenderableType]":
    """The weights that it serves with, those before, and those that failed with it."""
    if (present := chapter.get("weights")) is not None:
        former = chapter["former_weights"]
        before = f", before with {', '.join(former)}" if former else ""
        since = chapter.get("weights_since")  # a daemon of before tells less
        span = f" (for {ago(now - seconds(since))})" if since else ""
        yield paragraph(f"seen live with {present}{span}{before}", indent=2)
        wanted = chapter.get("wanted_weights")
        if wanted and wanted != present:
            yield paragraph(f"it is to have {wanted} instead", indent=2)
    for failed in chapter.get("refused_weights", ()):
        said = f"{failed['weights']} failed with it: {failed['reason']}"
        yield paragraph(said, indent=2, style="red")
        yield paragraph(failed["message"], indent=4)
        for line in failed["log_tail"].rstrip().splitlines():
            yield paragraph(f"| {line}", indent=4, style="dim")
        version = str(failed["weights"]).partition("@")[2].rpartition("+")[0]
        again = f"wheelway quarantine clear {failed['pipeline']} {version} --weights"
        yield paragraph(f"publish others, or `{again}`", indent=4)


def _failure(
    quarantine: "QuarantineDocument", remedies: "Iterable[str]", *, live: bool
) -> "Iterable[RenderableType]":
    """Why a release is quarantined, what it said last and what to do."""
    when = WHEN.get(quarantine["stage"], f"at stage {quarantine['stage']!r}")
    said = f"it failed {when}: {quarantine['reason']}"
    said = f"as it is configured now, {said}" if live else f"not live: {said}"
    yield paragraph(said, indent=2, style="red")
    yield paragraph(quarantine["message"], indent=4)
    if quarantine["log_tail"].strip():
        yield paragraph("what it said last:", indent=2)
    for line in quarantine["log_tail"].rstrip().splitlines():
        yield paragraph(f"| {line}", indent=4, style="dim")
    yield paragraph("what to do:", indent=2)
    yield from (paragraph(sentence, indent=4) for sentence in remedies)


def _timeline(chapter: ChapterDocument) -> "Iterable[RenderableType]":
    """When each phase was first reached, and how long that took; and the present phase, if a
    release came back or went a second time.
    """
    times = {phase: seconds(at) for phase, at in chapter["times"].items()}
    if not times:
        return
    yield paragraph("timeline, each phase when it was first reached:", indent=2)
    before: float | None = None
    for phase, at in sorted(times.items(), key=lambda item: item[1]):
        took = "" if before is None else f"+{at - before:.1f} s"
        yield paragraph(f"{day_and_time(at)}  {took:>10}  {phase}", indent=4)
        before = at
    since, phase = seconds(chapter["since"]), chapter["phase"]
    if before != since or times.get(phase) != before:
        again = f"{day_and_time(since)}  {'now':>10}  {phase}"
        yield paragraph(again, indent=4)


def happened(event: "EventDocument") -> str:
    """The phase that an event tells of, or else its reason."""
    phase, reason = event["fields"].get("phase"), event["reason"]
    return f"{phase} ({reason})" if phase else reason
