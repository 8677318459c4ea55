"""What curl is told to send for a release's own example."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from controller.model import JSON

LONGEST_EXAMPLE: Final = 400
"""Characters of an example that still make a line to copy."""
_BYTES: Final = "application/octet-stream"
_LINES: Final = "application/x-ndjson"


def arguments_of(document: JSON) -> list[str]:
    """What curl needs beside the URL to ask a release, by its OpenAPI document.

    `@FILE` and `RESULT` stand where a person puts names of files. Empty when there is nothing short
    to send, or the document is an odd one.
    """
    try:
        posts = [path["post"] for path in document["paths"].values() if "post" in path]
        [(kind, asked)] = posts[0]["requestBody"]["content"].items()
        answers = posts[0].get("responses", {}).get("200", {})
        answer = answers.get("content", {})
        kept, streams = _BYTES in answer, _LINES in answer
        examples = asked.get("examples", {})
        value = next(iter(examples.values()))["value"] if examples else None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return []
    body = json.dumps(value, ensure_ascii=False, separators=(", ", ": ")) if examples else ""
    if kind == _BYTES:
        body = value if isinstance(value, str) and len(value) <= LONGEST_EXAMPLE else "@FILE"
    if not 0 < len(body) <= LONGEST_EXAMPLE:
        return []
    send = "--data-binary" if kind == _BYTES else "-d"
    if body == value and body.startswith("@"):  # which names a file to the other options
        send = "--data-raw"
    more = ["-o", "RESULT"] if kept else ["-N"] if streams else []
    return ["-H", f"content-type: {kind}", send, body, *more]
