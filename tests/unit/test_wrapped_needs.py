"""`wheelway new --wrap`: files, settings and modules that a class needs, and results to convert."""

import tomllib

import pytest

from tests.support.wrapping import text, write
from wheelway.local import loaded

pytestmark = pytest.mark.unit


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


@pytest.mark.parametrize(
    ("parameter", "target", "named"),
    [
        ("path='m.pkl'", "legacy:Model", "m.pkl"),
        ("path='./m.pkl'", "legacy:Model", "m.pkl"),
        ("path: str = 'models/m.pkl'", "legacy:Model", "models/m.pkl"),
        ("path: str = 'models/m.pkl'", "models.churn:Model", "models/m.pkl"),
        ("path: Path = 'models/deep/m.pkl'", "legacy:Model", "models/deep/m.pkl"),
        ("path: Path = 'models/deep/m.pkl'", "models.churn:Model", "models/deep/m.pkl"),
        ("path='models/deep'", "legacy:Model", "models/deep/m.pkl"),
        ("path=DEFAULT", "legacy:Model", "v2.pkl"),
        ("path: str | Path = 'm.pkl'", "legacy:Model", "m.pkl"),
        ("model='models/m.pkl'", "legacy:Model", "models/m.pkl"),
        ("*, weights: str = 'm.pkl'", "legacy:Model", "m.pkl"),
    ],
)
def test_a_path_is_that_of_what_its_default_names(parameter, target, named, wrap, pipeline):
    taken = parameter.removeprefix("*, ").split(":")[0].split("=")[0]
    code = f"""
        from pathlib import Path
        DEFAULT: str = "v2.pkl"
        class Model:
            def __init__(self, {parameter}):
                path = Path({taken})
                self.a = (path / "m.pkl" if path.is_dir() else path).read_text()
            def predict(self, n: int) -> str: return self.a
        """
    lie = ("m.pkl", "v2.pkl", "models/m.pkl", "models/v2.pkl", "models/deep/m.pkl")
    made = wrap(code, [1], {name: name for name in lie} | {"models/churn.py": code}, target=target)
    assert not made.open_points
    with loaded(pipeline(made)) as scored:
        assert scored(1) == named


def test_a_default_that_is_not_there_is_told_though_the_code_names_other_files(wrap):
    code = """
        from pathlib import Path
        class Model:
            def __init__(self, path: str = "m.pkl"):
                self.a = Path(path).read_text() + (Path(__file__).parent / "a.txt").read_text()
            def predict(self, n: int) -> str: return self.a
        """
    made = wrap(code, [1], {"a.txt": ""})
    assert any("m.pkl does not lie beside legacy" in point for point in made.open_points)


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
                self.c = open(NAMED).read()
            def predict(self, n): ...
        NAMED = "c.bin"
        """
    said = "\n".join(wrap(code, [1], {"a.bin": "", "b.bin": "", "c.bin": ""}).open_points)
    assert "a.bin is read by a path" in said
    assert "c.bin is read by a path" in said
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
