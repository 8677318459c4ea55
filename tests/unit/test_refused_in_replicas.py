"""Weights that a running replica refuses: they fail, are damaged, or end what loads them."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.asking import ROUTE, client_of, until
from tests.support.reading import READING, made, mark, told, weights_of
from tests.support.wheels import make_wheel, sha256, tree_of
from wheelway import instances
from wheelway.failure import StartFailure
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
