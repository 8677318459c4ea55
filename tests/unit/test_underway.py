"""What a start that takes long is at, in the log of its replica."""

import asyncio

import pytest

from tests.support.asking import until
from tests.support.reading import made
from wheelway import underway

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


CODE = """
import threading
from wheelway import Pipeline

loads, answers = threading.Event(), threading.Event()

class Demo(Pipeline):
    examples = (1, 2)
    def load(self, context): assert loads.wait(60)
    def infer(self, request: int) -> int:
        assert request == 1 or answers.wait(60)
        return request

class Risk(Demo):
    pass
"""


@pytest.mark.parametrize("part", ["", "the part 'risk': "])
async def test_a_start_that_takes_long_says_in_the_log_what_it_is_at(
    part, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("wheelway.memory.limit", lambda *_, **_more: None)
    monkeypatch.setattr(underway, "REMIND", 0.01)
    name = "longpart" if part else "longstart"
    target = f"{name}.pipeline:{'Risk' if part else 'Demo'}"
    parts = {"risk": {"target": target, "inline": True}} if part else None
    replica, module = made(tmp_path, name, CODE, **({"parts": parts} if parts else {}))
    starting = asyncio.create_task(replica.reconfigure({}))

    def said(what):
        return any(f"it is at {part}{what}" in line for line in caplog.messages)

    await until(lambda: said(f"`load` of {target}"))
    assert f"{name}@1.0+abababab has been starting for " in caplog.text
    module().loads.set()
    await until(lambda: said(f"example 2 of 2 of {target}"))
    module().answers.set()
    await starting
    told = len(caplog.messages)
    await asyncio.sleep(0.1)
    assert not any("has been starting" in line for line in caplog.messages[told:])
    await replica.unload()
