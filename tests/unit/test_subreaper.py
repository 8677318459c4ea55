"""Whatever a head consists of ends with it, or with who owns it; Ray itself is of paper here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller.rayhead import subreaper
from controller.rayhead.head import answers
from controller.rayhead.subreaper import descendants
from tests.support.head import eventually

pytestmark = pytest.mark.unit

DAEMON = """
import os, sys, time
told, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.write(tell, b".")
        time.sleep(300)
    os._exit(0)
os.wait()
os.read(told, 1)
time.sleep(300)
"""
RAY = """\
#!{python}
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Dashboard(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{{"ray_version": "2"}}')

    def log_message(self, *_):
        pass

port = next(word for word in sys.argv if word.startswith("--dashboard-port=")).partition("=")[2]
if os.fork() == 0:  # as HAProxy, which outlives what started it
    os.setsid()
    os.execvp("sleep", ["sleep", "300"])
HTTPServer(("127.0.0.1", int(port)), Dashboard).serve_forever()
"""
"""Answers as a dashboard does, and has a child of another session."""
OWNER = """
import sys
from pathlib import Path
from controller.rayhead.head import Tuning, start

head = start(Tuning(num_cpus=2, python=Path(sys.argv[1])), isolated=True)
print(head.pid, head.dashboard_url, head.log.parent, flush=True)
sys.stdin.read()
head.stop()
"""


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_process_that_left_its_session_and_parent_is_still_found_and_ended(end):
    command = [sys.executable, "-I", subreaper.__file__, "5", sys.executable, "-c", DAEMON]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reaper:
        daemon = int(reaper.stdout.readline())
        assert os.getsid(daemon) != os.getsid(reaper.pid)
        if end == "close":
            reaper.stdin.close()
        else:
            reaper.send_signal(signal.SIGTERM)
        assert reaper.wait(60) == 0
        assert not Path(f"/proc/{daemon}").exists()


def test_a_command_that_ends_by_itself_takes_what_it_started_with_it():
    program = DAEMON.removesuffix("time.sleep(300)\n")
    command = [sys.executable, "-I", subreaper.__file__, "5", sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reaper:
        daemon = int(reaper.stdout.readline())
        assert reaper.wait(60) == 1
        assert not Path(f"/proc/{daemon}").exists()


def test_when_the_owner_is_killed_its_head_ends_with_all_it_started_and_no_other_head_does(
    tmp_path,
):
    ray = tmp_path / "ray"
    ray.write_text(RAY.format(python=sys.executable))
    ray.chmod(0o755)
    command = [sys.executable, "-c", OWNER, ray]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as owner, subprocess.Popen(command, **pipes) as other:
        try:
            heads = [one.stdout.readline().split() for one in (owner, other)]
            (pid, _, scratch), (_, others, _) = heads
            processes = {int(pid), *descendants(int(pid))}
            assert len(processes) == 3
        finally:
            owner.kill()
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
        shutil.rmtree(scratch)
        assert answers(others)
        other.stdin.close()
