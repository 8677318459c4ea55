"""Sends streams to their clients, item by item, at the pace of pipeline and client."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from wheelway import problem
from wheelway.deadlines import Cause, progress_of
from wheelway.faults import Replaced
from wheelway.framing import framing_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelway.asgi import Headers, Send
    from wheelway.deadlines import RequestDeadlines, Watched
    from wheelway.execution import Items, Runtime
    from wheelway.framing import Framing
    from wheelway.limits import Outcomes
    from wheelway.problem import Problem

BREAK_WITHIN: Final = 5.0
"""Seconds for which a client is waited for that is to be told that its stream broke off."""
_UNBUFFERED: Final = (
    (b"cache-control", b"no-store"),
    (b"vary", b"accept"),
    (b"x-accel-buffering", b"no"),
)
"""What keeps proxies, nginx among them, from holding items back, or handing them to others."""


class Sender:
    """Sends the streams of one application.

    Args:
        deadlines: of its requests.
        outcomes: whether they fail.
        explain: what clients are told of an exception, which it logs; by the request's id.
        tell_late: logs that a request of this id broke off within so many seconds, and where.
    """

    def __init__(
        self,
        deadlines: RequestDeadlines,
        outcomes: Outcomes,
        explain: Callable[[BaseException, bytes], Problem],
        tell_late: Callable[[bytes, str, float], None],
    ) -> None:
        self._deadlines = deadlines
        self._outcomes = outcomes
        self._explain = explain
        self._tell_late = tell_late

    async def answer(
        self,
        runtime: Runtime,
        result: Any,
        watched: Watched,
        request_id: bytes,
        send: Send,
        headers: Headers,
        seconds: float,
    ) -> None:
        """Answer a request by the stream that `result` is, with at most `seconds` from one item to
        the next; `headers` are those of every answer.

        What goes wrong before the first item is raised, and nothing is sent then; afterwards only
        CancelledError is: the client has gone, or the server ends it.
        """
        items = runtime.items(result)
        framing = framing_for(runtime.interface.stream_types, watched.scope["headers"])
        sending = _Sending(framing, send, headers)
        try:
            first = await items.next()
            if not self._deadlines.begin_stream(watched, seconds):
                return
            runtime.streams.add(watched)
            try:
                await sending.run(first, items, lambda: self._deadlines.extend(watched, seconds))
            except (GeneratorExit, KeyboardInterrupt):
                raise
            except asyncio.CancelledError as error:
                if watched.cause is Cause.GONE or watched.cancelled_by_others:
                    raise
                if watched.cause is Cause.LATE:
                    what = problem.stream_timed_out(seconds)
                    where = progress_of(error, watched)
                    if sending.waits_for_client:
                        where = "its client did not take what there was"
                    self._tell_late(request_id, where, seconds)
                else:  # it is the pipeline's own, if there is no cause
                    what = self._explain(Replaced() if watched.cause else error, request_id)
            # Stages are the author's and may raise anything; see Application.
            except BaseException as error:  # noqa: BLE001 - logged, with its traceback
                what = self._explain(error, request_id)
            else:
                self._outcomes.succeeded()
                return
            if what.status in problem.FAILURES and not sending.waits_for_client:
                self._outcomes.failed(what.reason)
            await sending.break_off(what.body(request_id.decode("latin-1")))
        finally:
            runtime.streams.discard(watched)
            await items.aclose(0)


class _Sending:
    """One stream on its way; `waits_for_client` tells whose turn it is."""

    def __init__(self, framing: Framing, send: Send, headers: Headers) -> None:
        self.waits_for_client = False
        self._framing = framing
        self._send = send
        self._headers = headers

    async def run(self, item: bytes | None, items: Items, on_turn: Callable[[], None]) -> None:
        """Send all of it, from its first item on. `on_turn` is called whenever the turn passes
        between client and pipeline, and may raise.
        """
        content_type = (b"content-type", self._framing.content_type.encode())
        headers = [content_type, *self._headers, *_UNBUFFERED]
        frame = self._framing.frame
        self.waits_for_client = True
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        while item is not None:
            await self._body(frame(item), more=True)
            self.waits_for_client = False
            on_turn()
            item = await items.next()
            on_turn()
            self.waits_for_client = True
        await self._body(b"", more=False)

    async def break_off(self, document: bytes) -> None:
        """End it as one that broke off, if that can be said: `document` is the problem's. Else the
        server has to end the connection, as it does with an answer that its application leaves.
        """
        if self.waits_for_client or self._framing.broken is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BREAK_WITHIN):
                await self._body(self._framing.broken(document), more=False)

    async def _body(self, body: bytes, *, more: bool) -> None:
        message: dict[str, Any] = {"type": "http.response.body", "body": body, "more_body": more}
        await self._send(message)
