"""The endpoints of one release as a plain ASGI 3 application (https://asgi.readthedocs.io).

    GET  {route}                metadata          GET {route}/docs            a page for people
    POST {route}                infer             GET {route}/openapi.json    OpenAPI 3.1
                                                  GET {route}/healthz         whether it is loaded

No framework sits in the way of a request: one pass over its headers, pydantic's own JSON parser,
the pipeline, pydantic's own serialiser, two ASGI messages. The server mounts the application by
`root_path`; both ways of giving the path (with and without that prefix) are understood.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import asdict
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic import ValidationError

from wheelway import content, problem, rescue
from wheelway.deadlines import Cause, RequestDeadlines, progress_of
from wheelway.descriptions import description_at
from wheelway.faults import explain
from wheelway.inbound import AT_HAND, is_direct
from wheelway.limits import Limits, Outcomes
from wheelway.problem import SANE_ID, sane_id
from wheelway.sending import Sender

if TYPE_CHECKING:
    import logging
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from wheelway.contract import Release
    from wheelway.deadlines import Watched
    from wheelway.execution import Runtime
    from wheelway.problem import Problem

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Headers = list[tuple[bytes, bytes]]

_JSON = re.compile(rb"(?:application/json|[\w.+-]+/[\w.+-]+\+json)\s*(?:;.*)?", re.IGNORECASE)
"""Content types that mean JSON (RFC 8259, RFC 6839)."""


class Application:
    """The ASGI application; answers 503 until `serve` gives it a loaded pipeline.

    Args:
        release: who answers.
        logger: takes what clients must not see.
        echo_request_id: whether to send `x-request-id`; off where the server does so itself, which
            is never one on a Unix socket.
        on_shutdown: awaited when the server ends the application's life (ASGI lifespan).
    """

    def __init__(
        self,
        release: Release,
        logger: logging.Logger,
        *,
        echo_request_id: bool = True,
        on_shutdown: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        # Serve looks for a framework's routes at every request, to name its metrics; without these
        # it would raise and catch an AttributeError each time.
        self.routes: tuple[()] = ()
        self.router = SimpleNamespace(redirect_slashes=False)
        self._release = release
        self._route = f"/predict/{release.pipeline}/{release.version}"
        self._logger = logger
        self._echo = echo_request_id
        self._on_shutdown = on_shutdown
        self.state: Callable[[], Mapping[str, Any]] = dict
        """What the metadata says of this replica, besides what the application itself knows."""
        self.refresh: Callable[[], Awaitable[None]] | None = None
        """Awaited before that, where others have to be asked."""
        self._runtime: Runtime | None = None
        self._limits = Limits()
        self._capacity = self._digits = 0
        self._in_flight = 0
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._deadlines = RequestDeadlines()
        self._outcomes = Outcomes()
        self._explain = partial(explain, release, logger)
        self._sender = Sender(self._deadlines, self._outcomes, self._explain, self._tell_late)
        self._marks: Headers = [(b"x-wheelway-release", str(release).encode())]
        """Who answers; in every answer."""
        # Unique without asking the kernel for randomness at every request.
        self._id_prefix = uuid4().hex[:16].encode()
        self._ids = count(1)

    def serve(self, runtime: Runtime, limits: Limits) -> None:
        """From now on answer by this pipeline and within these limits; requests under way end on
        the one that they began on.
        """
        runtime.calls.on_return = self._wake
        runtime.keep_to(limits)
        self._runtime, self._limits, self._capacity = runtime, limits, limits.capacity
        self._digits = len(str(limits.max_request_bytes))
        runtime.marks = self._marks[:1]
        if runtime.weights:
            runtime.marks.append((b"x-wheelway-weights", runtime.weights.encode()))
        content_type = runtime.interface.result_type.encode()
        runtime.result_headers = [(b"content-type", content_type), *runtime.marks]
        self._marks = runtime.marks
        self._wake()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] == "http":
            path, root = scope["path"], scope.get("root_path", "")
            if not root and path.startswith(self._route):
                # Serve has just taken the route from this replica, or is about to give it one,
                # while the ingress still sends, or already sends, the route's requests here.
                root = self._route
            if scope["method"] == "POST" and (path == root or _below(path, root) in {"", "/"}):
                await self._infer(scope, receive, send)
            else:
                await self._describe(scope, send, _below(path, root), root)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    # -- infer -----------------------------------------------------------------------------------

    async def _infer(  # noqa: C901, PLR0912 - the hot path stays in one piece: each call costs
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        request_id = length = content_type = coding = None
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"content-length":
                length = value
            elif name == b"x-request-id":
                request_id = value
            elif name == b"content-encoding":
                coding = value if coding is None else b"%s, %s" % (coding, value)
        if request_id is None or not SANE_ID.fullmatch(request_id):
            request_id = self._new_id()
        runtime, limits = self._runtime, self._limits
        if runtime is None:
            await self._complain(scope, send, problem.not_loaded(), request_id, self._marks)
            return
        answer: bytes | Problem | None
        answer = self._refusal(runtime, limits, length, content_type, coding)
        if answer is None:
            self._in_flight += 1
            runtime.in_flight += 1
            try:
                watched = self._deadlines.begin(scope, receive, limits.request_timeout)
                AT_HAND.set((request_id, scope, watched))
                answer = await self._attempt(runtime, limits, watched, request_id, coding, send)
            finally:
                AT_HAND.set(None)  # it knows this task, which knows it: they would keep each other
                self._in_flight -= 1
                runtime.in_flight -= 1
            if watched.rescued:
                self._outcomes.failed("TimedOut")
                rescue.close(receive)
                return
            if watched.stopped_in:
                self._tell_late(request_id, watched.stopped_in)
        if isinstance(answer, bytes):
            if self._outcomes.recent:
                self._outcomes.succeeded()
            headers = [*runtime.result_headers, (b"content-length", b"%d" % len(answer))]
            if self._echo or is_direct(scope):
                headers.append((b"x-request-id", request_id))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})
        elif answer is not None:
            if answer.status in problem.FAILURES:
                self._outcomes.failed(answer.reason)
            await self._complain(scope, send, answer, request_id, runtime.marks)

    def _refusal(
        self,
        runtime: Runtime,
        limits: Limits,
        length: bytes | None,
        content_type: bytes | None,
        coding: bytes | None,
    ) -> Problem | None:
        """What is wrong with a request before its body is read."""
        if self._in_flight + runtime.calls.abandoned >= self._capacity:
            return problem.overloaded(self._capacity)
        # One of fewer digits than the limit has is not worth the parsing.
        if (
            length
            and len(length) >= self._digits
            and length.isdigit()
            and int(length) > limits.max_request_bytes
        ):
            return problem.too_large(limits.max_request_bytes)
        if (
            content_type
            and content_type != b"application/json"
            and runtime.interface.request is not None
            and not _JSON.fullmatch(content_type)
        ):
            return problem.unsupported_media_type(content_type.decode("latin-1"))
        if coding is not None and not content.is_known(coding):
            return problem.unsupported_coding(coding.decode("latin-1"))
        return None

    async def _attempt(  # noqa: C901, PLR0912 - see _infer
        self,
        runtime: Runtime,
        limits: Limits,
        watched: Watched,
        request_id: bytes,
        coding: bytes | None,
        send: Send,
    ) -> bytes | Problem | None:
        """The result's body, or what went wrong; None: there is nothing to be told any more, or
        nobody.
        """
        receive = watched.receive
        try:
            message = await receive()
            body = message.get("body", b"")
            if message["type"] != "http.request" or message.get("more_body") or coding is not None:
                body = await content.received(message, receive, limits.max_request_bytes, coding)
                if not isinstance(body, bytes):
                    return body
            if len(body) > limits.max_request_bytes:
                return problem.too_large(limits.max_request_bytes)
            watched.body_read = True
            try:
                value = runtime.interface.decode(body)
            except ValidationError as error:
                return problem.invalid_input(error, body)
            if (
                self._waiting
                or self._running + runtime.calls.abandoned >= limits.max_ongoing_requests
            ):
                await self._turn()
            else:
                self._running += 1
            try:
                result = await runtime.run(value)
                answer = runtime.interface.encode(result)
                if answer is None:
                    headers = self._named(watched.scope, runtime.marks, request_id)
                    stream = runtime, result, watched, request_id
                    await self._sender.answer(*stream, send, headers, limits.stream_timeout)
                return answer
            finally:
                self._running -= 1
                if self._waiting:
                    self._wake()
        except (GeneratorExit, KeyboardInterrupt):
            raise
        # Stages are the author's and may raise anything: none of it may leave as a traceback.
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                if watched.cancelled_by_others:
                    raise
                if watched.cause is not None:
                    late = watched.cause is Cause.LATE and not watched.streaming
                    watched.stopped_in = progress_of(error, watched) if late else ""
                    return problem.timed_out(limits.request_timeout) if late else None
            what = self._explain(error, request_id)
            return None if watched.streaming else what
        finally:
            self._deadlines.end(watched)

    def answer_late(self) -> None:
        """For another thread, while the loop is held: 504 to whom the loop owes that by now."""
        for watched in self._deadlines.overdue():
            connection = rescue.connection_of(watched.receive, watched.task.get_loop())
            if connection is None:
                continue
            if not self._deadlines.claim(watched):
                connection.socket.close()
                continue
            request_id = sane_id(watched.scope) or self._new_id()
            what = problem.timed_out(self._limits.request_timeout)
            body = what.body(request_id.decode("latin-1"))
            headers = [*what.about(body), *self._marks, (b"x-request-id", request_id)]
            lines = b"".join(b"%s: %s\r\n" % header for header in headers)
            connection.answer(what.status, lines, body)
            self._tell_late(request_id, "the pipeline held the event loop")

    def _tell_late(self, request_id: bytes, stopped_in: str, stream: float | None = None) -> None:
        """`stream`: the seconds within which one did not go on."""
        name = request_id.decode("latin-1")
        what = "was not answered" if stream is None else "did not go on"
        within = self._limits.request_timeout if stream is None else stream
        self._logger.error(
            "request %s of %s at %s %s within %g s: %s",
            *(name, self._release, self._route, what, within, stopped_in),
            extra={"wheelway_request_id": name, "request_id": name},
        )

    async def _turn(self) -> None:
        """Wait until `_wake` says that one more may run; it is then already counted as running."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # the turn came in the same moment: pass it on
                self._running -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        runtime = self._runtime
        abandoned = 0 if runtime is None else runtime.calls.abandoned
        while self._waiting and self._running + abandoned < self._limits.max_ongoing_requests:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._running += 1
                waiter.set_result(None)

    # -- everything else -------------------------------------------------------------------------

    async def _describe(self, scope: Scope, send: Send, path: str, route: str) -> None:
        """Answer at the paths that are only read, and at those that do not exist."""
        request_id, marks = sane_id(scope) or self._new_id(), self._marks
        if self.refresh is not None and path in {"", "/"}:
            await self.refresh()
        found = description_at(
            path,
            scope["method"],
            release=self._release,
            runtime=self._runtime,
            route=route.rstrip("/"),
            state=self._state(),
        )
        if not isinstance(found, tuple):
            await self._complain(scope, send, found, request_id, marks)
            return
        content_type, body, headers = found
        headers += [
            (b"content-type", content_type.encode()),
            *self._named(scope, marks, request_id),
        ]
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": body})

    def _state(self) -> dict[str, Any]:
        """What this replica has to tell beside what the release is."""
        state = {**self.state(), "failing": self._outcomes.failing}
        if self._runtime is not None:
            state["weights"] = self._runtime.weights
            state["settings_error"] = self._runtime.settings_error or state.get("settings_error")
            if self._runtime.batches is not None and self._runtime.batches.sizes.count:
                state["batches"] = asdict(self._runtime.batches.sizes)
        return {key: what for key, what in state.items() if what}

    async def _complain(
        self, scope: Scope, send: Send, what: Problem, request_id: bytes, marks: Headers
    ) -> None:
        await what.send(scope, send, request_id, *self._named(scope, marks, request_id))

    def _named(self, scope: Scope, marks: Headers, request_id: bytes) -> Headers:
        """Who answers, and the request's id unless the server says it."""
        echo = self._echo or is_direct(scope)
        return [*marks, (b"x-request-id", request_id)] if echo else marks

    def _new_id(self) -> bytes:
        return b"%s-%x" % (self._id_prefix, next(self._ids))

    async def _live(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol: the server says when it starts and when it ends."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._on_shutdown is not None:
                    await self._on_shutdown()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _below(path: str, root: str) -> str:
    """A path without the prefix under which the application is mounted, if it is there at all."""
    root = root.rstrip("/")
    rest = path[len(root) :]
    return rest if path.startswith(root) and rest[:1] in {"", "/"} else path
