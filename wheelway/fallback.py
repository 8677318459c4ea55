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
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from wheelway import problem
from wheelway.limits import Limits, limits_of
from wheelway.problem import sane_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wheelway.asgi import Message, Receive, Scope, Send

_log = logging.getLogger("ray.serve")
"""The log of the proxy that this runs in (ray/serve/_private/constants.py, SERVE_LOGGER_NAME)."""

MAX_WAIT = 30.0
"""Seconds that a request may wait for a replica; less if its release has a shorter
`request_timeout`. Serve's controller may keep silent as long."""
ASK_AFTER = 1.0
"""Seconds after which is asked why there is no answer: most requests have theirs by then."""
ASK_EVERY = 5.0
"""Seconds between two questions whether the replica that works on it is still there, and for the
answer to one."""

DEPLOYMENT: Final = "Host"
"""The name of every release's deployment."""
_ROUTES: Final = "/predict/"
_FRESH: Final = 1.0
"""Seconds for which an answer of Serve's controller is good."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Whether a release of ours can be expected to answer."""

    runs: bool | None
    """Whether a replica runs: the request is then in its hands and keeps its deadline. None: not
    known."""
    request_timeout: float = MAX_WAIT


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
            left = ASK_AFTER
            while not answered.is_set() and not await _ends(work, left):
                outlook = None if answered.is_set() else await self._ask(scope["path"])
                if outlook is None:
                    break
                left = wait.left(outlook, monotonic())
                if left <= 0 and not answered.is_set():
                    await _end(work)
                    # Serve gives a request an id below this, in the same scope.
                    request_id = sane_id(scope) or uuid4().hex.encode()
                    await _why(outlook).send(scope, send, request_id, (b"x-request-id", request_id))
                    return
                if outlook.runs is not False:
                    left = min(left, ASK_EVERY)
            await work
        finally:
            work.cancel()

    async def _ask(self, path: str) -> Outlook | None:
        try:
            return await asyncio.wait_for(self._outlook(path), ASK_EVERY)
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
            return self._ran + MAX_WAIT - now
        most = min(MAX_WAIT, outlook.request_timeout)
        if not outlook.runs:
            self._taken = None
            return self._begin + most - now
        self._ran = now
        if self._taken is None:
            self._taken = now
        # The replica itself says 504 in time; one that does not is only said to run.
        return self._taken + outlook.request_timeout + MAX_WAIT - now


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


# -- what Serve's controller knows of releases ---------------------------------------------------
#
# Of Ray 2.60: `get_all_endpoints` and `get_deployment_details` in ray/serve/_private/controller.py.
# An application's import path is in neither, so ours are known by their route, by the name of their
# deployment and by their limits.


class Outlooks:
    """The outlook of each release, from Serve's controller. It is asked at most once in `_FRESH`
    seconds of each, however many requests wait, and not again before it has answered.
    """

    def __init__(
        self, controller: Callable[[], Any], absent: tuple[type[Exception], ...] = ()
    ) -> None:
        """`controller` finds Serve's, and may block; `absent` is raised where there is none."""
        self._controller = controller
        self._absent = absent
        self._known: dict[object, tuple[float, asyncio.Future[Any]]] = {}

    async def at(self, path: str) -> Outlook | None:
        """Of the release at a path; None when what is there is not ours."""
        if not path.startswith(_ROUTES):
            return None
        try:
            return await self._at(path)
        except KeyError:  # gone since
            return Outlook(runs=False)
        except self._absent:
            return Outlook(runs=None)

    async def _at(self, path: str) -> Outlook | None:
        controller = await self._fresh(None, partial(asyncio.to_thread, self._controller))
        endpoints = await self._fresh("", controller.get_all_endpoints.remote)
        found = [
            (endpoint["route"], deployment)
            for deployment, endpoint in endpoints.items()
            if f"{path}/".startswith(f"{endpoint['route'].rstrip('/')}/")
        ]
        if not found:  # it was there when the request came, else Serve would have said so
            return Outlook(runs=False)
        route, deployment = max(found, key=lambda item: len(item[0]))
        if deployment.name != DEPLOYMENT or not route.startswith(_ROUTES):
            return None
        ask = controller.get_deployment_details.remote
        details = await self._fresh(deployment, partial(ask, deployment.app_name, deployment.name))
        limits = _limits(details.deployment_config.user_config)
        if limits is None:
            return None
        runs = any(replica.state == "RUNNING" for replica in details.replicas)
        return Outlook(runs, limits.request_timeout)

    async def _fresh(self, key: object, ask: Callable[[], Awaitable[Any]]) -> Any:
        now = monotonic()
        self._known = {
            k: (at, answer)
            for k, (at, answer) in self._known.items()
            if now - at < _FRESH or not answer.done()
        }
        if key not in self._known:
            answer = asyncio.ensure_future(ask())
            answer.add_done_callback(_heard)
            self._known[key] = now, answer
        return await asyncio.shield(self._known[key][1])


def _heard(answer: asyncio.Future[Any]) -> None:
    """Keep asyncio from logging an error for which nobody waited to the end."""
    if not answer.cancelled():
        answer.exception()


def _limits(user_config: object) -> Limits | None:
    """As wheelway renders them; None where somebody else did."""
    given = user_config.get("limits") if isinstance(user_config, dict) else None
    if not isinstance(given, dict):
        return None
    limits = limits_of({"limits": given})
    timeout: object = limits.request_timeout
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0:
        return None
    return limits
