"""The table of operations as an OpenAPI 3.1 document.

https://spec.openapis.org/oas/v3.1.1.html. Parameters and bodies come from the models that check
them, answers from the types of the documents, so that neither can say something else.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from controller.api import events
from controller.api.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.api.operations import Asked, Operation

_REFERENCE: Final = "#/components/schemas/{model}"

_ABOUT: Final = """\
What the daemon knows, and what it can be asked to do. On the Unix socket there is all of it, for
whoever may open that; on the port, if one is configured, what monitoring needs. Members are only
ever added. Errors are problem details (RFC 9457) whose `reason` is the word that logs, conditions
and metrics use."""


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI document."""
    operations = tuple(operations)
    given = {one.name: TypeAdapter(one.gives) for one in operations if one.gives is not None}
    given[Problem.__name__] = TypeAdapter(Problem)
    by_key, definitions = TypeAdapter.json_schemas(
        [(name, "serialization", adapter) for name, adapter in given.items()],
        ref_template=_REFERENCE,
    )
    answers = {name: schema for (name, _), schema in by_key.items()}
    error = {"description": "Why not.", "content": {MEDIA_TYPE: {"schema": answers["Problem"]}}}
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        described: dict[str, Any] = {
            "operationId": one.name,
            "summary": one.summary,
            "responses": {
                "200": _answer(one, answers.get(one.name)),
                "default": {"$ref": "#/components/responses/Problem"},
            },
        }
        if one.method == "GET":
            described["parameters"] = _parameters(one.asks, one.path)
        else:
            described["requestBody"] = _body(one.asks)
        paths.setdefault(one.path, {})[one.method.lower()] = described
    paths[events.PATH] = {"get": _events()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wheelway",
            "version": "1",
            "description": " ".join(_ABOUT.split()),
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(definitions["$defs"].items())),
            "responses": {"Problem": error},
        },
    }


def _answer(one: Operation, schema: dict[str, Any] | None) -> dict[str, Any]:
    text = {"type": "object" if one.media_type.endswith("yaml") else "string"}
    content = {"schema": schema if schema is not None else text}
    return {"description": f"{one.summary}.", "content": {one.media_type: content}}


def _parameters(model: type[Asked], path: str) -> list[dict[str, Any]]:
    schema = model.model_json_schema()
    parameters = []
    for name, described in schema.get("properties", {}).items():
        inside = f"{{{name}}}" in path
        own = {key: value for key, value in described.items() if key not in {"title", "default"}}
        parameter = {
            "name": name,
            "in": "path" if inside else "query",
            "required": inside,
            "description": " ".join(own.pop("description", "").split()),
            "schema": _without_null(own),
        }
        parameters.append(parameter)
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out is no parameter that may be null."""
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    return {**schema, **kinds[0]} if kinds else schema


def _body(model: type[Asked]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=_REFERENCE)
    schema["description"] = inspect.getdoc(model)
    return {
        "required": bool(schema.get("required")),
        "content": {"application/json": {"schema": schema}},
    }


def _events() -> dict[str, Any]:
    """The events, which are no single document."""
    header = {
        "name": "Last-Event-ID",
        "in": "header",
        "required": False,
        "description": "The id of the last event that was seen; wins over `after`.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    }
    return {
        "operationId": "events",
        "summary": "What happens, as it happens: server-sent events with EventDocument as data",
        "parameters": [*_parameters(events.EventsAsked, events.PATH), header],
        "responses": {
            "200": {
                "description": "Events, until one side ends it; the id is the journal's number.",
                "content": {events.MEDIA_TYPE: {"schema": {"type": "string"}}},
            },
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
