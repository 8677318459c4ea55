"""Whose folder it is, among processes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from controller.cache import owners
from controller.errors import Transient

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
