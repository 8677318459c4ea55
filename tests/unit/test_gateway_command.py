"""`wheelway gateway`, and what `wheelway config check` finds of it."""

from __future__ import annotations

import signal
import subprocess
import sys

import httpx
import pytest

from controller.gateway.commit import drift
from controller.gateway.routing import table
from controller.gateway.runtime import Runtime
from tests.support.gateway import Ingress, routes, until
from tests.support.indexes import free_port

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def ingress():
    made = Ingress()
    yield made
    made.end()


def as_command(folder, *lines):
    """The configuration's file, and `wheelway gateway` by it."""
    file = folder / "controller.toml"
    file.write_text("\n".join([f'paths.state = "{folder}/state"', *lines]))
    return [sys.executable, "-m", "controller", "--config", str(file), "gateway"]


def test_the_command_goes_on_as_haproxy_with_the_table_that_is_there(ingress, tmp_path):
    port, state = free_port(), tmp_path / "state"
    command = as_command(
        tmp_path,
        f'ray.ingress_url = "{ingress.url}"',
        f'gateway.listen = "127.0.0.1:{port}"',
        "gateway.access_log = false",
    )
    (state / "gateway").mkdir(parents=True)
    made = table(routes("iris/1.0"))
    (state / "gateway/routes.map").write_text(made.text)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        until(lambda: answers(f"http://127.0.0.1:{port}/predict/iris/1.0"))
        admin = Runtime(state / "gateway/admin.sock")
        assert drift(made, state / "gateway", admin, whole=True) == ""
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        assert again.returncode != 0
        assert "a gateway runs in" in again.stderr
        run.send_signal(signal.SIGUSR1)
        _, said = run.communicate(timeout=60)
        assert run.returncode == 0, said


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "there is no [gateway]"),
        (('gateway.listen = "127.0.0.1:1"', 'gateway.binary = "/no/haproxy"'), "no program"),
        (('gateway.listen = "127.0.0.1:1"', 'gateway.tls_certificate = "/no.pem"'), "cannot be r"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, lines, said):
    (tmp_path / "state").mkdir()
    done = subprocess.run(as_command(tmp_path, *lines), capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def answers(url):
    try:
        return httpx.get(url, trust_env=False, timeout=60).is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("template", "keys", "said"),
    [
        ("", "web secret", "keys:1: what follows web is no SHA-256"),
        ("{{ listn }}", "", "haproxy.cfg.j2:1: 'listn' is undefined"),
        ("nonsense here", "", "HAProxy refuses it: parsing [candidate.cfg:1]: unknown"),
    ],
)
def test_config_check_finds_what_only_haproxy_would(tmp_path, template, keys, said):
    (tmp_path / "keys").write_text(keys)
    own = tmp_path / "templates"
    own.mkdir()
    lines = ['gateway.listen = "127.0.0.1:1"', f'gateway.api_keys = "{tmp_path}/keys"']
    check = [*as_command(tmp_path, f'paths.templates = "{own}"', *lines)[:-1], "config", "check"]
    right = subprocess.run(check, capture_output=True, text=True, check=False)
    if not keys:
        assert right.returncode == 0, right.stderr
        assert "does not heed it yet" in right.stdout
    if template:
        (own / "haproxy.cfg.j2").write_text(template)
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert said in done.stderr
