"""Wheels of weights: data alone, told apart from libraries and from wheels of pipelines."""

from __future__ import annotations

import re

import pytest

from controller.errors import Rejected
from controller.model import WeightsEntry
from tests.support.wheels import make_weights, make_wheel
from tests.unit.test_inspection import look, reason_of

pytestmark = pytest.mark.unit


def test_a_wheel_of_weights_passes_without_a_pipeline(tmp_path):
    found = look(make_weights(tmp_path, wheelway_toml='fits = ">=1, <2"\n'))
    assert found.pipelines == ()
    assert found.weights == (WeightsEntry("iris", "iris_weights", ">=1, <2"),)
    assert (found.project, str(found.version)) == ("iris-weights", "2026.11.28")
    assert found.notes == ()


def test_names_are_normalised_and_packages_may_be_inside_others(tmp_path):
    weights = {"Big.Iris": "acme.iris", "wine": "acme.wine"}
    files = {
        "acme/iris/model.bin": b"1",
        "acme/iris/wheelway.toml": 'fits = "==1.*"\n',
        "acme/wine/deep/model.so": b"2",
    }
    found = look(make_weights(tmp_path, pipelines=weights, files=files))
    assert found.weights == (
        WeightsEntry("big-iris", "acme.iris", "==1.*"),
        WeightsEntry("wine", "acme.wine"),
    )


def test_what_build_backends_ask_for_is_no_code(tmp_path):
    files = {
        "iris_weights/__init__.py": "def hello():\n    return 1\n",
        "iris_weights/sub/__init__.py": "",
        "iris_weights/sub/model.bin": b"1",
    }
    requires = ["pytest ; extra == 'dev'"]
    assert look(make_weights(tmp_path, files=files, requires=requires)).weights


CODE = {"iris_weights/model.bin": b"1", "iris_weights/net.py": ""}
WRONG = {
    "a pipeline beside": ("NotOnlyData", {"entry_points": "[wheelway.pipelines]\na = a.b:C\n"
                          "[wheelway.weights]\niris = iris_weights\n"}),
    "a part beside": ("PartWithoutPipeline", {"parts": {"iris.risk": "a.b:C"}}),
    "code": ("NotOnlyData", {"files": CODE}),
    "code outside the folder": ("NotOnlyData", {"without": []}),
    "requirements": ("NotOnlyData", {"requires": ["numpy"]}),
    "a requirement by a marker that cannot be compared": (
        "NotOnlyData",
        {"requires": ["numpy ; python_version ~= 'x'"]},
    ),
    "no such folder": ("WeightsMissing", {"pipelines": {"iris": "iris_weight"}}),
    "a folder that a build backend left empty": (
        "WeightsMissing",
        {"files": {}, "wheelway_toml": "fits = '>=1'"},
    ),
    "a file for a folder": (
        "WeightsMissing",
        {"files": {"model": b"1"}, "pipelines": {"iris": "model"}},
    ),
    "two for one pipeline": (
        "EntryPointInvalid",
        {"pipelines": {"iris": "iris_weights", "Iris": "iris_weights"}},
    ),
    "a pipeline that is no name": ("EntryPointInvalid", {"pipelines": {"i/s": "iris_weights"}}),
    "a class for a package": ("EntryPointInvalid", {"pipelines": {"iris": "iris_weights:X"}}),
    "a path for a package": ("EntryPointInvalid", {"pipelines": {"iris": "../iris_weights"}}),
    "extras": ("EntryPointInvalid", {"pipelines": {"iris": "iris_weights [x]"}}),
    "no package": ("EntryPointInvalid", {"pipelines": {"iris": ""}}),
    "more than anybody means": (
        "TooManyPipelines",
        {"pipelines": {f"p{n}": "iris_weights" for n in range(101)}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_broken_wheel_of_weights_is_rejected_with_its_reason(tmp_path, case):
    reason, knobs = WRONG[case]
    assert reason_of(make_weights(tmp_path, **knobs)) == reason


@pytest.mark.parametrize(
    "path",
    [
        "evil.pth",
        "iris_weights-2026.11.28.data/scripts/run.sh",
        "iris_weights/run.PY",
        "iris_weights/x.pyw",
        "sitecustomize.py",
        "sitecustomize/__init__.py",
        "__init__.py",
        "other/__init__.py",
        "other/deep/__init__.py",
        "iris_weights2/__init__.py",
        "iris_weights/deep/__INIT__.PY",
    ],
)
def test_what_somebody_would_import_or_install_is_no_data(tmp_path, path):
    files = {"iris_weights/model.bin": b"1", path: "print()"}
    with pytest.raises(Rejected, match=re.escape(repr(path))) as caught:
        look(make_weights(tmp_path, files=files))
    assert caught.value.reason == "NotOnlyData"


def test_what_else_has_such_a_name_is_data(tmp_path):
    files = {"acme/iris/model.pth": b"1", "acme/iris/x.data/1": b"1", "acme/__init__.py": ""}
    files["acme/iris/deep/__init__.py"] = ""
    assert look(make_weights(tmp_path, pipelines={"iris": "acme.iris"}, files=files)).weights


WISHES = {
    "no specifier": ("fits = 'one'", ":1: fits: Invalid specifier"),
    "no text": ("\nfits = 2", ":2: fits: must be text, such as '>=1,<2'"),
    "digits without end": (f"fits = '>={'9' * 999}'", "a number of more than 19 digits"),
    "options": ("[options]\nthreads = 2", ":1: options: unknown key; of weights only `fits`"),
    "no TOML": ("fits", "not valid TOML"),
}


@pytest.mark.parametrize("case", WISHES)
def test_a_mistake_in_its_file_is_told_with_file_line_and_key(tmp_path, case):
    text, expected = WISHES[case]
    with pytest.raises(Rejected) as caught:
        look(make_weights(tmp_path, wheelway_toml=text))
    assert caught.value.reason == "WishesInvalid"
    assert f"iris_weights/wheelway.toml{expected}" in caught.value.message or (
        expected in caught.value.message
    )


@pytest.mark.parametrize("stray", ["wheelway.toml", "acme/wheelway.toml"])
def test_a_file_that_is_not_read_where_it_lies_is_told_where_it_belongs(tmp_path, stray):
    files = {"acme/iris/model.bin": b"1", stray: "fits = '>=1'"}
    wheel = make_weights(tmp_path, pipelines={"iris": "acme.iris"}, files=files)
    with pytest.raises(Rejected, match=r"move it to acme/iris/wheelway\.toml") as caught:
        look(wheel)
    assert caught.value.reason == "WishesInvalid"


def test_a_library_that_names_no_weights_is_still_left_alone(tmp_path):
    wheel = make_wheel(tmp_path, entry_points="[wheelway.weights]\n")
    with pytest.raises(Rejected) as caught:
        look(wheel)
    assert caught.value.reason == "NotAPipelineWheel"
