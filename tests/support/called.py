"""A module of parts that answer, stream, fail and hang as they are told, and of who calls them."""

from tests.support.asking import LOGGER
from tests.support.wheels import make_wheel, tree_of
from wheelway.remote import PartReplica
from wheelway.replica import Arguments

CODE = """
import asyncio, os, time
from collections.abc import AsyncIterator, Iterator
import numpy as np
from wheelway import Pipeline, Refused, request

class Strange(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")

class Part(Pipeline):
    examples = ("double",)

    def load(self, context):
        self.by, self.logger = context.settings["by"], context.logger

    def reconfigure(self, settings):
        self.by = settings["by"]

    def infer(self, what):
        if not isinstance(what, str):
            return what * 2
        if what == "double":
            return self.by
        if what == "refuse":
            raise Refused(409, "NotNow", "later")
        if what == "exit":
            raise SystemExit(3)
        if what == "strange":
            raise Strange(1, 2)
        if what == "lambda":
            return lambda: None
        if what == "who":
            return dict(request().headers), request().id, request().remaining
        if what == "tell":
            self.logger.warning("told")
            return None
        if what == "stream":
            return self.items()
        if what == "cancelled":
            self.cancelled()
        if what == "cancelled stream":
            return self.broken()
        if what == "wait":
            self.logger.warning("waiting")
            time.sleep(20)
        raise ValueError(f"unknown {what}")

    def cancelled(self):
        raise asyncio.CancelledError("its own")

    def broken(self):
        yield 1
        self.cancelled()

    def items(self):
        try:
            for number in range(5):
                yield number
                if number == 3:
                    raise ValueError("enough")
        finally:
            self.logger.warning("closed")

class Coroutine(Part):
    async def infer(self, what):
        if what.startswith("hold"):
            self.logger.warning("holding")
            while not os.path.exists(what[5:]):
                time.sleep(0.01)
        return super().infer(what)

class Lasting(Pipeline):
    def load(self, context):
        self.part = context.parts["part"]

    async def infer(self, count: int) -> AsyncIterator[int]:
        for _ in range(count):
            await asyncio.sleep(0.3)
            yield await self.part("double") + int(request().remaining)

class LastingInThread(Lasting):
    def infer(self, count: int) -> Iterator[int]:
        for _ in range(count):
            time.sleep(0.3)
            yield self.part("double").result() + int(request().remaining)

class Together(Pipeline):
    def infer_batch(self, values):
        return [len(values)] * len(values)

class Many(Pipeline):
    def load(self, context):
        self.part = context.parts["part"]

    async def infer(self, count: int) -> list[int]:
        return await asyncio.gather(*(self.part(n) for n in range(count)))

class Demo(Pipeline):
    def load(self, context):
        self.part = context.parts["part"]
        self.first = self.part("double").result()

    async def infer(self, what: str):
        try:
            return await self.part(what)
        except ValueError as error:
            return f"caught {error}"
"""


def arguments_in(folder, test):
    """What a replica of a pipeline with one such part is told."""
    name = f"remote{abs(hash(test)) % 10**8}"
    tree, digest = tree_of(make_wheel(folder, name, code=CODE))
    return {
        "release": {"pipeline": name, "version": "1.0", "digest": "ab" * 32},
        "target": f"{name}.pipeline:Demo",
        "tree": str(tree),
        "record_digest": digest,
        "parts": {
            "part": {
                "target": f"{name}.pipeline:Part",
                "inline": False,
                "threads": 2,
                "max_memory": None,
            }
        },
    }


def of(arguments, kind):
    """Have the part be of another class."""
    part = arguments["parts"]["part"]
    part["target"] = f"{part['target'].partition(':')[0]}:{kind}"


async def started(arguments, settings=None):
    """A replica of the part."""
    told = Arguments.of_part("part", arguments, "app", accelerated=False)
    replica = PartReplica("part", told, LOGGER.getChild("part"))
    await replica.reconfigure({"settings": settings or {"by": 2}})
    return replica
