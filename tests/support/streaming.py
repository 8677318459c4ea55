"""Pipelines that stream, also such as tell when they are closed, and what it takes to read them."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx

from tests.support.asking import LOGGER, RELEASE, ROUTE, application, serving, until
from wheelway import Pipeline
from wheelway.execution import Runtime, context_of

EVENTS = {"accept": "text/event-stream"}
PLAIN = {"accept": "text/plain"}


class Counts(Pipeline):
    """Synchronous."""

    examples = (3,)

    def infer(self, request: int) -> Iterator[int]:
        yield from range(request)


class AsyncCounts(Pipeline):
    examples = (3,)

    async def infer(self, request: int) -> AsyncIterator[int]:
        for number in range(request):
            await asyncio.sleep(0)
            yield number


class Watched(Pipeline):
    """Tells when it is closed."""

    def load(self, context) -> None:
        self.closed = context.settings["closed"]

    def infer(self, request: int) -> Iterator[int]:
        try:
            yield from itertools.count()
        except GeneratorExit:
            self.closed.set()
            raise


class AsyncWatched(Watched):
    async def infer(self, request: int) -> AsyncIterator[int]:  # type: ignore[override]
        try:
            for number in itertools.count():
                await asyncio.sleep(0)
                yield number
        except GeneratorExit:
            self.closed.set()
            raise


class Held(Pipeline):
    """Blocks within its second item."""

    def load(self, context) -> None:
        self.closed, self.gate = context.settings["closed"], context.settings["gate"]

    def infer(self, request: int) -> Iterator[int]:
        try:
            yield 0
            self.gate.wait(60)
            yield 1
        except GeneratorExit:
            self.closed.set()
            raise


async def started(pipeline, settings=None, **options):
    context = context_of(pipeline, RELEASE, settings or {}, LOGGER)
    return await Runtime.started(pipeline, context, **options)


async def none_abandoned(runtime):
    await until(lambda: runtime.calls.abandoned == 0)


async def read(items):
    found = []
    try:
        while (item := await items.next()) is not None:
            found.append(json.loads(item))
    finally:
        await items.aclose()
    return found


@asynccontextmanager
async def served(pipeline, settings=None, limits=None, **options):
    """A client of a pipeline behind a real server, and what runs there."""
    app, runtime = await application(pipeline, settings, limits, **options)
    async with serving(app) as port:
        url = f"http://127.0.0.1:{port}{ROUTE}"
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            yield client, runtime


async def lines_of(response):
    return [json.loads(line) async for line in response.aiter_lines()]
