"""Parts that are called while an answer streams: how long their calls last, and what they keep."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.support.asking import LOGGER, RELEASE, ROUTE, serving, until
from wheelway import Pipeline
from wheelway.asgi import Application
from wheelway.execution import Runtime, context_of
from wheelway.inline import InlinePart, PartGroup, inline_parts
from wheelway.limits import Limits
from wheelway.local import loaded, run

pytestmark = pytest.mark.unit


async def replica_of(pipeline, parts, **settings):
    """What runs a pipeline with its parts inline, and answers by HTTP."""
    found = {name: InlinePart(part) for name, part in parts.items()}
    group = PartGroup(inline_parts(found, RELEASE, settings, LOGGER))
    context = context_of(pipeline, RELEASE, settings, LOGGER)
    runtime = await Runtime.started(pipeline, context, parts=group)
    app = Application(RELEASE, LOGGER, on_shutdown=runtime.unload)
    app.serve(runtime, Limits(request_timeout=600, stream_timeout=600))
    return app, runtime


class Silent(Pipeline):
    """Yields once, then waits until it is told to go on."""

    async def infer(self, request):
        yield "first"
        if request != "last":
            await asyncio.sleep(600)


class Each(Pipeline):
    def load(self, context) -> None:
        self.silent = context.parts["silent"]

    def infer(self, request: str) -> Iterator[str]:
        yield from self.silent(request)


class EachOnLoop(Each):
    async def infer(self, request: str) -> AsyncIterator[str]:  # type: ignore[override]
        async for item in self.silent(request):
            yield item


@pytest.mark.parametrize("pipeline", [Each, EachOnLoop])
def test_a_call_ends_with_the_client_that_leaves_its_stream(pipeline):
    async def leave():
        app, runtime = await replica_of(pipeline, {"silent": Silent})
        async with (
            serving(app) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}{ROUTE}", timeout=30) as client,
        ):
            for _ in range(6):  # more than there are threads
                async with client.stream("POST", "", json="first") as answer:
                    assert await anext(answer.aiter_lines()) == '"first"'
            await until(lambda: runtime.calls.abandoned == 0 and runtime.in_flight == 0)
            assert (await client.post("", json="last")).text == '"first"\n'

    asyncio.run(leave())


class Thing:
    """What weak references may refer to, as a result that counts."""


class Makes(Pipeline):
    def infer(self, how):
        return [Thing(), Thing()] if how == "one" else (Thing() for _ in range(2))


class Keeps(Pipeline):
    """Calls a part for each item; what is left of the results is the item."""

    def load(self, context) -> None:
        self.makes = context.parts["makes"]
        self.made = weakref.WeakSet()

    def infer(self, how: str) -> Iterator[int]:
        for _ in range(30):
            call = self.makes(how)
            self.made.update(call.result() if how == "one" else call)
            del call
            yield len(self.made)


class KeepsOnLoop(Keeps):
    async def infer(self, how: str) -> AsyncIterator[int]:  # type: ignore[override]
        for _ in range(30):
            call = self.makes(how)
            self.made.update(await call if how == "one" else [item async for item in call])
            del call
            yield len(self.made)


@pytest.mark.parametrize("pipeline", [Keeps, KeepsOnLoop])
@pytest.mark.parametrize("how", ["one", "many"])
def test_a_call_that_is_over_is_not_kept_until_its_request_ends(pipeline, how):
    assert max(run(pipeline, how, parts={"makes": Makes})) <= 6


class Exits(Pipeline):
    """Leaves in the middle of its stream, or while that is closed."""

    async def infer(self, how):
        try:
            yield "first"
            if how == "next":
                raise SystemExit(3)
            yield "second"
        finally:
            if how == "close":
                raise SystemExit(4)


class Leaves:
    """A stream that is no generator, of a part without a loop of its own."""

    def __init__(self):
        self.count = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        raise SystemExit(3)


class ExitsAtOnce(Pipeline):
    def infer(self, how) -> AsyncIterator[str]:
        return Leaves()


@pytest.mark.parametrize("part", [Exits, ExitsAtOnce])
@pytest.mark.parametrize("pipeline", [Each, EachOnLoop])
def test_a_part_that_leaves_in_its_stream_does_not_take_the_replica_along(pipeline, part):
    with loaded(pipeline, parts={"silent": part}) as ask:
        with pytest.raises(
            Exception, match=r"(the part 'silent'|must not) .*left|leave.*SystemExit"
        ):
            list(ask("next"))
        if part is Exits:
            closing = ask("close")
            assert next(closing) == "first"
            closing.close()
            assert list(ask("whole")) == ["first", "second"]
