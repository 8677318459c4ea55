"""The limit on what a replica allocates, in processes of their own: it cannot be lifted again."""

import subprocess
import sys

import pytest

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
