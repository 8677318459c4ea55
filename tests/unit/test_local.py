"""The local harness: for authors' tests, as gates in a process of its own, and as a server."""

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
import zipfile

import httpx
import pytest
from pydantic import ValidationError

from tests.support.pipelines import Greeter, Shout
from tests.support.wheels import make_wheel
from wheelway import Pipeline
from wheelway.failure import StartFailure
from wheelway.local import loaded, run

pytestmark = pytest.mark.unit

GATES = ["verify", "import", "schemas", "load", "examples", "memory"]

SQUARING = """
print("a pipeline may print")
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (2, 3)

    def load(self, context):
        self.power = context.settings["power"]

    def infer(self, request: int) -> int:
        return request ** self.power
"""


def test_a_pipeline_can_be_tested_as_a_client_would_see_it():
    assert run(Greeter, {"name": "Ada"}) == {"text": "Hello Ada", "settings": {}}
    assert run(Shout, b"hey") == b"HEY"
    with loaded(Greeter, settings={"greeting": "Bonjour"}) as greeter:
        assert greeter({"name": "Ada"})["text"] == "Bonjour Ada"
        assert greeter.reconfigure({"greeting": "Salut"}) == ""
        assert greeter({"name": "Ada"})["text"] == "Salut Ada"
        assert greeter.reconfigure({"greeting": ""}) == "ValueError: greeting must not be empty"
        with pytest.raises(ValidationError):
            greeter({"name": ""})
        with pytest.raises(RuntimeError, match="secret cause"):
            greeter({"name": "crash"})


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("ChurnScore", "churn-score"),
        ("Greeter", "greeter"),
        ("RAGChain", "rag-chain"),
        ("Iris2", "iris2"),
        ("churn_score", "churn-score"),
    ],
)
def test_without_a_name_it_is_called_by_its_class_as_the_scaffold_names_classes(name, called):
    class Named(Pipeline):
        def load(self, context):
            self.called = context.pipeline

        def infer(self, request):
            return self.called

    Named.__name__ = name
    assert run(Named, None) == called


def test_a_pipeline_that_would_not_start_does_not_start_in_a_test_either():
    with (
        pytest.raises(StartFailure, match="LoadFailed"),
        loaded(Greeter, settings={"greeting": ""}),
    ):
        pytest.fail("it must not get here")


def gates(tmp_path, code, *options, name="squaring", change=None):
    """The gates' lines and the exit code, for a wheel with this code."""
    wheel = make_wheel(tmp_path, name, code=code)
    tree = tmp_path / "tree"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tree)
    (record,) = tree.glob("*.dist-info/RECORD")
    digest = hashlib.sha256(record.read_bytes()).hexdigest()
    if change:
        (tree / name / "pipeline.py").write_text(change)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "wheelway.local", f"{name}.pipeline:Demo", "--json"),
            *("--tree", str(tree), "--record-digest", digest, *options),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=tmp_path,
        check=False,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def test_every_gate_reports_one_line_whatever_the_pipeline_prints(tmp_path):
    lines, code = gates(tmp_path, SQUARING, "--settings", '{"power": 2}')
    assert code == 0
    assert [line["gate"] for line in lines] == GATES
    assert all(line["ok"] for line in lines)
    assert lines[2]["detail"] == {"input": {"type": "integer"}, "output": {"type": "integer"}}
    assert lines[4]["detail"] == {"count": 2}
    assert lines[5]["detail"]["peak_bytes"] > 10 * 1024**2


@pytest.mark.parametrize(
    ("options", "change", "gate", "reason"),
    [
        (["--settings", '{"power": 2}'], "tampered", "verify", "DigestMismatch"),
        ([], None, "load", "LoadFailed"),
        (["--settings", '{"power": 0.5}'], None, "examples", "ExampleResultInvalid"),
    ],
)
def test_the_first_gate_that_fails_is_the_last_and_says_why(
    tmp_path, options, change, gate, reason
):
    lines, code = gates(tmp_path, SQUARING, *options, change=change)
    assert code == 1
    assert [line["gate"] for line in lines] == [*GATES[: GATES.index(gate) + 1], "memory"]
    failed = lines[-2]
    assert (failed["gate"], failed["ok"], failed["reason"]) == (gate, False, reason)
    assert failed["message"]


BATCHED = """
from ray import serve
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (2, 3)

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.01)
    async def infer(self, requests: list[int]) -> list[int]:
        return [request + len(serve.get_replica_context().app_name) for request in requests]
"""


def test_serves_own_batching_works_without_a_replica_and_is_typed_by_what_one_caller_sends(
    tmp_path,
):
    lines, code = gates(tmp_path, BATCHED, "--pipeline", "batched", name="batched")
    assert code == 0, lines
    assert lines[2]["detail"] == {"input": {"type": "integer"}, "output": {"type": "integer"}}
    assert lines[4]["detail"] == {"count": 2}


SCHEMA = """
import datetime
from pydantic import BaseModel, ConfigDict
from wheelway import Pipeline

class Day(BaseModel):
    model_config = ConfigDict(json_schema_extra={{"x-since": {since}}})
    day: datetime.date = datetime.date(2024, 1, 2)

class Demo(Pipeline):
    examples = (Day(), {{"day": datetime.date(2024, 1, 3)}})

    def infer(self, request: Day) -> Day:
        return request
"""


def test_a_date_within_a_schema_passes_and_what_has_no_form_in_json_stops_at_its_gate(tmp_path):
    code = SCHEMA.format(since="datetime.datetime(2024, 1, 2)")
    lines, status = gates(tmp_path / "date", code, name="dated")
    assert status == 0, lines
    assert lines[2]["detail"]["input"]["x-since"] == "2024-01-02T00:00:00"

    lines, status = gates(tmp_path / "other", SCHEMA.format(since="object()"), name="other")
    assert status == 1
    assert [line["gate"] for line in lines] == ["verify", "import", "schemas", "memory"]
    assert lines[2]["reason"] == "SchemaInvalid"
    assert "Day.x-since is not JSON" in lines[2]["message"]


HUNGRY = """
from wheelway import Pipeline

class Demo(Pipeline):
    def load(self, context):
        self.model = bytearray(4 * 1024**3)

    def infer(self, request):
        return request
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_pipeline_that_wants_more_memory_than_it_may_have_is_told_so(tmp_path):
    lines, code = gates(tmp_path, HUNGRY, "--max-memory", str(200 * 1024**2), name="hungry")
    assert code == 1
    assert lines[-2]["reason"] == "OutOfMemory"
    assert "raise `max_memory`" in lines[-2]["message"]
    assert "bytearray" in lines[-2]["tail"]
    assert lines[-1]["detail"]["peak_bytes"] < 1024**3


def test_a_pipeline_can_be_served_on_a_laptop(tmp_path):
    (tmp_path / "mine.py").write_text(SQUARING)
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "wheelway.local", "mine:Demo"),
            *("--port", "0", "--settings", '{"power": 3}'),
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        deadline = time.monotonic() + 60
        for line in server.stderr:
            assert time.monotonic() < deadline
            if found := re.search(r"running on (http://\S+)", line):
                break
        url = found[1]
        assert httpx.post(url, json=2).json() == 8
        assert httpx.get(f"{url}/docs").status_code == 200
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=20)
    assert server.returncode == 0


def test_weights_on_a_laptop_are_a_folder(tmp_path):
    (tmp_path / "model").write_text("3")

    class Weighed(Pipeline):
        examples = (1,)

        def load(self, context):
            self.add = int((context.weights / "model").read_text()) if context.weights else 0

        def infer(self, request: int) -> int:
            return request + self.add

    assert run(Weighed, 1) == 1
    assert run(Weighed, 1, weights=tmp_path) == 4
    with loaded(Weighed, weights=tmp_path) as weighed:
        assert weighed(2) == 5
