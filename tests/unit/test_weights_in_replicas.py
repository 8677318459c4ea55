"""Other weights in a running replica: a second instance, proven, then served."""

import asyncio

import pytest

from tests.support.asking import ROUTE, client_of, until
from tests.support.reading import made, mark, told, weights_of
from wheelway import instances

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
    await replica.reconfigure({"weights": two})
    await until(lambda: "two" in module().gates)
    await replica.reconfigure({"weights": two, "weights_deadline": 0.1})
    await until(lambda: replica._instances.refusal)
    refused = replica._instances.refusal.told()
    assert refused["reason"] == "StartTimeout"
    assert "within 0.1 s, it was at `load` of " in refused["message"]
    module().gates["two"].set()
    await replica.settled()
    assert module().unloaded == [2]
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
