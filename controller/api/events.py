"""What happens, as it happens: the journal's events as server-sent events.

Each has its number in the journal as its id, so a client that lost the connection goes on where it
was (`Last-Event-ID`). https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Final

from packaging.utils import canonicalize_name
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from controller.api.operations import WHOLE, Asked, Name
from controller.api.seam import ApiContext
from controller.errors import WheelwayError
from controller.ops.documents import event_document

MEDIA_TYPE: Final = "text/event-stream"
PATH: Final = "/v1/events"
POLL: Final = 0.5
"""Seconds between two looks into the journal, into which other processes write as well."""
BEAT: Final = 15.0
"""Seconds of silence after which a comment is sent, so that both ends see the other one go."""
BATCH: Final = 200
"""Events that are read at once."""


class EventsAsked(Asked):
    """What `events` takes."""

    after: Annotated[int, Field(ge=0, lt=10**18), WHOLE] | None = None
    """Begin after the event of this number, 0 for all that are kept; default: what comes now. The
    header `Last-Event-ID` wins."""
    pipeline: Name | None = None
    """One pipeline; default: everything."""


async def stream(context: ApiContext, asked: EventsAsked) -> AsyncIterator[str]:
    """Events as text, until the client or the server ends it."""
    last = await _start(context, asked.after)
    pipeline = canonicalize_name(asked.pipeline) if asked.pipeline is not None else None
    yield "retry: 2000\n: from here on\n\n"
    silent = 0.0
    while not context.closing.is_set():
        try:
            found = await run_in_threadpool(
                context.reader.events_after, last, pipeline=pipeline, limit=BATCH
            )
        except WheelwayError as error:
            yield f": {error.reason}\n\n"
            return
        for number, event in found:
            last = number
            text = json.dumps(event_document(event), ensure_ascii=False)
            yield f"id: {number}\ndata: {text}\n\n"
        silent = 0.0 if found else silent + POLL
        if silent >= BEAT:
            yield ": still here\n\n"
            silent = 0.0
        if len(found) < BATCH:
            await asyncio.sleep(POLL)


async def _start(context: ApiContext, after: int | None) -> int:
    newest = await run_in_threadpool(context.reader.last_event)
    if after is None:
        return newest
    return after if after <= newest else 0  # of a journal that was set aside since
