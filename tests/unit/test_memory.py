"""The limit on what a replica allocates, in processes of their own: it cannot be lifted again."""

import json
import subprocess
import sys

import pytest

from tests.support.wheels import make_weights, make_wheel, tree_of

pytestmark = pytest.mark.unit

MAPPING = """
import mmap, sys, tempfile
from wheelway import failure, memory

assert memory.limit(64 << 20, accelerated=sys.argv[1] == "gpu") is not None
with tempfile.TemporaryFile() as model:
    model.truncate(256 << 20)
    mmap.mmap(model.fileno(), 0, access=mmap.ACCESS_READ)  # no model's size counts like this
    try:
        mmap.mmap(model.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        print(failure.blame("LoadFailed", "`load`", error, None))
"""
UNLIMITED = """
from wheelway import memory

assert memory.limit(None, accelerated=True) is None
assert memory.limit(None) is not None
"""


def said(code, *args):
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_model_that_is_mapped_beyond_the_limit_is_told_with_what_to_raise(kind):
    text = said(MAPPING, kind)
    assert text.startswith("wheelway-failure[OutOfMemory] ")
    assert "raise `max_memory`" in text
    assert "mapped privately" in text


def test_a_replica_with_a_gpu_has_no_limit_unless_somebody_sets_one():
    said(UNLIMITED)


ROOM = """
from wheelway import memory

def there_is(count):
    try:
        return bytearray(count << 20)
    except MemoryError:
        return None

room = memory.Room(150 << 20)
room.limit()
first = there_is(100)
assert first and not there_is(100)
room.widen()
second = there_is(100)
assert second and not there_is(100), "as much again, not more"
room.narrow()
assert there_is(50) and not there_is(100), "what is held already must not end all else"
del first
room.narrow()
assert there_is(40) and not there_is(100)
"""


def test_there_is_room_for_two_instances_only_while_there_are_two():
    said(ROOM)


SWAPPING = """
import asyncio, json, logging, sys
from wheelway.replica import Arguments, Replica

async def main(arguments, weights):
    replica = Replica(Arguments.of(arguments), logging.getLogger())
    small, other, large = weights
    await replica.reconfigure({"weights": small})
    for wanted in (other, large):
        await replica.reconfigure({"weights": wanted, "former_weights": small})
        await replica.settled()
        told = replica._instances.told()["weights_error"]
        print(replica._instances.running.weights, told and told["reason"])
    await replica.unload()

asyncio.run(main(*map(json.loads, sys.argv[1:])))
"""
HOLDING = """
from wheelway import Pipeline

class Demo(Pipeline):
    def load(self, context):
        self.held = bytearray(int((context.weights / "model.bin").read_text()) << 20)

    def infer(self, request: int) -> int:
        return request
"""


def test_weights_that_are_larger_than_allowed_are_refused_and_others_of_the_same_size_are_not(
    tmp_path,
):
    tree, record = tree_of(make_wheel(tmp_path, "holding", code=HOLDING))
    arguments = {
        "release": {"pipeline": "holding", "version": "1.0", "digest": "ab" * 32},
        "target": "holding.pipeline:Demo",
        "tree": str(tree),
        "record_digest": record,
        "max_memory": 200 << 20,
    }
    weights = []
    for version, size in (("1", "100"), ("2", "101"), ("3", "300")):
        tree, record = tree_of(
            make_weights(tmp_path, version=version, files={"iris_weights/model.bin": size})
        )
        weights.append(
            {
                "project": "iris-weights",
                "version": version,
                "digest": version * 64,
                "tree": str(tree),
                "record_digest": record,
                "package": "iris_weights",
            }
        )
    text = said(SWAPPING, json.dumps(arguments), json.dumps(weights))
    assert text.splitlines() == [
        "iris-weights@2+22222222 None",
        "iris-weights@2+22222222 OutOfMemory",
    ]
