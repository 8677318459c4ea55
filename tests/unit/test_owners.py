"""Whose folder it is, among processes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from controller.cache import owners
from controller.cache.wheels.store import Store
from controller.config.settings import InspectionLimits
from controller.errors import Transient
from tests.support.wheels import make_wheel, revision_of

pytestmark = pytest.mark.unit

HOLD = """
import sys
from pathlib import Path
from controller.cache.owners import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_is_stopped_with_the_lock_holds_nobody_up_for_ever(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            other.send_signal(signal.SIGSTOP)
            with pytest.raises(Transient, match="somebody has held") as told:
                owners.locked(tmp_path, timeout=0.2).__enter__()
            assert told.value.reason == "CacheBusy"
        finally:
            other.kill()
    with owners.locked(tmp_path):
        pass


def test_what_is_written_after_the_cache_was_deleted_is_not_swept_either(tmp_path):
    wheel = make_wheel(tmp_path / "published")
    store = Store(tmp_path / "cache")
    shutil.rmtree(store.root)

    def slowly():
        body = wheel.read_bytes()
        for half in (body[:600], body[600:]):
            Store(store.root)
            yield half

    stored = store.add(revision_of(wheel), slowly(), InspectionLimits())
    assert stored.read_bytes() == wheel.read_bytes()


def test_a_folder_of_ones_own_that_was_deleted_is_made_again_with_its_lock(tmp_path):
    (tmp_path / "incoming").mkdir()
    one = owners.Own(tmp_path / "incoming")
    shutil.rmtree(one.path().parent)
    with ThreadPoolExecutor(4) as threads:
        [path] = {made.result() for made in [threads.submit(one.path) for _ in range(8)]}
    other = owners.Own(path.parent)
    assert {path, other.path()} == set(path.parent.iterdir())
    del one
    assert not path.exists()
