"""What uv and indexes refuse, and whose fault that is."""

import contextlib
import http.server
import socket
import ssl
import stat
import threading
import time
from functools import partial

import pytest
import trustme

from controller.cache.environments.builder import Environments
from controller.cache.environments.uv import Uv
from controller.config.settings import EnvironmentOptions
from controller.errors import Rejected, Stalled, Transient, Waiting
from tests.support.environments import artifact, package, places, run
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.unit


def refusal(environments: Environments, *requires: str):
    with pytest.raises((Rejected, Waiting, Stalled, Transient)) as caught:
        environments.prepare(artifact(*requires))
    return caught.value


def test_a_requirement_against_ray_is_rejected_with_the_explanation(at_uv, find_links):
    package(find_links, "click", "6.0")
    error = refusal(at_uv(), "click<7")
    assert isinstance(error, Rejected)
    assert error.reason == "RequirementsUnsatisfiable"
    assert "click>=7" in error.message
    assert "hint" not in error.message


def test_a_long_explanation_is_told_a_conclusion_a_line_and_once(at_uv, find_links, uv_environ):
    package(find_links, "zz-alpha", "1.0", "zz-beta>=2")
    package(find_links, "zz-beta", "2.0", "zz-gamma<3")
    package(find_links, "zz-beta", "2.1", "zz-gamma<2")
    package(find_links, "zz-gamma", "4.0")
    narrow = {**uv_environ, "COLUMNS": "60"}  # whatever terminal it was started in
    error = refusal(at_uv(environ=narrow), "zz-alpha", "zz-gamma>=4")
    first, *more = error.message.splitlines()
    assert "cannot be installed beside Ray" in first
    assert "Because " in first
    assert len(more) == 2
    assert all(line.startswith("And because ") for line in more)
    assert error.log_tail == ""


def test_what_uv_hints_at_beside_its_explanation_is_kept(at_uv, find_links):
    package(find_links, "zz-alpha", "1.0", tag="cp399-cp399-win32")
    error = refusal(at_uv(), "zz-alpha")
    assert "hint:" in error.log_tail
    assert "No solution" not in error.log_tail


def test_requirements_that_exclude_each_other_are_rejected(at_uv, find_links):
    package(find_links, "zz-alpha", "1.0", "zz-beta>=2")
    package(find_links, "zz-beta", "1.0")
    package(find_links, "zz-beta", "2.0")
    error = refusal(at_uv(), "zz-alpha", "zz-beta<2")
    assert isinstance(error, Rejected)
    assert error.reason == "RequirementsUnsatisfiable"
    assert "zz-beta>=2" in error.message
    assert str(find_links) not in error.message


def test_a_wheel_for_another_platform_is_rejected(at_uv, find_links):
    package(find_links, "zz-alpha", "1.0", tag="cp399-cp399-win32")
    error = refusal(at_uv(), "zz-alpha")
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
    at_uv, requirement, reason, words
):
    error = refusal(at_uv(environ={"PATH": ""}), requirement)
    assert isinstance(error, Rejected)
    assert error.reason == reason
    assert words in error.message


def test_another_ray_required_by_a_requirement_is_rejected_too(at_uv, find_links):
    package(find_links, "zz-alpha", "1.0", "ray>=99")
    error = refusal(at_uv(), "zz-alpha")
    assert isinstance(error, Rejected)
    assert "ray>=99" in error.message


def test_a_requirement_that_would_hide_ray_makes_the_environment_unusable(
    at_uv, find_links, tmp_path
):
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')\n"
    files = {"ray/__init__.py": code, "sitecustomize.py": code, "zz.pth": f"import os; {code}"}
    make_wheel(find_links, "zz-alpha", "1.0", pipelines={}, files=files)
    error = refusal(at_uv(), "zz-alpha")
    assert isinstance(error, Rejected)
    assert error.reason == "EnvironmentUnusable"
    assert "another ray" in error.message
    assert not ran.exists()  # nothing of a wheel is run
    assert places(tmp_path) == []


# -- what is nobody's fault ----------------------------------------------------------------------


def test_offline_a_missing_wheel_is_waited_for(at_uv, find_links):
    package(find_links, "zz-alpha", "1.0", "zz-missing")
    environments = at_uv()
    error = refusal(environments, "zz-alpha")
    assert isinstance(error, Waiting)
    assert error.reason == "RequirementMissingOffline"
    assert "zz-missing" in error.message
    package(find_links, "zz-missing", "1.0")
    assert environments.prepare(artifact("zz-alpha")).python is not None


def test_a_find_links_folder_that_is_not_there_is_named(at_uv, tmp_path):
    error = refusal(at_uv(find_links=(tmp_path / "absent",)), "zz-alpha")
    assert isinstance(error, Stalled)
    assert error.reason == "FindLinksMissing"
    assert "absent" in error.message


def test_an_index_that_refuses_connections_is_unreachable(at_uv):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = refusal(at_uv(offline=False, index_url=f"http://127.0.0.1:{port}/simple"), "zz-alpha")
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
def test_what_the_index_answers_decides_who_is_at_fault(at_uv, status, kind, reason):
    with index(status) as url:
        error = refusal(at_uv(offline=False, index_url=url), "zz-alpha")
    assert (type(error), error.reason) == (kind, reason)
    assert "hunter2" not in error.message + getattr(error, "log_tail", "")


def test_an_authority_of_ones_own_is_trusted_when_it_is_named_and_no_other_is(
    at_uv, tmp_path, uv_environ
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
        error = refusal(at_uv(**how), "zz-alpha")
        assert (type(error), error.reason) == (Stalled, "IndexUntrusted")
        assert "environments.ca_file" in error.message
        missing = refusal(at_uv(**how, ca_file=tmp_path / "none.pem"), "zz-alpha")
        assert (missing.reason, "none.pem" in missing.message) == ("CertificateUnreadable", True)
        environment = at_uv(**how, ca_file=ca_file).prepare(artifact("zz-alpha"))
        assert run(environment, "import zz_alpha; print(zz_alpha.VERSION)") == "1.0"
        inherited = {**uv_environ, "SSL_CERT_FILE": str(ca_file)}
        assert at_uv(**how, environ=inherited).prepare(artifact("zz-alpha")) == environment
        server.shutdown()


def test_a_package_without_wheels_is_rejected_and_named(at_uv):
    page = b'<a href="/zz-alpha-1.0.tar.gz#sha256=%s">zz-alpha-1.0.tar.gz</a>' % (b"0" * 64)
    with index(200, page) as url:
        error = refusal(at_uv(offline=False, index_url=url), "zz-alpha")
    assert isinstance(error, Rejected)
    assert "zz-alpha" in error.message
    assert "Only wheels are installed" in error.message


def test_an_index_that_never_answers_is_given_up_after_the_timeout(at_uv):
    with index(200, hold=threading.Event()) as url:
        error = refusal(at_uv(offline=False, index_url=url, timeout=0.5), "zz-alpha")
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
