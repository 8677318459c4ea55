"""The Ray head as a service: its command and environment, its files, its HAProxy."""

from __future__ import annotations

import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.cli.program import ExitCode
from controller.config.loading import load
from controller.errors import Stalled
from controller.rayhead import haproxy, service
from controller.rayhead.head import PRELOADED, Tuning, _why_ended, logical_cpus, start
from controller.rayhead.ports import is_free
from tests.support.canned import canned
from tests.support.head import eventually
from tests.support.indexes import free_port

pytestmark = pytest.mark.unit


def invoke(tmp_path, **inherited):
    folders = service.HeadFolders(tmp_path / "run", tmp_path / "gcs")
    return service.invocation(Tuning(), folders, dashboard_port=8265, inherited=inherited)


def test_the_head_of_the_unit_is_tuned_as_any_other(tmp_path):
    made = invoke(tmp_path)
    assert made.environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert made.environment["RAY_preload_python_modules"] == ",".join(PRELOADED)
    assert made.environment["RAY_gcs_storage_path"] == str(tmp_path / "gcs")
    assert made.environment["RAY_worker_niceness"] == "0"
    assert "--node-ip-address=127.0.0.1" in made.arguments
    assert "--port=6379" in made.arguments


def test_what_the_operator_sets_wins_over_what_is_tuned(tmp_path):
    inherited = {"RAY_SERVE_HAPROXY_NBTHREAD": "9", "RAY_worker_niceness": "10"}
    made = invoke(tmp_path, **inherited, RAY_ADDRESS="elsewhere:6379")
    assert made.environment.items() >= inherited.items()
    assert "RAY_ADDRESS" not in made.environment


def test_a_token_that_was_handed_over_is_asked_for(tmp_path):
    assert "RAY_AUTH_MODE" not in invoke(tmp_path, CREDENTIALS_DIRECTORY=str(tmp_path)).environment
    (tmp_path / "wheelway.ray-token").write_text("secret")
    made = invoke(tmp_path, CREDENTIALS_DIRECTORY=str(tmp_path))
    assert made.environment["RAY_AUTH_MODE"] == "token"
    assert made.environment["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "wheelway.ray-token")


def test_the_daemon_presents_the_token_that_was_handed_over(tmp_path, monkeypatch):
    path = tmp_path / "controller.toml"
    path.write_text("")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(path).ray.token_file is None
    handed = tmp_path / "credentials/wheelway.ray-token"
    handed.parent.mkdir()
    handed.write_text("secret")
    assert load(path).ray.token_file == handed
    path.write_text('[ray]\ntoken_file = "mine"\n')
    assert load(path).ray.token_file == tmp_path / "mine"


def test_the_daemon_presents_the_token_that_ray_s_own_clients_find(tmp_path, monkeypatch):
    path = tmp_path / "controller.toml"
    path.write_text("")
    for name in ("CREDENTIALS_DIRECTORY", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    left = tmp_path / ".ray/auth_token"  # as `ray.init()` leaves it
    left.parent.mkdir()
    left.write_text("secret")
    assert load(path).ray.token_file == left
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert load(path).ray.token_file == path
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert load(path).ray.token_file is None


def test_of_earlier_heads_the_newest_sessions_stay(tmp_path):
    names = [f"session_2025-11-{day:02}_10-00-00_000001_7" for day in range(1, 6)]
    for name in names:
        (tmp_path / name / "logs").mkdir(parents=True)
    (tmp_path / "session_latest").symlink_to(names[-1])
    (tmp_path / "ray_current_cluster").write_text("")
    service.forget_sessions(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names[-3:], "session_latest", "ray_current_cluster"}


def test_haproxy_opens_only_the_routes_to_the_network(tmp_path):
    settings = tmp_path / "haproxy.cfg"
    settings.write_text(
        "defaults\n    timeout client 60s\n    timeout http-keep-alive 90s\n"
        "    option splice-request\n    option splice-response\n"
        "frontend prometheus\n    bind :9101\n    mode http\n"
        "frontend http_frontend\n    bind 0.0.0.0:8000\n"
        "listen stats\n  bind *:8404\n  stats enable\n"
    )
    real = tmp_path / "haproxy"
    real.write_text('#!/bin/sh\necho "$@"\n')
    real.chmod(0o755)
    variables = haproxy.variables(
        Path(sys.executable), {"RAY_SERVE_HAPROXY_BINARY_PATH": str(real)}
    )
    done = subprocess.run(
        [variables["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-f", settings, "-sf", "12"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"-db -f {settings} -sf 12\n"
    assert re.findall(r"bind (\S+)", settings.read_text()) == [
        "127.0.0.1:9101",
        "0.0.0.0:8000",
        "127.0.0.1:8404",
    ]
    assert re.findall(r"timeout (\S+) (\S+)", settings.read_text()) == [
        ("http-request", "10s"),
        ("tunnel", "1h"),
        ("client", "60s"),
        ("http-keep-alive", "20s"),
    ]
    assert re.findall(r"option (\S+)", settings.read_text()) == ["forwardfor", "splice-response"]


def test_haproxys_limits_are_those_of_the_machine_and_of_the_longest_request(tmp_path):
    made = invoke(tmp_path)
    assert made.environment["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == "930"
    assert "--labels=wheelway-hard-stop=930" in made.arguments
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    connections = str(haproxy.connections(descriptors))
    assert made.environment["RAY_SERVE_HAPROXY_MAXCONN"] == connections
    assert made.environment["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"] == "60"
    chosen = invoke(tmp_path, RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S="77")
    assert "--labels=wheelway-hard-stop=77" in chosen.arguments


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [(-1, 50_000), (1 << 20, 50_000), (20_000, 6333), (4096, 1032), (1024, 100)],
)
def test_there_are_as_many_connections_as_descriptors_allow(descriptors, connections):
    assert haproxy.connections(descriptors) == connections
    assert descriptors < 1300 or connections * 2.5 + 500 < descriptors


@pytest.mark.parametrize(
    ("cores", "cpus"), [(1, 16), (2, 16), (8, 32), (16, 64), (64, 64), (96, 96)]
)
def test_a_head_hands_out_some_cpus_a_core_wherever_it_runs(tmp_path, monkeypatch, cores, cpus):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert logical_cpus(cores) == cpus
    assert f"--num-cpus={cpus}" in invoke(tmp_path).arguments


def answered(address, request, seconds=100):
    """What comes back for bytes sent, and after how long the connection ended."""
    began = time.monotonic()
    with socket.create_connection(address) as connection:
        connection.settimeout(seconds)
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
    return received, time.monotonic() - began


def test_a_connection_on_which_nothing_comes_ends_soon_and_a_slow_answer_is_waited_for(tmp_path):
    """HAProxy itself, with what Ray's template writes, and the waits shortened."""
    with canned() as slow:
        port, settings = free_port(), tmp_path / "haproxy.cfg"
        settings.write_text(
            "global\n    maxconn 50\ndefaults\n    mode http\n    timeout connect 5s\n"
            "    timeout client 120s\n    timeout http-keep-alive 90s\n"
            f"frontend http_frontend\n    bind 127.0.0.1:{port}\n    default_backend b\n"
            f"backend b\n    server s {slow.url.removeprefix('http://')}\n"
        )
        variables = haproxy.variables(Path(sys.executable), {})
        script = tmp_path / "script"
        shortened = haproxy.SCRIPT.read_text().replace("request 10s", "request 1s")
        script.write_text(shortened.replace("120s/", "11s/"))
        script.chmod(0o755)
        slow.says("/", "here")
        slow.answers["/slow"] = "hang"
        with subprocess.Popen(
            [script, "-db", "-f", settings], env={**os.environ, **variables}
        ) as process:
            try:
                here = ("127.0.0.1", port)
                eventually(lambda: not is_free(port))
                received, seconds = answered(here, b"")
                assert received.startswith(b"HTTP/1.1 408")
                assert seconds < 60  # not the client's 120 s
                received, seconds = answered(here, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                assert received.endswith(b"here")
                assert seconds < 60  # not Ray's 90 s
                threading.Timer(4, slow.release.set).start()
                _, seconds = answered(here, b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
                assert seconds >= 3.5
            finally:
                process.terminate()


def test_haproxy_is_the_one_that_comes_with_ray():
    variables = haproxy.variables(Path(sys.executable), {})
    assert Path(variables["WHEELWAY_HAPROXY"]).name == "haproxy"
    assert os.access(variables["RAY_SERVE_HAPROXY_BINARY_PATH"], os.X_OK)


def test_the_command_says_how_long_requests_may_last_and_how_much_fits(tmp_path):
    words = ["ray-head", "--longest-request", "30m", "--num-cpus", "3", "--show"]
    shown = CliRunner().invoke(app, [*words, "--run-dir", str(tmp_path)]).stdout
    assert "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S=1830" in shown
    assert "--num-cpus=3" in shown
    assert "--labels=wheelway-hard-stop=1830" in shown
    for odd in ("soon", "nan", "0", "2d"):
        refused = CliRunner().invoke(app, ["ray-head", "--longest-request", odd, "--show"])
        assert (refused.exit_code, refused.stdout) == (ExitCode.USAGE, "")
    assert Tuning(3).room.startswith("it hands out 3 CPUs (--num-cpus), of which a replica takes 1")


def test_the_command_says_what_it_hands_out_before_it_becomes_a_head(tmp_path, monkeypatch):
    monkeypatch.setattr(service, "become", lambda *_: None)
    said = CliRunner().invoke(app, ["ray-head", "--num-cpus", "3", "--run-dir", str(tmp_path)])
    assert "it hands out 3 CPUs (--num-cpus)" in said.stderr


def test_a_port_that_something_else_holds_is_said():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Stalled, match=f"holds port {port}, where Ray's dashboard"):
            start(Tuning(), dashboard_port=port)


def test_another_ray_on_the_machine_is_told_as_that_and_not_as_rays_traceback():
    said = (
        "  File scripts.py, line 1062, in start\nConnectionError: Ray is trying to start at "
        "127.0.0.1:6379, but is already running at 127.0.0.1:6379. Please specify a different port"
    )
    told = _why_ended(said, "http://127.0.0.1:8266")
    assert "another Ray runs on this machine already, at 127.0.0.1:6379" in told
    assert "--dashboard-port" in told
    assert "File" not in told
    assert _why_ended("no such option", "http://x").endswith("\nno such option")
