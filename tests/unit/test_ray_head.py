"""The Ray head as a service: its command and environment, its files, its HAProxy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from controller.configuration import load
from controller.serve import haproxy, service
from controller.serve.head import PRELOADED, Tuning

pytestmark = pytest.mark.unit


def invoke(tmp_path, **inherited):
    place = service.Place(tmp_path / "run", tmp_path / "gcs")
    return service.invocation(Tuning(), place, dashboard_port=8265, inherited=inherited)


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
    assert load(path).ray.token_file is None
    handed = tmp_path / "credentials/wheelway.ray-token"
    handed.parent.mkdir()
    handed.write_text("secret")
    assert load(path).ray.token_file == handed
    path.write_text('[ray]\ntoken_file = "mine"\n')
    assert load(path).ray.token_file == tmp_path / "mine"


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


def test_haproxy_is_the_one_that_comes_with_ray():
    variables = haproxy.variables(Path(sys.executable), {})
    assert Path(variables["WHEELWAY_HAPROXY"]).name == "haproxy"
    assert os.access(variables["RAY_SERVE_HAPROXY_BINARY_PATH"], os.X_OK)
