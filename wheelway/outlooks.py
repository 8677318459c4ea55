"""What Serve's controller knows of the releases that requests wait for.

Of Ray 2.60: `get_all_endpoints` and `get_deployment_details` in ray/serve/_private/controller.py.
An application's import path is in neither, so ours are known by their route, by the name of their
deployment and by their limits.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from wheelway.fallback import Outlook
from wheelway.limits import Limits, limits_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DEPLOYMENT: Final = "Host"
"""The name of every release's deployment."""
_ROUTES: Final = "/predict/"
_FRESH: Final = 1.0
"""Seconds for which an answer of Serve's controller is good."""


class Outlooks:
    """How it stands with releases; asked once in `_FRESH` seconds of each, however many wait, and
    not again before there is an answer.
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
        now = time.monotonic()
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
    """Have nobody complain of an error for which nobody waited to the end."""
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
