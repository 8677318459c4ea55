"""What one replica of a release does from start to end, without knowing who runs it.

`host.py` puts it under Ray Serve; tests and an author's laptop run it as it is. Its input are the
arguments and the user_config of the release's application document, which the controller renders.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextvars import Context
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from wheelway import memory
from wheelway.asgi import Application
from wheelway.calling import THREADS
from wheelway.contract import Release
from wheelway.direct import Direct
from wheelway.execution import Runtime, context_of
from wheelway.failure import StartFailure
from wheelway.inline import InlinePart, PartGroup, inline_parts, load_parts
from wheelway.instances import DEADLINE, FINISH, Form, Instances
from wheelway.limits import Limits, limits_of
from wheelway.loading import files_of, load_class, verify
from wheelway.schema import interface_of
from wheelway.underway import begin, reminding
from wheelway.watchdog import HELD_AFTER, Hold, Watchdog
from wheelway.weights import Refusal, Weights, noted, verified, with_weights

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

    from wheelway.contract import Pipeline
    from wheelway.remote import RemotePart
    from wheelway.schema import Interface

ASK_AGAIN = 1.0
"""Seconds for which what parts elsewhere said is told again: whoever may read may ask."""
ASK_WITHIN = 1.0
"""Seconds that they have for it: the metadata wait for that."""

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
    weights: Weights | None = None
    """Those that it starts with and keeps; None: `user_config` names them, if there are any."""

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
            weights=Weights.of(args.get("weights")),
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
        name: str = "",
        echo_request_id: bool = True,
        parts: Mapping[str, RemotePart] | None = None,
    ) -> None:
        """`parts` are those that run elsewhere."""
        self.application = Application(
            arguments.release,
            logger,
            echo_request_id=echo_request_id,
            on_shutdown=self.unload,
        )
        self.application.state = self._told
        self.direct = Direct(self.application, name, logger)
        """The way past Serve."""
        self.grace = 0.0
        """Seconds that a retired replica gets to end; a former instance gets them, too."""
        self._arguments = arguments
        self._logger = logger
        self._name = name
        self._room = memory.Room(arguments.max_memory, accelerated=arguments.accelerated)
        self._instances = Instances(self._started, self._serve, self._room, logger)
        self._class: type[Pipeline] | None = None
        self._inline: Mapping[str, InlinePart] = {}
        self._elsewhere = parts or {}
        self._settings: Mapping[str, Any] = {}
        self._refused: dict[str, str] = {}
        """By part elsewhere: what it said last of the latest settings."""
        self._unheard: set[str] = set()
        """Those that could not be asked last, as the log has."""
        self._asked = -math.inf
        """When they were asked (monotonic)."""
        if self._elsewhere:
            self.application.refresh = self._ask_parts
        self._interface: Interface | None = None
        self._limits = Limits()
        self._apart = False
        """Whether the first instance held the loop while it started, when nobody was served yet."""
        self._watchdog: Watchdog | None = None
        self._warned: set[bool] = set()
        """Of holds by coroutines, of others: once each."""
        self._starting = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether the pipeline is loaded and its examples passed."""
        return self._instances.running is not None

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """The first time start the release; later take limits, and have settings and weights taken
        in the background: Serve takes a replica out of the ingress until this returns. The metadata
        says when they are in force, or why they are not.

        Raises:
            StartFailure: the release cannot start. Never once it has.
        """
        async with self._starting:
            self._limits = limits_of(user_config)
            limits, settings = self._limits, user_config.get("settings") or {}
            if settings != self._settings:
                self._settings = settings
                self._refused.clear()  # said of others
            self._instances.finish = max(
                FINISH, limits.request_timeout, limits.stream_timeout, self.grace
            )
            self._instances.deadline = user_config.get("weights_deadline") or DEADLINE
            if not self.ready:
                try:
                    async with reminding(self._logger, self._arguments.release):
                        await self._start(user_config)
                except StartFailure as failure:  # what Serve reports of it is cut short
                    self._logger.error(
                        "%s does not start", self._arguments.release, exc_info=failure
                    )
                    raise
                self.direct.want(user_config.get("direct"))
                return
            self.direct.want(user_config.get("direct"))
            assert self._instances.running is not None  # noqa: S101 - as `ready` says
            self._serve(self._instances.running)
            self._instances.take_settings(settings)
            if self._arguments.weights is None:
                self._instances.take_weights(Weights.of(user_config.get("weights")))

    async def settled(self) -> None:
        """Wait until what `reconfigure` asked for last is in force or refused."""
        await self._instances.settled()

    async def unload(self) -> None:
        """End it: nothing is served any more, after what came directly has ended."""
        await self.direct.close(self.grace or self._instances.finish)
        if self._watchdog is not None:
            self._watchdog.stop()
        await self._instances.unload()

    def _serve(self, runtime: Runtime) -> None:
        self.application.serve(runtime, self._limits)

    def _told(self) -> Mapping[str, Any]:
        refused = next(filter(None, self._refused.values()), "")
        told = {"replica": self._name, "settings_error": refused}
        return {**told, **self._instances.told(), **self.direct.told()}

    async def _ask_parts(self) -> None:
        """Have the parts elsewhere say what they refuse; each has settings by itself. Of one that
        cannot be asked holds what it said last, and whatever that is due to is no fault of who
        asks for the metadata.
        """
        if (now := time.monotonic()) < self._asked + ASK_AGAIN:
            return
        self._asked = now
        # Each in a context of its own: Serve counts calls for the route of their request.
        asked = (
            asyncio.create_task(
                asyncio.wait_for(part.settings_error(), ASK_WITHIN), context=Context()
            )
            for part in self._elsewhere.values()
        )
        said = await asyncio.gather(*asked, return_exceptions=True)
        for name, one in zip(self._elsewhere, said, strict=True):
            if isinstance(one, str):
                self._refused[name] = one
            if not isinstance(one, BaseException) or isinstance(one, TimeoutError):  # busy, lost
                self._unheard.discard(name)
            elif name not in self._unheard:
                self._unheard.add(name)
                self._logger.warning(
                    "the part %r could not be asked whether it takes the settings",
                    name,
                    exc_info=one,
                )

    # -- start -----------------------------------------------------------------------------------

    async def _start(self, user_config: Mapping[str, Any]) -> None:
        arguments, settings = self._arguments, user_config.get("settings") or {}
        # Off the loop: reading, hashing and importing may take seconds.
        self._class = await asyncio.to_thread(self._load_class)
        form, refusal = Form(arguments.weights or Weights.of(user_config.get("weights"))), None
        try:
            runtime, form = await self._first(form, settings)
        except StartFailure as failure:
            former = Form(Weights.of(user_config.get("former_weights")))
            if arguments.weights or "former_weights" not in user_config or former == form:
                raise
            await asyncio.to_thread(memory.give_back)
            refusal = Refusal(form.weights, failure)
            runtime, form = await self._first(former, settings)
        self._instances.begin(runtime, form, refusal, apart=self._apart)
        # Whatever the stages are: validators and serialisers run on the loop, and a `def` may
        # return something to be awaited.
        self._watchdog = Watchdog(
            files_of(self._class), self._on_held, self.application.answer_late
        )
        self._logger.info(
            "%s started from %s, examples passed: %d",
            arguments.release,
            arguments.tree,
            len(runtime.examples),
        )

    def _load_class(self) -> type[Pipeline]:
        arguments = self._arguments
        begin(f"its files in {arguments.tree}")
        verify(arguments.tree, arguments.record_digest)
        self._room.limit()
        begin(f"the import of {arguments.target}")
        found = load_class(arguments.target, arguments.tree)
        self._inline = load_parts(arguments.inline, found, arguments.tree)
        return found

    async def _first(self, form: Form, settings: Mapping[str, Any]) -> tuple[Runtime, Form]:
        """An instance, with a loop of its own if the examples hold this one."""
        assert self._class is not None  # noqa: S101 - see _started
        held: list[Hold] = []
        watchdog = Watchdog(files_of(self._class), held.append)
        try:
            runtime = await self._started(form, settings)
            await asyncio.sleep(0)  # what the watchdog found out arrives with the next turn
        finally:
            watchdog.stop()
        self._apart = any(hold.by_coroutine for hold in held)
        if runtime.runs_on_loop and await self._holds_the_loop(runtime):
            await runtime.unload()
            form = replace(form, isolated=True)
            runtime = await self._started(form, settings)
        return runtime, form

    async def _started(self, form: Form, settings: Mapping[str, Any]) -> Runtime:
        arguments, weights = self._arguments, form.weights
        assert self._class is not None  # noqa: S101 - only called after _load_class
        if self._interface is None:
            self._interface = interface_of(self._class)
        with with_weights(weights), noted(weights, arguments.release):
            begin("the files of its weights")
            folder = await asyncio.to_thread(verified, weights)
            context = context_of(self._class, arguments.release, settings, self._logger, folder)
            return await Runtime.started(
                self._class,
                context,
                tree=arguments.tree,
                threads=arguments.threads,
                isolated=form.isolated,
                weights=str(weights or ""),
                interface=self._interface,
                limits=self._limits,
                parts=self._parts(settings, folder),
            )

    def _parts(self, settings: Mapping[str, Any], weights: Path | None) -> PartGroup | None:
        if not self._inline and not self._elsewhere:
            return None
        inline = inline_parts(
            self._inline,
            self._arguments.release,
            settings,
            self._logger,
            self._arguments.tree,
            weights,
        )
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
            self._instances.isolate()
