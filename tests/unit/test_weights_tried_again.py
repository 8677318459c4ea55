"""Weights that a replica refused, and takes once what they failed by is over."""

import json

import pytest

from tests.support.asking import ROUTE, client_of, until
from tests.support.reading import made, mark, told, weights_of
from wheelway import instances
from wheelway.instances import Form
from wheelway.weights import Weights

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Tries without a pause to speak of; the limit would hold for the test run's process."""
    monkeypatch.setattr("wheelway.memory.limit", lambda *_, **_more: None)
    monkeypatch.setattr(instances, "RETRY", (0.01, 0.05))
    monkeypatch.setattr(instances, "REST", 0.0)


ASKING = """
import json, pathlib, threading
from wheelway import Pipeline

tries, gate = [], threading.Event()

class Demo(Pipeline):
    examples = (1,)

    def load(self, context):
        self.model = {"add": 0}
        if context.weights is not None:
            self.model = json.loads((context.weights / "model.json").read_text())
        self.fault = None
        if service := self.model.get("service"):
            tries.append(self.model["add"])
            self.fault = json.loads(pathlib.Path(service).read_text())
        if self.fault == "silent":
            raise TimeoutError("the feature store did not answer")
        if self.fault == "full":
            raise MemoryError("it has no room")
        if self.fault == "exit":
            raise SystemExit("no feature store")
        if self.fault == "hangs":
            assert gate.wait(60)

    def infer(self, request: int) -> int:
        if self.fault == "nonsense":
            raise ValueError("the feature store says nonsense")
        return request + self.model["add"]
"""


class Service:
    """What `load` asks, where weights say so."""

    def __init__(self, tmp_path):
        self.file = tmp_path / "service"
        self.says("well")

    def says(self, what):
        self.file.write_text(json.dumps(what))

    def weights(self, tmp_path, version, add):
        return weights_of(tmp_path, version, {"add": add, "service": str(self.file)})


@pytest.fixture
def service(tmp_path):
    return Service(tmp_path)


FAULTS = {
    "silent": "LoadFailed",
    "exit": "LoadExited",
    "nonsense": "ExampleFailed",
    "hangs": "StartTimeout",
}


@pytest.mark.parametrize("fault", ["silent", "exit", "nonsense"])
@pytest.mark.parametrize("former", [True, False])
async def test_a_replica_that_starts_at_a_bad_moment_takes_them_later(
    tmp_path, service, fault, former
):
    replica, module = made(tmp_path, f"late_{fault}_{former}".lower(), ASKING)
    one = weights_of(tmp_path, "1.0", {"add": 1}) if former else None
    two = service.weights(tmp_path, "2.0", 2)
    service.says(fault)
    await replica.reconfigure({"weights": two, "former_weights": one})
    async with client_of(replica.application) as client:
        await until(lambda: len(module().tries) > 3)
        state = await told(client)
        error = state["weights_error"]
        assert (error["weights"], error["reason"]) == (mark(two), FAULTS[fault])
        assert (await client.post(ROUTE, json=1)).json() == (2 if former else 1)
        service.says("well")
        await until(lambda: replica._instances.running.weights == mark(two))
        assert (await client.post(ROUTE, json=1)).json() == 3
        assert "weights_error" not in await told(client)
        count = len(module().tries)
        await replica.settled()
        assert replica._instances.refusal is None
        assert len(module().tries) == count
    await replica.unload()


@pytest.mark.parametrize("fault", ["silent", "nonsense", "hangs"])
async def test_a_running_replica_takes_them_later(tmp_path, service, fault):
    replica, module = made(tmp_path, f"running_{fault}", ASKING)
    two = service.weights(tmp_path, "2.0", 2)
    await replica.reconfigure({})
    service.says(fault)
    deadline = {"weights_deadline": 0.1} if fault == "hangs" else {}
    await replica.reconfigure({"weights": two, "former_weights": None} | deadline)
    await until(lambda: replica._instances.refusal)
    assert replica._instances.refusal.told()["reason"] == FAULTS[fault]
    service.says("well")
    module().gate.set()
    await replica.reconfigure({"weights": two, "former_weights": None})
    await until(lambda: replica._instances.running.weights == mark(two))
    await replica.unload()


async def test_a_load_that_hangs_is_tried_again_only_when_it_ended(tmp_path, service):
    replica, module = made(tmp_path, "hanging", ASKING)
    two = service.weights(tmp_path, "2.0", 2)
    service.says("hangs")
    await replica.reconfigure({})
    await replica.reconfigure({"weights": two, "weights_deadline": 0.1})
    await until(lambda: replica._instances.refusal)
    refusal = replica._instances.refusal
    for _ in range(20):
        replica._instances._try_again(refusal)
    assert replica._instances._replacing.done()
    assert module().tries == [2]
    service.says("well")
    module().gate.set()
    await until(lambda: replica._instances.running.weights == mark(two))
    await replica.unload()


async def test_others_that_are_wanted_end_it(tmp_path, service):
    replica, module = made(tmp_path, "given_up", ASKING)
    one, two = (service.weights(tmp_path, f"{n}.0", n) for n in (1, 2))
    await replica.reconfigure({"weights": one})
    service.says("silent")
    await replica.reconfigure({"weights": two, "former_weights": one})
    await until(lambda: module().tries.count(2) > 2)
    await replica.reconfigure({"weights": one})
    await replica.settled()
    assert replica._instances.refusal is None
    count = len(module().tries)
    three = service.weights(tmp_path, "3.0", 3)
    await replica.reconfigure({"weights": three, "former_weights": one})
    await until(lambda: module().tries.count(3) > 2)
    assert module().tries[count:] == [3] * len(module().tries[count:])
    assert replica._instances.running.weights == mark(one)
    await replica.unload()


async def test_what_has_no_room_or_no_weights_is_not_tried_again(tmp_path, service, monkeypatch):
    replica, _ = made(tmp_path, "full", ASKING)
    two = service.weights(tmp_path, "2.0", 2)
    asked = []
    monkeypatch.setattr(instances.Instances, "_try_later", lambda _, *of: asked.append(of))
    await replica.reconfigure({})
    service.says("full")
    await replica.reconfigure({"weights": two, "former_weights": None})
    await replica.settled()
    assert replica._instances.refusal.told()["reason"] == "OutOfMemory"
    assert asked == []
    await replica.unload()


async def test_the_pause_grows_and_is_a_multiple_of_what_a_try_takes(
    tmp_path, service, monkeypatch
):
    replica, _ = made(tmp_path, "paused", ASKING)
    monkeypatch.setattr(instances, "RETRY", (2.0, 60.0))
    monkeypatch.setattr(instances, "REST", 4.0)
    pauses = []
    monkeypatch.setattr(instances.Instances, "_try_later", lambda _, __, p: pauses.append(p))
    one, two = (service.weights(tmp_path, f"{n}.0", n) for n in (1, 2))
    await replica.reconfigure({"weights": one})
    service.says("silent")
    await replica.reconfigure({"weights": two, "former_weights": one})
    await replica.settled()
    there = replica._instances
    for _ in range(7):
        there._refuse(Form(Weights.of(two)), there.refusal.failure)
    there._refuse(Form(Weights.of(two)), there.refusal.failure, 30.0)
    assert pauses[1:] == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 120.0]
    await replica.unload()
