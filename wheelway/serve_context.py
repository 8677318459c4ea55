"""What Ray Serve tells code in a replica, for where there is none: a laptop, `wheelway check`.

`@serve.batch` and `serve.get_replica_context()` ask Serve which replica they are in, and raise
outside one. Serve's own record of it is filled in here, if the pipeline has imported Serve at all:
nothing is imported for it. What lives in a cluster (handles, other deployments) is not there.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wheelway.contract import Release


@contextlib.contextmanager
def provided(release: Release, max_ongoing_requests: int) -> Iterator[None]:
    """As if in the only replica of a release; nothing where Serve knows of another one."""
    # Of Ray 2.60: ray/serve/context.py.
    context: Any = sys.modules.get("ray.serve.context")
    if context is None or context._INTERNAL_REPLICA_CONTEXT is not None:  # noqa: SLF001 - no API
        yield
        return
    deployment = context.DeploymentID(
        name="Host", app_name=release.application or f"{release.pipeline}-{release.version}"
    )
    context._set_internal_replica_context(  # noqa: SLF001 - as above
        replica_id=context.ReplicaID(unique_id="local", deployment_id=deployment),
        servable_object=None,
        _deployment_config=context.DeploymentConfig(max_ongoing_requests=max_ongoing_requests),
        rank=context.ReplicaRank(rank=0, node_rank=0, local_rank=0),
        world_size=1,
    )
    try:
        yield
    finally:
        context._INTERNAL_REPLICA_CONTEXT = None  # noqa: SLF001 - as above
