"""`wheelway new --wrap`: a pipeline around a class that exists, whose code is read, never run."""

import importlib
import subprocess
import sys
import textwrap
import tomllib

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
from wheelway.local import loaded

pytestmark = pytest.mark.unit


@pytest.fixture
def wrap(tmp_path, monkeypatch):
    """Wraps the class `Model` of a module with this code, beside these files."""

    def wrapped(code, examples=(), files=(), target="legacy:Model", name="scored"):
        root = tmp_path / "legacy"
        write(root, {"legacy.py": code, **dict(files)})
        monkeypatch.chdir(root)
        return create(name, tmp_path / "made", Wrap(target, root, examples))

    return wrapped


def write(root, files):
    for path, content in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(textwrap.dedent(content), encoding="utf-8")


@pytest.fixture
def pipeline(monkeypatch):
    """The generated class, imported as a replica would."""

    def imported(made, name="scored.pipeline", cls="Scored"):
        monkeypatch.syspath_prepend(made.folder / "src")
        return getattr(importlib.import_module(name), cls)

    yield imported
    for name in [*sys.modules]:
        if name.partition(".")[0] in {"common", "legacy", "models", "scored"}:
            del sys.modules[name]


def text(made, path="src/scored/pipeline.py"):
    return (made.folder / path).read_text(encoding="utf-8")


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


# -- what it is loaded with ------------------------------------------------------------------------


def test_files_that_the_code_names_come_along(wrap, pipeline):
    code = """
        import json
        from pathlib import Path
        HERE = Path(__file__).parent
        class Model:
            def load(self):
                self.a = json.loads((HERE / "a.json").read_text())
                self.b = (HERE / "words" / "b.txt").read_text()
            def predict(self, n: int) -> str: return f"{self.a} {self.b}"
        """
    files = {
        "a.json": "3",
        "words/b.txt": "b",
        "words/c.txt": "c",
        "README.md": "",
        ".env": "SECRET",
    }
    made = wrap(code, [1], files)
    copied = {
        str(file.relative_to(made.folder))
        for file in made.files
        if "legacy" in str(file.relative_to(made.folder))
    }
    assert copied == {
        *("src/legacy/__init__.py", "src/legacy/a.json"),
        *("src/legacy/words/b.txt", "src/legacy/words/c.txt"),
    }
    with loaded(pipeline(made)) as scored:
        assert scored(1) == "3 b"


@pytest.mark.parametrize(
    ("load", "files"),
    [
        ("def load(self, path): self.a = open(path).read()", {"weights.bin": "w"}),
        (
            "def load(self, folder): self.a = open(folder + '/a.bin').read()",
            {"a.bin": "w", "b.bin": ""},
        ),
        ("def load(self, model_dir): self.a = (model_dir / 'a.bin').read_text()", {"a.bin": "w"}),
        (
            "def __init__(self, model_path: str = 'x'): self.a = open(model_path).read()",
            {"a.bin": "w"},
        ),
    ],
)
def test_a_path_is_that_of_the_class_own_files(load, files, wrap, pipeline):
    code = f"class Model:\n    {load}\n    def predict(self, n: int) -> str: return self.a\n"
    with loaded(pipeline(wrap(code, [1], files))) as scored:
        assert scored(1) == "w"


def test_what_it_needs_besides_becomes_a_setting_to_fill_in(wrap, pipeline):
    code = """
        class Model:
            def __init__(self, threshold: float, *, name: str, logger, config, retries: int = 3):
                self.all = [threshold, name, config["name"], retries]
            def predict(self, n: int) -> list: return self.all
        """
    made = wrap(code, [1])
    settings = tomllib.loads(text(made, "src/scored/wheelway.toml"))["settings"]
    assert settings == {"threshold": 0.0, "name": ""}
    assert sum("give it a value" in point for point in made.open_points) == 2
    with loaded(pipeline(made), settings={"threshold": 0.5, "name": "a"}) as scored:
        assert scored(1) == [0.5, "a", "a", 3]


def test_the_file_that_a_path_has_as_its_default_is_the_one_to_be_copied(wrap, pipeline):
    code = """
        class Model:
            def __init__(self, path: str = "weights.txt"): self.path = path
            def load(self): self.a = open(self.path).read()
            def predict(self, n: int) -> str: return self.a
        """
    made = wrap("", [1], {"models/churn.py": code, "weights.txt": "w"}, target="models.churn:Model")
    assert any("copy weights.txt into src/models" in point for point in made.open_points)
    write(made.folder, {"src/models/weights.txt": "w"})
    with loaded(pipeline(made)) as scored:
        assert scored(1) == "w"


def test_a_file_of_the_current_folder_is_pointed_at(wrap):
    code = 'class Model:\n    def predict(self, n):\n        return open("etc/words.txt").read()\n'
    files = {"models/churn.py": code, "etc/words.txt": "w"}
    made = wrap("", files=files, target="models.churn:Model")
    assert any("etc/words.txt is read by a path" in point for point in made.open_points)


def test_a_file_that_is_opened_from_the_current_folder_is_pointed_at_though_it_comes_along(wrap):
    code = """
        import os
        class Model:
            def load(self):
                self.a = open("a.bin").read()
                self.b = open(os.path.join(os.path.dirname(__file__), "b.bin")).read()
            def predict(self, n): ...
        """
    said = "\n".join(wrap(code, [1], {"a.bin": "", "b.bin": ""}).open_points)
    assert "a.bin is read by a path" in said
    assert "b.bin" not in said


def test_the_fields_of_a_dataclass_are_what_it_is_made_with(wrap, pipeline):
    code = """
        from dataclasses import dataclass
        @dataclass
        class Model:
            threshold: float
            name: str = "a"
            def predict(self, n: int) -> list: return [self.threshold, self.name]
        """
    with loaded(pipeline(wrap(code, [1])), settings={"threshold": 0.5}) as scored:
        assert scored(1) == [0.5, "a"]


CONVERTED = {
    "pandas.DataFrame": ("list[dict[str, Any]]", "pd.DataFrame(request)"),
    "torch.Tensor": ("list[float] | list[list[float]]", "torch.as_tensor(request)"),
    "PIL.Image.Image": ("bytes", "Image.open(BytesIO(request))"),
}


@pytest.mark.parametrize("kind", CONVERTED)
def test_what_has_no_form_in_json_is_made_of_what_has(kind, wrap):
    module, _, name = kind.rpartition(".")
    hint, expression = CONVERTED[kind]
    method = f"def predict(self, x: {name}) -> {name}: return x"
    made = wrap(f"from {module} import {name}\n\nclass Model:\n    {method}\n")
    assert f"request: {hint}" in text(made)
    assert f"self.model.predict({expression})" in text(made)


def test_a_folder_without_code_is_no_package(wrap):
    made = wrap(
        "import torch\nclass Model:\n    def predict(self, n): ...\n", files={"torch/a.pt": ""}
    )
    assert '"torch"' in text(made, "pyproject.toml")


def test_requirements_are_those_of_the_code_in_the_versions_that_are_stated(wrap):
    code = """
        import numpy, sklearn.linear_model, yaml, acme_words
        class Model:
            def predict(self, n):
                import torch
        """
    files = {
        "requirements.txt": "-r other.txt\nscikit-learn==1.5.2  # as pickled\ntorch @ file:///t.whl\n",
        "pyproject.toml": '[project]\ndependencies = ["numpy>=1.26,<3", "fastapi"]\n',
    }
    made = wrap(code, files=files)
    project = tomllib.loads(text(made, "pyproject.toml"))["project"]
    wanted = {"acme-words", "numpy<3,>=1.26", "pyyaml", "scikit-learn==1.5.2", "torch"}
    assert set(project["dependencies"][:-1]) == wanted


def test_modules_beside_the_class_come_along_and_others_of_ones_own_are_named(
    wrap, pipeline, tmp_path, monkeypatch
):
    write(tmp_path / "path", {"on_path.py": "", "numpy.py": ""})
    monkeypatch.syspath_prepend(tmp_path / "path")
    code = """
        import on_path, numpy, unheard_of, yaml
        from wordlist import WORDS
        class Model:
            def predict(self, n: int) -> str: return WORDS[n]
        """
    files = {
        "models/scoring.py": code,
        "models/wordlist.py": "import yaml\nWORDS = 'abc'\n",
        "models/yaml.py": "",
    }
    made = wrap("", [1], files, target="models.scoring:Model")
    assert (made.folder / "src/wordlist/__init__.py").is_file()
    wanted = tomllib.loads(text(made, "pyproject.toml"))["project"]["dependencies"][:-1]
    assert set(wanted) == {"numpy", "pyyaml", "unheard-of"}
    said = "\n".join(made.open_points)
    assert f"`on_path` is imported from {tmp_path / 'path' / 'on_path.py'}" in said
    assert "`unheard_of` is neither beside the code nor installed here" in said
    assert said.count("neither beside") == 1


def test_what_code_has_of_its_application_and_its_machine_is_pointed_at(wrap):
    code = """
        import os
        from os import environ as env
        import fastapi
        from starlette.exceptions import HTTPException as Problem
        class Model:
            def load(self):
                self.a = os.getenv("A")
                self.b = env["B"]
            def predict(self, n: int) -> int:
                if n < 0:
                    raise fastapi.HTTPException(422)
                raise Problem(400)
        """
    said = "\n".join(wrap(code, [1]).open_points)
    assert "HTTPException is named in legacy:12, legacy:13: here it is a failure" in said
    assert "`wheelway.Refused(status, reason, message)`" in said
    assert "the environment is read in legacy:8, legacy:9: " in said


@pytest.mark.parametrize("returns", ["", " -> Any", " -> object"])
def test_what_is_no_json_within_a_result_is_converted_too(returns, wrap, pipeline):
    code = f"""
        from dataclasses import dataclass
        from typing import Any
        import numpy as np
        @dataclass
        class Row:
            score: np.float32
        class Frame:
            columns = ("a",)
            def to_dict(self, orient): return [{{"a": np.int64(1)}}]
        class Model:
            def predict(self, n: int){returns}:
                many = {{np.str_("b"): (np.bool_(True), np.zeros(2), None)}}
                return {{"a": np.float32(n), "rows": [Row(np.float32(1))], "c": Frame(), **many}}
        """
    with loaded(pipeline(wrap(code, [1]))) as scored:
        assert scored(1) == {
            "a": 1.0,
            "rows": [{"score": 1.0}],
            "c": [{"a": 1}],
            "b": [True, [0.0, 0.0], None],
        }


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
