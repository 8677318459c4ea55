"""Answers for a release that has no replica, where Serve itself would let its clients wait.

HAProxy sends what no replica can take to Serve's own proxy on the head (ray/serve/_private/
haproxy_templates.py, the `backup` server), which holds it until there is a replica, without end
(RAY_SERVE_REQUEST_PROCESSING_TIMEOUT_S has no default, and would cut short what replicas work on).
This is an ASGI middleware for that proxy: once it is sure that no replica runs, it says 503.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from wheelway import problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wheelway.asgi import Message, Receive, Scope, Send

PATIENCE = 30.0
"""Seconds that a request may wait for a replica; less if its release has a shorter
`request_timeout`."""
LOOK_AFTER = 1.0
"""Seconds that nobody asks why there is no answer: most that come here are helped by then."""
LOOK_EVERY = 5.0
"""Seconds between two looks at whether the replica that works on it is still there."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """How it stands with a release of ours."""

    runs: bool
    """Whether a replica does, so that the request is in its hands and keeps its deadline."""
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on (ASGI 3)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, answered = monotonic(), asyncio.Event()

        async def noting(message: Message) -> None:
            answered.set()
            await send(message)

        work = asyncio.ensure_future(self._app(scope, receive, noting))
        try:
            left = LOOK_AFTER
            while not answered.is_set() and not await _ends(work, left):
                outlook = None if answered.is_set() else await self._outlook(scope["path"])
                if outlook is None:
                    break
                left = begin + min(PATIENCE, outlook.request_timeout) - monotonic()
                if outlook.runs:
                    left = LOOK_EVERY
                elif left <= 0 and not answered.is_set():
                    await _end(work)
                    await _say_not_loaded(scope, send)
                    return
            await work
        finally:
            work.cancel()


async def _ends(work: asyncio.Future[None], seconds: float) -> bool:
    done, _ = await asyncio.wait({work}, timeout=seconds)
    return bool(done)


async def _end(work: asyncio.Future[None]) -> None:
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):  # nobody waits for it any more
        await work


async def _say_not_loaded(scope: Scope, send: Send) -> None:
    request_id = next((v for k, v in scope["headers"] if k == b"x-request-id"), b"")
    what = problem.not_loaded()
    body = what.body(request_id.decode("latin-1"))
    headers = [
        (b"content-type", problem.PROBLEM_TYPE.encode()),
        *what.headers,
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": what.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": body})
