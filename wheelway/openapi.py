"""What a release says about itself: its metadata, its OpenAPI 3.1 document, its documentation page.

All of it comes from the pipeline's annotations, docstring and examples; the page needs nothing from
the network, so it also works where there is none.
"""

from __future__ import annotations

import html
import json
from string import Template
from typing import TYPE_CHECKING, Any

from wheelway import problem
from wheelway.schema import JSON_TYPE, shown

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
        "output": {"content_type": interface.result_type, "schema": result},
        "links": {"docs": f"{route}/docs", "openapi": f"{route}/openapi.json"},
    }


def document(
    release: Release, interface: Interface, examples: Sequence[Any], route: str
) -> dict[str, Any]:
    """The OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1) of a release at a route."""
    request, result, shared = interface.components
    name = f"{release.pipeline} {release.version}"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": release.version,
            "description": interface.description,
            "x-wheelway-digest": release.digest,
        },
        "servers": [{"url": "/"}],
        "paths": {
            route or "/": {
                "post": {
                    "operationId": "infer",
                    "summary": f"Ask {name}",
                    "requestBody": {
                        "required": True,
                        "content": {interface.request_type: _media(request, interface, examples)},
                    },
                    "responses": {
                        "200": _answer("The result.", interface.result_type, result),
                        **{
                            str(status): {"$ref": f"#/components/responses/Problem{status}"}
                            for status in (413, 415, 422, 500, 503, 504)
                        },
                    },
                },
                "get": _look("metadata", "What this release is", JSON_TYPE, {"type": "object"}),
            },
            f"{route}/healthz": {
                "get": _look("healthz", "Whether it is loaded", JSON_TYPE, {"type": "object"})
            },
            f"{route}/openapi.json": {
                "get": _look("openapi", "This document", JSON_TYPE, {"type": "object"})
            },
            f"{route}/docs": {
                "get": _look("docs", "A page for people", "text/html", {"type": "string"})
            },
        },
        "components": {
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
                f"Problem{status}": _answer(
                    text,
                    problem.PROBLEM_TYPE,
                    {"$ref": "#/components/schemas/WheelwayProblem"},
                )
                for status, text in PROBLEMS.items()
            },
        },
    }


def _look(
    operation: str, summary: str, content_type: str, schema: dict[str, Any]
) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": _answer(f"{summary}.", content_type, schema),
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
    if interface.request_type != JSON_TYPE or not examples:
        return {"schema": schema}
    values = map(shown, examples)
    return {
        "schema": schema,
        "examples": {f"example{n}": {"value": value} for n, value in enumerate(values, start=1)},
    }


def page(release: Release, interface: Interface, examples: Sequence[Any], route: str) -> str:
    """The documentation page: self-contained HTML, every value escaped."""
    request, result = interface.schemas
    sample = ""
    if interface.request_type == JSON_TYPE and examples:
        sample = _pretty(shown(examples[0]))
    return _PAGE.substitute(
        {
            key: html.escape(value)
            for key, value in {
                "name": release.pipeline,
                "version": release.version,
                "digest": release.digest,
                "description": interface.description,
                "route": route or "/",
                "base": route,
                "request_type": interface.request_type,
                "result_type": interface.result_type,
                "request": _pretty(request),
                "result": _pretty(result),
                "sample": sample,
            }.items()
        }
    )


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)
"""Content-Security-Policy of the page: it loads nothing, and asks only the release itself."""

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name $version</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
pre, textarea { font: 13px/1.45 ui-monospace, monospace; width: 100%; box-sizing: border-box;
  padding: .8rem; border: 1px solid #8886; border-radius: .4rem; overflow: auto }
p.text { white-space: pre-line }
small { opacity: .7; word-break: break-all }
</style>
<h1>$name <small>$version</small></h1>
<p><small>sha256 $digest</small></p>
<p class="text">$description</p>
<p><code>POST $route</code>, <a href="$base/openapi.json">OpenAPI document</a></p>
<h2>Request <small>$request_type</small></h2>
<pre>$request</pre>
<h2>Result <small>$result_type</small></h2>
<pre>$result</pre>
<h2>Try it</h2>
<form><textarea rows="8" aria-label="request body">$sample</textarea>
<p><button>Send</button> <span role="status"></span></p></form>
<pre id="answer" hidden></pre>
<script>
const form = document.querySelector("form"), answer = document.getElementById("answer");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const start = performance.now();
  const response = await fetch(location.pathname.replace(/[/]docs[/]?$$/, "") || "/", {
    method: "POST", headers: { "content-type": "$request_type" },
    body: form.querySelector("textarea").value });
  let text = await response.text();
  try { text = JSON.stringify(JSON.parse(text), null, 2) } catch { /* not JSON: as it is */ }
  form.querySelector("span").textContent =
    response.status + ", " + Math.round(performance.now() - start) + " ms";
  answer.textContent = text; answer.hidden = false;
});
</script>
</html>
""")
