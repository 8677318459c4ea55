"""`wheelway check`: each kind of bad wheel stops at its gate, and nothing is left behind."""

import os
import re
import sys
import tempfile
import time
from pathlib import Path

import pytest

from controller.authoring import gates
from controller.authoring.gates import check, passed
from controller.config.settings import (
    ActorOptions,
    Caps,
    Config,
    EnvironmentOptions,
    Options,
    RolloutOptions,
    ServeOptions,
)
from tests.support.wheels import MULTIPLYING, make_weights, make_wheel

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]

ALL = [
    gates.INSPECT,
    gates.WISHES,
    gates.ENVIRONMENT,
    *gates.STARTING,
    gates.RESOURCES,
]

PIPELINE = """
import os, sys, time
from wheelway import Pipeline

class Demo(Pipeline):
    examples = ({example},)
    def load(self, context):
        {load}
    def infer(self, request: int) -> int:
        return {result}
"""
REFUSE = """
def refuse():
    from wheelway import Refused
    raise Refused(400, "TooOdd", "no")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place for wheels whose temporary files are all in `tmp_path / "tmp"`."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return tmp_path


def config(*, deadline=60.0, caps=None):
    return Config(
        environments=EnvironmentOptions(offline=True),
        rollout=RolloutOptions(ready_deadline=deadline),
        serve=ServeOptions(caps=caps or Caps()),
    )


def code(*, load="pass", example="1", result="request + 1"):
    return PIPELINE.format(load=load, example=example, result=result)


def failure(results):
    """The one gate that failed, after checking that all before passed and none after ran."""
    (at,) = [number for number, gate in enumerate(results) if gate.ok is False]
    assert [gate.name for gate in results] == ALL
    assert all(gate.ok for gate in results[:at])
    assert all(gate.ok is None for gate in results[at + 1 :])
    assert not passed(results)
    return results[at]


def test_a_good_wheel_passes_every_gate_and_leaves_nothing_behind(folder):
    wheel = make_wheel(folder, code=code(), wheelway_toml="[settings]\nlimit = 3\n")

    results = list(check(wheel, config()))

    assert [gate.name for gate in results] == ALL
    assert passed(results)
    by_name = {gate.name: gate for gate in results}
    assert by_name["wishes"].detail["settings"] == {"limit": 3}
    assert by_name["schemas"].detail["input"]["type"] == "integer"
    assert by_name["examples"].detail["count"] == 1
    assert by_name["resources"].detail["peak_bytes"] > 0
    assert list((folder / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("written", "gate", "reason"),
    [
        ("1 +", "import", "ImportFailed"),
        ("Demo = 3", "import", "NotAPipeline"),
        (code().replace("infer", "other"), "import", "AbstractPipeline"),
        (code().replace("-> int", "-> complex(1)"), "schemas", "SchemaInvalid"),
        (code(load="raise ValueError('no weights')"), "load", "LoadFailed"),
        (code(load="sys.exit(3)"), "load", "LoadExited"),
        (code(load="os._exit(3)"), "load", "ReplicaDied"),
        (code(load="os.kill(os.getpid(), 11)"), "load", "ReplicaDied"),
        (code(load="self.hoard = bytearray(1 << 46)"), "load", "OutOfMemory"),
        (code(example="'one'"), "examples", "ExampleFailed"),
        (code(result="1 / 0"), "examples", "ExampleFailed"),
        (code(result="refuse()") + REFUSE, "examples", "ExampleRefused"),
        (code(result="'two'"), "examples", "ExampleResultInvalid"),
    ],
)
def test_a_pipeline_that_cannot_start_stops_at_its_gate(folder, written, gate, reason):
    failed = failure(list(check(make_wheel(folder, code=written), config())))

    assert (failed.name, failed.reason, failed.pipeline) == (gate, reason, "demo")
    assert failed.message


def test_a_load_that_hangs_is_stopped_at_the_deadline_with_all_that_it_started(folder):
    pids = folder / "pids"
    pids.mkdir()

    def clock():  # the deadline has passed once both processes hang
        return time.monotonic() + (1000 if len(list(pids.iterdir())) == 2 else 0)

    load = f"print('hangs', file=sys.stderr, flush=True); os.fork(); {_hang(pids)}"
    wheel = make_wheel(folder, code=code(load=load))

    failed = failure(list(check(wheel, config(deadline=500), clock=clock)))

    assert (failed.name, failed.reason, failed.log_tail) == ("load", "StartTimeout", "hangs")
    assert "500 s" in failed.message
    assert all(_ends(int(path.name)) for path in pids.iterdir())
    assert list((folder / "tmp").iterdir()) == []


def test_closing_the_iterator_ends_the_process_and_removes_the_folder(folder):
    pids = folder / "pids"
    pids.mkdir()
    results = check(make_wheel(folder, code=code(load=_hang(pids))), config())
    assert any(gate.name == "schemas" for gate in results)
    assert _soon(lambda: list(pids.iterdir()))

    results.close()

    (pid,) = [int(path.name) for path in pids.iterdir()]
    assert _ends(pid)
    assert list((folder / "tmp").iterdir()) == []


def _hang(pids):
    """Code that leaves its process id as a file's name and then never ends."""
    return f"open(os.path.join({str(pids)!r}, str(os.getpid())), 'w').close(); time.sleep(3600)"


def _ends(pid):
    """Whether no process of this id runs soon; one that nobody has reaped does not run."""

    def state():
        try:
            return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2]
        except OSError:
            return "X"

    return _soon(lambda: state() in {"Z", "X"})


def _soon(condition):
    deadline = time.monotonic() + 90
    while not (fulfilled := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return fulfilled


def test_a_requirement_that_cannot_be_had_stops_at_the_environment(folder):
    empty = folder / "links"
    empty.mkdir()
    wheel = make_wheel(folder, requires=["no-such-thing-as-this>=1"])
    offline = EnvironmentOptions(offline=True, find_links=(empty,))

    failed = failure(list(check(wheel, config().model_copy(update={"environments": offline}))))

    assert failed.name == "environment"
    assert failed.reason == "RequirementMissingOffline"
    assert "no-such-thing-as-this" in failed.message


def test_requirements_that_contradict_each_other_stop_at_the_environment(folder):
    wheel = make_wheel(folder, requires=["pydantic<1", "pydantic>=2"])
    failed = failure(list(check(wheel, config())))
    assert (failed.name, failed.reason) == ("environment", "RequirementsUnsatisfiable")


def test_a_wish_above_the_cap_stops_before_anything_is_installed(folder):
    wheel = make_wheel(folder, wheelway_toml="[options]\nthreads = 64\n", requires=["missing"])

    results = list(check(wheel, config(caps=Caps(threads=8))))

    assert {gate.name: gate.ok for gate in results} == {
        name: {"inspect": True, "wishes": False}.get(name) for name in ALL
    }
    assert next(gate.reason for gate in results if gate.ok is False) == "OptionAboveCap"


@pytest.mark.parametrize(
    ("wished", "limited"),
    [
        ("", True),
        ("[options.ray_actor_options]\nnum_gpus = 0", True),
        ("[options.ray_actor_options]\nnum_gpus = 0.5", False),
        ("[options]\nmax_memory = 4e9\n[options.ray_actor_options]\nnum_gpus = 1", True),
    ],
)
def test_memory_is_limited_as_in_a_replica_with_the_same_gpus(folder, wished, limited):
    load = (
        "import resource as r; soft, hard = r.getrlimit(r.RLIMIT_DATA); "
        f"assert (soft != r.RLIM_INFINITY) is {limited}, soft"
    )

    results = list(check(make_wheel(folder, code=code(load=load), wheelway_toml=wished), config()))

    assert passed(results), [gate.message for gate in results if gate.ok is False]


def test_a_bad_pipeline_does_not_hide_what_the_other_one_of_its_wheel_is_worth(folder):
    wheel = make_wheel(
        folder,
        pipelines={"bad": "demo.pipeline:Missing", "good": "demo.pipeline:Demo"},
        code=code(),
    )

    results = list(check(wheel, config()))

    assert [gate.reason for gate in results if gate.pipeline == "bad" and gate.ok is False] == [
        "ImportFailed"
    ]
    assert all(gate.ok for gate in results if gate.pipeline == "good")
    assert not passed(results)


def test_what_of_a_wheel_has_no_effect_is_told_by_the_inspection(tmp_path):
    wheel = make_wheel(tmp_path, files={"demo.pth": "import demo"})
    [inspected] = [gate for gate in check(wheel, config()) if gate.name == gates.INSPECT]
    assert inspected.ok
    assert "demo; but without effect: demo.pth: only an installer" in inspected.message


@pytest.mark.parametrize(
    ("filename", "content", "reason"),
    [
        ("demo-1.0-py3-none-any.whl", b"no zip", "NotAZip"),
        ("demo.whl", b"PK", "FilenameInvalid"),
        (f"demo-1.0-{MULTIPLYING}.whl", b"PK", "FilenameInvalid"),
        ("demo-1.0-py3-none-any.whl", None, "WheelUnreadable"),
    ],
)
def test_what_is_no_wheel_stops_at_the_inspection(folder, filename, content, reason):
    wheel = folder / filename
    if content is not None:
        wheel.write_bytes(content)
    failed = failure(list(check(wheel, config())))
    assert (failed.name, failed.reason) == ("inspect", reason)


def test_the_check_runs_on_the_interpreter_that_it_is_told(folder):
    missing = Path(sys.prefix) / "no-such-python"
    told = config().ray.model_copy(update={"python": missing})
    with pytest.raises(gates.Stalled) as stalled:
        next(check(make_wheel(folder), config().model_copy(update={"ray": told})))
    assert stalled.value.reason == "PythonUnusable"
    assert os.fspath(missing) in stalled.value.message


def test_the_pages_for_authors_know_every_option_and_every_reason_for_a_refusal():
    pages = [ROOT / "docs" / name for name in ("pipelines.md", "pipeline-reference.md")]
    guide = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    sources = [*ROOT.glob("controller/**/*.py"), ROOT / "wheelway/failure.py"]
    others = {"compatibility.py", "progressive.py"}  # by what an operator's canary is judged
    text = "\n".join(p.read_text(encoding="utf-8") for p in sources if p.name not in others)
    begin = r"(?:Rejected\(\s*|^[A-Z_]+: Final = )"
    raised = re.findall(rf'{begin}"([A-Z]\w*[a-z]\w*)"', text, re.MULTILINE)
    reasons = set(raised) - {"DigestInvalid", "Queued"}  # a source's mistake; a wait, not a mistake

    known = set(re.findall(r"`(\w+)`", guide))

    assert {"NotAZip", "LoadFailed"} < reasons
    assert reasons - known == set()
    assert set(Options.model_fields) | set(ActorOptions.model_fields) <= known


SCORECARD = """
from wheelway import Pipeline

class Risk(Pipeline):
    examples = (1,)
    def infer(self, request: int) -> int:
        return request * {factor}

class Card(Pipeline):
    examples = (1,)
    def load(self, context):
        self.risk = context.parts["risk"]
    async def infer(self, request: int) -> int:
        return await self.risk(request)
"""


def scorecard(folder, *, factor="2", **more):
    made = {
        "pipelines": {"card": "demo.pipeline:Card"},
        "parts": {"card.risk": "demo.pipeline:Risk"},
    }
    return make_wheel(folder, code=SCORECARD.format(factor=factor), **made, **more)


def test_parts_are_named_and_run_with_their_pipeline(folder):
    wheel = scorecard(folder, wheelway_toml="[parts.risk.options]\nnum_replicas = 2\n")
    results = list(check(wheel, config()))
    assert passed(results), results
    by_name = {gate.name: gate for gate in results}
    assert by_name["inspect"].message.endswith(": card (parts risk)")
    assert by_name["wishes"].message == "parts with deployments of their own: risk"
    assert by_name["wishes"].detail["parts"] == {"risk": {"num_replicas": 2}}


def test_a_part_that_fails_is_named_by_its_gate(folder):
    failed = failure(list(check(scorecard(folder, factor="unknown"), config())))
    assert "risk" in failed.message


@pytest.mark.parametrize(
    ("toml", "reason"),
    [
        ("[parts.rsk.options]\n", "WishesInvalid"),
        ("[parts.risk.options]\nthreads = 3\n", "OptionAboveCap"),
    ],
)
def test_what_a_part_wishes_in_vain_stops_its_pipeline_at_that_gate(folder, toml, reason):
    wheel = scorecard(folder, wheelway_toml=toml)
    [failed] = [gate for gate in check(wheel, config(caps=Caps(threads=2))) if gate.ok is False]
    assert (failed.name, failed.reason, failed.pipeline) == ("wishes", reason, "card")


def test_weights_are_looked_into_and_nothing_of_them_is_run(folder):
    wheel = make_weights(folder, wheelway_toml="fits = '>=1'")
    [inspected] = check(wheel, config())
    assert inspected.ok
    assert inspected.message.endswith(": weights for iris >=1")
    bad = make_weights(folder, version="1", files={}, wheelway_toml="fits = '>=1'")
    failed = failure(list(check(bad, config())))
    assert (failed.name, failed.reason) == ("inspect", "WeightsMissing")


READING = """
from wheelway import Pipeline

class Demo(Pipeline):
    examples = (1,)

    def load(self, context):
        self.add = int((context.weights / "model.bin").read_text())

    def infer(self, request: int) -> int:
        return request + self.add
"""


def test_weights_are_tried_with_their_pipeline_from_a_wheel_or_a_folder(folder):
    wheel = make_wheel(folder, "iris", code=READING)
    assert failure(list(check(wheel, config()))).name == "load"
    weights = make_weights(folder, version="7")
    assert passed(list(check(wheel, config(), weights=weights)))
    (folder / "mine").mkdir()
    (folder / "mine/model.bin").write_text("1")
    assert passed(list(check(wheel, config(), weights=folder / "mine")))
    bad = make_weights(folder, version="8", files={"iris_weights/model.bin": "?"})
    assert failure(list(check(wheel, config(), weights=bad))).reason == "LoadFailed"
    later = make_weights(folder, version="9", wheelway_toml="fits = '>=2'")
    failed = failure(list(check(wheel, config(), weights=later)))
    assert (failed.name, failed.reason) == ("inspect", "FitsNothing")
    assert "weights for iris >=2; iris-1.0-py3-none-any.whl has iris 1.0" in failed.message
