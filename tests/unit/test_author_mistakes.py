"""Every mistake that an author can make with streams, batches, parts and refusals, in one table.

Each ends as one reason, at one place, in words that say what to do: before the release has a route
if looking or its examples can show it, else in the answer to the request, and in no other.
"""

import asyncio
import hashlib
import json
import textwrap
import time
from contextlib import asynccontextmanager

import httpx
import pytest

from controller.authoring import gates
from controller.config.settings import Config, EnvironmentOptions, RolloutOptions
from tests.support.asking import ROUTE, application, assert_problem, serving
from tests.support.wheels import make_wheel, tree_of
from wheelway import Pipeline, Refused
from wheelway.contract import Release
from wheelway.gates import Subject, check
from wheelway.limits import Limits

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


# -- in the wheel --------------------------------------------------------------------------------

CONFIG = Config(
    environments=EnvironmentOptions(offline=True), rollout=RolloutOptions(ready_deadline=500)
)
RISK = {"demo.risk": "demo.pipeline:Risk"}
WHEELS = {
    "a part of no pipeline of the wheel": (
        {"parts": {"otter.risk": "demo.pipeline:Risk"}},
        ("inspect", "PartWithoutPipeline", "otter"),
    ),
    "a part without a name": (
        {"parts": {"demo.": "demo.pipeline:Risk"}},
        ("wishes", "PartInvalid", "demo."),
    ),
    "a part that is its pipeline": (
        {"parts": {"demo.risk": "demo.pipeline:Demo"}},
        ("wishes", "PartCircular", "the pipeline itself"),
    ),
    "more replicas of a part than the cap": (
        {"parts": RISK, "wheelway_toml": "[parts.risk.options]\nnum_replicas = 101"},
        ("wishes", "OptionAboveCap", "parts.risk.num_replicas = 101, the cap is 100"),
    ),
    "options of a part that is not there": (
        {"parts": RISK, "wheelway_toml": "[parts.rsk.options]\nthreads = 1"},
        ("wishes", "WishesInvalid", "parts.rsk"),
    ),
    "a batch of nothing": (
        {"wheelway_toml": "[options]\nmax_batch_size = 0"},
        ("wishes", "WishesInvalid", "options.max_batch_size"),
    ),
    "a batch that waits for longer than requests may": (
        {"wheelway_toml": '[options]\nbatch_wait_timeout = "3s"\nrequest_timeout = "2s"'},
        ("wishes", "WishesInvalid", "must be longer than batch_wait_timeout, which is 3"),
    ),
    "a stream that never stalls": (
        {"wheelway_toml": "[options]\nstream_timeout = inf"},
        ("wishes", "WishesInvalid", "options.stream_timeout"),
    ),
}


@pytest.mark.parametrize("case", WHEELS)
def test_what_the_wheel_shows_by_itself_is_told_before_anything_runs(case, tmp_path):
    how, (gate, reason, words) = WHEELS[case]
    (failed,) = [one for one in gates.check(make_wheel(tmp_path, **how), CONFIG) if one.ok is False]
    assert (failed.name, failed.reason) == (gate, reason), failed.message
    assert words in failed.message


# -- before it has a route -----------------------------------------------------------------------

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
        ("examples", "ExampleResultInvalid", "returned a generator instead of a list"),
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
        ("examples", "ExampleResultInvalid", "was given 2 requests and returned 1 results"),
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
        ("examples", "ExampleResultInvalid", "item 2 of a stream"),
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
        ("load", "LoadFailed", "'demo' is no part of 'risk', which is a part itself"),
    ),
    "a part of another name": (
        """
        class Risk(Pipeline):
            def infer(self, request): return request
        class Demo(Risk):
            def load(self, context): context.parts["rsk"]
        """,
        ("load", "LoadFailed", "has no part 'rsk', it has 'risk'"),
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


HANGING = {
    "a stream that never yields": """
    def infer(self, request: int) -> Iterator[int]:
        hang()
        yield request
""",
    "a batch that hangs": """
    def infer_batch(self, requests: list[int]) -> list[int]:
        return hang()
""",
    "a part that hangs": """
    def infer(self, request: int) -> int:
        return request

class Risk(Pipeline):
    examples = (1,)
    def infer(self, request: int) -> int:
        return hang()
""",
}
HANG = """
import time

def hang():
    open({path!r}, "w").close()
    time.sleep(600)

class Demo(Pipeline):
    examples = (1,)
"""


@pytest.mark.parametrize("case", HANGING)
def test_what_hangs_with_an_example_does_not_start_in_time(case, tmp_path):
    hangs = tmp_path / "hangs"
    code = BEGIN + HANG.format(path=str(hangs)) + HANGING[case]
    parts = RISK if "part" in case else None
    wheel = make_wheel(tmp_path, code=code, parts=parts)

    def clock():
        return time.monotonic() + (1000 if hangs.exists() else 0)

    (failed,) = [gate for gate in gates.check(wheel, CONFIG, clock=clock) if gate.ok is False]
    assert (failed.name, failed.reason) == ("examples", "StartTimeout")
    assert "500 s" in failed.message


# -- in the answer -------------------------------------------------------------------------------


class Batched(Pipeline):
    def infer_batch(self, requests: list[str]) -> list[str | Exception]:
        if "generator" in requests:
            return (one for one in requests)
        if "short" in requests:
            return requests[1:]
        if "raises" in requests:
            raise KeyError("all")
        if "refused" in requests:
            return [Refused(409, "TooSoon", "later") if r == "refused" else r for r in requests]
        special = {"item": KeyError("one"), "lazy": iter("x")}
        return [special.get(request, request) for request in requests]


class Streaming(Pipeline):
    async def infer(self, request: str):
        early, _, what = request.rpartition(" ")
        if early:
            yield early
        if what == "never":
            await asyncio.sleep(600)
        yield told(what)
        while what == "ever":
            yield what
            await asyncio.sleep(0)


class Threaded(Pipeline):
    def infer(self, request: str):
        early, _, what = request.rpartition(" ")
        if early:
            yield early
        yield told(what)
        while what == "ever":
            yield what


def told(what):
    if what == "raises":
        raise KeyError("it")
    if what == "refused":
        raise Refused(409, "TooSoon", "later")
    return object() if what == "type" else what


BOTH = (Streaming, Threaded)
ANSWERS = [
    (Batched, "generator", 500, "ResultInvalid"),
    (Batched, "short", 500, "ResultInvalid"),
    (Batched, "raises", 500, "PipelineFailed"),
    (Batched, "item", 500, "PipelineFailed"),
    (Batched, "lazy", 500, "ResultInvalid"),
    (Batched, "refused", 409, "TooSoon"),
    *((kind, "raises", 500, "PipelineFailed") for kind in BOTH),
    *((kind, "refused", 409, "TooSoon") for kind in BOTH),
    *((kind, "type", 500, "ResultInvalid") for kind in BOTH),
    (Streaming, "never", 504, "TimedOut"),
]
LATE = [
    *((kind, "early raises", 500, "PipelineFailed") for kind in BOTH),
    *((kind, "early refused", 409, "TooSoon") for kind in BOTH),
    *((kind, "early type", 500, "ResultInvalid") for kind in BOTH),
    (Streaming, "early never", 504, "TimedOut"),
]
LIMITS = Limits(request_timeout=2.0, stream_timeout=2.0)


@asynccontextmanager
async def client_of(pipeline):
    """Of a pipeline behind a real server; a good request goes well before and after."""
    app, runtime = await application(pipeline, None, LIMITS)
    async with serving(app) as port:
        url = f"http://127.0.0.1:{port}{ROUTE}"
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            before = await client.post("", json="good")
            yield client
            after = await client.post("", json="good")
    assert before.status_code == after.status_code == 200
    assert before.content == after.content
    assert runtime.calls.abandoned == 0


def assert_told_once(caplog, status):
    """A failure is told in the log once, a refusal is none."""
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == (0 if status == 409 else 1)


@pytest.mark.parametrize(("pipeline", "request_", "status", "reason"), ANSWERS)
async def test_what_only_a_request_shows_is_its_own_answer(
    pipeline, request_, status, reason, caplog
):
    async with client_of(pipeline) as client:
        answer = await client.post("", json=request_)
    assert_problem(answer, status, reason)
    assert_told_once(caplog, status)


@pytest.mark.parametrize(("pipeline", "request_", "status", "reason"), LATE)
async def test_what_a_stream_shows_late_ends_it_by_that_problem(
    pipeline, request_, status, reason, caplog
):
    async with client_of(pipeline) as client:
        answer = await client.post("", json=request_)
    first, last = answer.text.splitlines()
    assert (answer.status_code, json.loads(first)) == (200, "early")
    problem = json.loads(last)["problem"]
    assert (problem["status"], problem["reason"]) == (status, reason)
    assert_told_once(caplog, status)


@pytest.mark.parametrize("pipeline", BOTH)
async def test_a_stream_that_never_ends_ends_with_its_client(pipeline, caplog):
    async with client_of(pipeline) as client:
        async with client.stream("POST", "", json="ever") as answer:
            lines = answer.aiter_lines()
            assert [await anext(lines) for _ in range(3)] == ['"ever"'] * 3
        others = await asyncio.gather(*(client.post("", json="good") for _ in range(5)))
        assert {other.status_code for other in others} == {200}
    assert_told_once(caplog, 409)
