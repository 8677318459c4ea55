"""The table as an ASGI application (Starlette): asked, answered, and what went wrong told."""

from __future__ import annotations

import logging
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from controller.api import events, health, ordering, reading
from controller.api.openapi import document
from controller.api.operations import Text
from controller.api.problems import problem, problem_of
from controller.api.public import CAUSES, public
from controller.errors import WheelwayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from controller.api.operations import Asked, Operation
    from controller.api.seam import ApiContext

_A = TypeVar("_A", bound="Asked")

log = logging.getLogger(__name__)

OPERATIONS: Final = (*reading.OPERATIONS, *ordering.OPERATIONS, *health.OPERATIONS)
LARGEST: Final = 64 * 1024
"""Bytes of a request's body."""


def whole(context: ApiContext) -> Starlette:
    """Every operation, the events and the OpenAPI document: for the Unix socket."""

    async def openapi(request: Request) -> Response:
        del request
        return JSONResponse(await run_in_threadpool(_described))

    async def stream(request: Request) -> Response:
        try:
            query = _of_query(request)
            if (seen := request.headers.get("last-event-id")) is not None:
                query["after"] = seen
            asked = _asked_for(events.EventsAsked, query)
        except _Refused as refused:
            return refused.response
        return StreamingResponse(
            events.stream(context, asked),
            media_type=events.MEDIA_TYPE,
            headers={"cache-control": "no-store"},
        )

    routes = [Route("/openapi.json", openapi), Route(events.PATH, stream)]
    return _application([*routes, *(_route(context, one) for one in OPERATIONS)])


@cache
def _described() -> dict[str, Any]:
    return document(OPERATIONS)


def open_part(context: ApiContext) -> Starlette:
    """What every user of the machine may know (`public`), and nothing that changes anything: for
    the port.
    """

    def guarded(
        endpoint: Callable[[Request], Awaitable[Response]],
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guard(request: Request) -> Response:
            host = request.headers.get("host", "").lower()
            if not _is_own(host):
                why = f"{host or 'nobody'} is not served here; ask for localhost or 127.0.0.1"
                return problem(421, "HostRefused", why)
            return await endpoint(request)

        return guard

    return _application(
        [
            Route(one.path, guarded(_endpoint(context, one, answered=public)), methods=[one.method])
            for one in OPERATIONS
            if one.open
        ]
    )


def _is_own(host: str) -> bool:
    """Whether a request's `Host` names this machine. A web page that has another name point here
    gets nothing: its requests carry that name.
    """
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    try:
        return name == "localhost" or ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _application(routes: list[Route]) -> Starlette:
    return Starlette(routes=routes, exception_handlers={HTTPException: _unrouted})


def _route(context: ApiContext, operation: Operation) -> Route:
    return Route(operation.path, _endpoint(context, operation), methods=[operation.method])


def _endpoint(
    context: ApiContext, operation: Operation, *, answered: Callable[[object], object] | None = None
) -> Callable[[Request], Awaitable[Response]]:
    """An operation as Starlette calls it; `answered` is what of an answer may be told."""

    async def endpoint(request: Request) -> Response:
        try:
            if operation.method == "GET":
                asked = _asked_for(operation.asks, _of_query(request))
            else:
                asked = _asked_for(operation.asks, await _body(request))
            answer = await run_in_threadpool(operation.answer, context, asked)
        except _Refused as refused:
            return refused.response
        except WheelwayError as error:
            return problem_of(error, message=None if answered is None else CAUSES)
        except Exception as error:
            # A mistake of ours is told as such; the server would tell the client nothing.
            log.exception("%s %s failed unexpectedly", request.method, request.url.path)
            why = f"{type(error).__name__}: a mistake in wheelway itself; its log has more"
            return problem(500, "InternalError", why)
        headers = {"cache-control": "no-store"}
        if isinstance(answer, Text):
            return Response(answer.body, headers=headers, media_type=answer.media_type)
        return JSONResponse(answer if answered is None else answered(answer), headers=headers)

    return endpoint


# -- what was asked ------------------------------------------------------------------------------


class _Refused(Exception):  # noqa: N818 - it carries an answer, and never leaves this module
    """The request was not understood."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


def _of_query(request: Request) -> dict[str, str]:
    """The path's and the query's parameters."""
    asked: dict[str, str] = dict(request.path_params)
    for key, value in request.query_params.multi_items():
        if key in asked:
            raise _Refused(problem(422, "RequestInvalid", f"{key} is given more than once"))
        asked[key] = value
    return asked


async def _body(request: Request) -> bytes:
    """The body, `{}` when it is empty."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            why = f"the body is larger than {LARGEST} bytes"
            raise _Refused(problem(413, "RequestTooLarge", why))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind != "application/json":
        raise _Refused(problem(415, "RequestNotJson", "send JSON, as application/json"))
    return bytes(body) or b"{}"


def _asked_for(model: type[_A], content: dict[str, str] | bytes) -> _A:
    """What was asked, understood."""
    try:
        if isinstance(content, bytes):
            return model.model_validate_json(content)
        return model.model_validate(content)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False, include_input=False)
        said = "; ".join(
            f"{'.'.join(map(str, mistake['loc'])) or 'the request'}: {mistake['msg']}"
            for mistake in mistakes[:10]
        )
        raise _Refused(problem(422, "RequestInvalid", said)) from error


# -- what went wrong -----------------------------------------------------------------------------


async def _unrouted(request: Request, error: Exception) -> Response:
    """No such path or method."""
    if not isinstance(error, HTTPException):
        raise error
    reason = {404: "PathUnknown", 405: "MethodNotAllowed"}.get(error.status_code, "RequestInvalid")
    asked = f"{request.method} {request.url.path}"
    why = f"{asked}: {error.detail}; /openapi.json on the socket has all there is"
    return problem(error.status_code, reason, why, error.headers)
