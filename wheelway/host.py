"""A release inside Ray Serve; the only module here that imports Ray.

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
* With RAY_SERVE_THROUGHPUT_OPTIMIZED user code shares the replica's main loop with `check_health`
  and HAProxy's checks: synchronous stages run in threads, blocking asynchronous ones are given
  their own loop (watchdog.py). Without it Serve runs user code on a second loop; Serve's own
  check then awaits `check_health` there, with the same effect.
* The ASGI lifespan's end is awaited when the replica shuts down after draining: that is where
  `unload` is called.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from ray import serve
from ray.serve._private import http_util
from starlette.middleware import Middleware
from yarl import URL

from wheelway.encoded import EncodedRoutes
from wheelway.failure import StartFailure
from wheelway.replica import Arguments, Replica

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from wheelway.asgi import Application, Receive, Scope, Send

_CONNECT_TIMEOUT = 5.0
_READ_TIMEOUT = 3600.0
"""Seconds between two pieces of a forwarded answer; the release's own timeout is what ends it."""


def build(args: dict[str, Any]) -> serve.Application:
    """The application of one release; `args` as in `replica.Arguments.of`."""
    return serve.deployment(name="Host")(serve.ingress()(Host)).bind(args)


def build_encoded_routes(args: dict[str, Any]) -> serve.Application:
    """The application that answers percent-encoded routes.

    Args:
        args: `ingress_url` (such as http://127.0.0.1:8000) and `wheelway` (its version).
    """
    return serve.deployment(name="EncodedRoutes")(serve.ingress()(EncodedRoutesHost)).bind(args)


class Host:
    """One replica of a release under Serve."""

    def __init__(self, args: dict[str, Any]) -> None:
        arguments = Arguments.of(args, serve.get_replica_context().app_name)
        _watch_clients_ourselves()
        # Serve's handlers write what ends below its own logger into the replica's log.
        logger = logging.getLogger("ray.serve").getChild(f"wheelway.{arguments.release.pipeline}")
        # Serve's middleware sends x-request-id by itself, and makes one where it is missing.
        self._replica = Replica(arguments, logger, echo_request_id=False)

    def __serve_build_asgi_app__(self) -> Application:
        """Asked for by `serve.ingress()`, in the replica, after `__init__`."""
        return self._replica.application

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Start, or take new settings and limits; see the module's docstring."""
        try:
            await self._replica.reconfigure(user_config)
        except StartFailure as failure:
            # Serve puts the whole chain into the message it reports; the failure already holds
            # what a person needs of it.
            raise StartFailure(failure.reason, failure.message, failure.tail) from None

    async def check_health(self) -> None:
        """Healthy as long as the loop turns: whether single requests fail is not its business."""
        if not self._replica.ready:
            raise RuntimeError("the release was never loaded: its deployment has no user_config")


def _watch_clients_ourselves() -> None:
    """Keep Serve from starting two tasks a request just to notice that a client leaves.

    vigil.py notices it too, for requests that last; without those tasks a small request cost the
    replica about an eighth less CPU time (median of eight pairs on a busy machine, one of them the
    other way round). Serve leaves them out when a request carries the header
    `x-request-disconnect-disabled: ?1` (ray/serve/_private/replica.py, `_direct_ingress_asgi`), and
    asks a callback for middlewares when it starts a replica's server, after this. The variable that
    names the callback is read when Serve is imported, long before anything here could set it, hence
    its module attribute. Where that is gone, requests only cost what they did.
    """
    name = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
    if getattr(http_util, name, "set") is None:  # an operator's own callback stays
        setattr(http_util, name, "wheelway.host.middlewares")


def middlewares() -> list[Middleware]:
    """See `_watch_clients_ourselves`."""
    return [Middleware(_ClientsWatched)]


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
        self._application = EncodedRoutes(_Ingress(args["ingress_url"]), args.get("wheelway", ""))

    def __serve_build_asgi_app__(self) -> EncodedRoutes:
        """See `Host`."""
        return self._application


class _Ingress:
    """`encoded.Client` over aiohttp, which comes with Ray."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def request(
        self,
        method: str,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: AsyncIterator[bytes] | None,
    ) -> AsyncIterator[_Answer]:
        if self._session is None:  # needs a running loop
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=_READ_TIMEOUT
                ),
            )
        try:
            async with self._session.request(
                method,
                URL(self._url + target.decode("latin-1"), encoded=True),
                headers=[(name.decode("latin-1"), v.decode("latin-1")) for name, v in headers],
                data=body,
                allow_redirects=False,
            ) as response:
                yield _Answer(response)
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error) or type(error).__name__) from error


class _Answer:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers = response.raw_headers
        self._content = response.content

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._content.iter_any():
            yield chunk
