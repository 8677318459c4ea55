"""Keeps the parts of a release at work until the last replica of its pipeline has drained.

Serve deletes all deployments of an application at once: replicas of parts that are idle end after
2 s, and handles forget them at once. The pipeline's replicas go on for 30 s behind HAProxy, and as
long as requests are under way: what these still ask of a part would fail.

So when Serve has nobody left for the calls of a part, and the reason is that the application is
being deleted, the handle keeps the replicas that it knew, and each of them is sent one call that
lasts until this process ends: Serve does not stop a replica that has a call under way. It is asked
for its `graceful_shutdown_timeout_s` all the same, which is longer than the pipeline's.

Read in Ray 2.60: `AsyncioRouter.update_deployment_targets` in ray/serve/_private/router.py,
`Replica._drain_ongoing_requests` in replica.py. Where that is gone, parts end as Serve has it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.exceptions import RayError
from ray.serve._private import router as serve_router
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.serve.handle import DeploymentHandle

HOLD = "hold"
"""The method of a part's replica that answers when it is cancelled."""
_LOOKS, _PAUSE = 5, 0.3
"""How often, and every how many seconds, to ask Serve whether the application is being deleted."""


def keep_replicas(handle: DeploymentHandle[Any]) -> None:
    """Have a handle's replicas kept while their application is being deleted."""
    _handles[handle.deployment_id] = handle
    kind: Any = getattr(serve_router, "AsyncioRouter", None)
    update: Any = getattr(kind, "update_deployment_targets", None)
    if update is not None and not hasattr(update, "wheelway"):
        kind.update_deployment_targets = _keeping(update)


_handles: dict[Any, DeploymentHandle[Any]] = {}
_tasks: dict[Any, asyncio.Task[None]] = {}
"""What is found out about a part's replicas right now, by deployment."""


def _keeping(update: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def update_deployment_targets(router: Any, info: Any) -> None:
        name = router.deployment_id
        task = _tasks.get(name)
        if info.running_replicas or name not in _handles or not router.running_replicas_populated():
            if task is not None:
                task.cancel()
            update(router, info)
        elif task is None or task.done():
            finding = _keep_if_deleted(_handles[name], lambda: update(router, info))
            _tasks[name] = asyncio.get_running_loop().create_task(finding)

    update_deployment_targets.wheelway = True  # type: ignore[attr-defined] # one layer is enough
    return update_deployment_targets


async def _keep_if_deleted(handle: DeploymentHandle[Any], forget: Callable[[], None]) -> None:
    """Hold the last known replicas; `forget` them unless their application is being deleted."""
    holding = asyncio.ensure_future(handle.broadcast(HOLD).results_async(return_exceptions=True))
    try:
        for _ in range(_LOOKS):
            if await asyncio.to_thread(_is_deleted, handle.app_name):
                await holding  # until the last of them is gone
                break
            await asyncio.sleep(_PAUSE)
        forget()
    except (RayServeException, RayError):  # there were none to be held
        forget()
    finally:
        holding.cancel()


def _is_deleted(application: str) -> bool:
    try:
        found = serve.status().applications.get(application)
    except (RayServeException, RayError):  # Serve's controller is away: it deletes nothing
        return False
    return found is None or found.status is ApplicationStatus.DELETING
