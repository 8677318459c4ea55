"""The journal's events as server-sent events, as they happen.

Each has its number in the journal as its id, so a client that lost the connection goes on where it
was (`Last-Event-ID`). https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final

from packaging.utils import canonicalize_name
from starlette.concurrency import run_in_threadpool

from controller.api.seam import ApiContext
from controller.errors import WheelwayError
from controller.ops.documents import event_document

POLL: Final = 0.5
"""Seconds between two looks into the journal, into which other processes write as well."""
BEAT: Final = 15.0
"""Seconds of silence after which a comment is sent, so that both ends see the other one go."""
BATCH: Final = 200
"""Events that are read at once."""


async def stream(
    context: ApiContext, after: int | None, pipeline: str | None
) -> AsyncIterator[str]:
    """Events as text, until the client or the server ends it.

    Args:
        context: of the daemon.
        after: the number of the event after which to begin; None: what comes now.
        pipeline: the one to tell of; None: everything.
    """
    newest = await run_in_threadpool(context.reader.last_event)
    # One that is not there yet was of a journal that has been set aside since.
    last = newest if after is None else after if after <= newest else 0
    name = None if pipeline is None else canonicalize_name(pipeline)
    yield "retry: 2000\n: from here on\n\n"
    silent = 0.0
    while not context.closing.is_set():
        try:
            found = await run_in_threadpool(
                context.reader.events_after, last, pipeline=name, limit=BATCH
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
