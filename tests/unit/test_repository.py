"""What the repository says of itself is so."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import wheelway
from controller.authoring.scaffold import create
from controller.cli.program import ExitCode
from controller.config.settings import Options

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/*.md")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = {
    canonicalize_name(Requirement(text).name)
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in texts
}

SPEAKERS = {
    *(
        "Cause",
        "Condition",
        "Diagnosis",
        "JournalError",
        "Refusal",
        "Rejected",
        "Stalled",
        "Transient",
    ),
    *("Waiting", "_refuse"),
}
"""Calls that give something a reason which a person will read."""
ALL_IS_WELL = {"Running", "Building", "Starting"}
"""Reasons of a release that is on its way; they need no cure."""
OF_ONE_COMMAND = {
    *("controller/cli", "controller/authoring/gates.py", "controller/authoring/scaffold.py"),
    *("controller/authoring/modules.py", "controller/authoring/wrapping.py"),
    *("controller/rayhead/head.py", "controller/rayhead/ports.py", "controller/journal/reading.py"),
    *("controller/rayhead/service.py", "controller/installation/units.py"),
}
"""Their reasons are told at once, to whoever typed the command."""


def reasons(source: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            constants = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            words = [text for text in constants if isinstance(text, str)]
            if name in SPEAKERS:
                found |= {text for text in words if re.fullmatch(r"([A-Z][a-z]+)+", text)}
    return found


def test_every_reason_that_may_last_is_explained_in_the_docs():
    spoken = {
        reason: source.relative_to(ROOT)
        for source in sorted((ROOT / "controller").rglob("*.py"))
        if not any(str(source.relative_to(ROOT)).startswith(prefix) for prefix in OF_ONE_COMMAND)
        for reason in reasons(source) - ALL_IS_WELL
    }
    pages = ("operating.md", "pipelines.md", "pipeline-reference.md")
    text = "\n".join((ROOT / "docs" / page).read_text() for page in pages)
    explained = set(re.findall(r"`(\w+)`", text))
    assert len(spoken) > 50
    assert {reason: where for reason, where in spoken.items() if reason not in explained} == {}


def test_every_option_is_explained_to_authors():
    rows = re.findall(r"^\| `(\w+)`", (ROOT / "docs/pipelines.md").read_text(), re.MULTILINE)
    assert set(Options.model_fields) <= set(rows)


def test_every_exit_code_is_explained_to_operators():
    text = (ROOT / "docs/operating.md").read_text()
    rows = dict(re.findall(r"^\| (\d+) \| ([^|]+) \|$", text, re.MULTILINE))
    assert rows == {str(int(code)): code.meaning for code in ExitCode}


def test_every_direct_dependency_has_its_reason():
    text = (ROOT / "docs/dependencies.md").read_text()
    cells = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    named = {canonicalize_name(name.split("[")[0]) for cell in cells for name in cell.split(", ")}
    assert named >= DECLARED


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, target


def test_the_lock_names_every_dependency_with_hashes_and_no_address():
    text = (ROOT / "requirements.lock").read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert all(re.match(r"[a-z0-9-]+==\S+", block) for block in blocks)
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text
    assert "--index" not in text
    locked = {block.split("==")[0] for block in blocks}
    assert locked >= DECLARED


def test_make_alone_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony
    done = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(re.findall(r"^make (\S+)", done.stdout, re.MULTILINE)) == set(phony[1].split())


def test_tests_run_without_what_spreads_them_over_processes():
    how = ("-p", "no:xdist", "--collect-only", "-q", "-p", "no:cacheprovider", __file__)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_runtime_names_each_of_its_modules():
    own = {path.name for path in (ROOT / "wheelway").glob("[a-z]*.py")}
    assert own <= set(re.findall(r"\w+\.py", wheelway.__doc__))


def test_the_architecture_names_each_part_of_the_controller():
    page = (ROOT / "docs/architecture.md").read_text()
    rooms = re.findall(r"^\| (`controller/.*?) \|", page, re.MULTILINE)
    named = [
        name.removeprefix("controller/") for room in rooms for name in re.findall(r"`(.+?)`", room)
    ]
    parts = [part for part in (ROOT / "controller").iterdir() if part.name[0].isalpha()]
    there = {f"{part.name}/" if part.is_dir() else part.name for part in parts}
    assert sorted(named) == sorted(there - {"data/"})  # only an installed one has data


def test_the_changelog_knows_the_version():
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_all_of_ours_is_linted_and_no_project_that_somebody_made_in_the_checkout(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    create("churn-score", tmp_path)
    folders = {path.parent.name for path in ROOT.glob("*/*.py")} | {"examples"}
    assert {"controller", "tests", "wheelway"} < folders
    for folder in folders:
        (tmp_path / folder / "inner").mkdir(parents=True)
        (tmp_path / folder / "inner" / "module.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--show-files"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    linted = {str(Path(line).relative_to(tmp_path)) for line in done.stdout.splitlines()}
    ours = {f"{folder}/inner/module.py" for folder in folders}
    assert linted == {*ours, "pyproject.toml"}
