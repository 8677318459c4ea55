"""docs/pipelines.md: what stands there in code runs, and does what the text beside it says."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import uv

from controller.authoring.gates import check, passed
from controller.config.settings import Config, EnvironmentOptions, Options
from wheelway import Refused
from wheelway.limits import Limits
from wheelway.local import run

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/pipelines.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs/pipeline-reference.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
PLACE = re.compile(r"# ([\w./-]+\.(?:py|toml))")
BLOCKS = BLOCK.findall(GUIDE)
PLACED = {found[1]: text for _, text in BLOCKS if (found := PLACE.match(text))}
"""The blocks that say in their first line where they belong."""
REVIEWS = "acme-reviews/src/acme_reviews/pipeline.py"
(WORDS,) = re.findall(r"here `({.*})`", GUIDE)
OFFLINE = Config(environments=EnvironmentOptions(offline=True))


@pytest.fixture
def block(monkeypatch):
    """The class of a block that stands for itself."""

    def imported(name):
        (code,) = (text for kind, text in BLOCKS if kind == "python" and f"class {name}(" in text)
        spec = importlib.util.spec_from_loader(f"guide_{name.lower()}", loader=None)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(code, name, "exec"), module.__dict__)
        return getattr(module, name)

    return imported


def project(folder, name, files):
    """One that the page describes, with what it leaves out: builds a wheel of it."""
    root = folder / name
    for place, text in {**PLACED, **files}.items():
        if place.startswith(f"{name}/"):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_text(text, encoding="utf-8")
    package = root / "src" / name.replace("-", "_")
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    page = (root / "pyproject.toml").read_text(encoding="utf-8")
    if "[project]" not in page:
        page = f'[project]\nname = "{name}"\nversion = "0.1.0"\n{page}'
    if "[build-system]" not in page:
        page += '[build-system]\nrequires = ["uv_build"]\nbuild-backend = "uv_build"\n'
    (root / "pyproject.toml").write_text(page, encoding="utf-8")
    ran([uv.find_uv_bin(), "build", "--quiet", "--wheel", "--offline"], root)
    (wheel,) = root.glob("dist/*.whl")
    return wheel


def ran(command, folder):
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def reviews(folder, code=None):
    files = {"acme-reviews/src/acme_reviews/words.json": WORDS}
    return project(folder, "acme-reviews", {**files, REVIEWS: code or PLACED[REVIEWS]})


def test_it_is_read_in_ten_minutes():
    prose = COMMANDS.sub("", BLOCK.sub("", GUIDE))
    assert len(re.findall(r"\w[\w.`'-]*", prose)) / 250 <= 10  # words a minute, tables included


def test_every_block_of_code_is_tried_here():
    kinds = {kind for kind, _ in BLOCKS}
    tried = {"Tenants", "Answers", "Lengths"}
    free = [text for _, text in BLOCKS if not PLACE.match(text)]
    assert kinds == {"python", "toml"}
    assert {re.search(r"^class (\w+)\(", text, re.MULTILINE)[1] for text in free} == tried


def test_a_wheel_is_published_from_nothing_by_the_commands_of_the_guide(tmp_path, monkeypatch):
    begin = COMMANDS.findall(GUIDE)[0]
    uv_run = "uv run --no-project --with-editable PATH/TO/wheelway --with pytest pytest"
    (tmp_path / "wheels").mkdir()
    for page, here in ((uv_run, "python -m pytest -q"), ("/srv/wheels/", f"{tmp_path}/wheels/")):
        assert page in begin
        begin = begin.replace(page, here)
    on_path(monkeypatch)

    ran(["bash", "-euo", "pipefail", "-c", begin], tmp_path)

    assert [wheel.name for wheel in (tmp_path / "wheels").iterdir()] == [
        "churn_score-0.1.0-py3-none-any.whl"
    ]
    asked, answered = COMMANDS.findall(GUIDE)[1].strip().splitlines()
    body = json.loads(re.search(r"-d '(.*)'", asked)[1])
    code = (
        "from churn_score.pipeline import ChurnScore; from wheelway.local import run; "
        f"print(run(ChurnScore, {body}))"
    )
    said = ran([sys.executable, "-c", code], tmp_path / "churn-score/src")
    assert said.strip() == str(json.loads(answered))


def test_a_class_that_exists_is_wrapped_by_the_command_of_the_guide(tmp_path, monkeypatch):
    code = (
        "class ChurnModel:\n    def predict(self, customer):\n        return customer['tenure']\n"
    )
    (tmp_path / "models").mkdir()
    (tmp_path / "models/churn.py").write_text(code, encoding="utf-8")
    (command,) = (text for text in COMMANDS.findall(GUIDE) if "--wrap" in text)
    on_path(monkeypatch)

    ran(["bash", "-c", command], tmp_path)

    ran([sys.executable, "-m", "pytest", "-q"], tmp_path / "churn")


def on_path(monkeypatch):
    folders = [str(Path(sys.executable).parent), str(Path(uv.find_uv_bin()).parent)]
    monkeypatch.setenv("PATH", os.pathsep.join(folders), prepend=os.pathsep)
    monkeypatch.setenv("UV_OFFLINE", "1")


def test_the_project_of_the_guide_passes_its_tests_and_every_gate(tmp_path):
    wheel = reviews(tmp_path)

    tests = [sys.executable, "-m", "pytest", "-q", "-o", "pythonpath=src"]
    ran(tests, wheel.parents[1])

    results = list(check(wheel, OFFLINE))
    assert passed(results), results
    assert {gate.pipeline for gate in results} == {"", "reviews"}


def test_weights_of_their_own_need_the_one_change_that_the_guide_shows(tmp_path):
    (change,) = (text for text in COMMANDS.findall(GUIDE) if "context.weights" in text)
    lines = "".join(f"    {line}\n" for line in change.splitlines())
    before = '        self.words = json.loads((context.files / "words.json").read_text())\n'
    assert before in PLACED[REVIEWS]
    wheel = reviews(tmp_path, PLACED[REVIEWS].replace(before, lines))
    words = {"reviews-weights/src/reviews_weights/words.json": json.dumps({"good": 0.75, "bad": 0})}
    weights = project(tmp_path, "reviews-weights", words)

    assert passed(list(check(wheel, OFFLINE)))
    assert passed(list(check(wheel, OFFLINE, weights=weights)))
    assert weights.name.startswith("reviews_weights-2026.11.28-")


def test_the_parts_of_the_guide_pass_every_gate(tmp_path, block):
    results = list(check(project(tmp_path, "scorecard", {}), OFFLINE))
    assert passed(results), results
    card = block("Scorecard")
    parts = {
        name: sys.modules[card.__module__].__dict__[name.title()] for name in ("risk", "worth")
    }
    assert run(card, 3, parts=parts) == {"risk": 0.25, "worth": 60.0}


def test_a_request_is_told_of_and_refused(block):
    tenants = block("Tenants")
    assert run(tenants, "why", headers={"x-tenant": "acme"}).startswith("why? You have ")
    with pytest.raises(Refused, match="TenantUnknown"):
        run(tenants, "why", headers={"x-tenant": "b"})


def test_what_yields_streams(block):
    assert run(block("Answers"), "why") == ["why", "not"]


def test_batches_answer_each_request_alone(block):
    lengths = block("Lengths")
    assert run(lengths, [3, 4]) == 5
    assert lengths().infer_batch([np.array([3, 4]), np.array([0, 2])]) == [5, 2]


def test_the_options_have_the_defaults_of_the_table():
    rows = dict(re.findall(r"^\| `(\w+)` \*? ?\|.*\| ([^|]+) \|$", GUIDE, re.MULTILINE))
    limits = Limits()
    told = {name: getattr(limits, name) for name in rows if hasattr(limits, name)}
    assert told.pop("max_request_bytes") == 16 * 1024**2
    assert rows["max_request_bytes"] == "16 MiB"
    assert {name: float(rows[name]) for name in told} == told
    restart = {name for name in Options.model_fields if not _changes_in_place(name)}
    assert {name for name in rows if f"`{name}` *" not in GUIDE} == restart


def _changes_in_place(name):
    text = (ROOT / "controller/config/serve.py").read_text(encoding="utf-8")
    return re.search(rf'^    {name}: .*\n    """\* ', text, re.MULTILINE) is not None


def test_the_blocks_of_the_reference_can_be_read():
    for kind, text in BLOCK.findall(REFERENCE):
        assert kind == "toml"
        tomllib.loads(text)
