"""The operations as ASGI applications: all for the Unix socket, what monitors need for the port."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Final

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from controller.api.operations import MONITORING, OPERATIONS
from controller.api.problems import HANDLERS, problem
from controller.api.seam import ApiContext

EVERYTHING: Final = FastAPI(
    title="wheelway",
    version="1",
    description=(
        "What the daemon knows, and what it can be asked to do. On the Unix socket there is all of "
        "it, for whoever may open that; on the port, if one is configured, what monitoring needs. "
        "Members are only ever added. Errors are problem details (RFC 9457) whose `reason` is the "
        "word that logs, conditions and metrics use."
    ),
    docs_url=None,
    redoc_url=None,
    routes=[*OPERATIONS.routes, *MONITORING.routes],
    exception_handlers=HANDLERS,
)
_OPEN: Final = FastAPI(openapi_url=None, routes=[*MONITORING.routes], exception_handlers=HANDLERS)


def whole(context: ApiContext) -> ASGIApp:
    """Every operation, the events and the OpenAPI document: for the Unix socket."""
    EVERYTHING.openapi()  # FastAPI keeps it; built for the first request, it would hold up others
    return _bound(EVERYTHING, context)


def open_part(context: ApiContext) -> ASGIApp:
    """What every user of the machine may know, and nothing that changes anything: for the port."""
    bound = _bound(_OPEN, replace(context, public=True))

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host", "").lower()
        if _is_own(host):
            await bound(scope, receive, send)
            return
        why = f"{host or 'nobody'} is not served here; ask for localhost or 127.0.0.1"
        await problem(421, "HostRefused", why)(scope, receive, send)

    return guard


def _is_own(host: str) -> bool:
    """Whether a request's `Host` names this machine. A web page that has another name point here
    gets nothing: its requests carry that name.
    """
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    try:
        return name == "localhost" or ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _bound(application: ASGIApp, context: ApiContext) -> ASGIApp:
    """The application with what its operations work with."""

    async def bound(scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["method"]
        state = {**scope.get("state", {}), "context": context, "method": asked}
        # FastAPI has no HEAD beside GET; the server leaves out the body.
        method = "GET" if asked == "HEAD" else asked
        await application({**scope, "state": state, "method": method}, receive, send)

    return bound
