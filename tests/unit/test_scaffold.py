"""`wheelway new`: names, files, and a project that builds."""

import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version

import pytest
import uv

from controller.authoring.gates import check, passed
from controller.authoring.scaffold import FILES, create, names
from controller.config.settings import Config, EnvironmentOptions
from controller.errors import Stalled

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("typed", "pipeline", "package", "cls"),
    [
        ("iris", "iris", "iris", "Iris"),
        ("Churn_Score", "churn-score", "churn_score", "ChurnScore"),
        ("acme.rag--v2", "acme-rag-v2", "acme_rag_v2", "AcmeRagV2"),
        ("pipeline", "pipeline", "pipeline", "PipelineModel"),
    ],
)
def test_one_name_gives_the_pipeline_its_package_and_its_class(typed, pipeline, package, cls):
    named = names(typed)
    assert (named.pipeline, named.package, named.cls) == (pipeline, package, cls)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "ASCII letters"),
        ("-iris", "ASCII letters"),
        ("iris-", "ASCII letters"),
        ("my pipeline", "ASCII letters"),
        ("../iris", "ASCII letters"),
        ("müsli", "ASCII letters"),
        ("iris\n", "ASCII letters"),
        ("3d-boxes", "does not start with a letter"),
        ("class", "keyword"),
        ("JSON", "standard library"),
        ("Ray", "import themselves"),
        ("wheelway", "import themselves"),
    ],
)
def test_a_name_that_could_not_be_served_or_imported_is_refused_with_why(typed, why, tmp_path):
    with pytest.raises(Stalled, match=why) as refusal:
        create(typed, tmp_path)
    assert refusal.value.reason == "NameInvalid"
    assert list(tmp_path.iterdir()) == []


def test_the_files_are_returned_and_rendered_completely(tmp_path):
    written = create("Churn_Score", tmp_path).files

    folder = tmp_path / "churn-score"
    assert {str(path.relative_to(folder)) for path in written} == {
        path.format(package="churn_score") for path in FILES
    }
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert "{{" not in text
        if path.suffix == ".py":
            compile(text, path, "exec")
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"] == {
        "wheelway.pipelines": {"churn-score": "churn_score.pipeline:ChurnScore"}
    }
    assert project["dependencies"] == [f"wheelway>={version('wheelway')}"]


def test_an_existing_empty_folder_is_used(tmp_path):
    (tmp_path / "iris").mkdir()
    assert create("iris", tmp_path)


@pytest.mark.parametrize("occupied_by", ["a folder with a file", "a file"])
def test_what_exists_is_never_overwritten(tmp_path, occupied_by):
    place = tmp_path / "iris"
    if occupied_by == "a file":
        place.write_text("mine", encoding="utf-8")
    else:
        place.mkdir()
        (place / "notes.txt").write_text("mine", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(Stalled) as refusal:
        create("iris", tmp_path)

    assert refusal.value.reason == "FolderNotEmpty"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_parent_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Stalled) as refusal:
        create("iris", tmp_path / "file")
    assert refusal.value.reason == "FolderUnwritable"


@pytest.mark.parametrize("typed", ["Churn_Score", "pipeline"])
def test_a_new_project_passes_its_tests_builds_and_passes_the_gates(typed, tmp_path):
    (tmp_path / "there").mkdir()
    folder = create(typed, tmp_path / "there").folder

    _run(sys.executable, "-m", "pytest", "-q", cwd=folder)
    _run(uv.find_uv_bin(), "build", "--wheel", "--offline", cwd=folder)

    (wheel,) = folder.glob("dist/*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert f"{names(typed).package}/wheelway.toml" in archive.namelist()
    results = list(check(wheel, Config(environments=EnvironmentOptions(offline=True))))
    assert passed(results), results
    assert {gate.pipeline for gate in results} == {"", names(typed).pipeline}


def _run(*command, cwd):
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
