"""Calls of parts by Serve's handles; `host.py` brings it along, and like it this imports Ray.

What was read in Ray 2.60 (ray/serve/_private/router.py, replica_result.py), and tried with the
throughput settings on:

* A handle belongs to the loop that it is first used on, the replica's own; calls are made there.
* A call waits until a replica of the part runs and has room, as long as its deployment can still
  have one; so a pipeline may call its parts while it loads.
* Large values go by Ray's object store, since Serve's gRPC takes 4 MiB at most.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from grpc import RpcError
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException

from wheelway.draining import keep_replicas
from wheelway.parts import PartOverloaded, PartUnavailable
from wheelway.remote import PIECE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ray.serve.handle import DeploymentHandle

    from wheelway.inbound import Request
    from wheelway.remote import Send


def sender(part: str, handle: DeploymentHandle[Any]) -> Send:
    """How to have a replica of a part answer."""
    keep_replicas(handle)
    ways: dict[bool, DeploymentHandle[Any]] = {}

    async def send(data: bytes, carried: Request | None) -> AsyncIterator[bytes]:
        if not ways:
            ways[False] = handle.options(method_name="answer", stream=True)
            ways[True] = ways[False].options(_by_reference=True)
        response: Any = ways[len(data) > PIECE].remote(data, carried)
        ended = False
        try:
            async for frame in response:
                yield frame
            ended = True
        except BackPressureError as error:
            raise PartOverloaded(
                f"the part {part!r} has too many calls waiting: {error}"
            ) from error
        except RayActorError as error:
            raise PartUnavailable(
                f"a replica of the part {part!r} died while it answered ({_first_line(error)})"
            ) from error
        except asyncio.CancelledError as error:
            # Raised there, as a replica that is shut down does to what still runs on it.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            raise PartUnavailable(f"a replica of the part {part!r} ended meanwhile") from error
        except (RayServeException, RayError, RpcError) as error:
            raise PartUnavailable(
                f"the part {part!r} could not be asked ({_first_line(error)})"
            ) from error
        finally:
            if not ended:
                response.cancel()

    return send


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
