"""What a release tells of itself: the endpoints that are only read, and paths where nothing is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from wheelway import openapi, page, problem
from wheelway.schema import JSON_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelway.contract import Release
    from wheelway.execution import Runtime
    from wheelway.problem import Problem

    Description = tuple[str, bytes, list[tuple[bytes, bytes]]]
    """Content type, body, and headers besides."""


def description_at(
    path: str,
    method: str,
    *,
    release: Release,
    runtime: Runtime | None,
    route: str,
    state: Mapping[str, Any],
) -> Description | Problem:
    """What is at a path below a release's route.

    Args:
        path: "" or "/", or what follows the route, such as `/docs`.
        method: of the request.
        release: whose it is.
        runtime: None: it is not loaded.
        route: as clients see it, without a slash at the end.
        state: what its metadata says besides of this replica, such as `failing`.
    """
    if path not in {"", "/", "/docs", "/openapi.json", "/healthz"}:
        return problem.not_found(path)
    if method not in {"GET", "HEAD"}:
        allow = "GET, HEAD, POST" if path in {"", "/"} else "GET, HEAD"
        return problem.method_not_allowed(method, allow)
    if runtime is None:
        return problem.not_loaded()
    interface, examples = runtime.interface, runtime.examples
    if path == "/docs":
        body = page.render(release, interface, examples, route).encode()
        policy = [(b"content-security-policy", page.POLICY.encode())]
        return "text/html; charset=utf-8", body, policy
    document: dict[str, Any]
    if path == "/healthz":
        document = {"status": "ok"}
    elif path == "/openapi.json":
        document = openapi.document(release, interface, examples, route)
    else:
        document = {**openapi.metadata(release, interface, route), **state}
    return JSON_TYPE, json.dumps(document).encode(), []
