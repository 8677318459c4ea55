"""What a client sends after its headers, as ASGI brings it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wheelway import content, problem

if TYPE_CHECKING:
    from wheelway.asgi import Message, Receive
    from wheelway.problem import Problem


async def rest(
    message: Message, receive: Receive, most: int, coding: bytes | None
) -> bytes | Problem | None:
    """A whole body of which `message` is the first part, without its coding; None when the client
    went away.
    """
    parts, size = [], 0
    while message["type"] != "http.disconnect":
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            return problem.too_large(most)
        if not message.get("more_body"):
            body = b"".join(parts)
            return body if coding is None else await _plain(body, coding, most)
        message = await receive()
    return None


async def _plain(body: bytes, coding: bytes, most: int) -> bytes | Problem:
    """A body without its coding, in a thread: a small one may stand for a large one."""
    try:
        plain = await asyncio.to_thread(content.decoded, body, coding, most)
    except ValueError as error:
        return problem.coding_broken(coding.decode("latin-1"), str(error))
    return problem.too_large(most) if plain is None else plain
