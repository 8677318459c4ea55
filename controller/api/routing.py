"""How operations are asked and answered: what all of them have in common."""

import logging
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.types import Message

from controller.api.problems import RESPONSES, Refused, problem
from controller.api.seam import ApiContext
from controller.errors import WheelwayError

log = logging.getLogger(__name__)

_T = TypeVar("_T")

LARGEST: Final = 64 * 1024
"""Bytes of a request's body."""
FREE_TEXTS: Final = {"by", "log_tail", "message", "note", "said", "sentence"}
"""Keys of documents whose values are text for a person."""


class Route(APIRoute):
    """One that takes each parameter once and a JSON body that is not large, and whose answers
    nobody keeps (https://fastapi.tiangolo.com/how-to/custom-request-and-route/). A mistake of ours
    is told as such; the server would tell the client nothing.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI calls it, once."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            asked = request.state.method
            query = [key for key, _ in request.query_params.multi_items()]
            if twice := [key for key in query if query.count(key) > 1]:
                raise Refused("RequestInvalid", f"{twice[0]} is given more than once")
            if request.method == "POST":
                request = await _with_json(request)
            elif query and not self.dependant.query_params:
                raise Refused("RequestInvalid", f"{query[0]}: Extra inputs are not permitted")
            try:
                response = await answer(request)
            except (WheelwayError, RequestValidationError, HTTPException):
                raise
            except Exception as error:
                log.exception("%s %s failed unexpectedly", asked, request.url.path)
                why = f"{type(error).__name__}: a mistake in wheelway itself; its log has more"
                return problem(500, "InternalError", why)
            response.headers["cache-control"] = "no-store"
            return response

        return handle


async def _with_json(request: Request) -> Request:
    """The request with its body read, which is `{}` when there was none."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused("RequestTooLarge", f"the body is larger than {LARGEST} bytes")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind != "application/json":
        raise Refused("RequestNotJson", "send JSON, as application/json")
    whole = bytes(body) or b"{}"
    try:
        told = from_json(whole)
    except ValueError as error:
        raise Refused("RequestInvalid", f"the request: Invalid JSON: {error}") from error
    if told is None:  # FastAPI may take it for no body: a null would suspend everything
        raise Refused("RequestInvalid", "the request: Input should be an object, not null")

    async def receive() -> Message:
        return {"type": "http.request", "body": whole}

    headers = [header for header in request.scope["headers"] if header[0] != b"content-type"]
    headers.append((b"content-type", b"application/json"))
    return Request({**request.scope, "headers": headers}, receive)


def _operation_id(route: APIRoute) -> str:
    first, *more = route.name.split("_")
    return first + "".join(map(str.capitalize, more))


def router() -> APIRouter:
    """Of some operations, each called as its function."""
    return APIRouter(
        route_class=Route, responses=RESPONSES, generate_unique_id_function=_operation_id
    )


async def _context(request: Request) -> ApiContext:
    context: ApiContext = request.state.context
    return context


Context = Annotated[ApiContext, Depends(_context)]
"""What an operation works with."""


def redacted(context: ApiContext, document: _T) -> _T:
    """What of a document may be told: to every user of the machine names, versions, phases and
    reasons, times and numbers, by which monitoring judges. Not what was written freely, by Ray, a
    wheel, an index or an operator: there stand paths, addresses and causes.
    """
    told: _T = _without_texts(document) if context.public else document
    return told


def _without_texts(document: Any) -> Any:
    if isinstance(document, dict):
        return {
            key: "" if key in FREE_TEXTS and isinstance(value, str) else _without_texts(value)
            for key, value in document.items()
        }
    if isinstance(document, list):
        return [_without_texts(item) for item in document]
    return document
