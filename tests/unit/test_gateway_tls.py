"""The gateway's certificate, renewed well and badly, and clients with certificates."""

from __future__ import annotations

import shutil
import ssl

import httpx
import pytest
import trustme

from controller.config.gateway import GatewayOptions
from controller.errors import ConfigError
from controller.gateway.configuration import Cluster
from tests.support.gateway import RELEASE, Ingress, place, routes, running

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def ingress():
    made = Ingress()
    yield made
    made.end()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def issued(authority, tmp_path):
    """Writes a certificate for this machine and its key, and returns the two files."""

    def issue(name="server"):
        made = authority.issue_cert("127.0.0.1", "localhost")
        certificate, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        return certificate, key

    return issue


def context(authority):
    made = ssl.create_default_context()
    authority.configure_trust(made)
    return made


def test_every_combination_of_options_passes_haproxys_own_check(tmp_path, issued, authority):
    certificate, key = issued()
    authorities = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(authorities)
    tls = {"tls_certificate": certificate, "tls_key": key, "client_ca": authorities}
    odd = tmp_path / 'it\'s a "$HOME" #1 %[src] \\x.pem'
    shutil.copy(authorities, odd)
    for number, said in enumerate(
        (
            {"listen": "[::1]:8443"},
            {"listen": "0.0.0.0:8443", **tls, "api_keys": tmp_path / "k", "access_log": False},
            {"listen": "localhost:8080", "fallback": "http://[::1]:9000"},
            {"listen": "127.0.0.1:1", "sticky_header": "X-User_Id", "sticky_cookie": "session"},
        )
    ):
        for clusters in (
            [Cluster("ray", "http://127.0.0.1:8000")],
            [Cluster("blue", "https://127.0.0.1:8000", odd), Cluster("green", "http://[::1]:1/")],
        ):
            folder = tmp_path / f"g{number}{len(clusters)}"
            folder.mkdir()
            place(GatewayOptions(**said), clusters, folder)


def test_tls_with_a_certificate_that_is_renewed(ingress, tmp_path, issued, authority):
    certificate, key = issued()
    said = {"tls_certificate": certificate, "tls_key": key}
    with running(tmp_path / "g", ingress, verify=context(authority), **said) as front:
        front.put(routes("iris/1.0"))
        answer = front.get("/predict/iris/1.0")
        assert answer.json()["headers"]["x-forwarded-proto"] == "https"
        host, port = front.options.listen.split(":")

        def serial():
            return ssl.get_server_certificate((host, int(port)), timeout=60)

        first = serial()
        issued()  # over the same files
        assert front.renew()
        assert serial() != first
        assert not front.renew()
        assert front.get("/predict/iris/1.0").headers[RELEASE] == "iris@1.0"
        assert len(list(front.folder.glob("server-*.pem"))) == 1
        assert next(front.folder.glob("server-*.pem")).stat().st_mode & 0o077 == 0


def test_a_certificate_that_is_renewed_badly_is_refused(ingress, tmp_path, issued, authority):
    certificate, key = issued()
    said = {"tls_certificate": certificate, "tls_key": key}
    with running(tmp_path / "g", ingress, verify=context(authority), **said) as front:
        front.put(routes("iris/1.0"))
        good = key.read_bytes()
        key.write_bytes(issued("other")[1].read_bytes())
        with pytest.raises(ConfigError, match=r"HAProxy refuses it: .*private key"):
            front.renew()
        for content in (b"", b"no PEM"):
            key.write_bytes(content)
            with pytest.raises(ConfigError, match=r"tls_key: .* is no PEM file"):
                front.renew()
        key.unlink()
        with pytest.raises(ConfigError, match=r"tls_key: .* cannot be read"):
            front.renew()
        front.running.reload()
        assert front.get("/predict/iris/1.0").status_code == 200
        key.write_bytes(good)
        assert not front.renew()


def test_only_clients_of_the_authority_are_served(ingress, tmp_path, issued, authority):
    certificate, key = issued()
    authorities = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(authorities)
    said = {"tls_certificate": certificate, "tls_key": key, "client_ca": authorities}
    with running(tmp_path / "g", ingress, verify=context(authority), **said) as front:
        front.put(routes("iris/1.0"))
        with pytest.raises((httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)):
            front.get("/predict/iris/1.0")
        known, stranger = context(authority), context(authority)
        known.load_cert_chain(*issued("client"))
        with httpx.Client(trust_env=False, verify=known) as client:
            assert client.get(f"{front.url}/predict/iris/1.0").status_code == 200
        foreign = trustme.CA().issue_cert("client")
        foreign.private_key_and_cert_chain_pem.write_to_path(tmp_path / "foreign.pem")
        stranger.load_cert_chain(tmp_path / "foreign.pem")
        with (
            httpx.Client(trust_env=False, verify=stranger) as client,
            pytest.raises((httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)),
        ):
            client.get(f"{front.url}/predict/iris/1.0")
