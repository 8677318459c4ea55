"""Streams of parts that run in the process of their pipeline: gone through, handed on, closed."""

import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.unit.test_pipeline_parts import Risk
from wheelway import Pipeline
from wheelway.local import loaded, run

pytestmark = pytest.mark.unit


class Counts(Pipeline):
    examples = (2,)
    closed = threading.Event()

    def infer(self, most):
        try:
            yield from range(most)
        finally:
            self.closed.set()


class CountsOnLoop(Counts):
    async def infer(self, most):
        try:
            for number in range(most):
                yield number
        finally:
            self.closed.set()


class ForEach(Pipeline):
    def load(self, context):
        self.counts = context.parts["counts"]

    async def infer(self, most: int):
        async for number in self.counts(most):
            yield number * 10


class ForEachInThread(ForEach):
    def infer(self, most: int):
        for number in self.counts(most):
            yield number * 10


class Handed(ForEach):
    async def infer(self, most: int):
        return self.counts(most)


@pytest.mark.parametrize("part", [Counts, CountsOnLoop])
@pytest.mark.parametrize("pipeline", [ForEach, ForEachInThread])
def test_streams_of_parts_are_iterated_from_stages_of_both_kinds(pipeline, part):
    parts = {"counts": part}
    assert run(pipeline, 3, parts=parts) == [0, 10, 20]
    part.closed.clear()
    with loaded(pipeline, parts=parts) as ask:
        endless = ask(10**9)
        assert [next(endless), next(endless)] == [0, 10]
        part.closed.clear()
        endless.close()
        ask(1).close()  # the loop turns
        assert part.closed.wait(60)


class HandedFromThread(ForEach):
    def infer(self, most: int):
        return self.counts(most)


class HandedAsItems(ForEach):
    async def infer(self, most: int) -> AsyncIterator[int]:
        return self.counts(most)


class HandedAsItemsFromThread(ForEach):
    def infer(self, most: int) -> Iterator[int]:
        return self.counts(most)


HANDED = [Handed, HandedFromThread, HandedAsItems, HandedAsItemsFromThread]


@pytest.mark.parametrize("pipeline", HANDED)
@pytest.mark.parametrize("part", [Counts, CountsOnLoop])
def test_a_stream_of_a_part_may_be_handed_on_as_it_is(pipeline, part):
    class Tens(pipeline):
        def post_process(self, number):
            return number * 10

    class TensOnLoop(pipeline):
        async def post_process(self, number):
            return number * 10

    parts = {"counts": part}
    assert run(pipeline, 3, parts=parts) == [0, 1, 2]
    for tens in (Tens, TensOnLoop):
        assert run(tens, 3, parts=parts) == [0, 10, 20]


def test_a_stream_that_is_awaited_and_a_result_that_is_iterated_are_told_so():
    class Wrong(Pipeline):
        def load(self, context):
            self.parts = context.parts

        async def infer(self, how):
            if how == "await":
                return await self.parts["counts"](3)
            return [item async for item in self.parts["risk"]({"age": 1})]

    with loaded(Wrong, parts={"counts": Counts, "risk": Risk}) as ask:
        with pytest.raises(TypeError, match="'counts' streams its results: iterate the call"):
            ask("await")
        with pytest.raises(TypeError, match="'risk' gives one result: await the call"):
            ask("iterate")


def test_each_item_of_a_part_goes_through_its_post_process():
    class Shouting(Counts):
        def post_process(self, item: int) -> str:
            return f"{item}!"

    assert run(Handed, 2, parts={"counts": Shouting}) == ["0!", "1!"]


def test_a_stream_that_nobody_goes_through_is_closed_with_its_request():
    class Forgets(ForEach):
        async def infer(self, most: int):
            call = self.counts(most)
            await call.outcome()
            return str(call)

    opened = []

    class Held(Pipeline):
        def infer(self, most):
            opened.append(item for item in range(most))
            return opened[-1]

    with loaded(Forgets, parts={"counts": Held}) as ask:
        ask(3)
        ask(3)
        until = time.monotonic() + 60
        while opened[0].gi_frame is not None and time.monotonic() < until:
            time.sleep(0.01)
        assert opened[0].gi_frame is None
