"""Mistakes with streams, batches, parts and refusals that looking or an example shows: each ends as
one reason, in words that say what to do, before the release has a route.
"""

import hashlib
import textwrap

import pytest

from tests.support.wheels import make_wheel, tree_of
from wheelway.contract import Release
from wheelway.gates import Subject, check

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


BEGIN = """
import asyncio
from collections.abc import AsyncIterator, Iterator
from wheelway import Pipeline, Refused
"""

BATCHES = {
    "infer and infer_batch": (
        """
        class Demo(Pipeline):
            def infer(self, request): return request
            def infer_batch(self, requests): return requests
        """,
        ("import", "AmbiguousPipeline", "defines both `infer` and `infer_batch`"),
    ),
    "neither": (
        """
        class Demo(Pipeline):
            def pre_process(self, request): return request
        """,
        ("import", "AbstractPipeline", "neither `infer` nor `infer_batch`; define one"),
    ),
    "a batch that yields": (
        """
        class Demo(Pipeline):
            def infer_batch(self, requests: list[int]): yield from requests
        """,
        ("import", "SchemaInvalid", "`Demo.infer_batch` is a generator; a batch cannot be"),
    ),
    "a batch that yields later": (
        """
        class Demo(Pipeline):
            async def infer_batch(self, requests: list[int]): yield requests
        """,
        ("import", "SchemaInvalid", "`Demo.infer_batch` is a generator; a batch cannot be"),
    ),
    "a batch that says it yields": (
        """
        class Demo(Pipeline):
            def infer_batch(self, requests: list[int]) -> Iterator[int]: return iter(requests)
        """,
        ("schemas", "SchemaInvalid", "`Demo.infer_batch` returns collections.abc.Iterator[int]"),
    ),
    "a batch that returns a generator": (
        """
        class Demo(Pipeline):
            examples = (1,)
            def infer_batch(self, requests: list[int]): return (one for one in requests)
        """,
        (
            "examples",
            "ExampleResultInvalid",
            "Demo failed: `infer_batch` returned a generator instead of a list",
        ),
    ),
    "a batch of generators": (
        """
        class Demo(Pipeline):
            examples = (1,)
            def infer_batch(self, requests: list[int]): return [iter([one]) for one in requests]
        """,
        ("examples", "ExampleResultInvalid", "returned a list_iterator for a request"),
    ),
    "a batch that returns an array": (
        """
        import numpy as np
        class Demo(Pipeline):
            examples = (1,)
            def infer_batch(self, requests: list[int]): return np.array(requests)
        """,
        ("examples", "ExampleResultInvalid", "of an array return `list(array)`"),
    ),
    "a batch of another length": (
        """
        class Demo(Pipeline):
            examples = (1,)
            def infer_batch(self, requests: list[int]): return requests[:1]
        """,
        (
            "examples",
            "ExampleResultInvalid",
            "failed: `infer_batch` was given 2 requests and returned 1 result",
        ),
    ),
    "a batch of one at a time": (
        """
        class Demo(Pipeline):
            examples = (1,)
            def infer_batch(self, requests: list[int]):
                [request] = requests
                return [request]
        """,
        ("examples", "ExampleFailed", "in a batch of 2, failed: ValueError: too many values"),
    ),
    "a batch for one request": (
        """
        class Demo(Pipeline):
            def infer_batch(self, request: int) -> int: return request
        """,
        ("schemas", "SchemaInvalid", "takes <class 'int'>; annotate it as `list[...]`"),
    ),
    "a batch that asks for headers": (
        """
        import wheelway
        class Demo(Pipeline):
            examples = (1,)
            def infer_batch(self, requests: list[int]):
                return [wheelway.request().headers.get("x-tenant") for _ in requests]
        """,
        ("examples", "ExampleFailed", "have `pre_process` put what is needed of them into"),
    ),
    "a batch that Serve would batch": (
        """
        def batched(function):
            function.set_max_batch_size = None
            return function
        class Demo(Pipeline):
            @batched
            async def infer_batch(self, requests: list[int]) -> list[int]: return requests
        """,
        ("import", "SchemaInvalid", "is given batches as it is; take `@serve.batch` away"),
    ),
}
STREAMS = {
    "a stream of another type": (
        """
        class Demo(Pipeline):
            examples = (1,)
            def infer(self, request: int) -> Iterator[int]:
                yield 1
                yield "two"
        """,
        ("examples", "ExampleResultInvalid", "declared result type: item 2 of a stream"),
    ),
    "a stream that raises at once": (
        """
        class Demo(Pipeline):
            examples = (1,)
            async def infer(self, request: int) -> AsyncIterator[int]:
                raise KeyError("early")
                yield 1
        """,
        ("examples", "ExampleFailed", "KeyError: 'early'"),
    ),
    "a stream that raises late": (
        """
        class Demo(Pipeline):
            examples = (1,)
            def infer(self, request: int) -> Iterator[int]:
                yield from range(50)
                raise KeyError("late")
        """,
        ("examples", "ExampleFailed", "KeyError: 'late'"),
    ),
    "a stream that says it is none": (
        """
        class Demo(Pipeline):
            def infer(self, request: int) -> int:
                yield 1
        """,
        ("schemas", "SchemaInvalid", "is a generator, but returns <class 'int'>"),
    ),
    "none that says it is a stream": (
        """
        class Demo(Pipeline):
            examples = (1,)
            def infer(self, request: int) -> Iterator[int]: return 1
        """,
        ("examples", "ExampleResultInvalid", "int"),
    ),
    "a stream of streams": (
        """
        class Demo(Pipeline):
            def infer(self, request: int) -> Iterator[int]: yield 1
            def post_process(self, item: int) -> Iterator[int]: yield item
        """,
        ("schemas", "SchemaInvalid", "yields, and so does `infer`"),
    ),
    "a stream of what is asked": (
        """
        class Demo(Pipeline):
            def pre_process(self, request: int): yield request
            def infer(self, request): return request
        """,
        ("schemas", "SchemaInvalid", "only `infer` and `post_process` may be one"),
    ),
}
PARTS = {
    "a part that is no pipeline": (
        """
        class Demo(Pipeline):
            def infer(self, request): return request
        class Risk: pass
        """,
        ("import", "NotAPipeline", "the part 'risk': "),
    ),
    "a part that is not there": (
        """
        class Demo(Pipeline):
            def infer(self, request): return request
        """,
        ("import", "ImportFailed", "the part 'risk': "),
    ),
    "a part in a circle": (
        """
        class Demo(Pipeline):
            def infer(self, request): return request
        Risk = Demo
        """,
        ("import", "PartCircular", "the part 'risk': "),
    ),
    "a part with two ways to answer": (
        """
        class Demo(Pipeline):
            def infer(self, request): return request
        class Risk(Demo):
            def infer_batch(self, requests): return requests
        """,
        ("import", "AmbiguousPipeline", "the part 'risk': "),
    ),
    "a part whose batch yields": (
        """
        class Demo(Pipeline):
            def infer(self, request): return request
        class Risk(Pipeline):
            def infer_batch(self, requests): yield requests
        """,
        ("import", "SchemaInvalid", "the part 'risk': `Risk.infer_batch` is a generator"),
    ),
    "a part that does not load": (
        """
        class Demo(Pipeline):
            def infer(self, request): return request
        class Risk(Demo):
            def load(self, context): raise OSError("no model")
        """,
        ("load", "LoadFailed", "the part 'risk': "),
    ),
    "a part whose example fails": (
        """
        class Demo(Pipeline):
            def infer(self, request): return request
        class Risk(Pipeline):
            examples = (0,)
            def infer(self, request): return 1 / request
        """,
        ("examples", "ExampleFailed", "the part 'risk': "),
    ),
    "a part that needs a part": (
        """
        class Demo(Pipeline):
            def infer(self, request): return request
        class Risk(Demo):
            def load(self, context): context.parts["demo"]
        """,
        ("load", "PartCircular", "'demo' is no part of 'risk', which is a part itself"),
    ),
    "a part of another name": (
        """
        class Risk(Pipeline):
            def infer(self, request): return request
        class Demo(Risk):
            def load(self, context): context.parts["rsk"]
        """,
        ("load", "LoadFailed", "failed: the pipeline has no part 'rsk', it has 'risk'"),
    ),
    "a part that is not awaited": (
        """
        class Risk(Pipeline):
            def infer(self, request): return request
        class Demo(Pipeline):
            examples = (1,)
            def load(self, context): self.risk = context.parts["risk"]
            async def infer(self, request: int): return {"risk": self.risk(request)}
        """,
        ("examples", "ExampleResultInvalid", "the call of a part has to be awaited"),
    ),
    "a part given what cannot be sent": (
        """
        class Risk(Pipeline):
            def infer(self, request): return 1
        class Demo(Pipeline):
            examples = (1,)
            def load(self, context): self.risk = context.parts["risk"]
            async def infer(self, request: int): return await self.risk(lambda: request)
        """,
        ("examples", "ExampleFailed", "the request to the part 'risk'"),
    ),
}
REFUSALS = {
    "refusals that are none": (
        """
        class Demo(Pipeline):
            refusals = (ValueError("no"),)
            def infer(self, request): return request
        """,
        ("schemas", "SchemaInvalid", "`Demo.refusals`"),
    ),
    "a refusal that is no caller's mistake": (
        """
        class Demo(Pipeline):
            examples = (1,)
            def infer(self, request: int): raise Refused(503, "Busy", "later")
        """,
        ("examples", "ExampleFailed", "ValueError"),
    ),
    "an example that is refused": (
        """
        class Demo(Pipeline):
            examples = (1,)
            def infer(self, request: int): raise Refused(409, "TooSoon", "later")
        """,
        ("examples", "ExampleRefused", "TooSoon"),
    ),
    "an example that is refused in a batch": (
        """
        class Demo(Pipeline):
            examples = (1,)
            def infer_batch(self, requests: list[int]):
                return [Refused(409, "TooSoon", "later") for _ in requests]
        """,
        ("examples", "ExampleRefused", "TooSoon"),
    ),
}
START = {**BATCHES, **STREAMS, **PARTS, **REFUSALS}


@pytest.mark.parametrize("case", START)
async def test_what_looking_or_an_example_shows_never_gets_a_route(case, tmp_path, monkeypatch):
    monkeypatch.setattr("wheelway.memory.limit", lambda _, **_more: None)
    code, (gate, reason, words) = START[case]
    name = f"mistake{hashlib.sha256(case.encode()).hexdigest()[:12]}"
    parts = {f"{name}.risk": f"{name}.pipeline:Risk"} if case in PARTS else None
    code = BEGIN + textwrap.dedent(code)
    tree, digest = tree_of(make_wheel(tmp_path, name, code=code, parts=parts))
    subject = Subject(
        target=f"{name}.pipeline:Demo",
        release=Release(name, "1.0", "ab" * 32),
        settings={},
        tree=tree,
        record_digest=digest,
        threads=1,
    )
    told = []
    assert not await check(subject, told.append)
    (failed,) = [one for one in told if not one.ok]
    assert (failed.gate, failed.reason) == (gate, reason), failed.message
    assert words in failed.message
    assert "\n" not in failed.message
