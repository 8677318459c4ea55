"""Every mistake that an author can make with streams, batches, parts and refusals: each ends as one
reason, at one place, in words that say what to do.

What looking or an example shows has no route (`test_mistakes_at_start.py`, and what hangs, here);
all else is in the answer to the request, and in no other.
"""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import httpx
import pytest

from controller.authoring import gates
from controller.config.settings import Config, EnvironmentOptions, RolloutOptions
from tests.support.asking import ROUTE, application, assert_problem, serving
from tests.support.wheels import make_wheel
from wheelway import Pipeline, Refused
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
from collections.abc import Iterator
from wheelway import Pipeline

def hang():
    open({path!r}, "w").close()
    time.sleep(600)

class Demo(Pipeline):
    examples = (1,)
"""


@pytest.mark.parametrize("case", HANGING)
def test_what_hangs_with_an_example_does_not_start_in_time(case, tmp_path):
    hangs = tmp_path / "hangs"
    code = HANG.format(path=str(hangs)) + HANGING[case]
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
