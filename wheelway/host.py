"""A release inside Ray Serve; only this, handles.py and draining.py import Ray here.

A release's application has `import_path: wheelway.host:build`. Serve calls `build` in a task of its
own, without the pipeline's environment: it must not touch pipeline code, and does not. Everything
that can fail happens in the replica, where Serve reports it as that deployment's message.

What follows was read in Ray 2.60 (ray/serve/_private/replica.py), and tried with the throughput
settings on:

* `Replica.initialize` calls `Host.__init__`, starts the replica's HTTP server, calls
  `reconfigure(user_config)`, then `check_health`, and only then is the replica RUNNING and known
  to the ingress. An exception in any of them fails the start, with its text in the deployment's
  message. The settings that `load` needs are in `user_config`, so `reconfigure` is where a release
  loads; requests cannot come earlier.
* A `reconfigure` that raises later makes a running replica unhealthy: `Replica.reconfigure` never
  does on the pipeline's account.
* Until a later `reconfigure` returns the replica is UPDATING, and only those that are RUNNING are
  told to HAProxy (`get_running_replica_infos` in deployment_state.py): requests wait for it, with
  one replica all of them (12 s, where the settings took 12 s). `Replica.reconfigure` returns at
  once, and goes on in the background; that is over before HAProxy hears of it.
* With RAY_SERVE_THROUGHPUT_OPTIMIZED user code shares the replica's main loop with `check_health`
  and HAProxy's checks: synchronous stages run in threads, blocking asynchronous ones are given
  their own loop (watchdog.py). Without it Serve runs user code on a second loop; Serve's own
  check then awaits `check_health` there, with the same effect.
* Serve's proxy on the head, which holds what no replica takes (fallback.py), is a worker like any
  other. On a head that preloads this module it has imported it when it asks for its middlewares.
* The ASGI lifespan's end is awaited when the replica shuts down after draining: that is where
  `unload` is called. Serve drains behind HAProxy for 30 s at least. What comes directly (direct.py)
  drains at the same time, from when `Replica._perform_graceful_shutdown` begins; where that is
  gone, it does so afterwards.
"""

from __future__ import annotations

import asyncio
import builtins
import io
import logging
import sys
from contextlib import aclosing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve._private import constants, http_util, logging_utils
from ray.serve.exceptions import RayServeException
from starlette.middleware import Middleware

from wheelway.encoded import EncodedRoutes
from wheelway.failure import StartFailure
from wheelway.fallback import DEPLOYMENT, Fallback, Outlooks
from wheelway.handles import Lent, asker, sender
from wheelway.logs import flush as write_out
from wheelway.logs import logger_on
from wheelway.remote import PartReplica, RemotePart
from wheelway.replica import Arguments, Replica

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from _typeshed import SupportsWrite
    from ray.serve.handle import DeploymentHandle

    from wheelway.asgi import Application, Receive, Scope, Send
    from wheelway.contract import Release
    from wheelway.inbound import Request

_BEHIND_HAPROXY = constants.RAY_SERVE_ENABLE_HA_PROXY
"""Whether Serve's own proxy gets only what no replica can take; else it gets everything."""
_IN_PROXY = "wheelway.host.proxy_middlewares"


def build(args: dict[str, Any]) -> serve.Application:
    """The application of one release; `args` as in `replica.Arguments.of`.

    A deployment of its own for each part that is not inline; its handle reaches the host.
    """
    host = serve.deployment(name=DEPLOYMENT)(serve.ingress()(Host))
    parts = {
        name: serve.deployment(name=name)(PartHost).bind(name, args)
        for name, part in (args.get("parts") or {}).items()
        if not part["inline"]
    }
    return host.bind(args, parts) if parts else host.bind(args)


def build_encoded_routes(args: dict[str, Any]) -> serve.Application:
    """The application that answers percent-encoded routes.

    Args:
        args: `ingress_url` (such as http://127.0.0.1:8000), `wheelway` (its version), and perhaps
            `ca_file`: a PEM bundle to trust besides the public authorities.
    """
    return serve.deployment(name="EncodedRoutes")(serve.ingress()(EncodedRoutesHost)).bind(args)


class Host:
    """One replica of a release under Serve."""

    def __init__(
        self, args: dict[str, Any], parts: Mapping[str, DeploymentHandle[Any]] | None = None
    ) -> None:
        arguments = Arguments.of(
            args,
            serve.get_replica_context().app_name,
            accelerated=bool(ray.get_gpu_ids()),
        )
        _watch_clients_ourselves()
        _mend_print()
        self._told_of_end = False
        logger = _logger(arguments.release)
        # Serve's middleware sends x-request-id by itself, and makes one where it is missing.
        self._replica = Replica(
            arguments,
            logger,
            name=serve.get_replica_context().replica_tag,
            echo_request_id=False,
            parts={
                name: RemotePart(name, sender(name, handle), asker(handle))
                for name, handle in (parts or {}).items()
            },
        )

    def __serve_build_asgi_app__(self) -> Application:
        """Asked for by `serve.ingress()`, in the replica, after `__init__`."""
        return self._replica.application

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Start, or take new settings and limits; see the module's docstring."""
        self._replica.grace = _grace()
        if user_config.get("direct") and not self._told_of_end:
            self._told_of_end = True
            loop = asyncio.get_running_loop()
            _when_ending(lambda: loop.call_soon_threadsafe(self._replica.direct.refuse))
        with _plain():
            await self._replica.reconfigure(user_config)

    async def check_health(self) -> None:
        """Healthy as long as the loop turns: whether single requests fail is not its business."""
        if not self._replica.ready:
            raise RuntimeError("the release was never loaded: its deployment has no user_config")


class PartHost:
    """One replica of a part under Serve."""

    def __init__(self, part: str, args: dict[str, Any]) -> None:
        arguments = Arguments.of_part(
            part,
            args,
            serve.get_replica_context().app_name,
            accelerated=bool(ray.get_gpu_ids()),
        )
        _mend_print()
        self._replica = PartReplica(part, arguments, _logger(arguments.release).getChild(part))

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Start, or take new settings; see the module's docstring."""
        with _plain():
            await self._replica.reconfigure(user_config)

    async def check_health(self) -> None:
        """See `Host`."""
        if not self._replica.ready:
            raise RuntimeError("the part was never loaded: its deployment has no user_config")

    async def answer(self, data: bytes | Lent, carried: Request | None) -> AsyncIterator[bytes]:
        """Called by the handle of a pipeline; see remote.py."""
        if isinstance(data, Lent):
            data = await data.data()
        # A generator function as such: Serve looks for one.
        async with aclosing(self._replica.answer(data, carried)) as frames:
            async for frame in frames:
                yield frame

    async def settings_error(self) -> str:
        """Asked for by the handle of a pipeline, to be told where it tells of its own."""
        return self._replica.settings_error

    async def hold(self) -> None:
        """Keep this replica until the caller ends; see draining.py."""
        await asyncio.Event().wait()

    async def __del__(self) -> None:
        await self._replica.unload()


@contextmanager
def _plain() -> Iterator[None]:
    """Serve puts the whole chain of a failure into the message that it reports; one of ours already
    holds what a person needs of it.
    """
    try:
        yield
    except StartFailure as failure:
        raise StartFailure(failure.reason, failure.message, failure.tail) from None


def _grace() -> float:
    """Seconds that Serve gives this replica to end; 0: this Serve does not say."""
    config = getattr(serve.get_replica_context(), "_deployment_config", None)
    return float(getattr(config, "graceful_shutdown_timeout_s", 0.0))


def _when_ending(call: Callable[[], object]) -> None:
    """Have it called when Serve begins to end this replica; see the module's docstring."""
    kind = getattr(sys.modules.get("ray.serve._private.replica"), "Replica", None)
    end = getattr(kind, "_perform_graceful_shutdown", None)
    if kind is None or end is None:
        return

    async def ending(replica: Any) -> None:
        with suppress(RuntimeError):  # its loop was closed: nothing is served there any more
            call()
        await end(replica)

    kind._perform_graceful_shutdown = ending  # noqa: SLF001 - there is no other way to be told


def _logger(release: Release) -> logging.Logger:
    # Serve's handlers write into the replica's log.
    served = logging.getLogger(constants.SERVE_LOGGER_NAME)
    return logger_on(served, f"{served.name}.wheelway.{release.pipeline}")


def _mend_print() -> None:
    """Have `print(..., file=...)` print its arguments, not the tuple of them, and what is flushed
    be written.

    Ray 2.60 replaces `print`, stdout and stderr in replicas (`redirected_print`, `StreamToLogger`
    in ray/serve/_private/logging_utils.py), and forgets a star where it hands on what is not for
    stdout; `traceback`, and so every traceback in the log, prints like that. What it redirects into
    its log may stay in memory there, also what a pipeline says last before its process ends.
    """
    redirected = getattr(logging_utils, "redirected_print", None)
    if redirected is None or redirected is _print:
        return
    logging_utils.redirected_print = _print  # what Serve installs with its next logging_config
    if builtins.print is redirected:
        builtins.print = _print
    if stream := getattr(logging_utils, "StreamToLogger", None):
        stream.flush = _flushing(stream.flush)


def _flushing(flush: Callable[[Any], None]) -> Callable[[Any], None]:
    """The flush of a stream that leads into Serve's log, which writes out that log as well."""

    def flush_all(stream: Any) -> None:
        flush(stream)
        write_out(logging.getLogger(constants.SERVE_LOGGER_NAME))

    return flush_all


def _print(
    *objects: object,
    sep: str | None = " ",
    end: str | None = "\n",
    file: SupportsWrite[str] | None = None,
    flush: bool = False,
) -> None:
    if file is not None and file is not sys.stdout and file is not sys.stderr:
        logging_utils.buildin_print(*objects, sep=sep, end=end, file=file, flush=flush)
        return
    text = io.StringIO()
    logging_utils.buildin_print(
        *objects, sep=sep, end="" if end in {None, "\n"} else end, file=text
    )
    served = logging.getLogger(constants.SERVE_LOGGER_NAME)
    served.disabled = False  # as `logging.config` leaves it until logs.py sees it
    served.info(text.getvalue(), stacklevel=2)
    if flush:
        write_out(served)


def _answer_for_the_absent() -> None:
    """Have Serve's proxy ask for `proxy_middlewares` when it starts in a process that imported this
    module.
    """
    if http_util.RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH is None and _BEHIND_HAPROXY:
        http_util.RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH = _IN_PROXY


def _watch_clients_ourselves() -> None:
    """Keep Serve from starting two tasks a request just to notice that a client leaves.

    deadlines.py notices it too, for requests that last; without those tasks a small request cost
    the replica about an eighth less CPU time (median of eight pairs on a busy machine, one of them
    the other way round). Serve leaves them out when a request carries the header
    `x-request-disconnect-disabled: ?1` (ray/serve/_private/replica.py, `_direct_ingress_asgi`), and
    asks a callback for middlewares when it starts a replica's server, after this. The variable that
    names the callback is read when Serve is imported, long before anything here could set it, hence
    its module attribute. Where that is gone, requests only cost what they did.
    """
    name = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
    if getattr(http_util, name, "set") in {None, _IN_PROXY}:  # an operator's own callback stays
        setattr(http_util, name, "wheelway.host.middlewares")


def middlewares() -> list[Middleware]:
    """See `_watch_clients_ourselves`."""
    return [Middleware(_ClientsWatched)]


def proxy_middlewares() -> list[Middleware]:
    """See `_answer_for_the_absent`; none in replicas, which ask as well."""
    try:
        serve.get_replica_context()
    except RayServeException:
        return [Middleware(Fallback, Outlooks(_controller, (RayError, ValueError)).at)]
    return []


def _controller() -> Any:
    return ray.get_actor(constants.SERVE_CONTROLLER_NAME, constants.SERVE_NAMESPACE)


class _ClientsWatched:
    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    # Must be `async def`: uvicorn takes anything else for an application of ASGI 2.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"].append((b"x-request-disconnect-disabled", b"?1"))
        await self._app(scope, receive, send)


class EncodedRoutesHost:
    """The replica of `build_encoded_routes`."""

    def __init__(self, args: dict[str, Any]) -> None:
        _mend_print()
        self._application = EncodedRoutes(
            args["ingress_url"], args.get("wheelway", ""), args.get("ca_file")
        )

    def __serve_build_asgi_app__(self) -> EncodedRoutes:
        """See `Host`."""
        return self._application


_answer_for_the_absent()
