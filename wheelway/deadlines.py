"""Ends requests whose time is over or whose client has gone, at next to no cost for all others.

A timer and a task each (`asyncio.timeout`, a task that waits for `http.disconnect`) would cost more
than the whole rest of a small request. Here one timer serves all requests: most have ended before
it fires for the first time.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from asyncio import current_task
from dataclasses import dataclass
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Any

from wheelway.stages import STAGES

if TYPE_CHECKING:
    from wheelway.asgi import Receive, Scope

INTERVAL = 0.5
"""Seconds between two checks at most; whether its client left is asked of a request that is still
there at the second one."""


class Cause(Enum):
    """Why a request was ended."""

    LATE = "late"
    GONE = "gone"
    REPLACED = "replaced"
    """A stream, of an instance that is not kept for longer."""


@dataclass(slots=True, eq=False)
class Watched:
    """One request; `cause` is set when it is being ended, by cancelling its task."""

    task: asyncio.Task[Any]
    scope: Scope
    receive: Receive
    due: float
    cause: Cause | None = None
    seen: bool = False
    body_read: bool = False
    """Only then may somebody else listen for the client's leaving."""
    listener: asyncio.Task[None] | None = None
    stopped_in: str = ""
    """Where it was when its time was over, for a person."""
    rescued: bool = False
    """It has ended, after another thread answered it while the loop was held."""
    streaming: bool = False
    """Its answer has begun; it is due with its next item."""

    def cancel(self, cause: Cause) -> None:
        """End it, unless it is being ended."""
        if self.cause is None:
            self.cause = cause
            self.task.cancel()

    @property
    def cancelled_by_others(self) -> bool:
        """Whether its task is being cancelled, and not for `cause`. A CancelledError for neither is
        the pipeline's own.
        """
        return self.task.cancelling() > (self.cause is not None)


def progress_of(error: asyncio.CancelledError, watched: Watched) -> str:
    """How far a request had come that was ended, for a person; `error` is what ended it."""
    return whereabouts(error) if watched.body_read else "its body was still coming"


def whereabouts(error: asyncio.CancelledError) -> str:
    """Where in its pipeline a request was that this ended, for a person."""
    for note in reversed(getattr(error, "__notes__", ())):  # of a stage in a thread, of a stream
        return str(note)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_name
        if name in STAGES:
            return f"it was in `{name}`"
        if name == "_turn":
            return "it waited for others to end, `max_ongoing_requests` ran"
    return "it was in the pipeline"


class RequestDeadlines:
    """Ends the requests of one application in time, on its loop."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._streaming: set[Watched] = set()
        """Those whose answer has begun: nobody else may give them one."""
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, scope: Scope, receive: Receive, seconds: float) -> Watched:
        """Give the calling task `seconds` from now to end."""
        # To be told the loop saves asyncio most of what it takes to find the task.
        task = current_task(self._loop) or current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        now = monotonic()
        watched = Watched(task, scope, receive, now + seconds)
        self._watched.add(watched)
        if self._timer is None or watched.due < self._next:
            self._arm(min(seconds, INTERVAL), now)
        return watched

    def end(self, watched: Watched) -> None:
        """Forget a request, which has ended by itself or not."""
        try:
            (self._streaming if watched.streaming else self._watched).remove(watched)
        except KeyError:  # `claim` came first
            watched.rescued = True
        if watched.listener is not None:
            watched.listener.cancel()
        if watched.cause is not None:
            watched.task.uncancel()  # was ours, and has done its work

    def begin_stream(self, watched: Watched, seconds: float) -> bool:
        """From now on a request is due `seconds` after its last turn, and nobody but the caller
        answers it. False: another thread did, and nothing may be sent.

        Raises:
            CancelledError: as `extend`, before there is an answer.
        """
        self._check_goes_on(watched)
        try:
            self._watched.remove(watched)
        except KeyError:  # `claim` came first
            return False
        watched.streaming = True
        self._streaming.add(watched)
        if watched.listener is None:  # who asks for a stream may well leave it
            watched.listener = asyncio.ensure_future(self._listen(watched))
        self.extend(watched, seconds)
        return True

    def extend(self, watched: Watched, seconds: float) -> None:
        """Give it `seconds` from now.

        Raises:
            CancelledError: it is being ended, but the pipeline's code has caught that.
        """
        self._check_goes_on(watched)
        now = monotonic()
        watched.due = now + seconds
        if self._timer is None or watched.due < self._next:
            self._arm(min(seconds, INTERVAL), now)

    @staticmethod
    def _check_goes_on(watched: Watched) -> None:
        if watched.cause is not None:
            raise asyncio.CancelledError

    def overdue(self) -> list[Watched]:
        """For another thread, while the loop is held: what was wholly read, and should have been
        ended by now.
        """
        now = monotonic()
        watched = list(self._watched)  # one step of the interpreter
        return [request for request in watched if request.due <= now and request.body_read]

    def claim(self, watched: Watched) -> bool:
        """For another thread: whether it may answer. Only one of `end` and this takes it out of the
        set, which is one step of the interpreter. Then nobody waits for it any more: it is
        cancelled as soon as the loop is free, unless it has ended by then.
        """
        try:
            self._watched.remove(watched)
        except KeyError:
            return False
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            watched.task.get_loop().call_soon_threadsafe(self._let_go, watched)
        return True

    def _let_go(self, watched: Watched) -> None:
        if not watched.rescued:
            watched.cancel(Cause.LATE)

    def _arm(self, delay: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = now + delay
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(delay, self._check)

    def _check(self) -> None:
        now, self._timer = monotonic(), None
        every = [*self._watched, *self._streaming]
        for watched in every:
            if watched.cause is not None:
                continue
            if watched.due <= now:
                watched.cancel(Cause.LATE)
            elif watched.seen and watched.body_read and watched.listener is None:
                watched.listener = asyncio.ensure_future(self._listen(watched))
            watched.seen = True
        if every:
            first = min(watched.due for watched in every)
            self._arm(min(max(first - now, 0.001), INTERVAL), now)

    async def _listen(self, watched: Watched) -> None:
        """After the body `receive` has only one thing left to say (ASGI, `http.disconnect`)."""
        while (await watched.receive())["type"] != "http.disconnect":
            pass
        watched.cancel(Cause.GONE)
