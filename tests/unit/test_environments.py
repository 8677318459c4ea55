"""Environments over the real uv and this interpreter as the base; wheels come from a folder."""

import contextlib
import http.server
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import trustme
from packaging.requirements import Requirement
from packaging.version import Version

from controller.cache.environments.base import Base, detect
from controller.cache.environments.builder import BASE_ALONE, Environments
from controller.cache.environments.uv import Uv
from controller.config.settings import EnvironmentOptions
from controller.errors import Rejected, Stalled, Transient, Waiting
from controller.model import Artifact, Environment
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.unit

LATER = time.time() + 3600.0


@pytest.fixture(scope="module")
def base() -> Base:
    return detect()


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    """One uv cache for the module: uv looks at the interpreter once only."""
    return {
        **os.environ,
        "UV_CACHE_DIR": str(tmp_path_factory.mktemp("uv-cache")),
        "UV_HTTP_RETRIES": "0",
    }


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "find links"
    folder.mkdir()
    return folder


@pytest.fixture
def opened(tmp_path, base, environ, wheels):
    """Opens environments under one cache folder; offline with `wheels` unless told otherwise."""

    def opener(**options) -> Environments:
        environment = options.pop("environ", environ)
        options = {"find_links": (wheels,), "offline": True, **options}
        return Environments(
            tmp_path / "cache", base, EnvironmentOptions(**options), environ=environment
        )

    return opener


def artifact(*requires: str, digest: str = "a") -> Artifact:
    return Artifact(
        digest=digest * 64,
        project="demo",
        version=Version("1.0"),
        filename="demo-1.0-py3-none-any.whl",
        size=1,
        wheel=Path("demo-1.0-py3-none-any.whl"),
        tree=Path("tree"),
        record_digest="0" * 64,
        requires=requires,
        pipelines=(),
    )


def package(folder: Path, name: str, version: str, *requires: str, **knobs) -> Path:
    code = knobs.pop("code", f"VERSION = {version!r}\n")
    module = f"{name.replace('-', '_')}/__init__.py"
    return make_wheel(
        folder, name, version, pipelines={}, requires=requires, files={module: code}, **knobs
    )


def run(environment: Environment, code: str) -> str:
    assert environment.python is not None
    done = subprocess.run(
        [environment.python, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    return done.stdout.strip()


def places(tmp_path: Path) -> list[str]:
    """The environments, and what is left of their making."""
    folder = tmp_path / "cache" / "environments"
    return sorted(entry.name for entry in (*folder.glob("[!.]*"), *folder.glob(".*/*")))


# -- the base ------------------------------------------------------------------------------------


def test_the_base_is_described_by_its_own_interpreter(base):
    assert base.python == Path(sys.executable)
    assert base.version == ".".join(map(str, sys.version_info[:3]))
    assert base.importable == {"ray", "wheelway"}
    assert base.ray_version is not None
    assert base.wheelway_version is not None
    assert any(tag.interpreter == "py3" and tag.platform == "any" for tag in base.tags)
    assert detect().fingerprint == base.fingerprint


@pytest.mark.parametrize("python", ["no/such/python", "/bin/false", "/bin/echo"])
def test_an_interpreter_that_cannot_be_asked_is_reported_with_the_cure(python):
    with pytest.raises(Stalled, match=r"`ray.python`") as caught:
        detect(Path(python))
    assert caught.value.reason == "PythonUnusable"


def test_a_replaced_version_counts_instead_of_the_installed_one(base):
    hosts = base.hosts()
    assert base.first_unmet(hosts) is None
    unmet = base.first_unmet(hosts, {"click": Version("6.0")})
    assert unmet is not None
    assert unmet.name == "click"


def test_extras_are_followed(base):
    assert base.first_unmet([Requirement("wheelway[controller]")]) is None
    assert base.first_unmet([Requirement("ray[tune]")]) is not None


# -- nothing to install --------------------------------------------------------------------------


def test_what_the_base_satisfies_needs_no_environment(opened, tmp_path):
    environments = opened(environ={"PATH": ""})
    assert environments.prepare(artifact()) == BASE_ALONE
    requires = ("numpy>=1.20", "ray[serve]>=2", "wheelway", "absent>=9; python_version<'3'")
    assert environments.prepare(artifact(*requires, digest="b")) == BASE_ALONE
    assert places(tmp_path) == []
    assert list((tmp_path / "cache" / "locks").iterdir()) == []


# -- overlays ------------------------------------------------------------------------------------


def test_what_is_missing_is_added_on_top_of_the_base(opened, wheels, base):
    package(wheels, "zz-alpha", "1.0", "numpy", "wheelway", "ray>=2", "zz-beta<2")
    package(wheels, "zz-beta", "1.5")
    package(wheels, "zz-beta", "2.0")
    environment = opened().prepare(artifact("zz-alpha"))
    code = (
        "import zz_alpha, zz_beta, wheelway; from importlib.metadata import version as v;"
        "print(zz_beta.VERSION, v('numpy'), v('ray'))"
    )
    assert run(environment, code) == f"1.5 {base.version_of('numpy')} {base.ray_version}"


def test_modules_are_compiled_once_and_for_all_and_none_is_run(opened, wheels, tmp_path):
    written = {"tiny/__init__.py": "X = 1\n", "tiny/old.py": "print 'so'\n"}
    ran = {"tiny-hook.pth": f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"}
    make_wheel(wheels, "tiny", "1.0", pipelines={}, files={**written, **ran})

    environment = opened().prepare(artifact("tiny"))

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


def test_a_conflicting_version_shadows_the_base_and_nothing_else_does(opened, wheels, base):
    package(wheels, "idna", "3.1")
    package(wheels, "six", "1.99.0")
    package(wheels, "zz-alpha", "1.0", "idna<3.5", "six")
    environment = opened().prepare(artifact("zz-alpha"))
    code = "import idna, six, wheelway; print(idna.VERSION, six.__version__)"
    assert run(environment, code) == f"3.1 {base.version_of('six')}"


def test_what_ray_needs_is_changed_along_so_that_it_still_fits(opened, wheels):
    package(wheels, "pydantic-core", "2.49.0")
    package(wheels, "pydantic", "2.13.99", "pydantic-core==2.49.0")
    environment = opened().prepare(artifact("pydantic-core==2.49.0"))
    code = "import pydantic, pydantic_core as core; print(pydantic.VERSION, core.VERSION)"
    assert run(environment, code) == "2.13.99 2.49.0"


def test_artifacts_with_the_same_lock_share_an_environment(opened, wheels, tmp_path):
    package(wheels, "zz-alpha", "1.0")
    environments = opened()
    first = environments.prepare(artifact("zz-alpha", digest="a"))
    assert environments.prepare(artifact("zz-alpha>=1", digest="b")) == first
    assert places(tmp_path) == [first.lock_digest]


def test_an_artifact_keeps_the_versions_that_were_locked_for_it(opened, wheels):
    package(wheels, "zz-alpha", "1.0")
    first = opened().prepare(artifact("zz-alpha"))
    package(wheels, "zz-alpha", "1.1")
    environments = opened()
    assert environments.prune(set(), before=LATER) == (first.lock_digest,)
    assert environments.prepare(artifact("zz-alpha")) == first
    assert run(first, "import zz_alpha; print(zz_alpha.VERSION)") == "1.0"
    assert environments.prepare(artifact("zz-alpha", digest="b")) != first


def test_other_bytes_than_those_locked_are_rejected(opened, wheels, environ, tmp_path):
    package(wheels, "zz-alpha", "1.0")
    locked = opened().prepare(artifact("zz-alpha"))
    package(wheels, "zz-alpha", "1.0", code="VERSION = 'changed'\n")
    opened().prune(set(), before=LATER)
    emptied = opened(environ={**environ, "UV_CACHE_DIR": str(tmp_path / "uv")})
    with pytest.raises(Rejected, match=r"zz-alpha==1\.0") as caught:
        emptied.prepare(artifact("zz-alpha"))
    assert caught.value.reason == "HashMismatch"
    assert opened().prepare(artifact("zz-alpha")) == locked  # uv's cache still has the right ones
    assert run(locked, "import zz_alpha; print(zz_alpha.VERSION)") == "1.0"


def test_many_at_once_build_one_environment(opened, wheels, tmp_path):
    package(wheels, "zz-alpha", "1.0")
    one, other = opened(), opened()
    with ThreadPoolExecutor(6) as pool:
        jobs = [
            pool.submit(where.prepare, artifact("zz-alpha", digest=digest))
            for digest in "abc"
            for where in (one, other)
        ]
        prepared = {job.result(timeout=60) for job in jobs}
    assert [environment.lock_digest for environment in prepared] == places(tmp_path)


def test_prune_removes_what_is_not_kept(opened, wheels, tmp_path):
    package(wheels, "zz-alpha", "1.0")
    package(wheels, "zz-beta", "1.0")
    environments = opened()
    kept = environments.prepare(artifact("zz-alpha", digest="a"))
    removed = environments.prepare(artifact("zz-beta", digest="b"))
    assert environments.prune(set(), before=time.time() - 60) == ()
    assert environments.prune({kept.lock_digest}, before=LATER) == (removed.lock_digest,)
    assert places(tmp_path) == [kept.lock_digest]
    assert environments.prepare(artifact("zz-beta", digest="b")) == removed


# -- after a crash -------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["wheelway.lock", "bin/python"])
def test_an_environment_that_is_not_whole_is_built_again(opened, wheels, tmp_path, missing):
    package(wheels, "zz-alpha", "1.0")
    environments = opened()
    environment = environments.prepare(artifact("zz-alpha"))
    (tmp_path / "cache" / "environments" / environment.lock_digest / missing).unlink()
    assert environments.prepare(artifact("zz-alpha")) == environment
    assert run(environment, "import zz_alpha; print(zz_alpha.VERSION)") == "1.0"


def test_an_environment_is_built_again_though_the_whole_cache_was_deleted(opened, wheels, tmp_path):
    package(wheels, "zz-alpha", "1.0")
    environments = opened()
    environment = environments.prepare(artifact("zz-alpha"))
    shutil.rmtree(tmp_path / "cache")
    assert environments.renew(artifact("zz-alpha")) == environment
    assert run(environment, "import zz_alpha; print(zz_alpha.VERSION)") == "1.0"


def test_a_file_cut_short_is_noticed_at_the_next_opening(opened, wheels, tmp_path):
    package(wheels, "zz-alpha", "1.0")
    environ = {key: value for key, value in os.environ.items() if key != "UV_CACHE_DIR"}
    environment = opened(environ=environ).prepare(artifact("zz-alpha"))
    place = tmp_path / "cache" / "environments" / environment.lock_digest
    (module,) = place.glob("lib/*/site-packages/zz_alpha/__init__.py")
    os.truncate(module, 0)  # and with it the file in uv's cache, by hard link
    assert opened(environ=environ).prepare(artifact("zz-alpha")) == environment
    assert run(environment, "import zz_alpha; print(zz_alpha.VERSION)") == "1.0"


def test_leftovers_are_swept_at_opening_unless_they_are_in_use(opened, tmp_path):
    in_use = opened()
    folder = tmp_path / "cache" / "environments"
    [used] = folder.iterdir()
    shutil.copytree(Path(__file__).parent, folder / ".0123456789abcdef")
    opened()
    assert used.is_dir()
    assert places(tmp_path) == []
    del in_use


# -- requirements that cannot be met -------------------------------------------------------------


def refusal(environments: Environments, *requires: str):
    with pytest.raises((Rejected, Waiting, Stalled, Transient)) as caught:
        environments.prepare(artifact(*requires))
    return caught.value


def test_a_requirement_against_ray_is_rejected_with_the_explanation(opened, wheels):
    package(wheels, "click", "6.0")
    error = refusal(opened(), "click<7")
    assert isinstance(error, Rejected)
    assert error.reason == "RequirementsUnsatisfiable"
    assert "click>=7" in error.message
    assert "hint" not in error.message


def test_a_long_explanation_is_told_a_conclusion_a_line_and_once(opened, wheels, environ):
    package(wheels, "zz-alpha", "1.0", "zz-beta>=2")
    package(wheels, "zz-beta", "2.0", "zz-gamma<3")
    package(wheels, "zz-beta", "2.1", "zz-gamma<2")
    package(wheels, "zz-gamma", "4.0")
    narrow = {**environ, "COLUMNS": "60"}  # whatever terminal it was started in
    error = refusal(opened(environ=narrow), "zz-alpha", "zz-gamma>=4")
    first, *more = error.message.splitlines()
    assert "cannot be installed beside Ray" in first
    assert "Because " in first
    assert len(more) == 2
    assert all(line.startswith("And because ") for line in more)
    assert error.log_tail == ""


def test_what_uv_hints_at_beside_its_explanation_is_kept(opened, wheels):
    package(wheels, "zz-alpha", "1.0", tag="cp399-cp399-win32")
    error = refusal(opened(), "zz-alpha")
    assert "hint:" in error.log_tail
    assert "No solution" not in error.log_tail


def test_requirements_that_exclude_each_other_are_rejected(opened, wheels):
    package(wheels, "zz-alpha", "1.0", "zz-beta>=2")
    package(wheels, "zz-beta", "1.0")
    package(wheels, "zz-beta", "2.0")
    error = refusal(opened(), "zz-alpha", "zz-beta<2")
    assert isinstance(error, Rejected)
    assert error.reason == "RequirementsUnsatisfiable"
    assert "zz-beta>=2" in error.message
    assert str(wheels) not in error.message


def test_a_wheel_for_another_platform_is_rejected(opened, wheels):
    package(wheels, "zz-alpha", "1.0", tag="cp399-cp399-win32")
    error = refusal(opened(), "zz-alpha")
    assert isinstance(error, Rejected)
    assert "no wheels with a matching" in error.message


@pytest.mark.parametrize(
    ("requirement", "reason", "words"),
    [
        ("ray>=99", "RequirementsUnsatisfiable", "runs here"),
        ("wheelway<0.0.1", "RequirementsUnsatisfiable", "runs here"),
        ("zz @ https://example.org/zz.whl", "RequirementNotFromIndex", "example.org"),
        ("not a requirement", "RequirementInvalid", "PEP 508"),
        ("zz>=18446744073709551615", "RequirementInvalid", "more than 19 digits"),
        (f"zz; python_version>='{'9' * 999}'", "RequirementInvalid", "more than 19 digits"),
    ],
)
def test_a_requirement_that_can_never_be_met_is_rejected_without_uv(
    opened, requirement, reason, words
):
    error = refusal(opened(environ={"PATH": ""}), requirement)
    assert isinstance(error, Rejected)
    assert error.reason == reason
    assert words in error.message


def test_another_ray_required_by_a_requirement_is_rejected_too(opened, wheels):
    package(wheels, "zz-alpha", "1.0", "ray>=99")
    error = refusal(opened(), "zz-alpha")
    assert isinstance(error, Rejected)
    assert "ray>=99" in error.message


def test_a_requirement_that_would_hide_ray_makes_the_environment_unusable(opened, wheels, tmp_path):
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')\n"
    files = {"ray/__init__.py": code, "sitecustomize.py": code, "zz.pth": f"import os; {code}"}
    make_wheel(wheels, "zz-alpha", "1.0", pipelines={}, files=files)
    error = refusal(opened(), "zz-alpha")
    assert isinstance(error, Rejected)
    assert error.reason == "EnvironmentUnusable"
    assert "another ray" in error.message
    assert not ran.exists()  # nothing of a wheel is run
    assert places(tmp_path) == []


# -- what is nobody's fault ----------------------------------------------------------------------


def test_offline_a_missing_wheel_is_waited_for(opened, wheels):
    package(wheels, "zz-alpha", "1.0", "zz-missing")
    environments = opened()
    error = refusal(environments, "zz-alpha")
    assert isinstance(error, Waiting)
    assert error.reason == "RequirementMissingOffline"
    assert "zz-missing" in error.message
    package(wheels, "zz-missing", "1.0")
    assert environments.prepare(artifact("zz-alpha")).python is not None


def test_a_find_links_folder_that_is_not_there_is_named(opened, tmp_path):
    error = refusal(opened(find_links=(tmp_path / "absent",)), "zz-alpha")
    assert isinstance(error, Stalled)
    assert error.reason == "FindLinksMissing"
    assert "absent" in error.message


def test_an_index_that_refuses_connections_is_unreachable(opened):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = refusal(opened(offline=False, index_url=f"http://127.0.0.1:{port}/simple"), "zz-alpha")
    assert isinstance(error, Transient)
    assert error.reason == "IndexUnreachable"
    assert "refused" in error.message


@contextlib.contextmanager
def index(status: int, body: bytes = b"", hold: threading.Event | None = None):
    """A package index that answers everything alike; yields its URL with credentials."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if hold is not None:
                hold.wait(60)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(status)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://someone:hunter2@127.0.0.1:{server.server_port}/simple"
        if hold is not None:
            hold.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (401, Stalled, "IndexUnauthorized"),
        (403, Stalled, "IndexUnauthorized"),
        (404, Rejected, "RequirementsUnsatisfiable"),
        (429, Transient, "IndexUnreachable"),
        (503, Transient, "IndexUnreachable"),
    ],
)
def test_what_the_index_answers_decides_who_is_at_fault(opened, status, kind, reason):
    with index(status) as url:
        error = refusal(opened(offline=False, index_url=url), "zz-alpha")
    assert (type(error), error.reason) == (kind, reason)
    assert "hunter2" not in error.message + getattr(error, "log_tail", "")


def test_an_authority_of_ones_own_is_trusted_when_it_is_named_and_no_other_is(
    opened, tmp_path, environ
):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    package(tmp_path / "simple" / "zz-alpha", "zz-alpha", "1.0")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        how = {"offline": False, "index_url": f"https://127.0.0.1:{server.server_port}/simple"}
        error = refusal(opened(**how), "zz-alpha")
        assert (type(error), error.reason) == (Stalled, "IndexUntrusted")
        assert "environments.ca_file" in error.message
        missing = refusal(opened(**how, ca_file=tmp_path / "none.pem"), "zz-alpha")
        assert (missing.reason, "none.pem" in missing.message) == ("CertificateUnreadable", True)
        environment = opened(**how, ca_file=ca_file).prepare(artifact("zz-alpha"))
        assert run(environment, "import zz_alpha; print(zz_alpha.VERSION)") == "1.0"
        inherited = {**environ, "SSL_CERT_FILE": str(ca_file)}
        assert opened(**how, environ=inherited).prepare(artifact("zz-alpha")) == environment
        server.shutdown()


def test_a_package_without_wheels_is_rejected_and_named(opened):
    page = b'<a href="/zz-alpha-1.0.tar.gz#sha256=%s">zz-alpha-1.0.tar.gz</a>' % (b"0" * 64)
    with index(200, page) as url:
        error = refusal(opened(offline=False, index_url=url), "zz-alpha")
    assert isinstance(error, Rejected)
    assert "zz-alpha" in error.message
    assert "Only wheels are installed" in error.message


def test_an_index_that_never_answers_is_given_up_after_the_timeout(opened):
    with index(200, hold=threading.Event()) as url:
        error = refusal(opened(offline=False, index_url=url, timeout=0.5), "zz-alpha")
    assert isinstance(error, Transient)
    assert error.reason == "EnvironmentTimeout"


@pytest.mark.parametrize(
    ("script", "kind", "reason"),
    [
        ("echo 'error: No space left on device (os error 28)' >&2; exit 2", Waiting, "DiskFull"),
        ("kill -9 $$", Transient, "UvInterrupted"),
        ("echo 'error: something new' >&2; exit 2", Transient, "UvFailed"),
    ],
)
def test_a_failure_of_uv_itself_is_never_held_against_a_release(tmp_path, script, kind, reason):
    binary = tmp_path / "uv"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(stat.S_IRWXU)
    uv = Uv(binary, EnvironmentOptions(), tmp_path / "cache", {})
    with pytest.raises(kind) as caught:
        uv.run("pip", "compile", "-", until=time.monotonic() + 30)
    assert caught.value.reason == reason
