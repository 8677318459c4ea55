"""Calls of parts by Serve's handles; `host.py` brings it along, and like it this imports Ray.

What was read in Ray 2.60 (ray/serve/_private/router.py, replica_result.py), and tried with the
throughput settings on:

* A handle belongs to the loop that it is first used on, the replica's own; calls are made there.
* A call waits until a replica of the part runs and has room, as long as its deployment can still
  have one; so a pipeline may call its parts while it loads.
* Serve's gRPC takes 4 MiB at most. A larger request goes by Ray's object store; the answer comes by
  gRPC all the same, in pieces: there whoever does not go through a stream holds its part back. With
  `_by_reference`, as `handle.options` has it, all of a stream is made whether it is wanted or not.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import ray
from grpc import RpcError
from ray._private.worker import global_worker
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import RayServeException

from wheelway.draining import keep_replicas
from wheelway.parts import PartUnavailable
from wheelway.remote import PIECE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ray.serve.handle import DeploymentHandle

    from wheelway.inbound import Request
    from wheelway.remote import Ask, Send


def sender(part: str, handle: DeploymentHandle[Any]) -> Send:
    """How to have a replica of a part answer."""
    keep_replicas(handle)
    answering: list[DeploymentHandle[Any]] = []

    async def send(data: bytes, carried: Request | None) -> AsyncIterator[bytes]:
        if not answering:
            answering.append(handle.options(method_name="answer", stream=True))
        response: Any = None
        try:
            sent = data if len(data) <= PIECE else Lent(await asyncio.to_thread(ray.put, data))
            response = answering[0].remote(sent, carried)
            async for frame in response:
                yield frame
            response = None
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
            if response is not None:
                response.cancel()

    return send


def asker(handle: DeploymentHandle[Any]) -> Ask:
    """How to ask all replicas of a part what they say of their settings."""

    async def ask() -> list[str | None]:
        try:
            asked = handle.broadcast("settings_error")
            told = await asked.results_async(return_exceptions=True)
        except (RayServeException, RayError):  # none is there, or they were lost just now
            return []
        return [one if isinstance(one, str) else None for one in told]

    return ask


class Lent:
    """A request in Ray's object store, for who is asked; it stays there as long as this lives.

    Ray keeps for ever what an ObjectRef refers to that was pickled by itself, as Serve does for
    gRPC (`add_contained_object_ref` in ray/_private/serialization.py). So this pickles what such a
    reference consists of, as `object_ref_reducer` does there, but for that.
    """

    def __init__(self, ref: ray.ObjectRef[bytes]) -> None:
        self._ref = ref

    async def data(self) -> bytes:
        """The request."""
        found: bytes = await self._ref
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        _, owner, status = global_worker.core_worker.serialize_object_ref(self._ref)
        return _borrowed, (self._ref.binary(), owner, status)


def _borrowed(name: bytes, owner: bytes, status: bytes) -> Lent:
    """As `_object_ref_deserializer` there."""
    ref = ray.ObjectRef(name, owner)
    contained_in = ray.ObjectRef.nil()
    global_worker.core_worker.deserialize_and_register_object_ref(name, contained_in, owner, status)
    return Lent(ref)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
