"""Errors as clients see them: `application/problem+json` (RFC 9457), with the status's own title.

Beyond the RFC's members each carries `reason`, the PascalCase word to branch on, and a 422 carries
`errors`, pydantic's list of mistakes without the values that were sent.
"""

from __future__ import annotations

import codecs
import json
import re
import shlex
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from wheelway.parts import PartFailed, PartOverloaded, PartUnavailable

if TYPE_CHECKING:
    from pydantic import ValidationError

    from wheelway.asgi import Scope, Send
    from wheelway.contract import Release
    from wheelway.refusals import Refused

PROBLEM_TYPE = "application/problem+json"

CODINGS: Final = "gzip, deflate"
"""Of bodies that are decoded, as `accept-encoding` says them."""
SANE_ID: Final = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")
"""A request id that is taken over: it ends up in logs and JSON."""
FAILURES: Final = frozenset({HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.GATEWAY_TIMEOUT})
"""Statuses that tell of the pipeline, not of a request or of a busy replica."""
MISTAKES = 100
"""Mistakes of one request body that are listed at most."""
_MARKS: Final = {
    codecs.BOM_UTF8: "UTF-8",
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}

_TITLES: Final = {status.value: status.phrase for status in HTTPStatus}
"""A pipeline may refuse by a status that has none."""

_SOON = ((b"retry-after", b"1"),)


@dataclass(frozen=True, slots=True)
class Problem:
    """One error answer, before it is known which request it belongs to."""

    status: int
    reason: str
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    log_of: Release | None = None
    """In whose log the cause is, which no client is told."""

    def document(self, request_id: str) -> dict[str, Any]:
        """As JSON's values; `instance` is the request's id, by which the log can be searched."""
        detail = self.detail
        if (release := self.log_of) is not None:
            name, version, one = release.pipeline, release.version, shlex.quote(request_id)
            command = f"wheelway logs {name} {version} --request {one}"
            detail += f" Its log has the cause under the request's id: `{command}` where it runs."
        return {
            "type": "about:blank",
            "title": _TITLES.get(self.status, "Client Error"),
            "status": self.status,
            "detail": detail,
            "instance": request_id,
            "reason": self.reason,
            **self.extra,
        }

    def body(self, request_id: str) -> bytes:
        """The document as it is sent."""
        return json.dumps(self.document(request_id)).encode()

    def about(self, body: bytes) -> list[tuple[bytes, bytes]]:
        """The headers of an answer with this body."""
        length = (b"content-length", b"%d" % len(body))
        return [(b"content-type", PROBLEM_TYPE.encode()), *self.headers, length]

    async def send(
        self, scope: Scope, send: Send, request_id: bytes, *headers: tuple[bytes, bytes]
    ) -> None:
        """Answer one request (ASGI 3) with it and with more headers; HEAD gets no body."""
        body = self.body(request_id.decode("latin-1"))
        start = {"status": self.status, "headers": [*self.about(body), *headers]}
        await send({"type": "http.response.start", **start})
        body = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": body})


def sane_id(scope: Scope) -> bytes:
    """The id that came with a request, if it may be taken over; else empty."""
    given: bytes = next((v for k, v in scope["headers"] if k == b"x-request-id"), b"")
    return given if SANE_ID.fullmatch(given) else b""


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "reason"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The request's id."},
        "reason": {"type": "string", "description": "A PascalCase word to branch on."},
        "errors": {
            "type": "array",
            "description": "What is wrong with the body, and where (422).",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "msg": {"type": "string"},
                },
            },
        },
    },
}
"""JSON Schema of these documents, for OpenAPI."""


def not_found(path: str) -> Problem:
    """404: no such path."""
    return Problem(404, "NotFound", f"There is nothing at {path!r} of this release.")


def method_not_allowed(method: str, allow: str) -> Problem:
    """405, with what the path does allow."""
    detail = f"{method} is not possible here; use {allow}."
    return Problem(405, "MethodNotAllowed", detail, headers=((b"allow", allow.encode()),))


def too_large(most: int) -> Problem:
    """413; `most` in bytes."""
    return Problem(413, "TooLarge", f"The body may have at most {most} bytes.")


def unsupported_media_type(content_type: str) -> Problem:
    """415: only JSON is understood."""
    return Problem(
        415, "UnsupportedMediaType", f"The body is {content_type!r}; send application/json."
    )


def unsupported_coding(coding: str) -> Problem:
    """415, with the codings that are understood (RFC 9110, 15.5.16)."""
    return Problem(
        415,
        "UnsupportedMediaType",
        f"The body is encoded as {coding!r}; send it as it is, or by {CODINGS}.",
        headers=((b"accept-encoding", CODINGS.encode()),),
    )


def coding_broken(coding: str, why: str) -> Problem:
    """422: the body is not what its content-encoding says."""
    return Problem(
        422,
        "InputInvalid",
        f"The body is no {coding} ({why}), though its content-encoding says so.",
    )


def invalid_input(error: ValidationError, body: bytes) -> Problem:
    """422, with where the body went wrong."""
    mistakes = from_json(error.json(include_url=False, include_context=False, include_input=False))
    count = len(mistakes)
    detail = (
        f"The body does not match the declared request type: {count} mistake{'s'[: count > 1]}."
    )
    if mark := next((name for mark, name in _MARKS.items() if body.startswith(mark)), ""):
        detail = (
            f"The body begins with a byte order mark ({mark}); JSON is sent as UTF-8 without one "
            "(RFC 8259, 8.1)."
        )
    return Problem(422, "InputInvalid", detail, extra={"errors": mistakes[:MISTAKES]})


def refused(error: Refused) -> Problem:
    """400 to 499: a stage found the caller wrong."""
    return Problem(error.status, error.reason, error.message)


def pipeline_failed(release: Release) -> Problem:
    """500: a stage raised."""
    return Problem(500, "PipelineFailed", "The pipeline failed.", log_of=release)


def result_invalid(release: Release) -> Problem:
    """500: not what the pipeline declared."""
    detail = "The pipeline's result violates its declared type."
    return Problem(500, "ResultInvalid", detail, log_of=release)


def not_loaded() -> Problem:
    """503: nothing to answer with, yet or any more."""
    return Problem(503, "NotLoaded", "The release is not loaded.", headers=_SOON)


def overloaded(capacity: int) -> Problem:
    """503: the queue is full."""
    return Problem(
        503,
        "Overloaded",
        f"{capacity} requests are being worked on or waiting, and no more may wait.",
        headers=_SOON,
    )


def part_failed(error: PartFailed, release: Release) -> Problem | None:
    """503: a part of the pipeline was not to be had; None where it is no shortage."""
    if isinstance(error, PartOverloaded):
        detail = "A part of the pipeline was too busy to begin with a call in time."
        return Problem(503, "Overloaded", detail, headers=_SOON)
    if isinstance(error, PartUnavailable):
        detail = "A part of the pipeline was not there to answer, or died meanwhile."
        return Problem(503, "PartUnavailable", detail, headers=_SOON, log_of=release)
    return None


def replaced() -> Problem:
    """503 within a stream: what it came from was replaced long ago."""
    detail = "The stream went on for longer than what it came from is kept once that was replaced."
    return Problem(503, "Replaced", detail, headers=_SOON)


def timed_out(seconds: float) -> Problem:
    """504: took longer than `request_timeout`."""
    return Problem(504, "TimedOut", f"The pipeline did not answer within {seconds:g} s.")


def stream_timed_out(seconds: float) -> Problem:
    """504 within a stream: its next item took longer than `stream_timeout`."""
    return Problem(504, "TimedOut", f"The pipeline yielded no further item within {seconds:g} s.")
