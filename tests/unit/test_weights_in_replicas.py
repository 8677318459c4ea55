"""Other weights in a running replica: a second instance, proven, then served; or refused."""

import asyncio
import gc
import json
import os
import subprocess
import sys
import weakref

import httpx
import pytest

from tests.support.asking import LOGGER, ROUTE, client_of, serving, until
from tests.support.wheels import make_wheel, sha256, tree_of
from wheelway import instances
from wheelway.failure import StartFailure
from wheelway.replica import Arguments, Replica
from wheelway.weights import Weights

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def unlimited(monkeypatch):
    """The limit holds for the process: here that is the test run's. What is refused is only tried
    again where a test says so.
    """
    monkeypatch.setattr("wheelway.memory.limit", lambda *_, **_more: None)
    monkeypatch.setattr(instances, "RETRY", (3600.0, 3600.0))


READING = """
import json, threading
from wheelway import Pipeline

made, unloaded, gates = [], [], {}

class Demo(Pipeline):
    examples = (1,)

    def load(self, context):
        self.model = {"add": 0}
        if context.weights is not None:
            self.model = json.loads((context.weights / "model.json").read_text())
        if gate := self.model.get("gate"):
            assert gates.setdefault(gate, threading.Event()).wait(60)
        made.append(self)
        self.settings = dict(context.settings)

    def reconfigure(self, settings):
        if settings.get("bad"):
            raise ValueError("bad settings")
        self.settings = dict(settings)

    def infer(self, request: int | str) -> dict:
        if isinstance(request, str):
            assert gates.setdefault(request, threading.Event()).wait(60)
            request = 0
        return {"is": request + self.model["add"], **self.settings}

    def unload(self):
        unloaded.append(self.model["add"])
"""


def made(tmp_path, name, code=READING, **options):
    tree, digest = tree_of(make_wheel(tmp_path, name, code=code))
    arguments = {
        "release": {"pipeline": name, "version": "1.0", "digest": "ab" * 32},
        "target": f"{name}.pipeline:Demo",
        "tree": str(tree),
        "record_digest": digest,
        "threads": 2,
    }
    replica = Replica(Arguments.of(arguments | options), LOGGER, name="host#1")
    return replica, lambda: sys.modules[f"{name}.pipeline"]


def weights_of(tmp_path, version, model, project="demo-weights"):
    """A wheel of weights, unpacked, as a document names it."""
    package = project.replace("-", "_")
    wheel = make_wheel(
        tmp_path,
        project,
        version,
        files={f"{package}/model.json": json.dumps(model)},
        without=[f"{package}/pipeline.py"],
        entry_points=f"[wheelway.weights]\ndemo = {package}\n",
    )
    tree, record = tree_of(wheel)
    return {
        "project": project,
        "version": version,
        "digest": sha256(wheel),
        "tree": str(tree),
        "record_digest": record,
        "package": package,
    }


def mark(weights):
    return f"{weights['project']}@{weights['version']}+{weights['digest'][:8]}"


async def told(client):
    return (await client.get(ROUTE)).json()


async def test_new_weights_are_served_by_a_second_instance_and_named_in_every_answer(tmp_path):
    replica, module = made(tmp_path, "swapping")
    one, two = (weights_of(tmp_path, f"{n}.0", {"add": n}) for n in (1, 2))
    await replica.reconfigure({"settings": {"s": 1}})
    async with client_of(replica.application) as client:
        answer = await client.post(ROUTE, json=1)
        assert answer.json() == {"is": 1, "s": 1}
        assert "x-wheelway-weights" not in answer.headers
        assert "weights" not in await told(client)
        for number, weights in enumerate((one, two), start=1):
            await replica.reconfigure({"settings": {"s": 1}, "weights": weights})
            await replica.settled()
            answers = [
                await client.post(ROUTE, json=1),
                await client.post(ROUTE, json=[]),
                await client.get(ROUTE),
                await client.get(f"{ROUTE}/docs"),
                await client.get(f"{ROUTE}/healthz"),
                await client.get(f"{ROUTE}/nothing"),
            ]
            assert [a.status_code for a in answers] == [200, 422, 200, 200, 200, 404]
            assert {a.headers["x-wheelway-weights"] for a in answers} == {mark(weights)}
            assert answers[0].json() == {"is": number + 1, "s": 1}
            state = answers[2].json()
            assert (state["weights"], state["replica"]) == (mark(weights), "host#1")
            assert {"weights_loading", "weights_error", "settings_pending"}.isdisjoint(state)
        assert module().unloaded == [0, 1]
        await replica.reconfigure({"settings": {"s": 1}, "weights": two})
        await replica.settled()
        assert len(module().made) == 3, "the same weights: nothing"
        await replica.reconfigure({"settings": {"s": 1}, "weights": None})
        await replica.settled()
        assert (await client.post(ROUTE, json=1)).json() == {"is": 1, "s": 1}
    await replica.unload()
    assert module().unloaded == [0, 1, 2, 0]


async def test_requests_under_way_end_on_the_former_instance_which_is_unloaded_after_them(tmp_path):
    replica, module = made(tmp_path, "finishing")
    one, two = (weights_of(tmp_path, f"{n}.0", {"add": n}) for n in (1, 2))
    await replica.reconfigure({"weights": one})
    async with client_of(replica.application) as client:
        slow = asyncio.create_task(client.post(ROUTE, json="slow"))
        await until(lambda: "slow" in module().gates)
        await replica.reconfigure({"weights": two})
        await until(lambda: len(module().made) == 2 and replica._instances._retired)
        assert (await client.post(ROUTE, json=0)).json() == {"is": 2}
        # Back while the former one still ends: it is taken back, not loaded anew.
        await replica.reconfigure({"settings": {"s": 2}, "weights": one})
        await until(lambda: module().unloaded == [2])
        assert (await client.post(ROUTE, json=0)).json() == {"is": 1, "s": 2}
        await replica.reconfigure({"settings": {"s": 2}, "weights": two})
        await until(lambda: len(module().made) == 3)
        assert not slow.done()
        module().gates["slow"].set()
        answer = await slow
        assert (answer.json()["is"], answer.headers["x-wheelway-weights"]) == (1, mark(one))
        await replica.settled()
        assert module().unloaded == [2, 1]
    await replica.unload()


STREAMING = """
import json, threading
from collections.abc import Iterator
from wheelway import Pipeline

gate, unloaded = threading.Event(), []

class Demo(Pipeline):
    def load(self, context):
        self.add = 0
        if context.weights is not None:
            self.add = json.loads((context.weights / "model.json").read_text())["add"]

    def infer(self, request: int) -> Iterator[int]:
        yield self.add
        assert gate.wait(60)
        yield self.add

    def unload(self):
        unloaded.append(self.add)
"""


async def test_a_stream_under_way_ends_on_the_former_instance(tmp_path):
    replica, module = made(tmp_path, "streaming", STREAMING)
    one, two = (weights_of(tmp_path, f"{n}.0", {"add": n}) for n in (1, 2))
    limits = {"request_timeout": 0.5}  # of its first item alone
    await replica.reconfigure({"weights": one, "limits": limits})
    async with serving(replica.application) as port, httpx.AsyncClient(timeout=60) as client:
        url = f"http://127.0.0.1:{port}/predict/streaming/1.0"
        async with client.stream("POST", url, json=1) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "1"
            await replica.reconfigure({"weights": two, "limits": limits})
            await until(lambda: replica._instances.running.weights == mark(two))
            assert module().unloaded == []
            module().gate.set()
            assert [line async for line in lines] == ["1"]
            assert stream.headers["x-wheelway-weights"] == mark(one)
        await replica.settled()
        assert module().unloaded == [1]
        assert (await client.post(url, json=1)).text.split() == ["2", "2"]


LASTING = """
import asyncio
from collections.abc import AsyncIterator, Iterator
from wheelway import Pipeline

unloaded = []

class Demo(Pipeline):
    async def infer(self, request: int) -> AsyncIterator[int]:
        while not unloaded:
            await asyncio.sleep(0.01)
            yield 1

    def unload(self):
        unloaded.append(1)
"""


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_stream_that_outlasts_its_instance_is_broken_off_and_says_why(
    tmp_path, monkeypatch, caplog, kind
):
    monkeypatch.setattr("wheelway.replica.FINISH", 0.3)
    code = LASTING
    if kind == "def":
        code = code.replace("async def", "def").replace("-> Async", "-> ")
        code = code.replace("await asyncio", "time").replace("import asyncio", "import time")
    replica, module = made(tmp_path, f"outlasting{kind}", code)
    limits = {"request_timeout": 0.1, "stream_timeout": 0.2}
    await replica.reconfigure({"limits": limits})
    async with serving(replica.application) as port, httpx.AsyncClient(timeout=60) as client:
        url = f"http://127.0.0.1:{port}/predict/outlasting{kind}/1.0"
        async with client.stream("POST", url, json=1) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "1"
            two = weights_of(tmp_path, "2.0", {})
            await replica.reconfigure({"limits": limits, "weights": two})
            told = [json.loads(line) async for line in lines][-1]["problem"]
        assert (told["status"], told["reason"]) == (503, "Replaced")
        assert f"request {told['instance']} of" in caplog.text
        assert "Traceback" not in caplog.text
        await replica.settled()
        assert module().unloaded == [1]
        assert "unloaded while requests still run" not in caplog.text
        assert replica.application._outcomes.recent == 0, "it is no failure of the release"
    await replica.unload()


async def test_a_former_instance_is_kept_for_as_long_as_its_requests_may_take(tmp_path):
    replica, _ = made(tmp_path, "kept_long")
    waits = [replica._instances.finish]
    for limits, replica.grace in (({}, 0), ({"stream_timeout": 400}, 0), ({}, 500)):
        await replica.reconfigure({"limits": limits})
        waits.append(replica._instances.finish)
    assert waits == [300, 300, 400, 500]
    await replica.unload()


async def test_a_stage_that_nobody_waits_for_any_more_still_holds_its_instance(tmp_path, caplog):
    replica, module = made(tmp_path, "lingering")
    two = weights_of(tmp_path, "2.0", {"add": 2})
    limits = {"request_timeout": 0.2}
    await replica.reconfigure({"limits": limits})
    async with client_of(replica.application) as client:
        assert (await client.post(ROUTE, json="slow")).status_code == 504
        await replica.reconfigure({"limits": limits, "weights": two})
        await until(lambda: replica._instances._retired)
        for _ in range(10):
            await asyncio.sleep(instances.LOOK / 4)
        assert module().unloaded == []
        replica._instances.finish = 0  # of those that are retired later
        module().gates["slow"].set()
        await replica.settled()
        assert module().unloaded == [0]
    await replica.unload()


async def test_a_request_that_never_ends_does_not_hold_its_instance_for_ever(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("wheelway.replica.FINISH", 0.1)
    replica, module = made(tmp_path, "endless")
    two = weights_of(tmp_path, "2.0", {"add": 2})
    limits = {"request_timeout": 0.1, "stream_timeout": 0.1}
    await replica.reconfigure({"limits": limits})
    async with client_of(replica.application) as client:
        assert (await client.post(ROUTE, json="slow")).status_code == 504
        await replica.reconfigure({"limits": limits, "weights": two})
        await replica.settled()
        assert module().unloaded == [0]
        assert "unloaded while requests still run on it" in caplog.text
        module().gates["slow"].set()
    await replica.unload()


BAD = {
    "bytes": ({"add": 2}, "DigestMismatch", "other bytes than were published"),
    "load": ({"gate": 1, "add": []}, "ExampleFailed", "TypeError"),
    "file": (None, "LoadFailed", "JSONDecodeError"),
}


def spoiled(tmp_path, how):
    model, _, _ = BAD[how]
    weights = weights_of(tmp_path, "9.0", {} if model is None else {"add": model["add"]})
    file = Weights.of(weights).folder / "model.json"
    if how == "bytes":
        file.write_text('{"add": 3}')
    elif how == "file":
        wheel = make_wheel(
            tmp_path / "other",
            "demo-weights",
            "9.0",
            files={"demo_weights/model.json": "{"},
        )
        tree, record = tree_of(wheel)
        weights |= {"digest": sha256(wheel), "tree": str(tree), "record_digest": record}
    return weights


@pytest.mark.parametrize("how", BAD)
async def test_weights_that_fail_are_refused_and_the_former_go_on(tmp_path, caplog, how):
    replica, module = made(tmp_path, f"refusing_{how}")
    one, bad = weights_of(tmp_path, "1.0", {"add": 1}), spoiled(tmp_path, how)
    _, reason, text = BAD[how]
    await replica.reconfigure({"weights": one})
    async with client_of(replica.application) as client:
        await replica.reconfigure({"weights": bad, "former_weights": one})
        await replica.settled()
        answer = await client.post(ROUTE, json=1)
        assert (answer.json(), answer.headers["x-wheelway-weights"]) == ({"is": 2}, mark(one))
        state = await told(client)
        error = state["weights_error"]
        assert state["weights"] == mark(one)
        assert (error["weights"], error["digest"]) == (mark(bad), bad["digest"])
        assert error["reason"] == reason
        assert text in error["message"]
        assert error["message"].startswith(f"with the weights {mark(bad)}: ")
        assert ("Error" in error["tail"]) == (how != "bytes")
        assert f"with the weights {mark(bad)} does not start; it goes on with" in caplog.text
        count = len(module().made)
        await replica.reconfigure({"settings": {"s": 1}, "weights": bad, "former_weights": one})
        await replica.settled()
        assert (await client.post(ROUTE, json=1)).json() == {"is": 2, "s": 1}
        assert len(module().made) == count, "what was refused is not tried again"
        assert "weights_error" in await told(client)
        await replica.reconfigure({"settings": {"s": 1}, "weights": one})
        await replica.settled()
        assert "weights_error" not in await told(client)
        await replica.reconfigure({"settings": {"s": 1}, "weights": bad, "former_weights": one})
        await replica.settled()
        assert "weights_error" in await told(client), "it was tried again, as it was asked for anew"
    await replica.unload()


async def test_weights_whose_tree_is_made_again_are_served_after_all(tmp_path, monkeypatch):
    monkeypatch.setattr(instances, "RETRY", (0.05, 0.1))
    replica, _ = made(tmp_path, "mended")
    bad = spoiled(tmp_path, "bytes")
    await replica.reconfigure({"weights": bad, "former_weights": None})
    async with client_of(replica.application) as client:
        state = await told(client)
        assert state["weights_error"]["reason"] == "DigestMismatch"
        assert "weights" not in state
        (Weights.of(bad).folder / "model.json").write_text('{"add": 2}')
        await until(lambda: replica._instances.running.weights)
        assert (await client.post(ROUTE, json=1)).json() == {"is": 3}
        assert "weights_error" not in await told(client)
    await replica.unload()


@pytest.mark.parametrize("former", ["one", None])
async def test_a_replica_that_starts_with_bad_weights_falls_back_to_the_former(tmp_path, former):
    replica, _ = made(tmp_path, f"falling_{former}".lower())
    bad = spoiled(tmp_path, "file")
    one = weights_of(tmp_path, "1.0", {"add": 1}) if former else None
    await replica.reconfigure({"weights": bad, "former_weights": one})
    async with client_of(replica.application) as client:
        answer = await client.post(ROUTE, json=1)
        assert answer.json() == {"is": 2 if one else 1}
        assert answer.headers.get("x-wheelway-weights") == (mark(one) if one else None)
        assert (await told(client))["weights_error"]["weights"] == mark(bad)
    await replica.unload()


@pytest.mark.parametrize("where", ["user_config", "args", "same", "import", "both"])
async def test_a_start_without_former_weights_fails_and_names_those_that_took_part(tmp_path, where):
    bad = spoiled(tmp_path, "file")
    options = {"weights": bad} if where == "args" else {}
    code = "import nothing_like_it" if where == "import" else READING
    if where == "both":
        code = READING.replace("self.model = {", "self.model = 1 / 0; {")
    replica, _ = made(tmp_path, f"failing_{where}", code, **options)
    given = {
        "user_config": {"weights": bad},
        "args": {},
        "same": {"weights": bad, "former_weights": bad},
        "import": {"weights": bad, "former_weights": None},
        "both": {"weights": bad, "former_weights": None},
    }
    with pytest.raises(StartFailure) as caught:
        await replica.reconfigure(given[where])
    named = caught.value.message.startswith(f"with the weights {mark(bad)}: ")
    assert named == (where not in {"import", "both"})
    assert caught.value.reason == ("ImportFailed" if where == "import" else "LoadFailed")


async def test_weights_of_the_arguments_stay_whatever_the_settings_do(tmp_path):
    one, two = (weights_of(tmp_path, f"{n}.0", {"add": n}) for n in (1, 2))
    replica, module = made(tmp_path, "fixed", weights=one)
    await replica.reconfigure({})
    await replica.reconfigure({"settings": {"s": 1}, "weights": two})
    await replica.settled()
    async with client_of(replica.application) as client:
        answer = await client.post(ROUTE, json=1)
        assert answer.json() == {"is": 2, "s": 1}
        assert answer.headers["x-wheelway-weights"] == mark(one)
    assert len(module().made) == 1
    await replica.unload()


async def test_settings_that_come_while_another_instance_loads_reach_both(tmp_path):
    replica, module = made(tmp_path, "meanwhile")
    two = weights_of(tmp_path, "2.0", {"add": 2, "gate": "two"})
    await replica.reconfigure({"settings": {"s": 1}})
    async with client_of(replica.application) as client:
        await replica.reconfigure({"settings": {"s": 1}, "weights": two})
        await until(lambda: "two" in module().gates)
        assert (await told(client))["weights_loading"] == mark(two)
        await replica.reconfigure({"settings": {"s": 2}, "weights": two})
        await until(lambda: replica._instances.running.settings == {"s": 2})
        assert (await client.post(ROUTE, json=1)).json() == {"is": 1, "s": 2}
        await replica.reconfigure({"settings": {"bad": 1}, "weights": two})
        await until(lambda: replica._instances.running.settings_error)
        module().gates["two"].set()
        await replica.settled()
        assert (await client.post(ROUTE, json=1)).json() == {"is": 3, "s": 1}
        state = await told(client)
        assert state["settings_error"] == "ValueError: bad settings"
        assert "weights_loading" not in state
    await replica.unload()


async def test_the_latest_weights_win_over_those_that_still_load(tmp_path, monkeypatch):
    monkeypatch.setattr(instances, "TURN", 0.1)
    replica, module = made(tmp_path, "latest")
    two = weights_of(tmp_path, "2.0", {"add": 2, "gate": "two"})
    three = weights_of(tmp_path, "3.0", {"add": 3})
    await replica.reconfigure({})
    async with client_of(replica.application) as client:
        await replica.reconfigure({"weights": two})
        await until(lambda: "two" in module().gates)
        await replica.reconfigure({"weights": three})
        await until(lambda: replica._instances.running.weights == mark(three))
        assert (await client.post(ROUTE, json=1)).json() == {"is": 4}
        await replica.reconfigure({"weights": None})  # not the former: that one is gone
        await until(lambda: replica._instances.running.weights == "")
        await until(lambda: module().unloaded == [0, 3])
        module().gates["two"].set()
        await replica.settled()
        assert sorted(module().unloaded) == [0, 2, 3]
        assert (await client.post(ROUTE, json=1)).json() == {"is": 1}
    await replica.unload()


async def test_weights_that_never_load_are_refused_in_time(tmp_path):
    replica, module = made(tmp_path, "never")
    two = weights_of(tmp_path, "2.0", {"add": 2, "gate": "two"})
    await replica.reconfigure({})
    await replica.reconfigure({"weights": two, "weights_deadline": 0.1})
    await until(lambda: replica._instances.refusal)
    assert replica._instances.refusal.told()["reason"] == "StartTimeout"
    module().gates["two"].set()
    await replica.settled()
    assert module().unloaded == [2]
    await replica.unload()


CANCELLED = """
import asyncio, json
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (1,)

    def load(self, context):
        self.how = ""
        if context.weights is not None:
            self.how = json.loads((context.weights / "model.json").read_text())
        if self.how == "load":
            raise asyncio.CancelledError

    def reconfigure(self, settings):
        if settings.get("bad"):
            raise asyncio.CancelledError

    def unload(self):
        raise asyncio.CancelledError

    async def infer(self, request: int) -> int:
        if self.how == "example":
            task = asyncio.create_task(asyncio.sleep(60))
            task.cancel()
            await task
        return request
"""


@pytest.mark.parametrize("how", ["load", "example"])
async def test_weights_by_which_work_is_cancelled_are_refused_as_any_that_fail(tmp_path, how):
    replica, _ = made(tmp_path, f"cancelled_{how}", CANCELLED)
    one, bad = weights_of(tmp_path, "1.0", ""), weights_of(tmp_path, "2.0", how)
    reason = {"load": "LoadFailed", "example": "ExampleFailed"}[how]
    with pytest.raises(StartFailure, match="CancelledError") as caught:
        await replica.reconfigure({"weights": bad})
    assert caught.value.reason == reason
    await replica.reconfigure({"weights": one})
    async with client_of(replica.application) as client:
        await replica.reconfigure({"weights": bad, "former_weights": one})
        await replica.settled()
        error = (await told(client))["weights_error"]
        assert (error["weights"], error["reason"]) == (mark(bad), reason)
        assert "CancelledError" in error["message"]
        await replica.reconfigure({"settings": {"bad": 1}, "weights": one})
        await replica.settled()
        assert "CancelledError" in (await told(client))["settings_error"]
        assert (await client.post(ROUTE, json=1)).json() == 1
    await replica.unload()


BLOCKING = """
import json, pathlib, time
from wheelway import Pipeline

class Demo(Pipeline):
    async def load(self, context):
        self.add = 0
        time.sleep(1.6)
        if context.weights is not None:
            here = pathlib.Path({here!r})
            (here / "loads").touch()
            end = time.monotonic() + 60
            while (here / "waits").exists() and not (here / "answered").exists():
                assert time.monotonic() < end, "nobody is answered while this loads"
                time.sleep(0.02)
            self.add = json.loads((context.weights / "model.json").read_text())["add"]

    async def infer(self, request: int) -> int:
        return request + self.add
"""


async def test_a_load_that_holds_the_loop_holds_up_no_request_when_weights_come(tmp_path):
    replica, _ = made(tmp_path, "blockingload", BLOCKING.format(here=str(tmp_path)))
    one, two = (weights_of(tmp_path, f"{n}.0", {"add": n}) for n in (1, 2))
    bad = weights_of(tmp_path, "3.0", {})
    await replica.reconfigure({"weights": one})
    (tmp_path / "waits").touch()
    async with client_of(replica.application) as client:
        for weights, add, reason in ((bad, 1, "LoadFailed"), (two, 2, None)):
            for left in ("loads", "answered"):
                (tmp_path / left).unlink(missing_ok=True)
            await replica.reconfigure({"weights": weights, "former_weights": one})
            settled = asyncio.create_task(replica.settled())
            while not settled.done():
                loads = (tmp_path / "loads").exists()
                assert (await client.post(ROUTE, json=1)).status_code == 200
                if loads:
                    (tmp_path / "answered").touch()
                await asyncio.sleep(0.01)
            error = (await told(client)).get("weights_error")
            assert (error["reason"] if error else None) == reason, error
            if error:
                assert "KeyError" in error["message"]
            assert (await client.post(ROUTE, json=1)).json() == 1 + add
            assert replica._instances.running.isolated == (weights is two)
    await replica.unload()


HELD = """
import gc
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (1,)

    def load(self, context):
        self.itself = self  # as many are
        if (context.weights / "model.json").read_text() == '"bad"':
            self.big = [self]
            raise ValueError("bad")

    def infer(self, request: int) -> int:
        return request
"""


async def test_nothing_keeps_an_instance_that_was_replaced_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(LOGGER, "disabled", True)  # pytest keeps tracebacks with all their frames
    gc.freeze()  # as Serve does
    replica, module = made(tmp_path, "kept", HELD)
    one, two = (weights_of(tmp_path, f"{n}.0", n) for n in (1, 2))
    bad = weights_of(tmp_path, "3.0", "bad")
    await replica.reconfigure({"weights": one})
    first = weakref.ref(replica._instances.running._instance)
    gc.freeze()
    await replica.reconfigure({"weights": two})
    await replica.settled()
    assert first() is None
    await replica.reconfigure({"weights": bad, "former_weights": two})
    await replica.settled()
    assert replica._instances.refusal
    gc.unfreeze()  # or they would not be found
    there = [o for o in gc.get_objects() if isinstance(o, module().Demo)]
    assert there == [replica._instances.running._instance]
    await replica.unload()


DYING = """
import os
from wheelway import Pipeline

class Demo(Pipeline):
    def load(self, context):
        if context.weights and (context.weights / "model.json").read_text() == '"bad"':
            os._exit(7)

    def infer(self, request: int) -> int:
        return request
"""
STARTING = """
import asyncio, json, logging, sys
from wheelway import memory
from wheelway.replica import Arguments, Replica

memory.limit = lambda *_, **_more: None
arguments, user_config = map(json.loads, sys.argv[1:])

async def main():
    replica = Replica(Arguments.of(arguments), logging.getLogger())
    await replica.reconfigure(user_config)
    print(json.dumps(replica._instances.refusal.told()))
    await replica.unload()

asyncio.run(main())
"""


def test_weights_that_end_the_process_do_not_end_one_replica_after_the_other(tmp_path):
    replica, _ = made(tmp_path, "dying", DYING)
    arguments = {
        "release": {"pipeline": "dying", "version": "1.0", "digest": "ab" * 32},
        "target": "dying.pipeline:Demo",
        "tree": str(replica._arguments.tree),
        "record_digest": replica._arguments.record_digest,
    }
    user_config = {"weights": weights_of(tmp_path, "1.0", "bad"), "former_weights": None}

    def start():
        command = [sys.executable, "-c", STARTING, json.dumps(arguments), json.dumps(user_config)]
        environ = {**os.environ, "TMPDIR": str(tmp_path)}
        done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=False)
        return done.returncode, done.stdout.decode()

    assert [start()[0] for _ in range(2)] == [7, 7]
    for _ in range(2):
        code, text = start()
        assert code == 0
        told = json.loads(text)
        assert told["reason"] == "ReplicaDied"
        assert "2 replicas ended while they loaded them" in told["message"]
    for note in tmp_path.glob("wheelway-*/loading/*"):
        os.utime(note, (0, 0))
    assert start()[0] == 7, "tried again when that was long ago"
