"""`wheelway up`, as a person types it: all it prints is true, and Ctrl-C ends what it started."""

import gzip
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from controller.journal import Journal
from controller.rayhead.head import answers
from controller.rayhead.ports import claim_block
from controller.rayhead.subreaper import descendants
from tests.support.head import eventually
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.ray

WHEELWAY = Path(sys.executable).with_name("wheelway")
EXAMPLE = "from wheelway import Pipeline\n\n\nclass Demo(Pipeline):\n"
EXAMPLE += '    examples = ({"n": 1},)\n\n    def infer(self, request):\n'
EXAMPLE += '        return {"n": 1 // request["n"]}\n'


@contextmanager
def up(folder, port, dashboard_port, *more):
    """The command on a folder; it and what it has printed so far. Ray keeps the address of the head
    that was started last in a folder, and starts none while that one runs: it gets a folder of its
    own, of a short name for the sockets in it.
    """
    printed = folder / "printed"
    command = [WHEELWAY, "up", "wheels", "--state", "state", *more]
    command += ["--port", str(port), "--dashboard-port", str(dashboard_port)]
    with (
        tempfile.TemporaryDirectory(prefix="ww-", dir="/tmp", ignore_cleanup_errors=True) as own,
        printed.open("wb") as output,
        subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**os.environ, "RAY_TMPDIR": own},
        ) as process,
    ):
        try:
            yield process, printed.read_text
        finally:
            process.kill()


def unreached(state):
    """Whether the ingress of a head was ever told to be out of reach."""
    with Journal.read(state) as reader:
        return [event for event in reader.events() if event.reason == "IngressUnreachable"]


def test_a_dropped_wheel_answers_as_printed_and_ctrl_c_ends_all_and_nothing_else(head, tmp_path):
    claim, first = claim_block()
    with claim, up(tmp_path, first + 1, first + 2, "--num-cpus", "2") as (process, said):
        eventually(lambda: "drop wheels into" in said(), deadline=240)
        assert "it hands out 2 CPUs (--num-cpus)" in said()
        made = make_wheel(tmp_path / "made", "demo", code=EXAMPLE)
        made.replace(tmp_path / "wheels" / made.name)
        [line] = eventually(lambda: re.findall(r"^ *(curl .* -d .*)$", said(), re.MULTILINE))
        url = next(word for word in shlex.split(line) if word.startswith("http"))
        body = shlex.split(line)[-1]
        answer = httpx.post(url, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()) == (200, {"n": 1})
        compressed = {"content-type": "application/json", "content-encoding": "gzip"}
        answer = httpx.post(url, content=gzip.compress(body.encode()), headers=compressed)
        assert (answer.status_code, answer.json()) == (200, {"n": 1})
        failed = httpx.post(url, json={"n": 0})
        assert failed.status_code == 500
        asked = f"logs demo 1.0 --request {failed.json()['instance']}"
        eventually(lambda: asked in said())
        assert "ZeroDivisionError" in said()
        words = [WHEELWAY, "--config", "state/controller.toml", *asked.split()]
        log = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert log.returncode == 0, log.stderr
        assert 'return {"n": 1 // request["n"]}' in log.stdout
        (tmp_path / "other").mkdir()
        with up(tmp_path / "other", first + 1, first + 2) as (other, refusal):
            assert other.wait(120) == 1
            told = " ".join(refusal().split())
            assert f"process {process.pid}, since" in told
            assert f"with its state in {tmp_path / 'state'}" in told
            assert f"drop the wheels into {tmp_path / 'wheels'}" in told
            assert "using the Ray head" not in told
        assert httpx.get(url).status_code == 200
        shown = said()
        assert "IngressUnreachable" not in shown
        assert not unreached(tmp_path / "state")
        assert all(step in shown for step in ("verified", "prepared", "staged", "ready", "live"))
        processes = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0, said()
    words = [WHEELWAY, "--config", "state/controller.toml", "explain", "demo"]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    assert "demo: none is live" in told
    assert "HeadEnded" in told
    left = {pid for pid in processes if Path(f"/proc/{pid}").exists()}
    assert processes
    assert not left
    assert answers(head.dashboard_url)


def test_a_head_that_runs_already_is_used_and_left_running(head, tmp_path):
    dashboard_port = int(head.dashboard_url.rpartition(":")[2])
    with up(tmp_path, head.ports.ingress, dashboard_port) as (process, said):
        eventually(lambda: "drop wheels into" in said())
        assert f"using the Ray head at {head.dashboard_url}" in said()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, said()
    assert answers(head.dashboard_url)
    assert head.running()
