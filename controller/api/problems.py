"""Errors as problem details (RFC 9457), and back: reasons and sentences survive the way."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse
from typing_extensions import TypedDict

from controller.errors import JournalError, Transient, Waiting, WheelwayError
from controller.ops.documents import documented

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPE: Final = "application/problem+json"

STATUSES: Final = {
    "NameUnknown": HTTPStatus.NOT_FOUND,
    "VersionUnknown": HTTPStatus.NOT_FOUND,
    "ConfigUnknown": HTTPStatus.NOT_FOUND,
    "NotPinned": HTTPStatus.NOT_FOUND,
    "NotSuspended": HTTPStatus.NOT_FOUND,
    "NotQuarantined": HTTPStatus.NOT_FOUND,
    "ConfigForgotten": HTTPStatus.GONE,
}
"""Of errors that are about the question; what is not listed is a conflict with what is there."""


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


def problem_of(error: WheelwayError, *, message: str | None = None) -> JSONResponse:
    """One of the project's own errors as a response; with `message` instead of its own."""
    message = error.message if message is None else message
    if isinstance(error, Transient | Waiting) or (
        isinstance(error, JournalError) and error.reason not in _ABOUT_THE_QUESTION
    ):
        asked = error.retry_after if isinstance(error, Transient) else None
        headers = None if asked is None else {"retry-after": str(round(asked))}
        return problem(503, error.reason, message, headers)
    status = STATUSES.get(error.reason, HTTPStatus.CONFLICT)
    return problem(status, error.reason, message)


_ABOUT_THE_QUESTION: Final = {"ConfigUnknown", "DigestAmbiguous", "ConfigForgotten"}
