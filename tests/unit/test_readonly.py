"""A pipeline that writes into the folder that it was imported from."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.wheels import make_wheel, tree_of
from wheelway.loading import verify

pytestmark = pytest.mark.unit

LOADED = """
import json, os, pathlib, shutil, sys, tempfile
from pathlib import Path
from wheelway.loading import load_class

tree = Path(sys.argv[1])
load_class("demo.pipeline:Demo", tree)
code, data, sub = tree / "demo/pipeline.py", tree / "demo/new.py", tree / "demo"
os.chdir(sub)
elsewhere = Path(tempfile.mkdtemp())
(elsewhere / "x").write_text("x")
os.symlink(sub, elsewhere / "way")
said = {}
for how in (
    lambda: code.write_text("X = 1"),
    lambda: code.open("a"),
    lambda: code.open("r+b"),
    lambda: open("pipeline.py", "w"),
    lambda: open(b"pipeline.py", "w"),
    lambda: os.open(code, os.O_RDWR),
    lambda: data.write_text("X = 1"),
    lambda: (elsewhere / "way/new.py").write_text("X = 1"),
    lambda: code.unlink(),
    lambda: code.rename(elsewhere / "y"),
    lambda: os.replace(elsewhere / "x", code),
    lambda: shutil.copy(elsewhere / "x", data),
    lambda: os.link(elsewhere / "x", data),
    lambda: (sub / "__pycache__").mkdir(),
    lambda: shutil.rmtree(sub),
    lambda: code.chmod(0o600),
    lambda: os.truncate(code, 0),
    lambda: tempfile.TemporaryFile(dir=sub),
    lambda: code.read_text() and code.open("rb").read() and Path(elsewhere / "z").write_text("z"),
):
    try:
        how()
    except OSError as error:
        said[len(said)] = [type(error).__name__, error.errno, str(error)]
    else:
        said[len(said)] = None
shutil.rmtree(elsewhere)
print(json.dumps(list(said.values())))
"""
CODE = """
from wheelway import Pipeline

class Demo(Pipeline):
    def infer(self, request: int) -> int:
        return request
"""


@pytest.fixture
def tree(tmp_path):
    return tree_of(make_wheel(tmp_path, "demo", code=CODE))


def test_nothing_that_python_does_changes_the_tree_and_the_writer_is_told(tree):
    folder, digest = tree
    done = subprocess.run(
        [sys.executable, "-c", LOADED, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    *refused, read = said
    assert read is None
    for one in refused:
        assert one is not None, said
        assert "shared by all its replicas and read-only" in one[2]
    verify(folder, digest)
    assert not list(folder.rglob("__pycache__"))


def test_a_child_of_the_pipeline_leaves_no_byte_code_there(tree):
    folder, digest = tree
    code = (
        "import subprocess, sys; from pathlib import Path; "
        "from wheelway.loading import load_class; "
        "load_class('demo.pipeline:Demo', Path(sys.argv[1])); "
        "subprocess.run([sys.executable, '-c', 'import sys; sys.path.insert(0, sys.argv[1]); "
        "import demo.pipeline', sys.argv[1]], check=True)"
    )
    subprocess.run([sys.executable, "-c", code, folder], check=True)
    verify(folder, digest)
    assert not list(folder.rglob("__pycache__"))


def test_byte_code_of_what_lies_elsewhere_is_kept(tree, tmp_path):
    folder, digest = tree
    (tmp_path / "library.py").write_text("X = 1\n")
    code = (
        "import sys; from pathlib import Path; from wheelway.loading import load_class; "
        "load_class('demo.pipeline:Demo', Path(sys.argv[1])); "
        "sys.path.append(sys.argv[2]); import library"
    )
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", code, folder, tmp_path], check=True, env=environ)
    verify(folder, digest)
    assert list((tmp_path / "__pycache__").iterdir())
    assert not list(folder.rglob("__pycache__"))


def test_a_module_of_the_tree_is_loaded_by_its_path_without_byte_code(tree):
    folder, digest = tree
    code = (
        "import sys; from pathlib import Path; from importlib import util; "
        "from wheelway.loading import load_class; tree = Path(sys.argv[1]); "
        "load_class('demo.pipeline:Demo', tree); "
        "spec = util.spec_from_file_location('other', tree / 'demo/pipeline.py'); "
        "spec.loader.exec_module(util.module_from_spec(spec))"
    )
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", code, folder], check=True, env=environ)
    verify(folder, digest)
    assert not list(folder.rglob("__pycache__"))
