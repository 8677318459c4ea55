"""Where an index may lead, what proof it gets to see."""

from __future__ import annotations

import base64
import ssl

import pytest
import trustme

from controller.errors import ConfigError, Stalled
from controller.sources.simple_index.web import MAX_HOPS
from tests.support.simple_index import Canned, SimpleIndex, by_name, failure, leads_to

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def secure(authority):
    """An index by https."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    with SimpleIndex(tls=context) as index:
        yield index


@pytest.fixture
def ca_file(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


# -- redirects -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_on_the_same_host_is_followed_and_links_start_there(
    status, index, connect, wheel
):
    index.publish(wheel, url="../../files/" + wheel.name)
    index.once("/simple/demo/", leads_to("/new/simple/demo/", status))
    index.answer("/new/simple/demo/", index.page("demo"))
    [revision] = connect(index).list().revisions
    assert revision.locator == f"{index.origin}/new/files/{wheel.name}"


def test_a_page_that_moved_is_not_taken_for_unchanged(index, connect, wheel):
    index.publish(wheel)
    source = connect(index)
    source.list()
    elsewhere = index.page("demo")
    index.answer("/simple/demo/", leads_to("/moved/"))
    index.once("/moved/", Canned(status=304))
    index.answer("/moved/", elsewhere)
    assert len(source.list().revisions) == 1
    assert [asked.headers.get("if-none-match") for asked in index.asked][-1] is None


def test_a_redirect_to_another_host_is_refused_until_that_is_allowed(
    index, elsewhere, connect, wheel
):
    elsewhere.publish(wheel)
    target = by_name(elsewhere.url) + "/demo/"
    index.answer("/simple/demo/", leads_to(target + "?signature=secret"))
    error = failure(connect(index))
    assert (type(error), error.reason) == (Stalled, "AddressRefused")
    assert "localhost" in error.message
    assert "allowed_hosts" in error.message
    assert "secret" not in error.message
    assert elsewhere.asked == []
    assert len(connect(index, allowed_hosts=["localhost"]).list().revisions) == 1


def test_a_file_on_another_host_is_refused_until_that_is_allowed(index, elsewhere, connect, wheel):
    elsewhere.publish(wheel)
    index.publish(wheel, url=f"{by_name(elsewhere.origin)}/files/{wheel.name}")
    source = connect(index)
    [revision] = source.list().revisions
    with pytest.raises(Stalled) as caught:
        b"".join(source.fetch(revision))
    assert caught.value.reason == "AddressRefused"
    assert elsewhere.asked == []
    allowed = connect(index, allowed_hosts=["LocalHost"])
    assert b"".join(allowed.fetch(revision)) == wheel.read_bytes()


@pytest.mark.parametrize(
    ("pattern", "host", "allowed"),
    [
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "badexample.com", False),
        ("example.com", "a.example.com", False),
    ],
)
def test_a_star_stands_for_all_hosts_below(pattern, host, allowed, index, connect):
    source = connect(index, allowed_hosts=[pattern])
    assert source._web._is_allowed(host) is allowed


@pytest.mark.parametrize(
    "target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "http://[", "//"]
)
def test_a_redirect_to_what_is_no_http_address_is_refused(target, index, connect):
    index.answer("/simple/demo/", leads_to(target))
    assert failure(connect(index)).reason == "AddressRefused"


def test_redirects_end(index, connect):
    index.answer("/simple/demo/", leads_to("/simple/demo/"))
    error = failure(connect(index))
    assert error.reason == "AddressRefused"
    assert len(index.asked) == MAX_HOPS + 1


def test_https_never_leads_to_http(index, secure, connect, ca_file, wheel):
    index.publish(wheel)
    secure.answer("/simple/demo/", leads_to(index.url + "/demo/"))
    source = connect(secure, ca_file=ca_file)
    error = failure(source)
    assert error.reason == "AddressRefused"
    assert "https to http" in error.message
    secure.answer("/simple/demo/", None)
    secure.publish(wheel, url=f"{index.origin}/files/{wheel.name}")
    [revision] = source.list().revisions
    with pytest.raises(Stalled, match="https to http"):
        b"".join(source.fetch(revision))
    assert index.asked == []


def test_not_even_by_way_of_an_index_that_began_with_http(
    index, elsewhere, secure, connect, ca_file
):
    index.answer("/simple/demo/", leads_to(secure.url + "/demo/"))
    secure.answer("/simple/demo/", leads_to(elsewhere.url + "/demo/"))
    error = failure(connect(index, ca_file=ca_file))
    assert "https to http" in error.message
    assert elsewhere.asked == []


# -- certificates ----------------------------------------------------------------------------------


def test_an_authority_that_is_named_is_trusted_and_no_other_is(secure, connect, ca_file, wheel):
    secure.publish(wheel)
    error = failure(connect(secure))
    assert (type(error), error.reason) == (Stalled, "IndexUntrusted")
    assert "ca_file" in error.message
    assert len(connect(secure, ca_file=ca_file).list().revisions) == 1


def test_an_authority_that_cannot_be_read_is_told_of_until_it_can(
    secure, connect, ca_file, tmp_path, wheel
):
    secure.publish(wheel)
    missing = tmp_path / "missing.pem"
    source = connect(secure, ca_file=missing)
    error = failure(source)
    assert (type(error), error.reason) == (Stalled, "CertificateUnreadable")
    assert str(missing) in error.message
    missing.write_bytes(ca_file.read_bytes())
    assert len(source.list().revisions) == 1


def test_a_proxy_that_cannot_be_used_is_told_as_the_environments_mistake(
    index, connect, monkeypatch
):
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTP_PROXY", "socks9://proxy")
    error = failure(connect(index))
    assert (type(error), error.reason) == (ConfigError, "ConfigInvalid")
    assert "HTTP_PROXY" in error.message


# -- credentials -----------------------------------------------------------------------------------


@pytest.fixture
def ways(tmp_path):
    """Each way to give credentials, with the header that must come of it."""
    password, token, netrc = (tmp_path / name for name in ("password", "token", "netrc"))
    password.write_text("pässword\n")
    token.write_text(" a.b-c \n")
    netrc.write_text("machine 127.0.0.1 login alice password secret\n")
    basic = {
        who: "Basic " + base64.b64encode(who.encode()).decode()
        for who in ("alice:pässword", "alice:secret")
    }
    return {
        "password": (
            {"username": "alice", "password_file": password},
            basic["alice:pässword"],
        ),
        "token": ({"token_file": token}, "Bearer a.b-c"),
        "netrc": ({"netrc": netrc}, basic["alice:secret"]),
    }


@pytest.mark.parametrize("way", ["password", "token", "netrc"])
def test_credentials_go_to_the_index_with_every_request(way, ways, index, connect, wheel):
    options, expected = ways[way]
    index.publish(wheel)
    source = connect(index, **options)
    b"".join(source.fetch(source.list().revisions[0]))
    assert [asked.headers.get("authorization") for asked in index.asked] == [expected] * 2


@pytest.mark.parametrize("way", ["password", "token", "netrc"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_credentials_go_nowhere_else(way, host, ways, index, elsewhere, connect, wheel):
    """Neither to another host nor to another port of the same one."""
    options, _ = ways[way]
    elsewhere.publish(wheel)
    target = elsewhere.url.replace("127.0.0.1", host)
    index.answer("/simple/demo/", leads_to(target.replace("://", "://user:word@") + "/demo/"))
    source = connect(index, allowed_hosts=["localhost"], **options)
    b"".join(source.fetch(source.list().revisions[0]))
    assert len(elsewhere.asked) == 2
    assert all("authorization" not in asked.headers for asked in elsewhere.asked)


def test_cookies_are_not_kept(index, connect, wheel):
    index.publish(wheel)
    page = index.page("demo")
    cookie = {**page.headers, "Set-Cookie": "session=1; Path=/"}
    index.once("/simple/demo/", Canned(page.body, headers=cookie))
    source = connect(index)
    source.list()
    source.list()
    assert all("cookie" not in asked.headers for asked in index.asked)


def test_a_renewed_token_is_used_at_once(index, connect, wheel, tmp_path):
    index.publish(wheel)
    token = tmp_path / "token"
    token.write_text("first")
    source = connect(index, token_file=token)
    source.list()
    token.write_text("the second")
    source.list()
    sent = [asked.headers["authorization"] for asked in index.asked]
    assert sent == ["Bearer first", "Bearer the second"]


@pytest.mark.parametrize(
    ("way", "content"),
    [
        ("password", None),
        ("password", b""),
        ("password", b"one\ntwo"),
        ("password", b"\xff\xfe\x00"),
        ("token", b"  \n"),
        ("token", "tökén".encode()),
        ("netrc", None),
        ("netrc", b"machine elsewhere login a password hunter2"),
        ("netrc", b"machine 127.0.0.1 login a"),
        ("netrc", b"hunter2 hunter2"),
        ("netrc", b"\xff\xfe"),
    ],
)
def test_credentials_that_cannot_be_read_are_told_of_and_nothing_is_asked(
    way, content, ways, index, connect
):
    options, _ = ways[way]
    path = next(value for key, value in options.items() if key != "username")
    path.unlink() if content is None else path.write_bytes(content)
    error = failure(connect(index, **options))
    assert (type(error), error.reason) == (Stalled, "CredentialsUnreadable")
    assert str(path) in error.message
    assert "hunter2" not in error.message
    assert index.asked == []


def test_an_index_that_wants_credentials_says_where_to_put_them(index, connect, ways):
    index.answer("/simple/demo/", Canned(status=401))
    assert "password_file" in failure(connect(index)).message
    options, _ = ways["token"]
    renew = failure(connect(index, **options))
    assert (renew.reason, "token" in renew.message) == ("IndexUnauthorized", True)
    assert "a.b-c" not in renew.message
    index.answer("/simple/demo/", Canned(status=403))
    assert failure(connect(index, **options)).reason == "IndexForbidden"


def test_an_index_that_moved_to_another_address_is_told_to_be_configured_there(
    index, elsewhere, connect, ways
):
    options, _ = ways["token"]
    index.answer("/simple/demo/", leads_to(elsewhere.url + "/demo/"))
    elsewhere.answer("/simple/demo/", Canned(status=401))
    error = failure(connect(index, **options))
    assert index.url in error.message
    assert "set `url`" in error.message
