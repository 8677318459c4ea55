"""What one replica of a release does from start to end, without knowing who runs it.

`host.py` puts it under Ray Serve; tests and an author's laptop run it as it is. Its input are the
arguments and the user_config of the release's application document, which the controller renders.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from wheelway import memory
from wheelway.asgi import Application
from wheelway.calling import THREADS
from wheelway.contract import Release
from wheelway.execution import Runtime, context_of
from wheelway.failure import StartFailure
from wheelway.inline import InlinePart, PartGroup, inline_parts, load_parts
from wheelway.limits import Limits, limits_of
from wheelway.loading import files_of, load_class, verify
from wheelway.watchdog import HELD_AFTER, Hold, Watchdog

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

    from wheelway.contract import Pipeline
    from wheelway.parts import Invoke

_MOVED = (
    "an asynchronous stage",
    "it gets a loop of its own now. Make it `def`, for a thread, or await what it waits for",
)
_STAYS = (
    "code outside the stages",
    "validators and serialisers must be quick: leave what takes its time to a `def` stage",
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """`args` of a release's application: all that it takes to start one replica."""

    release: Release
    target: str
    """`module:attribute` of the pipeline class."""
    tree: Path
    record_digest: str
    """SHA-256 of the tree's RECORD."""
    threads: int = THREADS
    max_memory: int | None = None
    """Bytes that may be allocated beyond what the replica holds before the import."""
    accelerated: bool = False
    """Whether a GPU was given to the replica."""
    inline: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Of the parts that run in it, by name: what they are, as `target`, and their threads."""

    @classmethod
    def of(
        cls, args: Mapping[str, Any], application: str = "", *, accelerated: bool = False
    ) -> Self:
        """From the document's JSON; `application` is the name that Serve runs it under."""
        release = args["release"]
        return cls(
            release=Release(
                pipeline=release["pipeline"],
                version=release["version"],
                digest=release["digest"],
                environment=args.get("environment") or "",
                wheelway=args.get("wheelway") or "",
                application=application,
            ),
            target=args["target"],
            tree=Path(args["tree"]),
            record_digest=args["record_digest"],
            threads=args.get("threads") or THREADS,
            max_memory=args.get("max_memory"),
            accelerated=accelerated,
            inline={
                name: (part["target"], part.get("threads") or THREADS)
                for name, part in (args.get("parts") or {}).items()
                if part["inline"]
            },
        )

    @classmethod
    def of_part(
        cls, name: str, args: Mapping[str, Any], application: str, *, accelerated: bool
    ) -> Self:
        """The same for a replica of one of its parts."""
        part = args["parts"][name]
        return replace(
            cls.of(args, application, accelerated=accelerated),
            target=part["target"],
            threads=part.get("threads") or THREADS,
            max_memory=part.get("max_memory"),
            inline={},
        )


class Replica:
    """One replica; `application` is what it serves, and answers 503 until the first `reconfigure`.

    That is where everything happens that can fail because of the pipeline: only then are its
    settings known.
    """

    def __init__(
        self,
        arguments: Arguments,
        logger: logging.Logger,
        *,
        echo_request_id: bool = True,
        parts: Mapping[str, Invoke] | None = None,
    ) -> None:
        """`parts` are those that run elsewhere."""
        self.application = Application(
            arguments.release,
            logger,
            echo_request_id=echo_request_id,
            on_shutdown=self.unload,
        )
        self._arguments = arguments
        self._logger = logger
        self._runtime: Runtime | None = None
        self._class: type[Pipeline] | None = None
        self._inline: Mapping[str, InlinePart] = {}
        self._elsewhere = parts or {}
        self._limits = Limits()
        self._watchdog: Watchdog | None = None
        self._isolation: asyncio.Task[None] | None = None
        self._warned: set[bool] = set()
        """Of holds by coroutines, of others: once each."""
        self._changing = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether the pipeline is loaded and its examples passed."""
        return self._runtime is not None

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """The first time start the release, later hand over settings and limits.

        Raises:
            StartFailure: the release cannot start. Never once it has: a pipeline that refuses new
                settings keeps the former ones, its metadata then has a `settings_error`.
        """
        settings = user_config.get("settings") or {}
        async with self._changing:
            self._limits = limits_of(user_config)
            if self._runtime is None:
                try:
                    self._runtime = await self._start(settings)
                except StartFailure as failure:  # what Serve reports of it is cut short
                    self._logger.error(
                        "%s does not start", self._arguments.release, exc_info=failure
                    )
                    raise
            else:
                await self._runtime.reconfigure(settings)
            self.application.serve(self._runtime, self._limits)

    async def unload(self) -> None:
        """End it: nothing is served any more."""
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._isolation is not None:
            self._isolation.cancel()
        if self._runtime is not None:
            await self._runtime.unload()

    async def _start(self, settings: Mapping[str, Any]) -> Runtime:
        arguments = self._arguments
        # Off the loop: reading, hashing and importing may take seconds.
        self._class = await asyncio.to_thread(self._load_class)
        runtime = await self._started(settings, isolated=False)
        if runtime.runs_on_loop and await self._holds_the_loop(runtime):
            await runtime.unload()
            runtime = await self._started(settings, isolated=True)
        # Whatever the stages are: validators and serialisers run on the loop, and a `def` may
        # return something to be awaited.
        self._watchdog = Watchdog(
            files_of(self._class), self._on_held, self.application.answer_late
        )
        self._logger.info(
            "%s started from %s, %d examples passed",
            arguments.release,
            arguments.tree,
            len(runtime.examples),
        )
        return runtime

    def _load_class(self) -> type[Pipeline]:
        arguments = self._arguments
        verify(arguments.tree, arguments.record_digest)
        memory.limit(arguments.max_memory, accelerated=arguments.accelerated)
        found = load_class(arguments.target, arguments.tree)
        self._inline = load_parts(arguments.inline, found, arguments.tree)
        return found

    async def _started(self, settings: Mapping[str, Any], *, isolated: bool) -> Runtime:
        arguments = self._arguments
        assert self._class is not None  # noqa: S101 - only called after _load_class
        return await Runtime.started(
            self._class,
            context_of(self._class, arguments.release, settings, self._logger),
            tree=arguments.tree,
            threads=arguments.threads,
            isolated=isolated,
            limits=self._limits,
            parts=self._parts(settings),
        )

    def _parts(self, settings: Mapping[str, Any]) -> PartGroup | None:
        if not self._inline and not self._elsewhere:
            return None
        release, tree = self._arguments.release, self._arguments.tree
        inline = inline_parts(self._inline, release, settings, self._logger, tree)
        return PartGroup(inline, self._elsewhere)

    # -- an asynchronous stage that blocks -------------------------------------------------------

    async def _holds_the_loop(self, runtime: Runtime) -> bool:
        """Whether the examples do, once warm; better found out now than under load."""
        assert self._class is not None  # noqa: S101 - see _started
        if runtime.warm_up_seconds < HELD_AFTER:
            return False
        held: list[Hold] = []
        watchdog = Watchdog(files_of(self._class), held.append)
        try:
            await runtime.warm_up()
            await asyncio.sleep(0)  # what the watchdog found out arrives with the next turn
        finally:
            watchdog.stop()
        movable = [hold for hold in held if hold.by_coroutine]
        if movable:
            self._warn(movable[0])
        return bool(movable)

    def _warn(self, hold: Hold) -> None:
        what, advice = _MOVED if hold.by_coroutine else _STAYS
        self._logger.warning(
            "%s of %s held the event loop, and with it health checks and all other requests; "
            "%s:\n%s",
            what,
            self._arguments.release,
            advice,
            hold.stack,
        )

    def _on_held(self, hold: Hold) -> None:
        if hold.by_coroutine in self._warned:
            return
        self._warned.add(hold.by_coroutine)
        self._warn(hold)
        if hold.by_coroutine:
            self._isolation = asyncio.create_task(self._isolate())

    async def _isolate(self) -> None:
        """Replace the instance by one on a loop of its own: what the old one holds (locks, HTTP
        clients) belongs to the loop it was made on and cannot move.
        """
        async with self._changing:
            former = self._runtime
            if former is None or former.isolated:
                return
            try:
                self._runtime = await self._started(former.settings, isolated=True)
            except StartFailure:
                self._logger.exception("it stays where it is: a second instance does not start")
                return
            self.application.serve(self._runtime, self._limits)
        # What runs on the former one ends within the request timeout, one way or another.
        await asyncio.sleep(self._limits.request_timeout)
        await former.unload()
