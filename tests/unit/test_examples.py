"""The examples are projects that could be published as they are."""

import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
import uv

from controller.authoring.gates import check
from controller.config.settings import Config

pytestmark = pytest.mark.unit

EXAMPLES = Path(__file__).parents[2] / "examples"
PROJECTS = sorted(file.parent.name for file in EXAMPLES.glob("*/pyproject.toml"))
GATES = {"wheelway.pipelines": "wishes", "wheelway.weights": "inspect"}
"""The last gate that needs nothing of what the wheel requires."""


@pytest.mark.parametrize("name", PROJECTS)
def test_an_example_builds_into_a_wheel_that_passes_inspection(name, tmp_path):
    command = [uv.find_uv_bin(), "build", "--quiet", "--wheel", "--no-build-isolation"]
    command += ["--python", sys.executable, "--out-dir", str(tmp_path), str(EXAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    project = tomllib.loads((EXAMPLES / name / "pyproject.toml").read_text())["project"]
    last = next(gate for group, gate in GATES.items() if group in project["entry-points"])
    [wheel] = tmp_path.glob("*.whl")
    with closing(check(wheel, Config())) as gates:
        for gate in gates:
            assert gate.ok, gate
            if gate.name == last:
                break


def test_the_environments_of_examples_are_tested():
    rule = (EXAMPLES.parent / "Makefile").read_text().partition("test-examples:")[2]
    tested = rule.partition("\n\n")[0].split()
    having = {folder.parent.name for folder in EXAMPLES.glob("*/tests")}
    assert having == {word.rstrip(";") for word in tested if word.rstrip(";") in having}
