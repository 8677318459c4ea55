"""`wheelway new --wrap`: a pipeline around a class that exists, whose code is read, never run."""

import subprocess
import sys

import pytest
import uv
from typer.testing import CliRunner

from controller.authoring.gates import check, passed
from controller.authoring.scaffold import Wrap, create
from controller.cli import app
from controller.cli.program import ExitCode
from controller.config.settings import Config, EnvironmentOptions
from controller.errors import Stalled
from tests.support.classes import SHAPES
from tests.support.wrapping import text, write
from wheelway.local import loaded

pytestmark = pytest.mark.unit

# -- shapes of classes -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_class_of_any_shape_answers_as_a_pipeline(shape, wrap, pipeline):
    methods, request_, answer = SHAPES[shape]
    made = wrap(f"import numpy as np\n\nclass Model:\n {methods}\n", [request_])
    with loaded(pipeline(made)) as scored:
        assert scored(request_) == answer


def test_the_types_of_the_signature_are_taken_over_with_their_imports(wrap, pipeline):
    made = wrap(
        """
        from __future__ import annotations
        from dataclasses import dataclass
        from typing import TYPE_CHECKING, Annotated, Literal as OneOf, Optional
        from pydantic import BaseModel, Field
        if TYPE_CHECKING:
            import datetime as dt

        class Request(BaseModel):
            plan: OneOf["basic", "plus"]

        @dataclass
        class Scored:
            score: float

        class Model:
            def predict(self, request: Request) -> Optional["Scored"]:
                return Scored(0.5)

            def preprocess(self, request: Annotated[Request, Field(title="Plan")]) -> Request:
                return request
        """,
        [{"plan": "plus"}],
    )
    assert "request: Annotated[ModelRequest, Field(title='Plan')]" in text(made)
    assert "-> Optional[ModelScored]:" in text(made)
    with loaded(pipeline(made)) as scored:
        assert scored({"plan": "basic"}) == {"score": 0.5}


def test_a_stream_stays_one(wrap):
    made = wrap(
        """
        from collections.abc import AsyncIterator

        class Model:
            async def predict(self, text: str) -> AsyncIterator[str]:
                for word in text.split():
                    yield word
        """
    )
    assert "    def infer(self, request: str) -> AsyncIterator[str]:\n" in text(made)
    assert "        return self.model.predict(request)\n" in text(made)


def test_methods_of_bases_count_and_training_does_not(wrap, pipeline):
    files = {
        "common/__init__.py": "from .base import Base\n",
        "common/base.py": """
            class Base:
                def fit(self, rows): raise NotImplementedError
                def post_process(self, n: int) -> dict[str, int]: return {"n": n}
                def close(self): self.closed = True
            """,
    }
    code = """
        from abc import ABC
        from common import Base
        class Model(Base, ABC):
            def predict(self, n: int) -> int: return n
        """
    made = wrap(code, [1], files)
    assert made.stages == {"infer": "predict", "post_process": "post_process", "unload": "close"}
    with loaded(pipeline(made)) as scored:
        assert scored(2) == {"n": 2}


def test_what_stages_cannot_be_called_with_is_said(wrap):
    made = wrap(
        """
        class Model:
            def post_process(self, result, request): return result
            def predict(self, n: Unknown): return n
        """
    )
    said = "\n".join(made.open_points)
    assert "`post_process` is not called" in said
    assert "the type of `n` in `predict` cannot be told" in said
    assert "no example" in said
    assert "post_process" not in text(made)


# -- what cannot be wrapped ------------------------------------------------------------------------

REFUSED = {
    "TargetInvalid": ("legacy", "", "module:Class"),
    "ModuleMissing": ("nothing:Model", "", "--root"),
    "ModuleUnreadable": ("legacy:Model", "class Model(:\n", "legacy.py"),
    "ClassMissing": ("legacy:Model", "Model = make()\n", "no class"),
    "NothingToCall": (
        "legacy:Model",
        "import sklearn\nclass Model(sklearn.base.Regressor):\n    def fit(self): ...\n",
        "sklearn.base.Regressor",
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_wrapped_is_refused_with_what_to_do(reason, wrap, tmp_path):
    target, code, said = REFUSED[reason]
    with pytest.raises(Stalled, match=said) as refusal:
        wrap(code, target=target)
    assert refusal.value.reason == reason
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["ray", "json"])
def test_a_module_that_would_hide_another_is_refused(name, tmp_path):
    write(tmp_path, {f"{name}.py": "class Model:\n    def predict(self, n): ...\n"})
    with pytest.raises(Stalled, match="rename it first") as refusal:
        create("scored", tmp_path / "made", Wrap(f"{name}:Model", tmp_path))
    assert refusal.value.reason == "NameInvalid"


def test_nothing_of_the_code_is_run(wrap, tmp_path):
    code = "open('ran', 'w')\nclass Model:\n    open('ran', 'w')\n    def predict(self, n): ...\n"
    wrap(code)
    assert not list(tmp_path.rglob("ran"))


# -- the whole way ---------------------------------------------------------------------------------


def test_a_wrapped_project_passes_its_tests_builds_and_passes_the_gates(wrap):
    made = wrap(
        """
        import json
        from pathlib import Path

        class Scored:
            def load(self, folder: Path) -> None:
                self.weights = json.loads((folder / "weights.json").read_text())

            def predict(self, values: list[float]) -> dict[str, float]:
                return {"score": sum(w * v for w, v in zip(self.weights, values))}
        """,
        [[1.0, 2.0]],
        {"weights.json": "[0.5, 0.25]"},
        target="legacy:Scored",
        name="legacy",
    )
    assert "class Legacy(Pipeline)" in text(made, "src/legacy_pipeline/pipeline.py")
    run(sys.executable, "-m", "pytest", "-q", cwd=made.folder)
    run(uv.find_uv_bin(), "build", "--wheel", "--offline", cwd=made.folder)
    [wheel] = made.folder.glob("dist/*.whl")
    results = list(check(wheel, Config(environments=EnvironmentOptions(offline=True))))
    assert passed(results), results


def run(*command, cwd):
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_says_what_it_took_and_what_is_left(tmp_path, monkeypatch):
    write(tmp_path, {"legacy.py": "class Model:\n    def predict(self, n: int): return n\n"})
    monkeypatch.chdir(tmp_path)
    told = ["new", "scored", "--wrap", "legacy:Model"]
    done = CliRunner().invoke(app, [*told, "--example", "{"])
    assert done.exit_code == ExitCode.USAGE
    done = CliRunner().invoke(app, told)
    assert done.exit_code == 0, done.stderr
    assert "Around legacy:Model: infer by `predict`." in done.stdout
    assert "there is no example" in done.stdout
    done = CliRunner().invoke(app, ["new", "other", "--example", "1"])
    assert done.exit_code == ExitCode.USAGE
    assert "--wrap" in done.stderr
