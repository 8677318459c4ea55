"""`[gateway]` of the configuration: what it may say, and how mistakes are told."""

from __future__ import annotations

import pytest

from controller.config.gateway import GatewayOptions
from controller.config.loading import parse
from controller.errors import ConfigError

pytestmark = pytest.mark.unit


def read(tmp_path, text):
    return parse(text, tmp_path / "controller.toml").gateway


def test_without_the_section_there_is_no_gateway(tmp_path):
    assert read(tmp_path, "") is None


def test_it_is_read_with_paths_from_the_files_folder(tmp_path, monkeypatch):
    text = """
        [gateway]
        listen = "[::]:8443"
        tls_certificate = "tls/server.pem"
        api_keys = "/etc/wheelway/keys"
        fallback = "http://127.0.0.1:9000/"
        [[gateway.limits]]
        name = "Acme_*"
        rate = 2
        max_body = "16MiB"
    """
    made = read(tmp_path, text)
    assert made.tls_certificate == tmp_path / "tls/server.pem"
    assert str(made.api_keys) == "/etc/wheelway/keys"
    assert made.fallback == "http://127.0.0.1:9000"
    assert (made.limits[0].name, made.limits[0].max_body) == ("acme-*", 16 * 1024**2)
    assert made.bind == "ipv6@[::]:8443"
    monkeypatch.setenv("WHEELWAY_GATEWAY__LISTEN", "127.0.0.1:81")
    assert read(tmp_path, text).bind == "ipv4@127.0.0.1:81"


@pytest.mark.parametrize(
    ("said", "line", "why"),
    [
        ("", 1, "gateway.listen: Field required"),
        ("listen = '8443'", 2, "no address with a port"),
        ("listen = '*:8443'", 2, "no address with a port"),
        ("listen = 'models.example:8443'", 2, "no address with a port"),
        ("listen = '::1:8443'", 2, "no address with a port"),
        ("listen = '127.0.0.1:0'", 2, "no address with a port"),
        ("listen = '127.0.0.1:99999'", 2, "no address with a port"),
        ("listen = '127.0.0.1:1 ssl'", 2, "no address with a port"),
        ("listen = '127.0.0.1:1'\ntls_key = 'k'", 1, "no use without `tls_certificate`"),
        ("listen = '127.0.0.1:1'\nclient_ca = 'k'", 1, "no use without `tls_certificate`"),
        ("listen = '127.0.0.1:1'\nfallback = 'http://h/app'", 3, "a host and a port alone"),
        ("listen = '127.0.0.1:1'\nfallback = 'http://u@h'", 3, "a host and a port alone"),
        ("listen = '127.0.0.1:1'\nfallback = 'ftp://h'", 3, "URL scheme"),
        ("listen = '127.0.0.1:1'\nsticky_header = 'a b'", 3, "should match pattern"),
        ("listen = '127.0.0.1:1'\nsticky_cookie = 'a) -m found'", 3, "should match pattern"),
        ("listen = '127.0.0.1:1'\nlisten_port = 1", 3, "unknown key"),
        ("listen = '127.0.0.1:1'\n[[gateway.limits]]\nname = 'a'\nrate = 0", 5, "0.1"),
        ("listen = '127.0.0.1:1'\n[[gateway.limits]]\nrate = 1", 3, "Field required"),
        ("listen = '127.0.0.1:1'\n[[gateway.limits]]\nname = ' '", 4, "must not be empty"),
    ],
)
def test_a_mistake_has_its_line(tmp_path, said, line, why):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"[gateway]\n{said}\n")
    assert f"controller.toml:{line}: gateway" in caught.value.message
    assert why in caught.value.message


def test_localhost_is_the_loopback_address():
    assert GatewayOptions(listen="localhost:80").bind == "ipv4@127.0.0.1:80"
