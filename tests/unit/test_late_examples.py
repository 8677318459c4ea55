"""Examples that never end: what takes longer than it may as a request does not start, and is told
with the example and the stage that it was in.
"""

import hashlib
import sys

import pytest

from tests.support.wheels import make_wheel, tree_of
from wheelway import execution
from wheelway.contract import Release
from wheelway.gates import Subject, check
from wheelway.limits import Limits

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


BEGIN = """
import asyncio, threading
from collections.abc import AsyncIterator, Iterator
from wheelway import Pipeline, execution

over = threading.Event()
def hang(request=2):
    if request == 2:
        over.wait(300)
    execution.WARM_UP = 0.1 - 60  # for those that come after this one
    return request

class Demo(Pipeline):
    examples = (1, 2, 3)
"""
LATE = {
    "a stage": (
        "    def infer(self, request: int) -> int: return hang(request)",
        "example 2 of 3 of {}:Demo had no result within 0.1 s: it was in `infer`",
    ),
    "a coroutine": (
        """
    async def pre_process(self, request: int) -> int:
        execution.WARM_UP = 0.1 - 60
        return await asyncio.sleep(300 if request == 2 else 0, request)
    def infer(self, request: int) -> int: return request
""",
        "example 2 of 3 of {}:Demo had no result within 0.1 s: it was in `pre_process`",
    ),
    "a generator": (
        "    def infer(self, request: int) -> Iterator[int]: yield hang(request)",
        "example 2 of 3 of {}:Demo had no result within 0.1 s: `infer` had yielded no item",
    ),
    "an asynchronous generator": (
        """
    def infer(self, request: int) -> int: return request
    async def post_process(self, result: int) -> AsyncIterator[int]:
        execution.WARM_UP = 0.1 - 60
        yield await asyncio.sleep(300 if result == 2 else 0, result)
""",
        "example 2 of 3 of {}:Demo had no result within 0.1 s: `post_process` had yielded no item",
    ),
    "a batch": (
        "    def infer_batch(self, requests: list[int]) -> list[int]: return [hang(*requests)]",
        "example 2 of 3 of {}:Demo had no result within 0.1 s: it was in `infer_batch`",
    ),
    "a part": (
        """
    def infer(self, request: int) -> int: return request
class Risk(Demo):
    examples = (1, 2)
    def infer(self, request: int) -> int: return hang(request)
""",
        "the part 'risk': example 2 of 2 of {}:Risk had no result within 0.1 s: it was in `infer`",
    ),
}


@pytest.mark.parametrize("case", LATE)
async def test_an_example_that_takes_longer_than_a_request_may_is_told_with_its_stage(
    case, tmp_path, monkeypatch
):
    monkeypatch.setattr("wheelway.memory.limit", lambda _, **_more: None)
    monkeypatch.setattr(execution, "WARM_UP", 60.0)
    body, words = LATE[case]
    name = f"late{hashlib.sha256(case.encode()).hexdigest()[:12]}"
    parts = {f"{name}.risk": f"{name}.pipeline:Risk"} if "part" in case else None
    tree, digest = tree_of(make_wheel(tmp_path, name, code=BEGIN + body, parts=parts))
    gates = []
    subject = Subject(
        f"{name}.pipeline:Demo",
        Release(name, "1.0", "0" * 64),
        {},
        tree,
        digest,
        limits=Limits(request_timeout=60.0),
    )
    try:
        assert not await check(subject, gates.append)
    finally:
        sys.modules[f"{name}.pipeline"].over.set()
    (failed,) = [gate for gate in gates if not gate.ok]
    assert (failed.gate, failed.reason) == ("examples", "ExampleTimeout"), failed.message
    assert words.format(f"{name}.pipeline") in failed.message
    assert "`request_timeout`" in failed.message
