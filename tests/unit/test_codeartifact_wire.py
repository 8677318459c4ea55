"""What comes over boto3's connections has an end in bytes and in time, whoever sends it."""

from __future__ import annotations

import itertools
import json
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme
from packaging.version import Version

from controller.errors import Stalled, Transient
from controller.model import Revision
from controller.sources.codeartifact import CodeArtifactSource, wire
from controller.sources.codeartifact.versions import Locator
from tests.support.hostile import HEAD, hostile

pytestmark = pytest.mark.unit

PAGE = json.dumps(
    {"defaultDisplayVersion": "1.0", "format": "pypi", "package": "demo", "versions": []}
).encode()
OK = HEAD % 200
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
BUSY = HEAD % 500 + b"content-length: 2\r\n\r\n{}"
SOON = 0.15
"""Seconds that an answer may take here; three attempts are made, with pauses of a second or two."""
AFTER_ALL = 60.0


@pytest.fixture
def server(at_standin):
    with hostile() as server:
        yield server


@pytest.fixture
def attacked(server, opened):
    return opened(packages=["demo"], endpoint_url=server.url, read_timeout=SOON)


@pytest.fixture
def asking(server, opened):
    """It waits for answers as long as a busy machine takes for good ones."""
    return opened(packages=["demo"], endpoint_url=server.url)


def page(body=PAGE):
    return OK + b"content-length: %d\r\n\r\n" % len(body) + body


def once(*parts):
    """A script that sends these."""

    def script(_line, send):
        for part in parts:
            send(part)

    return script


def refused(source):
    with pytest.raises(Transient) as caught:
        source.list()
    return caught.value


def wheel(source):
    where = str(Locator("demo", "1.0", "revision", "demo-1.0-py3-none-any.whl", "x"))
    name = "demo-1.0-py3-none-any.whl"
    revision = Revision("codeartifact", "demo", Version("1.0"), name, where, "a" * 64, None)
    return source.fetch(revision)


# -- in time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        ([], b"H"),
        ([b"HTTP/1.1 200 "], b"O"),
        ([OK, b"x-more: "], b"x"),
        ([OK + b"content-length: 1000000\r\n\r\n"], b" "),
        ([OK + b"\r\n"], b" "),
        ([CHUNKED], b"0"),
        ([CHUNKED], b"1\r\nx\r\n"),
        ([HEAD % 500 + b"content-length: 1000000\r\n\r\n"], b" "),
        ([HEAD % 100 + b"\r\n"], b"HTTP/1.1 100 X\r\n\r\n"),
    ],
    ids=[
        *("status", "reason", "header", "body", "body-to-the-end", "chunk-size", "chunks"),
        *("error", "continue"),
    ],
)
def test_an_answer_that_drips_is_given_up_at_its_deadline(server, attacked, begin, drop):
    server.drips(*begin, drop=drop)
    began = time.monotonic()
    error = refused(attacked)
    assert time.monotonic() - began < AFTER_ALL
    assert error.reason == "EndpointUnreachable"
    assert "codeartifact" in error.message
    assert server.url in error.message


def test_a_wheel_whose_bytes_never_come_to_one_is_given_up_at_its_deadline(server, opened):
    source = opened(
        packages=["demo"], endpoint_url=server.url, read_timeout=SOON, download_timeout=SOON
    )
    server.drips(CHUNKED, drop=b"0")  # the size of a chunk: not one byte of the body
    with pytest.raises(Transient) as caught:
        list(wheel(source))
    assert caught.value.reason == "DownloadBroken"


def test_a_wheel_may_take_longer_than_any_other_answer(server, opened):
    source = opened(packages=["demo"], endpoint_url=server.url, read_timeout=1.0)

    def script(_line, send):
        send(OK + b"content-length: 20\r\n\r\n")
        for _ in range(20):
            time.sleep(0.06)
            send(b"x")

    server.script = script
    began = time.monotonic()
    assert b"".join(wheel(source)) == b"x" * 20
    assert time.monotonic() - began > 1.0


# -- in bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "chunk", "reason"),
    [
        (OK + b"\r\n", b" " * 2**16, "AwsUnexpected"),
        (OK + b"content-length: 10000000000\r\n\r\n", b" " * 2**16, "AwsUnexpected"),
        (CHUNKED, b"10000\r\n" + b" " * 2**16 + b"\r\n", "AwsUnexpected"),
        (CHUNKED, b"1;" + b"x" * 2**16, "EndpointUnreachable"),
        (HEAD % 500 + b"\r\n", b" " * 2**16, "AwsUnexpected"),
        (OK + b"x-more: ", b"x" * 2**16, "EndpointUnreachable"),
        (OK, b"x-more: x\r\n" * 2**12, "EndpointUnreachable"),
        (HEAD % 100 + b"\r\n", b"HTTP/1.1 100 X\r\n\r\n" * 2**12, "AwsUnexpected"),
    ],
    ids=[
        *("body", "length", "chunks", "chunk-size", "error", "header", "headers", "continue"),
    ],
)
def test_an_answer_without_end_is_given_up_at_its_bound(
    server, opened, begin, chunk, reason, monkeypatch
):
    monkeypatch.setattr(wire, "LIMIT", 2**20)
    source = opened(packages=["demo"], endpoint_url=server.url)
    server.floods(begin, chunk=chunk)
    error = refused(source)
    assert (error.reason, source.name in error.message) == (reason, True)
    assert server.sent < 3 * 2**24  # of three attempts: what the system buffers comes with it
    if reason == "AwsUnexpected":
        assert "1048576 bytes" in error.message
        assert len(server.asked) == 1, "what is too large will be so again"


def test_a_wheels_refusal_without_end_is_given_up_as_well(server, asking, attacked, monkeypatch):
    monkeypatch.setattr(wire, "LIMIT", 2**20)
    server.floods(HEAD % 404 + b"\r\n", chunk=b" " * 2**16)
    with pytest.raises(Transient, match="1048576 bytes") as caught:
        list(wheel(asking))
    assert caught.value.reason == "AwsUnexpected"
    server.drips(HEAD % 404 + b"\r\n")
    with pytest.raises(Transient) as caught:
        list(wheel(attacked))
    assert caught.value.reason == "EndpointUnreachable"


def test_what_an_endless_answer_takes_of_the_memory_has_an_end(server, asking):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    server.floods(OK + b"\r\n", chunk=b" " * 2**20)
    assert refused(asking).reason == "AwsUnexpected"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


# -- odd ones -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"5",
        b"null",
        b"no json",
        b"\xff",
        b'{"versions": null}',
        b'{"versions": 5}',
        b'{"versions": [5]}',
        b'{"versions": [{}]}',
        b'{"versions": [{"version": "1.0", "status": "Published", "origin": 5}]}',
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:40]),
)
def test_an_answer_that_is_none_of_codeartifacts_is_told_as_that(server, opened, body):
    server.script = once(page(body))
    source = opened(packages=["demo"], endpoint_url=server.url)
    error = refused(source)
    assert error.reason == "AwsUnexpected"
    assert source.name in error.message
    assert "is `endpoint_url` right?" in error.message


# -- what it must not change ---------------------------------------------------------------------


def test_good_answers_come_over_one_connection(server, asking, clock):
    server.script = once(page())
    for _ in range(3):
        assert asking.list().revisions == ()
        clock.now += 3600
    assert len(server.asked) == 3
    assert server.connections == 1


def test_an_answer_of_many_small_parts_in_time_is_whole(server, asking):
    server.script = once(*(bytes([byte]) for byte in page()))
    assert asking.list().revisions == ()


def test_what_fails_twice_is_asked_a_third_time(server, asking):
    answers = iter([BUSY, BUSY, page()])
    server.script = lambda _line, send: send(next(answers))
    assert asking.list().revisions == ()
    assert asking.calls["ListPackageVersions"] == len(server.asked) == 3


def test_a_connection_that_ends_amid_an_answer_is_asked_again(server, asking):
    answers = itertools.chain([b"HTTP"], itertools.repeat(page()))

    def script(_line, send):
        send(answer := next(answers))
        return answer != page()

    server.script = script
    assert asking.list().revisions == ()
    assert len(server.asked) == 2


def test_authorities_are_those_that_boto3_is_told_of(at_standin, opened, monkeypatch, tmp_path):
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    with hostile(authority) as server:
        server.script = once(page())
        monkeypatch.setenv("AWS_CA_BUNDLE", str(file))
        assert opened(packages=["demo"], endpoint_url=server.url).list().revisions == ()
        monkeypatch.delenv("AWS_CA_BUNDLE")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
        assert opened(packages=["demo"], endpoint_url=server.url).list().revisions == ()
        server.drips(OK + b"content-length: 1000\r\n\r\n")
        source = opened(packages=["demo"], endpoint_url=server.url, read_timeout=SOON)
        assert refused(source).reason == "EndpointUnreachable"
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        with pytest.raises(Exception, match="is not trusted") as caught:
            opened(packages=["demo"], endpoint_url=server.url).list()
        assert caught.value.reason == "EndpointUntrusted"


def test_after_refused_credentials_authorities_and_proxies_are_read_anew(
    at_standin, opened, monkeypatch, tmp_path
):
    for name in ("NO_PROXY", "no_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    old, new, file = trustme.CA(), trustme.CA(), tmp_path / "ca.pem"
    old.cert_pem.write_to_path(str(file))
    new.cert_pem.write_to_path(str(tmp_path / "new.pem"))
    (tmp_path / "aws-config").write_text(f"[default]\nca_bundle = {file}\n")
    expired = HEAD % 403 + b"x-amzn-errortype: ExpiredTokenException\r\ncontent-length: 2\r\n\r\n{}"
    with hostile(old) as server, hostile(new) as proxy, hostile(new) as successor:
        server.script = once(expired)
        source = opened(packages=["demo"], endpoint_url=server.url)
        with pytest.raises(Stalled) as caught:
            source.list()
        assert caught.value.reason == "CredentialsExpired"
        (tmp_path / "aws-config").write_text(f"[default]\nca_bundle = {tmp_path / 'new.pem'}\n")
        monkeypatch.setenv("https_proxy", proxy.url)
        proxy.behind, successor.script = successor.url, once(page())
        assert source.list().revisions == ()
        assert len(proxy.asked) == len(successor.asked) == 1


def test_requests_go_through_the_proxy_of_the_environment(server, opened, monkeypatch):
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    where = {"packages": ["demo"], "endpoint_url": "http://codeartifact.invalid"}
    server.script = once(page())
    assert opened(**where).list().revisions == ()
    assert "http://codeartifact.invalid/" in server.asked[0]
    server.drips(OK)
    source = opened(**where, read_timeout=SOON)
    assert refused(source).reason == "EndpointUnreachable"


def test_a_proxy_that_drips_before_it_connects_is_given_up(server, opened, monkeypatch):
    for name in ("NO_PROXY", "no_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", server.url)
    server.drips(b"HTTP/1.1 200 OK\r\n", drop=b"x-more: x\r\n")
    source = opened(
        packages=["demo"], endpoint_url="https://codeartifact.invalid", connect_timeout=SOON
    )
    began = time.monotonic()
    assert refused(source).reason == "EndpointUnreachable"
    assert time.monotonic() - began < AFTER_ALL


def test_a_source_that_reads_through_a_proxys_tls_is_closed_at_once(
    at_standin, opened, monkeypatch, tmp_path
):
    for name in ("NO_PROXY", "no_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(file))
    with hostile(authority) as proxy, hostile(authority) as server, ThreadPoolExecutor(1) as pool:
        proxy.behind = server.url
        monkeypatch.setenv("https_proxy", proxy.url)
        reads = threading.Event()

        def script(_line, send):
            send(OK + b"content-length: 1000\r\n\r\n")
            reads.set()
            server.over.wait()

        server.script = script
        source = opened(packages=["demo"], endpoint_url=server.url, read_timeout=30)
        listing = pool.submit(source.list)
        assert reads.wait(AFTER_ALL)
        source.close()
        with pytest.raises(Transient) as caught:
            listing.result(AFTER_ALL)
        assert caught.value.reason == "SourceClosed"
        assert proxy.asked[0].startswith("CONNECT ")


# -- all clients ---------------------------------------------------------------------------------


def test_the_queues_answers_have_an_end(server, opened):
    url = f"{server.url}/111122223333/events"
    where = {"packages": ["demo"], "events_queue_url": url, "region": "eu-central-1"}
    server.floods(OK + b"\r\n")
    with pytest.raises(Transient, match="16777216 bytes"):
        opened(**where)._events._received()
    server.drips(OK + b"\r\n")
    source = opened(**where, read_timeout=SOON)
    with pytest.raises(Transient) as caught:
        source._events._received()
    assert caught.value.reason == "EndpointUnreachable"


def test_the_answers_to_assuming_a_role_have_an_end(server, opened, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
    where = {
        "packages": ["demo"],
        "role_arn": "arn:aws:iam::111122223333:role/poller",
        "endpoint_url": "http://127.0.0.1:9",
    }
    server.floods(OK + b"\r\n")
    assert "16777216 bytes" in refused(opened(**where)).message
    server.drips(OK + b"\r\n")
    assert refused(opened(**where, read_timeout=SOON)).reason == "EndpointUnreachable"
    assert all(line.startswith("POST / ") for line in server.asked)


def test_closing_ends_the_connections(server, asking):
    server.script = once(page())
    assert isinstance(asking, CodeArtifactSource)
    asking.list()
    assert asking._connection._wire._made
    made = asking._connection._wire
    asking.close()
    assert made._made == {}
