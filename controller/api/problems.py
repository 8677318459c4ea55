"""Errors as problem details (RFC 9457): reasons and sentences survive the way.

Whoever asks the port has shown no permission, and is not told why: there stand paths, addresses and
causes.
"""

from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from controller.errors import (
    JournalError,
    Transient,
    Waiting,
    WheelwayError,
    dotted,
    mistakes,
)
from controller.ops.documents import documented

MEDIA_TYPE: Final = "application/problem+json"

STATUSES: Final = {
    "NameUnknown": HTTPStatus.NOT_FOUND,
    "VersionUnknown": HTTPStatus.NOT_FOUND,
    "ConfigUnknown": HTTPStatus.NOT_FOUND,
    "NotPinned": HTTPStatus.NOT_FOUND,
    "WeightsUnknown": HTTPStatus.NOT_FOUND,
    "NotSuspended": HTTPStatus.NOT_FOUND,
    "NotQuarantined": HTTPStatus.NOT_FOUND,
    "ConfigForgotten": HTTPStatus.GONE,
    "RequestInvalid": HTTPStatus.UNPROCESSABLE_ENTITY,
    "RequestNotJson": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "RequestTooLarge": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}
"""Of errors that are about the question; what is not listed is a conflict with what is there."""
_ABOUT_THE_QUESTION: Final = {"ConfigUnknown", "DigestAmbiguous", "ConfigForgotten"}
"""Errors of the journal that are no trouble of its own."""

CAUSES: Final = "`wheelway status`, for who may use the control socket, and the log tell why"
"""Instead of an error's message."""


class Refused(WheelwayError):  # noqa: N818 - a kind of outcome, as in `errors`
    """What is wrong is the request itself."""


@documented
class Problem(TypedDict):
    """What went wrong (RFC 9457)."""

    type: str
    """Always about:blank; `reason` tells problems apart."""
    title: str
    status: int
    detail: str
    """What happened, to what, why, and what to do."""
    reason: str
    """One word, as in logs and conditions."""


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "Why not.",
        "content": {MEDIA_TYPE: {"schema": TypeAdapter(Problem).json_schema()}},
    }
}
"""Of every operation, beside what it gives."""


def problem(
    status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A problem as a response."""
    body: Problem = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "reason": reason,
    }
    return JSONResponse(body, status, headers, MEDIA_TYPE)


async def _of_ours(request: Request, error: WheelwayError) -> JSONResponse:
    """An error of the project's own."""
    hidden = request.state.context.public and not isinstance(error, Refused)
    detail = CAUSES if hidden else error.message
    if isinstance(error, Transient | Waiting) or (
        isinstance(error, JournalError) and error.reason not in _ABOUT_THE_QUESTION
    ):
        again = error.retry_after if isinstance(error, Transient) else None
        headers = None if again is None else {"retry-after": str(round(again))}
        return problem(503, error.reason, detail, headers)
    return problem(STATUSES.get(error.reason, HTTPStatus.CONFLICT), error.reason, detail)


async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    """Parameters or a body that are not understood: where, and why."""
    del request
    said = "; ".join(
        f"{dotted(mistake.keys[1:]) or 'the request'}: {mistake.what}"
        for mistake in mistakes(error)[:10]
    )
    return problem(422, "RequestInvalid", said)


async def _unrouted(request: Request, error: HTTPException) -> JSONResponse:
    """No such path or method."""
    reason = {404: "PathUnknown", 405: "MethodNotAllowed"}.get(error.status_code, "RequestInvalid")
    asked = f"{request.state.method} {request.url.path}"
    why = f"{asked}: {error.detail}; /openapi.json on the socket has all there is"
    headers = dict(error.headers or {})
    if (allowed := headers.get("Allow")) is not None:
        methods = {*allowed.split(", "), *(["HEAD"] if "GET" in allowed else [])}
        headers["Allow"] = ", ".join(sorted(methods))
    return problem(error.status_code, reason, why, headers)


HANDLERS: Final[
    dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]
] = {
    WheelwayError: _of_ours,
    RequestValidationError: _invalid,
    HTTPException: _unrouted,
}
"""By what is raised."""
