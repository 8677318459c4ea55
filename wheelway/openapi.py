"""What a release says about itself to programs: its metadata and its OpenAPI 3.1 document.

All of it comes from the pipeline's annotations, docstring, examples and refusals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wheelway import problem
from wheelway.schema import BYTES_TYPE, EVENTS_TYPE, JSON_TYPE, LINES_TYPE, TEXT_TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wheelway.contract import Release
    from wheelway.schema import Interface

PROBLEMS = {
    404: "Nothing is at this path.",
    405: "Another method is needed here.",
    413: "The body is larger than this release accepts.",
    415: "The body's content type or content encoding is not accepted.",
    422: "The body does not match the request type.",
    500: "The pipeline failed, or its result violates the declared type.",
    503: "Too many requests are waiting; try again after Retry-After seconds.",
    504: "The pipeline did not answer in time.",
}
_STREAM: Final = (
    "A stream: items come one by one. One that breaks off never looks whole; an error before the "
    "first item is an ordinary answer."
)
STREAMS: Final = {
    LINES_TYPE: (
        f"`{LINES_TYPE}`, unless another is asked for by `accept`: a line of JSON each, by this "
        'schema. A last line `{"problem": ...}` holds the problem document of a stream that broke '
        "off."
    ),
    EVENTS_TYPE: (
        f"`{EVENTS_TYPE}`: server-sent events, each with such JSON as its data. A last event "
        "`error` holds the problem document of a stream that broke off."
    ),
    TEXT_TYPE: (
        f"`{TEXT_TYPE}`: the strings one after the other. The connection of a stream that broke "
        "off ends without the last chunk."
    ),
    BYTES_TYPE: (
        f"`{BYTES_TYPE}`: the raw body. The connection of a stream that broke off ends without "
        "the last chunk."
    ),
}
"""How a stream comes, by its content type."""
_OF_REQUESTS: Final = (413, 415, 422, 500, 503, 504)
"""Those that a pipeline's requests may meet."""


def metadata(release: Release, interface: Interface, route: str) -> dict[str, Any]:
    """What `GET {route}` answers, as far as the release alone decides it."""
    request, result = interface.schemas
    return {
        "name": release.pipeline,
        "version": release.version,
        "digest": release.digest,
        "environment": release.environment,
        "wheelway": release.wheelway,
        "application": release.application,
        "description": interface.description,
        "input": {"content_type": interface.request_type, "schema": request},
        "output": _output(interface, result),
        "links": {"docs": f"{route}/docs", "openapi": f"{route}/openapi.json"},
    }


def _output(interface: Interface, schema: dict[str, Any]) -> dict[str, Any]:
    output = {"content_type": interface.result_type, "schema": schema}
    if interface.said.streams:
        output["stream"] = list(interface.result_types)
    return output


def document(
    release: Release, interface: Interface, examples: Sequence[Any], route: str
) -> dict[str, Any]:
    """The OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1) of a release at a route."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{release.pipeline} {release.version}",
            "version": release.version,
            "description": interface.description,
            "x-wheelway-digest": release.digest,
        },
        "servers": [{"url": "/"}],
        "paths": _paths(release, interface, examples, route),
        "components": _components(release, interface),
    }


def _paths(
    release: Release, interface: Interface, examples: Sequence[Any], route: str
) -> dict[str, Any]:
    request, result, _ = interface.components
    return {
        route or "/": {
            "post": {
                "operationId": "infer",
                "summary": f"Ask {release.pipeline} {release.version}",
                "requestBody": {
                    "required": True,
                    "content": {interface.request_type: _media(request, interface, examples)},
                },
                "responses": {
                    "200": _result(interface, result),
                    **{
                        str(status): {"$ref": f"#/components/responses/Problem{status}"}
                        for status in _OF_REQUESTS
                    },
                    **_refusals(interface),
                },
            },
            "get": _get("metadata", "What this release is"),
        },
        f"{route}/healthz": {"get": _get("healthz", "Whether it is loaded")},
        f"{route}/openapi.json": {"get": _get("openapi", "This document")},
        f"{route}/docs": {"get": _get("docs", "A page for people", "text/html", "string")},
    }


def _result(interface: Interface, schema: dict[str, Any]) -> dict[str, Any]:
    """The answer by a result, or by a stream in each of the ways that a client may choose."""
    if not interface.said.streams:
        return _answer("The result.", interface.result_type, schema)
    kinds = interface.result_types
    answer = _answer("\n\n".join((_STREAM, *map(STREAMS.__getitem__, kinds))), kinds[0], schema)
    for kind in kinds[1:]:
        answer["content"][kind] = {"schema": schema}
    return answer


def _refusals(interface: Interface) -> dict[str, Any]:
    """The answers by which a pipeline refuses requests, with what the host says by the same
    status.
    """
    described = {"$ref": "#/components/schemas/WheelwayProblem"}
    answers: dict[str, Any] = {}
    for status in sorted({refused.status for refused in interface.refusals}):
        listed = [refused for refused in interface.refusals if refused.status == status]
        texts = [PROBLEMS[status]] if status in _OF_REQUESTS else []
        texts += [f"`{refused.reason}`: {refused.message}" for refused in listed]
        answer = _answer("\n\n".join(texts), problem.PROBLEM_TYPE, described)
        answer["content"][problem.PROBLEM_TYPE]["examples"] = {
            refused.reason: {"value": problem.refused(refused).document("ID")} for refused in listed
        }
        answers[str(status)] = answer
    return answers


def _components(release: Release, interface: Interface) -> dict[str, Any]:
    """What the paths refer to."""
    _, _, shared = interface.components
    described = {"$ref": "#/components/schemas/WheelwayProblem"}
    return {
        "headers": {
            "Release": {
                "description": "`<pipeline>@<version>+<digest8>`",
                "schema": {"type": "string"},
                "example": str(release),
            },
            "RequestId": {
                "description": "The id that came with the request, or a new one.",
                "schema": {"type": "string"},
            },
        },
        "schemas": {**shared, "WheelwayProblem": problem.SCHEMA},
        "responses": {
            f"Problem{status}": _answer(text, problem.PROBLEM_TYPE, described)
            for status, text in PROBLEMS.items()
        },
    }


def _get(
    operation: str, summary: str, content_type: str = JSON_TYPE, kind: str = "object"
) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": _answer(f"{summary}.", content_type, {"type": kind}),
            "405": {"$ref": "#/components/responses/Problem405"},
        },
    }


def _answer(text: str, content_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": text,
        "headers": {
            "x-wheelway-release": {"$ref": "#/components/headers/Release"},
            "x-request-id": {"$ref": "#/components/headers/RequestId"},
        },
        "content": {content_type: {"schema": schema}},
    }


def _media(schema: dict[str, Any], interface: Interface, examples: Sequence[Any]) -> dict[str, Any]:
    values = enumerate(interface.shown(examples), start=1)
    shown = {f"example{number}": {"value": value} for number, value in values}
    return {"schema": schema, "examples": shown} if shown else {"schema": schema}
