"""Answers for a release that has no replica, where Serve itself would let its clients wait.

HAProxy sends what no replica can take to Serve's own proxy on the head (ray/serve/_private/
haproxy_templates.py, the `backup` server), which holds it until there is a replica, without end
(RAY_SERVE_REQUEST_PROCESSING_TIMEOUT_S has no default, and would cut short what replicas work on).
This is an ASGI middleware for that proxy: once it is sure that no replica runs, or Serve's
controller has kept silent for long, it says 503; and 504 for a replica that runs and lets its own
deadline pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

from wheelway import problem
from wheelway.problem import SANE_ID

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wheelway.asgi import Message, Receive, Scope, Send

_log = logging.getLogger("ray.serve")
"""The log of the proxy that this runs in (ray/serve/_private/constants.py, SERVE_LOGGER_NAME)."""

PATIENCE = 30.0
"""Seconds that a request may wait for a replica; less if its release has a shorter
`request_timeout`. As long may Serve's controller keep silent."""
LOOK_AFTER = 1.0
"""Seconds that nobody asks why there is no answer: most that come here are helped by then."""
LOOK_EVERY = 5.0
"""Seconds between two looks at whether the replica that works on it is still there, and for which
one look may take."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """How it stands with a release of ours."""

    runs: bool | None
    """Whether a replica does, so that the request is in its hands and keeps its deadline; None when
    nobody knows."""
    request_timeout: float = PATIENCE


class Fallback:
    """`outlook` tells of the release at a path; None when what is there is not ours."""

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        outlook: Callable[[str], Awaitable[Outlook | None]],
    ) -> None:
        self._app = app
        self._outlook = outlook
        self._failed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on (ASGI 3)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wait, answered = _Wait(monotonic()), asyncio.Event()

        async def noting(message: Message) -> None:
            answered.set()
            await send(message)

        work = asyncio.ensure_future(self._app(scope, receive, noting))
        try:
            left = LOOK_AFTER
            while not answered.is_set() and not await _ends(work, left):
                outlook = None if answered.is_set() else await self._look(scope["path"])
                if outlook is None:
                    break
                left = wait.left(outlook, monotonic())
                if left <= 0 and not answered.is_set():
                    await _end(work)
                    await _say(_why(outlook), scope, send)
                    return
                if outlook.runs is not False:
                    left = min(left, LOOK_EVERY)
            await work
        finally:
            work.cancel()

    async def _look(self, path: str) -> Outlook | None:
        try:
            return await asyncio.wait_for(self._outlook(path), LOOK_EVERY)
        except TimeoutError:
            return Outlook(runs=None)
        except Exception:  # noqa: BLE001 - whatever Ray raises: the request waits as without us
            if not self._failed:  # with each request it would flood the log
                self._failed = True
                _log.exception(
                    "Serve's controller cannot be asked which releases have a replica: requests "
                    "for those without one wait on, and get no 503; please report this"
                )
            return None


class _Wait:
    """How long one request may still wait; times are monotonic, in seconds."""

    def __init__(self, begin: float) -> None:
        self._begin = begin
        self._ran = begin
        """When a replica was last seen running."""
        self._taken: float | None = None
        """When the replica was first seen that may work on it."""

    def left(self, outlook: Outlook, now: float) -> float:
        if outlook.runs is None:
            return self._ran + PATIENCE - now
        patience = min(PATIENCE, outlook.request_timeout)
        if not outlook.runs:
            self._taken = None
            return self._begin + patience - now
        self._ran = now
        if self._taken is None:
            self._taken = now
        # The replica itself says 504 in time; one that does not is only said to run.
        return self._taken + outlook.request_timeout + PATIENCE - now


async def _ends(work: asyncio.Future[None], seconds: float) -> bool:
    done, _ = await asyncio.wait({work}, timeout=seconds)
    return bool(done)


async def _end(work: asyncio.Future[None]) -> None:
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):  # nobody waits for it any more
        await work


def _why(outlook: Outlook) -> problem.Problem:
    if outlook.runs:  # it may have begun: whether to ask again is the client's to say
        return problem.timed_out(outlook.request_timeout)
    return problem.not_loaded()


async def _say(what: problem.Problem, scope: Scope, send: Send) -> None:
    # Serve gives a request an id below this, in the same scope, and the answer its header.
    request_id = dict(scope["headers"]).get(b"x-request-id", b"")
    if not SANE_ID.fullmatch(request_id):
        request_id = uuid4().hex.encode()
    body = what.body(request_id.decode("latin-1"))
    headers = [
        (b"content-type", problem.PROBLEM_TYPE.encode()),
        (b"x-request-id", request_id),
        *what.headers,
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": what.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": body})
