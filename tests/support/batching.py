"""Pipelines whose batches wait for the test, and what it takes to ask them."""

import asyncio
import threading

import pytest

from tests.support.asking import LOGGER, RELEASE
from wheelway import Pipeline
from wheelway.execution import Runtime, context_of
from wheelway.limits import Limits


class Doubled(Pipeline):
    """Answers with the double and the size of the batch; its batches wait for the test."""

    def load(self, context):
        self.sizes, self.entered = [], threading.Semaphore(0)
        self.gate = context.settings.get("gate", threading.Event())
        context.settings.get("instances", []).append(self)

    def infer_batch(self, requests: list[int]) -> list[int]:
        self.sizes.append(len(requests))
        self.entered.release()
        assert self.gate.wait(60)
        return [2 * request for request in requests]


class AsyncDoubled(Doubled):
    async def infer_batch(self, requests: list[int]) -> list[int]:
        self.sizes.append(len(requests))
        self.entered.release()
        while not self.gate.is_set():  # noqa: ASYNC110 - the tests of both kinds open the same gate
            await asyncio.sleep(0.001)
        return [2 * request for request in requests]


PAIRS = Limits(max_batch_size=2, batch_wait_timeout=30)
BOTH = pytest.mark.parametrize("pipeline", [Doubled, AsyncDoubled])


async def start(pipeline, limits=None, **options):
    """A runtime, and the instance that it made."""
    instances = []
    settings = {"instances": instances, "gate": threading.Event(), "seed": 1}
    runtime = Runtime(
        pipeline,
        context_of(pipeline, RELEASE, settings, LOGGER),
        limits=limits or Limits(),
        **options,
    )
    await runtime.start()
    return runtime, next(iter(instances), None)


def ask(runtime, *requests):
    """Tasks that wait for their results."""
    return [asyncio.ensure_future(runtime.run(request)) for request in requests]
