"""Environments over the real uv and this interpreter as the base; wheels come from a folder."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from controller.cache.environments.base import detect
from controller.cache.environments.builder import BASE_ALONE
from controller.errors import Rejected, Stalled
from tests.support.environments import artifact, package, places, run
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.unit

LATER = time.time() + 3600.0


# -- the base ------------------------------------------------------------------------------------


def test_the_base_is_described_by_its_own_interpreter(interpreter):
    assert interpreter.python == Path(sys.executable)
    assert interpreter.version == ".".join(map(str, sys.version_info[:3]))
    assert interpreter.importable == {"ray", "wheelway"}
    assert interpreter.ray_version is not None
    assert interpreter.wheelway_version is not None
    assert any(tag.interpreter == "py3" and tag.platform == "any" for tag in interpreter.tags)
    assert detect().fingerprint == interpreter.fingerprint


@pytest.mark.parametrize("python", ["no/such/python", "/bin/false", "/bin/echo"])
def test_an_interpreter_that_cannot_be_asked_is_reported_with_the_cure(python):
    with pytest.raises(Stalled, match=r"`ray.python`") as caught:
        detect(Path(python))
    assert caught.value.reason == "PythonUnusable"


def test_a_replaced_version_counts_instead_of_the_installed_one(interpreter):
    hosts = interpreter.hosts()
    assert interpreter.first_unmet(hosts) is None
    unmet = interpreter.first_unmet(hosts, {"click": Version("6.0")})
    assert unmet is not None
    assert unmet.name == "click"


def test_extras_are_followed(interpreter):
    assert interpreter.first_unmet([Requirement("wheelway[controller]")]) is None
    assert interpreter.first_unmet([Requirement("ray[tune]")]) is not None


# -- nothing to install --------------------------------------------------------------------------


def test_what_the_base_satisfies_needs_no_environment(at_uv, tmp_path):
    environments = at_uv(environ={"PATH": ""})
    assert environments.prepare(artifact()) == BASE_ALONE
    requires = ("numpy>=1.20", "ray[serve]>=2", "wheelway", "absent>=9; python_version<'3'")
    assert environments.prepare(artifact(*requires, digest="b")) == BASE_ALONE
    assert places(tmp_path) == []
    assert list((tmp_path / "cache" / "locks").iterdir()) == []


# -- overlays ------------------------------------------------------------------------------------


def test_what_is_missing_is_added_on_top_of_the_base(at_uv, find_links, interpreter):
    package(find_links, "zz-alpha", "1.0", "numpy", "wheelway", "ray>=2", "zz-beta<2")
    package(find_links, "zz-beta", "1.5")
    package(find_links, "zz-beta", "2.0")
    environment = at_uv().prepare(artifact("zz-alpha"))
    code = (
        "import zz_alpha, zz_beta, wheelway; from importlib.metadata import version as v;"
        "print(zz_beta.VERSION, v('numpy'), v('ray'))"
    )
    assert (
        run(environment, code) == f"1.5 {interpreter.version_of('numpy')} {interpreter.ray_version}"
    )


def test_modules_are_compiled_once_and_for_all_and_none_is_run(at_uv, find_links, tmp_path):
    written = {"tiny/__init__.py": "X = 1\n", "tiny/old.py": "print 'so'\n"}
    ran = {"tiny-hook.pth": f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"}
    make_wheel(find_links, "tiny", "1.0", pipelines={}, files={**written, **ran})

    environment = at_uv().prepare(artifact("tiny"))

    assert not (tmp_path / "ran").exists()
    (init, cached) = run(environment, "import tiny; print(tiny.__file__, tiny.__cached__)").split()
    assert init.startswith(str(tmp_path / "cache/environments"))
    assert Path(cached).stat().st_mode & 0o044 == 0o044

    verbose = subprocess.run(
        [environment.python, "-v", "-c", "import tiny"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert f"matches {init}" in verbose.stderr  # nothing was compiled, nor written


def test_a_conflicting_version_shadows_the_base_and_nothing_else_does(
    at_uv, find_links, interpreter
):
    package(find_links, "idna", "3.1")
    package(find_links, "six", "1.99.0")
    package(find_links, "zz-alpha", "1.0", "idna<3.5", "six")
    environment = at_uv().prepare(artifact("zz-alpha"))
    code = "import idna, six, wheelway; print(idna.VERSION, six.__version__)"
    assert run(environment, code) == f"3.1 {interpreter.version_of('six')}"


def test_what_ray_needs_is_changed_along_so_that_it_still_fits(at_uv, find_links):
    package(find_links, "pydantic-core", "2.49.0")
    package(find_links, "pydantic", "2.13.99", "pydantic-core==2.49.0")
    environment = at_uv().prepare(artifact("pydantic-core==2.49.0"))
    code = "import pydantic, pydantic_core as core; print(pydantic.VERSION, core.VERSION)"
    assert run(environment, code) == "2.13.99 2.49.0"


def test_artifacts_with_the_same_lock_share_an_environment(at_uv, find_links, tmp_path):
    package(find_links, "zz-alpha", "1.0")
    environments = at_uv()
    first = environments.prepare(artifact("zz-alpha", digest="a"))
    assert environments.prepare(artifact("zz-alpha>=1", digest="b")) == first
    assert places(tmp_path) == [first.lock_digest]


def test_an_artifact_keeps_the_versions_that_were_locked_for_it(at_uv, find_links):
    package(find_links, "zz-alpha", "1.0")
    first = at_uv().prepare(artifact("zz-alpha"))
    package(find_links, "zz-alpha", "1.1")
    environments = at_uv()
    assert environments.prune(set(), before=LATER) == (first.lock_digest,)
    assert environments.prepare(artifact("zz-alpha")) == first
    assert run(first, "import zz_alpha; print(zz_alpha.VERSION)") == "1.0"
    assert environments.prepare(artifact("zz-alpha", digest="b")) != first


def test_other_bytes_than_those_locked_are_rejected(at_uv, find_links, uv_environ, tmp_path):
    package(find_links, "zz-alpha", "1.0")
    locked = at_uv().prepare(artifact("zz-alpha"))
    package(find_links, "zz-alpha", "1.0", code="VERSION = 'changed'\n")
    at_uv().prune(set(), before=LATER)
    emptied = at_uv(environ={**uv_environ, "UV_CACHE_DIR": str(tmp_path / "uv")})
    with pytest.raises(Rejected, match=r"zz-alpha==1\.0") as caught:
        emptied.prepare(artifact("zz-alpha"))
    assert caught.value.reason == "HashMismatch"
    assert at_uv().prepare(artifact("zz-alpha")) == locked  # uv's cache still has the right ones
    assert run(locked, "import zz_alpha; print(zz_alpha.VERSION)") == "1.0"


def test_many_at_once_build_one_environment(at_uv, find_links, tmp_path):
    package(find_links, "zz-alpha", "1.0")
    one, other = at_uv(), at_uv()
    with ThreadPoolExecutor(6) as pool:
        jobs = [
            pool.submit(where.prepare, artifact("zz-alpha", digest=digest))
            for digest in "abc"
            for where in (one, other)
        ]
        prepared = {job.result(timeout=60) for job in jobs}
    assert [environment.lock_digest for environment in prepared] == places(tmp_path)


def test_prune_removes_what_is_not_kept(at_uv, find_links, tmp_path):
    package(find_links, "zz-alpha", "1.0")
    package(find_links, "zz-beta", "1.0")
    environments = at_uv()
    kept = environments.prepare(artifact("zz-alpha", digest="a"))
    removed = environments.prepare(artifact("zz-beta", digest="b"))
    assert environments.prune(set(), before=time.time() - 60) == ()
    assert environments.prune({kept.lock_digest}, before=LATER) == (removed.lock_digest,)
    assert places(tmp_path) == [kept.lock_digest]
    assert environments.prepare(artifact("zz-beta", digest="b")) == removed


# -- after a crash -------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["wheelway.lock", "bin/python"])
def test_an_environment_that_is_not_whole_is_built_again(at_uv, find_links, tmp_path, missing):
    package(find_links, "zz-alpha", "1.0")
    environments = at_uv()
    environment = environments.prepare(artifact("zz-alpha"))
    (tmp_path / "cache" / "environments" / environment.lock_digest / missing).unlink()
    assert environments.prepare(artifact("zz-alpha")) == environment
    assert run(environment, "import zz_alpha; print(zz_alpha.VERSION)") == "1.0"


def test_an_environment_is_built_again_though_the_whole_cache_was_deleted(
    at_uv, find_links, tmp_path
):
    package(find_links, "zz-alpha", "1.0")
    environments = at_uv()
    environment = environments.prepare(artifact("zz-alpha"))
    shutil.rmtree(tmp_path / "cache")
    assert environments.renew(artifact("zz-alpha")) == environment
    assert run(environment, "import zz_alpha; print(zz_alpha.VERSION)") == "1.0"


def test_a_file_cut_short_is_noticed_at_the_next_opening(at_uv, find_links, tmp_path):
    package(find_links, "zz-alpha", "1.0")
    environ = {key: value for key, value in os.environ.items() if key != "UV_CACHE_DIR"}
    environment = at_uv(environ=environ).prepare(artifact("zz-alpha"))
    place = tmp_path / "cache" / "environments" / environment.lock_digest
    (module,) = place.glob("lib/*/site-packages/zz_alpha/__init__.py")
    os.truncate(module, 0)  # and with it the file in uv's cache, by hard link
    assert at_uv(environ=environ).prepare(artifact("zz-alpha")) == environment
    assert run(environment, "import zz_alpha; print(zz_alpha.VERSION)") == "1.0"


def test_leftovers_are_swept_at_opening_unless_they_are_in_use(at_uv, tmp_path):
    in_use = at_uv()
    folder = tmp_path / "cache" / "environments"
    [used] = folder.iterdir()
    shutil.copytree(Path(__file__).parent, folder / ".0123456789abcdef")
    at_uv()
    assert used.is_dir()
    assert places(tmp_path) == []
    del in_use


def test_nor_are_those_in_use_that_were_made_after_the_cache_was_deleted(
    at_uv, find_links, tmp_path
):
    package(find_links, "zz-alpha", "1.0")
    in_use = at_uv()
    shutil.rmtree(tmp_path / "cache")
    in_use.prepare(artifact("zz-alpha"))
    [used] = (tmp_path / "cache" / "environments").glob(".*")
    at_uv()
    assert used.is_dir()
    del in_use
