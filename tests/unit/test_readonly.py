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
import contextlib, json, os, pathlib, shutil, sys, tempfile
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
here = os.open(sub, os.O_RDONLY)
away = os.open(elsewhere, os.O_RDONLY)
reading = os.open(code, os.O_RDONLY)


def relative():
    for name in "abcd":
        os.close(os.open(elsewhere / name, os.O_CREAT))
    os.rename("a", "e", src_dir_fd=away, dst_dir_fd=away)
    os.rename("d", elsewhere / "h", src_dir_fd=away)
    os.link("b", "f", src_dir_fd=away, dst_dir_fd=away)
    os.symlink("b", "g", dir_fd=away)
    os.mkdir("pipeline", dir_fd=away)
    os.chmod("b", 0o600, dir_fd=away)
    os.utime("b", dir_fd=away)
    os.remove("c", dir_fd=away)


def re_pointed():
    way = elsewhere / "current"
    os.symlink(sub, way)
    with contextlib.suppress(OSError):
        (way / "new.py").write_text("")
    os.remove(way)
    os.mkdir(way)
    (way / "new.py").write_text("")


for how in (
    lambda: os.rename("pipeline.py", "x2", src_dir_fd=here, dst_dir_fd=away),
    lambda: os.rename("x", "x2", src_dir_fd=away, dst_dir_fd=here),
    lambda: os.rename("x", "x2", src_dir_fd=away),
    lambda: os.rename(tree, elsewhere / "tree"),
    lambda: os.link("x", "x2", src_dir_fd=away, dst_dir_fd=here),
    lambda: os.symlink("x", "x2", dir_fd=here),
    lambda: os.mkdir("x2", dir_fd=here),
    lambda: os.remove("pipeline.py", dir_fd=here),
    lambda: os.chmod("pipeline.py", 0o600, dir_fd=here),
    lambda: os.utime("pipeline.py", dir_fd=here),
    lambda: os.chmod(reading, 0o600),
    lambda: os.chmod(here, 0o700),
    lambda: os.removexattr(code, "user.x"),
    lambda: os.mkdir("./x2"),
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
    relative,
    re_pointed,
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


def test_what_pythons_functions_would_change_in_the_tree_is_refused_and_the_writer_told(tree):
    folder, digest = tree
    done = subprocess.run(
        [sys.executable, "-c", LOADED, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    *refused, relative, re_pointed, read = said
    assert (relative, re_pointed, read) == (None, None, None)
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


def test_links_are_followed_once_for_a_folder_and_not_for_each_file_in_it(tree, tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from wheelway import readonly; "
        "readonly.protect(Path(sys.argv[1])); os.lstat, seen = (lambda path, *, "
        "real=os.lstat, **more: (seen.append(path), real(path, **more))[1]), []; "
        "[open(f'{sys.argv[2]}/{n}', 'w').close() for n in range(100)]; print(len(seen))"
    )
    argv = [sys.executable, "-c", code, tree[0], tmp_path]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200
