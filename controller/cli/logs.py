"""`wheelway logs`: what a release's replicas logged, or all about one request."""

import sys
from collections import deque
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.explain import story_of
from controller.cli.invocation import invocation
from controller.cli.link import note
from controller.cli.output import clean
from controller.cli.parameters import pipelines, versions
from controller.errors import WheelwayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from controller.config.settings import RayOptions
    from controller.ops.explain import ChapterDocument, StoryDocument
    from controller.serve.log_records import Record
    from controller.serve.replica_logs import LogFile, ReplicaLogs


def logs(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A pipeline.", autocompletion=pipelines)],
    version: Annotated[
        str | None,
        typer.Argument(
            help="Default: the newest that is live, else the newest that was started.",
            autocompletion=versions,
        ),
    ] = None,
    *,
    request: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only what was logged for one request (`instance`)."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Stay, and print what is logged from now on.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, metavar="N", help="The last of them.")
    ] = 200,
) -> None:
    """Print what the replicas of a release logged: its own lines, its errors with tracebacks.

    All replicas together, in order of time, those that ended included. They are read through the
    Ray dashboard, from whichever node they are on. The id of a request is in its answer: `instance`
    of an error's document, `x-request-id` of any. On --follow, Ctrl-C ends it.
    """
    asked = invocation(ctx)
    story = story_of(asked, name, version)
    what = story["name"] if version is None else f"{story['name']} {version}"
    # A project may have the name of one of several pipelines: that one is meant.
    own = [c for c in story["releases"] if c["pipeline"] == story["name"]]
    chapter = _meant(what, own or story["releases"], loaders_of(story))
    if version is None:
        note(_chosen(chapter, [v for v in story["live"] if v != chapter["version"]]))
    import asyncio  # noqa: PLC0415 - for this command alone

    reading = _Reading(chapter, request, lines)
    options = asked.config_as_far_as_it_goes().ray
    asyncio.run(reading.follow(options) if follow else reading.show(options))


def loaders_of(story: "StoryDocument") -> list[str]:
    """The pipelines that load what a name stands for, if that is a project of weights."""
    loaders = {one["pipeline"] for one in story.get("weights", ())}
    return sorted(loaders - {story["name"]})


def _meant(
    what: str, chapters: "Sequence[ChapterDocument]", loaders: "Sequence[str]"
) -> "ChapterDocument":
    """The release whose log is wanted: the newest that is live, else that was started."""
    started = [chapter for chapter in chapters if _applications(chapter)]
    if found := next((c for c in started if c["live"]), None) or next(iter(started), None):
        return found
    if loaders:
        commands = " or ".join(f"`wheelway logs {name}`" for name in loaders)
        raise WheelwayError(
            "LogMissing",
            f"{what} are weights, which log nothing; what loads them does: {commands}",
        )
    command = f"wheelway explain {what}"
    raise WheelwayError(
        "LogMissing", f"no replica of {what} was started yet, so there is no log; see `{command}`"
    )


def _chosen(chapter: "ChapterDocument", others: "Sequence[str]") -> str:
    """Which version it is that was not asked for by its number."""
    if not chapter["live"]:
        return f"this is {_label(chapter)}, which is {chapter['phase']}; none is live"
    as_well = f"; {', '.join(others)} {'is' if len(others) == 1 else 'are'} live as well"
    return f"this is {_label(chapter)}{as_well if others else ', the only one that is live'}"


def _label(chapter: "ChapterDocument") -> str:
    return f"{chapter['pipeline']} {chapter['version']}"


def _applications(chapter: "ChapterDocument") -> list[str]:
    """Every Serve application that the release is known to have had, the latest last."""
    names = [str(event["fields"].get("placement", "")) for event in chapter["events"]]
    return [name for name in dict.fromkeys([*names, chapter["placement"]]) if name]


class _Reading:
    """One reading of the logs of a release."""

    def __init__(self, chapter: "ChapterDocument", request: str | None, lines: int) -> None:
        self._chapter = chapter
        self._request = request
        self._lines = lines

    async def show(self, options: "RayOptions") -> None:
        """Print what there is."""
        from controller.serve.log_records import merged  # noqa: PLC0415 - as below
        from controller.serve.replica_logs import ReplicaLogs  # noqa: PLC0415 - imports httpx

        async with ReplicaLogs.connect(options) as source:
            files = await self._files(source)
            contents = [await self._content(source, file) for file in files]
        lines = [line for record in merged(contents) for line in record.text.splitlines()]
        if lines:
            _print(lines if self._request is not None else deque(lines, self._lines))
        elif files and self._request is not None:
            raise WheelwayError(
                "LogMissing",
                f"no replica of {_label(self._chapter)} logged anything of a request "
                f"{self._request}; is it another version's (`x-wheelway-release` of the answer)?",
            )
        else:
            self._left()

    async def _content(self, source: "ReplicaLogs", file: "LogFile") -> list[str]:
        """The last lines of a file; of a request, all of its records."""
        from controller.serve.followed import WHOLE  # noqa: PLC0415 - as above
        from controller.serve.log_records import Splitter  # noqa: PLC0415 - as above

        found: list[str] = []
        splitter = Splitter()
        try:
            if self._request is None:
                return [line async for line in source.read(file, self._lines)]
            async for line in source.read(file, WHOLE):
                found += self._about(splitter.feed(line))
            found += self._about(splitter.end())
        except WheelwayError as error:  # one node's: others may have what is wanted
            note(error.message)
        return found

    def _about(self, record: "Record | None") -> list[str]:
        """The lines of a record if it is about the request that is asked for."""
        asked = self._request
        if record is None or (asked is not None and not record.mentions(asked)):
            return []
        return record.text.splitlines()

    async def _files(self, source: "ReplicaLogs") -> "list[LogFile]":
        files, silent = await source.files(_applications(self._chapter))
        for sentence in silent:
            note(sentence)
        return files

    def _left(self) -> None:
        """Print the log tail that the journal kept, where Ray has no log or an empty one: a release
        that fails while it starts may log nothing.
        """
        failed = self._chapter["quarantine"]
        where = f"Ray has nothing in its logs of {_label(self._chapter)}"
        if failed is None or not failed["log_tail"].strip():
            raise WheelwayError(
                "LogMissing",
                f"{where}: it logged nothing, or Ray's head was started again since, or its node "
                "is gone, and the log with it",
            )
        note(f"{where}; this is what was kept of its failure: {failed['message']}")
        _print(failed["log_tail"].rstrip().splitlines())

    async def follow(self, options: "RayOptions") -> None:
        """Print the last lines and all that come, until somebody interrupts."""
        from controller.serve.replica_logs import ReplicaLogs  # noqa: PLC0415 - imports httpx

        async with ReplicaLogs.connect(options) as source:
            await self._files(source)  # says at once what is amiss

            async def present() -> "list[LogFile]":
                return (await source.files(_applications(self._chapter)))[0]

            await source.follow(present, self._take, lines=self._lines)

    def _take(self, file: "LogFile", records: "list[Record]") -> None:
        del file  # each line names its replica
        for record in records:
            _print(self._about(record))


def _print(lines: "Iterable[str]") -> None:
    """Printable text only: a wheel's log must not steer a person's terminal."""
    for line in lines:
        sys.stdout.write(f"{clean(line)}\n")
    sys.stdout.flush()
