"""What passes through the gateway: streams, upgrades, large bodies; and what takes long."""

from __future__ import annotations

import re
import socket

import httpx
import pytest

from controller.gateway.routing import ApiKey
from controller.templates import shipped
from tests.support.gateway import Ingress, digest, routes, running, until

pytestmark = pytest.mark.unit

PATH = "/predict/iris/1.0"


@pytest.fixture(scope="module")
def ingress():
    made = Ingress()
    yield made
    made.end()


@pytest.fixture(scope="module")
def front(ingress, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    own = folder / "own"
    own.mkdir()
    text = (shipped() / "haproxy.cfg.j2").read_text()
    for name, seconds in (("server", "2s"), ("http-request", "1s")):
        text, count = re.subn(rf"(timeout {name}) .*", rf"\1 {seconds}", text)
        assert count == 1
    (own / "haproxy.cfg.j2").write_text(text)
    with running(folder / "g", ingress, template=own, access_log=False) as front:
        front.put(routes("iris/1.0"))
        yield front


@pytest.fixture(autouse=True)
def as_new(ingress):
    ingress.asked.clear()
    ingress.answers.clear()
    ingress.go_on.clear()
    ingress.left.clear()


def connected(front):
    host, port = front.options.listen.split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def test_a_stream_arrives_piece_by_piece(front, ingress):
    ingress.answers[PATH] = "stream"
    with front.client.stream("POST", front.url + PATH, content=b"{}") as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"one"
        ingress.go_on.set()
        assert b"".join(pieces) == b"two"


def test_a_reload_does_not_cut_a_stream(front, ingress):
    ingress.answers[PATH] = "stream"
    with front.client.stream("POST", front.url + PATH, content=b"{}") as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"one"
        front.running.reload()
        ingress.go_on.set()
        assert b"".join(pieces) == b"two"


def test_an_upgraded_connection_is_passed_through(front, ingress):
    ingress.answers[f"{PATH}/ws"] = "upgrade"
    with connected(front) as stream:
        head = "connection: Upgrade\r\nupgrade: websocket\r\nhost: x\r\n"
        head += "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        stream.sendall(f"GET {PATH}/ws HTTP/1.1\r\n{head}\r\n".encode())
        assert stream.recv(65536).startswith(b"HTTP/1.1 101 ")
        for said in (b"ping", b"pong"):
            stream.sendall(said)
            assert stream.recv(65536) == said


def test_large_bodies_and_bodies_of_unknown_length_arrive_whole(front, ingress):
    front.get(PATH, "POST", content=b"x" * 5_000_000)
    assert len(ingress.asked[0]["body"]) == 5_000_000


def test_who_expects_leave_to_send_gets_it(front, ingress):
    with connected(front) as stream:
        head = "host: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n"
        stream.sendall(f"POST {PATH} HTTP/1.1\r\n{head}\r\n".encode())
        assert stream.recv(65536).startswith(b"HTTP/1.1 100 ")
        stream.sendall(b"{}")
        assert b"HTTP/1.1 200 " in stream.recv(65536)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT"])
def test_methods_are_the_pipelines_business(front, ingress, method):
    assert front.get(PATH, method).status_code == 200
    assert ingress.asked[0]["method"] == method
    problem = front.get("/predict/no/1", method)
    assert problem.status_code == 404
    assert bool(problem.content) == (method != "HEAD")


def test_http2_is_understood(front):
    with connected(front) as stream:
        stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        head = stream.recv(9)
        assert head[3] == 4  # SETTINGS: RFC 9113, 6.5


def test_a_client_that_leaves_is_not_computed_for(ingress, tmp_path):
    ingress.answers[PATH] = "hang"
    with running(tmp_path / "g", ingress, access_log=False) as front:
        front.put(routes("iris/1.0"))
        with connected(front) as stream:
            stream.sendall(f"GET {PATH} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            until(lambda: ingress.asked)
        assert ingress.left.wait(60)  # `timeout server` is longer


def test_a_cluster_that_does_not_answer_is_a_problem(front, ingress):
    ingress.answers[PATH] = "hang"
    answer = front.get(PATH)
    assert answer.status_code == 504
    assert answer.headers["x-wheelway-gateway"] == answer.json()["reason"] == "NoAnswer"
    assert answer.json()["instance"] == answer.headers["x-request-id"]
    assert ingress.left.wait(60)


def test_a_request_that_does_not_come_is_ended(front):
    """By HAProxy's parser, which knows no documents of ours."""
    with connected(front) as stream:
        stream.sendall(b"GET /predict")
        assert stream.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_key_is_taken_however_its_scheme_is_written(ingress, tmp_path):
    keys = (ApiKey("me", digest("s3cret==")),)
    with running(tmp_path / "g", ingress, api_keys=tmp_path / "k", access_log=False) as front:
        front.put(routes("iris/1.0", keys=keys))
        for scheme in ("Bearer", "bearer"):
            headers = {"authorization": f"{scheme} s3cret=="}
            assert front.get(PATH, headers=headers).status_code == 200
        for wrong in ("Basic s3cret==", "Bearer", "s3cret==", "Bearer s3cret== x"):
            assert front.get(PATH, headers={"authorization": wrong}).status_code == 401
        twice = [("authorization", "Bearer no"), ("x-api-key", "s3cret==")]
        assert httpx.get(front.url + PATH, headers=twice, trust_env=False).status_code == 401
