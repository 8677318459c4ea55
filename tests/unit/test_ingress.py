"""Who answers at a route, by a real server on loopback."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import closing

import httpx
import pytest
import trustme

from controller.config.settings import RayOptions
from controller.errors import Stalled
from controller.observed import Answer
from controller.serve.application import parse
from controller.serve.ingress import Ingress
from controller.serve.rendering import Renderer
from tests.support.canned import canned
from tests.support.reports import failure, reported
from wheelway.host import EncodedRoutesHost

pytestmark = pytest.mark.unit


@pytest.fixture
def server():
    with canned() as running:
        yield running


def parsed(name):
    [application] = parse({"applications": {name: reported()}})
    return application


def test_a_probe_sends_the_route_as_typed_and_reads_the_release(server):
    route = "/predict/iris/1!1.0+cu12"
    metadata = {"application": "iris-1-0a1b2c3d", "settings_error": "threshold: too high"}
    server.says(route, metadata, x_wheelway_release="iris@1!1.0+cu12+aaaaaaaa")
    answer = Ingress(server.url).probe(route)
    assert (answer.header, answer.status) == ("iris@1!1.0+cu12+aaaaaaaa", 200)
    assert answer.application == "iris-1-0a1b2c3d"
    assert answer.settings_error == "threshold: too high"


def test_of_what_a_replica_tells_of_weights_no_more_is_taken_than_a_person_reads(server):
    told = {"digest": "1" * 64, "reason": "LoadFailed", "message": "m" * 10**6, "tail": "t" * 10**6}
    server.says("/r", {"weights_error": told})
    error = Ingress(server.url).probe("/r").weights_error
    assert (error.digest, error.reason) == ("1" * 64, "LoadFailed")
    assert (len(error.message), len(error.log_tail)) == (16_000, 16_000)


def test_every_probe_is_a_connection_of_its_own(server):
    server.says("/r", {})
    ingress = Ingress(server.url)
    ingress.probe("/r")
    ingress.probe("/r")
    assert [headers["connection"] for _, _, headers, _ in server.asked] == ["close", "close"]


def test_a_route_that_nobody_holds_has_a_status_and_no_header(server):
    answer = Ingress(server.url).probe("/nothing")
    assert (answer.header, answer.status, answer.detail) == (None, 404, "not here")


@pytest.mark.parametrize(
    ("table", "known"),
    [
        ((200, b'{"/r": "ours-1"}', {}), True),
        ((200, b'{"/r": "another-head"}', {}), False),
        ((200, b"{}", {}), False),
        ((503, b"Route table is not populated yet.", {}), False),
        ((502, b"bad gateway", {}), False),
        ((404, b"the balancer shows no such page", {}), None),
    ],
)
def test_an_answer_counts_if_it_is_the_ingress_of_this_head_that_gives_it(server, table, known):
    server.answers["/-/routes"] = table
    ingress = Ingress(server.url)
    own, other = Answer(None, 404, detail="Ping http://.../-/routes"), Answer(None, 404)
    ours = Answer("iris@1.0+aaaaaaaa", 200, "ours-1")
    away = Answer(None, None, detail="refused", reached=False)
    answers = {"/own": own, "/other": other, "/ours": ours, "/away": away}
    found = ingress.vouched(answers, [parsed("ours-1")])
    assert found["/ours"] == ours
    assert found["/away"] == away
    assert found["/own"].reached is (True if known is None else known)
    assert found["/other"].reached is bool(known)


@pytest.mark.parametrize(
    ("table", "routeless"),
    [
        ((503, b"Route table is not populated yet.", {}), True),
        ((200, b"{}", {}), True),
        ((200, b'{"/r": "another-head"}', {}), False),
        ((200, b'{"/r": "ours-1"}', {}), False),
    ],
)
def test_serves_own_ingress_without_any_route_is_told_from_a_strangers(server, table, routeless):
    server.answers["/-/routes"] = table
    serves = "Path '/own' not found. Ping http://.../-/routes for available routes."
    answers = {"/own": Answer(None, 404, detail=serves), "/other": Answer(None, 404)}
    found = Ingress(server.url).vouched(answers, [parsed("ours-1")])
    assert found["/own"].routeless is routeless
    assert found["/other"].routeless is False


def test_nothing_more_is_asked_of_an_ingress_that_answers_as_ours(server):
    ours = {"/r": Answer("iris@1.0+aaaaaaaa", 200, "ours-1")}
    assert Ingress(server.url).vouched(ours, [parsed("ours-1")]) == ours
    assert server.asked == []


def test_an_ingress_that_is_not_there_or_hangs_is_an_answer_without_a_status(server):
    server.answers["/r"] = "hang"
    hanging = Ingress(server.url, timeout=0.2).probe("/r")
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        refused = Ingress(f"http://127.0.0.1:{unused.getsockname()[1]}").probe("/r")
    assert (hanging.status, refused.status) == (None, None)
    assert (hanging.reached, refused.reached) == (True, False)
    assert "Timeout" in hanging.detail
    assert "refused" in refused.detail


@pytest.mark.parametrize("how", ["hang", "drip", "trickle", "flood"])
def test_an_answer_at_a_route_that_does_not_end_is_none(server, monkeypatch, how):
    monkeypatch.setattr("controller.serve.ingress.LARGEST_ANSWER", 1 << 20)
    server.answers["/r"] = how
    answer = Ingress(server.url, timeout=60 if how == "flood" else 0.3).probe("/r")
    assert (answer.header, answer.status, answer.reached) == (None, None, True)
    assert ("Timeout" if how != "flood" else "BodyTooLarge") in answer.detail


@pytest.mark.parametrize("how", ["hang", "drip", "trickle", "flood"])
def test_a_table_of_routes_that_does_not_end_knows_nobody(server, monkeypatch, how):
    monkeypatch.setattr("controller.serve.ingress.LARGEST_ANSWER", 1 << 20)
    server.answers["/-/routes"] = how
    ingress = Ingress(server.url, timeout=60 if how == "flood" else 0.3)
    found: list[dict[str, Answer]] = []
    answers = {"/r": Answer(None, 404)}
    asking = threading.Thread(
        target=lambda: found.append(ingress.vouched(answers, [parsed("ours-1")])), daemon=True
    )
    asking.start()
    asking.join(60)
    assert [answer.reached for answer in found[0].values()] == [False]


@pytest.fixture
def secure():
    """A server by https, and the authority that signed for it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with canned() as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
        yield running.url.replace("http:", "https:"), authority, running


def test_an_ingress_by_https_is_trusted_by_the_same_authority_as_the_dashboard(secure, tmp_path):
    url, authority, running = secure
    running.says("/r", {}, x_wheelway_release="iris@1.0+aaaaaaaa")
    stranger = Ingress.connect(RayOptions(ingress_url=url)).probe("/r")
    assert (stranger.header, stranger.status) == (None, None)
    assert "set ray.ca_file" in stranger.detail
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    trusted = Ingress.connect(RayOptions(ingress_url=url, ca_file=ca_file)).probe("/r")
    assert (trusted.header, trusted.status) == ("iris@1.0+aaaaaaaa", 200)
    ca_file.write_text("nothing")
    error = failure(lambda: Ingress.connect(RayOptions(ingress_url=url, ca_file=ca_file)))
    assert (type(error), error.reason) == (Stalled, "CertificateUnreadable")


@pytest.mark.anyio
async def test_what_answers_encoded_routes_trusts_the_ingress_as_the_daemon_does(secure, tmp_path):
    url, authority, running = secure
    running.says("/predict/iris/1.0+cu1", {}, x_wheelway_release="iris@1.0+cu1+aaaaaaaa")
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    renderer = Renderer(wheelway="0.1.0")

    async def ask(**trust):
        document = renderer.encoded_routes(RayOptions(ingress_url=url, **trust))
        app = EncodedRoutesHost(document["args"]).__serve_build_asgi_app__()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/predict/iris/1.0%2Bcu1")

    stranger = await ask()
    assert (stranger.status_code, stranger.json()["reason"]) == (502, "IngressUnreachable")
    trusted = await ask(ca_file=ca_file)
    assert trusted.headers["x-wheelway-release"] == "iris@1.0+cu1+aaaaaaaa"
    ca_file.write_text("nothing")
    unusable = await ask(ca_file=ca_file)
    assert unusable.status_code == 502
    assert f"ray.ca_file {ca_file}: " in unusable.json()["detail"]


def test_a_ca_is_handed_to_replicas_for_an_ingress_by_https_alone(tmp_path):
    ca_file, renderer = tmp_path / "ca.pem", Renderer(wheelway="0.1.0")
    plain = RayOptions(ingress_url="http://127.0.0.1:8000", ca_file=ca_file)
    assert "ca_file" not in renderer.encoded_routes(plain)["args"]
    secured = RayOptions(ingress_url="https://127.0.0.1:8000", ca_file=ca_file)
    assert renderer.encoded_routes(secured)["args"]["ca_file"] == str(ca_file)
