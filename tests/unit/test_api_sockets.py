"""The sockets of the API: where they are, for whom, and what the port tells everybody."""

from __future__ import annotations

import grp
import os
import socket
import stat
import time
from contextlib import ExitStack
from dataclasses import replace

import httpx
import pytest
from packaging.version import Version

from controller.api import Api
from controller.config.loading import parse
from controller.config.settings import Config
from controller.daemon.passes import Passes
from controller.errors import ConfigError
from controller.journal import DaemonStatus, Journal
from controller.model import Condition, Phase, Quarantine, Release, Transition
from controller.planning.overrides import Pin
from tests.support.indexes import free_port
from tests.support.service import Service, fill, on_socket, problem

pytestmark = pytest.mark.unit

IRIS = Release("iris", Version("1.0"), "ab" * 32)


@pytest.fixture
def service(tmp_path):
    with Journal.open(tmp_path) as journal:
        fill(journal)
    return Service(tmp_path)


def configured(service, text):
    config = parse(text, service.folder / "controller.toml")
    service.config = config
    return config


def test_the_socket_is_for_its_owner_and_group_and_goes_with_the_server(service):
    group = grp.getgrgid(os.getgid()).gr_name
    configured(service, f'[api]\nsocket = "here.sock"\nsocket_group = "{group}"\n')
    path = service.folder / "here.sock"
    with service.serving():
        found = path.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert found.st_gid == os.getgid()
    assert not path.exists()


def test_a_socket_that_a_killed_daemon_left_is_replaced(service):
    with service.inside() as inside:
        first = Api(inside, state=service.folder)
        first.apply(service.config.api)
        os.link(service.folder / "control.sock", service.folder / "left.sock")
        first.close()
    (service.folder / "left.sock").rename(service.folder / "control.sock")
    with service.serving() as client:
        assert client.get("/livez").status_code == 200


@pytest.mark.parametrize(
    ("options", "reason", "said"),
    [
        ('socket = "file"', "SocketUnusable", "it is no socket"),
        ('socket = "nowhere/x.sock"', "SocketUnusable", "No such file"),
        (f'socket = "{"x" * 200}"', "SocketUnusable", "at most 107 bytes"),
        ('socket_group = "no-such-group"', "SocketGroupUnusable", "no-such-group"),
        ('socket = "taken.sock"', "SocketInUse", "taken.sock"),
    ],
)
def test_what_keeps_the_socket_from_being_made_is_a_condition(service, options, reason, said):
    (service.folder / "file").write_text("precious")
    with service.inside() as inside:
        other, api = Api(inside, state=service.folder), Api(inside, state=service.folder)
        try:
            other.apply(configured(service, '[api]\nsocket = "taken.sock"\n').api)
            (found,) = api.apply(configured(service, f"[api]\n{options}\n").api)
            assert (found.subject, found.reason, found.ok) == ("api", reason, False)
            assert said in found.message
            assert not (service.folder / "control.sock").exists()
        finally:
            api.close()
            other.close()
    assert (service.folder / "file").read_text() == "precious"


def test_what_was_in_the_way_is_tried_again_and_a_lost_socket_is_made_anew(service):
    now, path = [0.0], service.folder / "control.sock"
    path.write_text("in the way")
    with service.inside() as inside:
        api = Api(inside, state=service.folder, clock=lambda: now[0])
        try:
            options = service.config.api
            assert api.apply(options)[0].reason == "SocketUnusable"
            path.unlink()
            assert api.apply(options)[0].reason == "SocketUnusable", "not at every pass"
            now[0] += 11
            assert api.apply(options) == ()
            path.unlink()
            now[0] += 11
            assert api.apply(options) == ()
            with on_socket(path) as client:
                assert client.get("/livez").status_code == 200
        finally:
            api.close()


@pytest.mark.parametrize("options", ["listen = '127.0.0.1:{port}'", 'socket = "new.sock"'])
def test_whoever_ordered_a_pass_that_moves_the_sockets_is_answered_by_the_former_one(
    service, options
):
    edited = configured(service, f"[api]\n{options.format(port=free_port())}\n").api
    make_a_pass = service._make_a_pass

    def take_up_the_edit():
        assert api.apply(edited) == ()
        make_a_pass()

    service.passes = Passes(take_up_the_edit, lambda: 60.0)
    with service.inside() as inside:
        api = Api(inside, state=service.folder)
        try:
            api.apply(Config().api)
            with on_socket(service.folder / "control.sock") as client:
                assert client.post("/v1/reconcile").json()["complete"]
            with on_socket(edited.path(service.folder)) as client:
                assert client.get("/livez").status_code == 200
        finally:
            api.close()


def test_an_edited_configuration_moves_the_socket(service):
    with service.inside() as inside:
        api = Api(inside, state=service.folder)
        try:
            api.apply(service.config.api)
            assert api.apply(configured(service, '[api]\nsocket = "new.sock"\n').api) == ()
            assert not (service.folder / "control.sock").exists()
            with on_socket(service.folder / "new.sock") as client:
                assert client.get("/livez").status_code == 200
        finally:
            api.close()


def test_the_port_tells_what_monitoring_needs_and_takes_no_orders(service):
    port = free_port()
    configured(service, f'[api]\nlisten = "127.0.0.1:{port}"\n')
    service.passes.ended(1, service.report, complete=True)
    opened = {"/healthz", "/readyz", "/livez", "/metrics", "/status.json"}
    with service.serving() as socket, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for path in opened:
            assert client.get(path).status_code == 200, path
        assert client.get("/metrics").headers["content-type"].startswith("text/plain; version=")
        document = client.get("/status.json").json()
        failed = next(r for r in document["releases"] if r["quarantine"])
        assert failed["quarantine"]["reason"] == "LoadFailed"
        assert failed["quarantine"]["log_tail"] == "", "logs are for those who may use the socket"
        assert document["daemon"]["state"] == "running"
        assert document["releases"][0]["reason"]
        for path, methods in socket.get("/openapi.json").json()["paths"].items():
            if path not in opened:
                for method in methods:
                    assert problem(client.request(method, path)) == (404, "PathUnknown")
        assert problem(client.post("/livez")) == (405, "MethodNotAllowed")
        elsewhere = client.get("/status.json", headers={"host": f"evil.example:{port}"})
        assert problem(elsewhere) == (421, "HostRefused")
        assert client.get("/livez", headers={"host": f"localhost:{port}"}).status_code == 200


def test_the_port_tells_no_causes_paths_or_persons(service):
    """Whoever asks there is anybody on the machine: free texts may hold whatever somebody wrote."""
    port, secret = free_port(), "/srv/secret of ada at https://index.acme.example"
    configured(service, f'[api]\nlisten = "127.0.0.1:{port}"\n')
    at, found = time.time(), Condition("iris", "PinUnmet", secret)
    with Journal.open(service.folder) as journal:
        journal.set_conditions([found], at)
        journal.record(Transition(IRIS, Phase.QUARANTINED, "LoadFailed", secret), at)
        journal.add_quarantine(Quarantine(IRIS, "stage", "LoadFailed", secret, "", secret, at))
        journal.order(Pin("iris", (IRIS.version,), secret, secret, at), message=secret)
        journal.set_status(DaemonStatus(1, at, secret, 0.1, os.getpid(), "0", at))
    service.passes.ended(1, replace(service.report, sentence=secret), complete=True)
    with service.serving() as socket, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        document = client.get("/status.json").json()
        assert [c["reason"] for c in document["conditions"]] == ["PinUnmet"]
        assert document["overrides"]["pins"][0]["versions"] == [str(IRIS.version)]
        for failed in (False, True):
            if failed:
                report = replace(service.report, sentence=secret, failed=True)
                service.passes.ended(2, report, complete=False)
                assert problem(client.get("/readyz")) == (503, "PassFailed")
            for path in ("/status.json", "/readyz", "/livez", "/healthz", "/metrics"):
                assert "secret" not in client.get(path).text, path
        assert "secret" in socket.get("/readyz").text
        assert secret in socket.get("/v1/status").text


def test_whoever_connects_and_says_nothing_keeps_nobody_out(service):
    port = free_port()
    configured(service, f'[api]\nlisten = "127.0.0.1:{port}"\n')
    service.passes.ended(1, service.report, complete=True)
    with ExitStack() as stack:
        on_the_socket = stack.enter_context(service.serving())
        path = str(service.folder / "control.sock")
        for number in range(150):
            loud = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            loud.sendall(b"GET /livez HTTP/1.1\r\n"[: number % 3 * 10])
            quiet = stack.enter_context(socket.socket(socket.AF_UNIX))
            quiet.connect(path)
        assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
        assert on_the_socket.get("/livez").status_code == 200


def test_a_port_that_is_taken_leaves_the_socket_open(service):
    with httpx.Client(), service.inside() as inside:
        port = free_port()
        listen = configured(service, f'[api]\nsocket = "a.sock"\nlisten = "127.0.0.1:{port}"\n').api
        first, second = Api(inside, state=service.folder), Api(inside, state=service.folder)
        try:
            assert first.apply(listen) == ()
            options = configured(service, f'[api]\nlisten = "127.0.0.1:{port}"\n').api
            (found,) = second.apply(options)
            assert found.reason == "ListenUnusable"
            with on_socket(service.folder / "control.sock") as client:
                assert client.get("/livez").status_code == 200
        finally:
            first.close()
            second.close()


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0:9180", "10.0.0.1:9180", "[::]:9180", "example.org:9180", "127.0.0.1", ":9180"),
        *("127.0.0.1:0", "127.0.0.1:70000", "::1:9180", "127.0.0.1:x", "[127.0.0.1]:9180"),
    ],
)
def test_only_this_machine_is_listened_to(tmp_path, address):
    with pytest.raises(ConfigError, match="no loopback address with a port"):
        parse(f'[api]\nlisten = "{address}"\n', tmp_path / "controller.toml")


@pytest.mark.parametrize(
    ("address", "means"),
    [
        ("127.0.0.1:9180", ("127.0.0.1", 9180)),
        ("127.8.8.8:1", ("127.8.8.8", 1)),
        ("localhost:9180", ("127.0.0.1", 9180)),
        ("[::1]:9180", ("::1", 9180)),
    ],
)
def test_every_spelling_of_loopback_is_understood(tmp_path, address, means):
    config = parse(f'[api]\nlisten = "{address}"\n', tmp_path / "controller.toml")
    assert config.api.address == means


def test_without_a_configuration_the_socket_lies_beside_the_journal(tmp_path):
    assert Config().api.path(tmp_path) == tmp_path / "control.sock"
    assert Config().api.address is None
