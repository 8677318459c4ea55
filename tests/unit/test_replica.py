"""A replica from its tree on: verified, imported, loaded, given settings."""

import asyncio
import hashlib
from dataclasses import replace

import pytest

from tests.support.asking import (
    LOGGER,
    ROUTE,
    client_of,
    until,
)
from tests.support.wheels import make_wheel, tree_of
from wheelway.failure import StartFailure
from wheelway.loading import verify
from wheelway.replica import Arguments, Replica
from wheelway.watchdog import Watchdog

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def anyio_backend():
    return "asyncio"


def replica_of(tmp_path, name, code, **options):
    tree, digest = tree_of(make_wheel(tmp_path, name, code=code))
    arguments = {
        "release": {"pipeline": name, "version": "1.0", "digest": "ab" * 32},
        "target": f"{name}.pipeline:Demo",
        "tree": str(tree),
        "record_digest": digest,
        "environment": "",
        "wheelway": "0.1.0",
        "threads": 2,
        "max_memory": None,
    }
    return Replica(Arguments.of(arguments | options), LOGGER), tree


ADDING = """
from pathlib import Path
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (1,)

    def load(self, context):
        self.reconfigure(context.settings)
        assert (context.files / "pipeline.py").is_file()

    def reconfigure(self, settings):
        self.add = settings["add"]

    def infer(self, request: int) -> int:
        return request + self.add
"""


@pytest.fixture
def unlimited(monkeypatch):
    """The limit holds for the process: here that is the test run's."""
    monkeypatch.setattr("wheelway.memory.limit", lambda _, **_more: None)


async def test_a_replica_starts_with_its_first_settings_and_takes_later_ones(tmp_path, unlimited):
    replica, tree = replica_of(tmp_path, "adding", ADDING)
    assert not replica.ready
    await replica.reconfigure({"settings": {"add": 1}, "limits": {"max_request_bytes": 3}})
    assert replica.ready
    async with client_of(replica.application) as client:
        assert (await client.post(ROUTE, json=1)).json() == 2
        assert (await client.post(ROUTE, json=1111)).status_code == 413
        await replica.reconfigure({"settings": {"add": 5}, "limits": {"max_request_bytes": 9}})
        await replica.settled()
        assert (await client.post(ROUTE, json=1111)).json() == 1116
        await replica.reconfigure({"settings": {}, "limits": {}})
        await replica.settled()
        assert (await client.post(ROUTE, json=1)).json() == 6
        assert (await client.get(ROUTE)).json()["settings_error"] == "KeyError: 'add'"
    assert not list(tree.rglob("*.pyc")), "the tree is shared: nothing is written into it"
    await replica.unload()


@pytest.mark.parametrize(("max_memory", "accelerated"), [(None, True), (9, False)])
async def test_the_memory_that_a_replica_may_have_is_as_its_arguments_say(
    tmp_path, monkeypatch, max_memory, accelerated
):
    asked = []
    monkeypatch.setattr("wheelway.memory.limit", lambda *given, **more: asked.append((given, more)))
    replica, _ = replica_of(tmp_path, f"limited_{max_memory}", ADDING, max_memory=max_memory)
    arguments = replace(replica._arguments, accelerated=accelerated)
    await Replica(arguments, LOGGER).reconfigure({"settings": {"add": 1}})
    assert asked == [((max_memory,), {"accelerated": accelerated})]


async def test_a_replica_that_does_not_start_has_the_traceback_in_its_log(
    tmp_path, unlimited, caplog
):
    code = (
        "from wheelway import Pipeline\n"
        "class Demo(Pipeline):\n"
        "    def load(self, context): raise RuntimeError('no model')\n"
        "    def infer(self, request: int) -> int: return request\n"
    )
    replica, _ = replica_of(tmp_path, "loadless", code)
    with pytest.raises(StartFailure):
        await replica.reconfigure({})
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage().endswith(" does not start")
    assert "line 3, in load" in caplog.text
    assert "RuntimeError: no model" in caplog.text


async def test_a_replica_refuses_a_tree_with_a_changed_byte(tmp_path, unlimited):
    replica, tree = replica_of(tmp_path, "changed", ADDING)
    code = tree / "changed" / "pipeline.py"
    code.write_bytes(code.read_bytes().replace(b"+", b"-"))
    with pytest.raises(StartFailure, match=r"wheelway-failure\[DigestMismatch\] changed/pipeline"):
        await replica.reconfigure({"settings": {"add": 1}})


WRITING = """
from wheelway import Pipeline

class Demo(Pipeline):
    def load(self, context):
        self.files = context.files
        if context.settings.get("early"):
            (self.files / "cache.py").write_text("X = 1")

    def infer(self, request: int) -> int:
        (self.files / "pipeline.py").write_text("X = 1")
        return request
"""


async def test_a_pipeline_that_writes_into_its_package_hurts_itself_alone(
    tmp_path, unlimited, caplog
):
    replica, tree = replica_of(tmp_path, "writing", WRITING)
    await replica.reconfigure({})
    async with client_of(replica.application) as client:
        answer = await client.post(ROUTE, json=1)
    assert answer.status_code == 500
    assert "shared by all its replicas and read-only" in caplog.text
    told = answer.json()
    assert f" --request {told['instance']}` where it runs." in told["detail"]
    sibling = Replica(replica._arguments, LOGGER)
    with pytest.raises(StartFailure, match=r"LoadFailed.*read-only; write to tempfile"):
        await sibling.reconfigure({"settings": {"early": True}})
    await sibling.reconfigure({})
    assert sibling.ready
    verify(tree, replica._arguments.record_digest)
    await replica.unload()
    await sibling.unload()


@pytest.mark.parametrize("trick", ["record", "missing", "stranger", "outside"])
def test_a_tree_that_is_not_what_was_published_is_refused(tmp_path, trick):
    tree, digest = tree_of(make_wheel(tmp_path, "tricked"))
    (record,) = tree.glob("*.dist-info/RECORD")
    verify(tree, digest)
    if trick == "record":
        record.write_text(record.read_text() + "\n")
    elif trick == "missing":
        (tree / "tricked" / "pipeline.py").unlink()
    elif trick == "stranger":
        (tree / "json.py").write_text("")
    else:
        record.write_text(record.read_text() + "../evil.py,,\n")
        digest = hashlib.sha256(record.read_bytes()).hexdigest()
    with pytest.raises(StartFailure) as caught:
        verify(tree, digest)
    assert caught.value.reason == "DigestMismatch"


@pytest.mark.parametrize(
    "case",
    [
        ("noimport", "import nothing_like_it", None, "ImportFailed", "nothing_like_it"),
        ("exits", "raise SystemExit(3)", None, "ImportFailed", "SystemExit: 3"),
        ("broken", "def", None, "ImportFailed", "SyntaxError"),
        ("absent", "", None, "ImportFailed", "no attribute 'Demo'"),
        ("other", "class Demo: pass", None, "NotAPipeline", "subclass of wheelway.Pipeline"),
        ("half", "import wheelway\nclass Demo(wheelway.Pipeline): pass", None,
         "AbstractPipeline", "infer"),
        ("shadowed", "", "json:JSONDecoder", "ImportFailed", "instead of the wheel"),
    ],
)  # fmt: skip
async def test_what_is_no_pipeline_is_refused_with_its_reason(tmp_path, unlimited, case):
    name, code, target, reason, text = case
    options = {"target": target} if target else {}
    replica, _ = replica_of(tmp_path, name, code, **options)
    with pytest.raises(StartFailure) as caught:
        await replica.reconfigure({"settings": {}})
    assert caught.value.reason == reason
    assert text in caught.value.message


BLOCKING = """
import time
from pathlib import Path
from wheelway import Pipeline

made = []

class Demo(Pipeline):
    def load(self, context):
        made.append(self)

    async def infer(self, until: float | str) -> int:
        if isinstance(until, float):
            time.sleep(until)
        else:
            end = time.monotonic() + 60
            while not Path(until).exists():
                assert time.monotonic() < end
                time.sleep(0.01)
        return len(made)
"""


async def test_an_asynchronous_stage_that_blocks_gets_a_loop_of_its_own(
    tmp_path, unlimited, monkeypatch
):
    first, second = tmp_path / "first", tmp_path / "second"

    def watchdog(files, on_held, while_held=lambda: None):
        def release():
            while_held()
            first.touch()

        return Watchdog(files, on_held, release, held_after=0.05)

    monkeypatch.setattr("wheelway.replica.Watchdog", watchdog)
    replica, _ = replica_of(tmp_path, "blocking", BLOCKING)
    await replica.reconfigure({"settings": {}})
    async with client_of(replica.application) as client:
        assert (await client.post(ROUTE, json=str(first))).json() == 1
        await until(lambda: replica._instances.running.isolated)
        asked = asyncio.create_task(client.post(ROUTE, json=str(second)))
        for _ in range(4):
            await asyncio.sleep(0.01)
        second.touch()  # this loop turns while the stage blocks its own
        assert (await asked).json() == 2
    await replica.unload()


@pytest.mark.parametrize(("seconds", "isolated"), [(0.5, True), (0.0, False)])
async def test_examples_that_hold_the_loop_decide_it_before_the_first_request(
    tmp_path, unlimited, monkeypatch, seconds, isolated
):
    monkeypatch.setattr("wheelway.replica.HELD_AFTER", 0.1)
    monkeypatch.setattr("wheelway.replica.Watchdog", lambda *a: Watchdog(*a, held_after=0.1))
    name = f"example_{isolated}".lower()
    code = BLOCKING.replace("    def load", f"    examples = ({seconds},)\n\n    def load")
    replica, _ = replica_of(tmp_path, name, code)
    await replica.reconfigure({"settings": {}})
    assert replica._instances.running.isolated == isolated
    await replica.unload()
