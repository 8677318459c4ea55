"""What a replica has for a pipeline, where there is no replica."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from wheelway.calling import THREADS
from wheelway.execution import context_of
from wheelway.inline import PartGroup, inline_parts, load_parts
from wheelway.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from wheelway.contract import Context, Pipeline, Release
    from wheelway.inline import InlinePart

LOGGER: Final = logging.getLogger("wheelway.local")


def local_context(
    pipeline: type[Pipeline], release: Release, settings: Mapping[str, Any], weights: Path | None
) -> Context:
    """What it is told when it is loaded."""
    logger = LOGGER.getChild(release.pipeline)
    return context_of(pipeline, release, settings, logger, weights and weights.absolute())


def local_parts(
    targets: Mapping[str, str], pipeline: type[Pipeline], tree: Path | None = None
) -> dict[str, InlinePart]:
    """Import its parts, `module:Class` by name; raises StartFailure."""
    return load_parts({name: (to, THREADS) for name, to in targets.items()}, pipeline, tree)


def local_group(
    parts: Mapping[str, InlinePart], context: Context, release: Release, tree: Path | None = None
) -> PartGroup | None:
    """Its parts in this process, called as if they were not in it; raises StartFailure."""
    if not parts:
        return None
    told = context.settings, context.logger, tree, context.weights
    runtimes = inline_parts(parts, release, *told)
    return PartGroup(runtimes, copying=True)


@contextmanager
def in_replica(release: Release) -> Iterator[None]:
    """What Ray Serve tells code in a replica, as if in the only one of a release.

    `@serve.batch` and `serve.get_replica_context()` ask Serve which replica they are in, and raise
    outside one. Serve's own record of it is filled in here, if the pipeline has imported Serve at
    all and Serve does not know of a replica. What lives in a cluster (handles, other deployments)
    is not there.
    """
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
        _deployment_config=context.DeploymentConfig(
            max_ongoing_requests=Limits().max_ongoing_requests
        ),
        rank=context.ReplicaRank(rank=0, node_rank=0, local_rank=0),
        world_size=1,
    )
    try:
        yield
    finally:
        context._INTERNAL_REPLICA_CONTEXT = None  # noqa: SLF001 - as above
