"""How much is read of an index and its files, and for how long."""

from __future__ import annotations

import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from controller.cache.wheels.store import Store
from controller.config.settings import InspectionLimits
from controller.config.sources import IndexSource as Options
from controller.errors import Rejected, Stalled, Transient
from controller.sources.simple_index.web import PACE, Web
from tests.support.canned import canned
from tests.support.hostile import hostile
from tests.support.indexes import free_port
from tests.support.simple_index import Canned, by_name, failure, leads_to

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """The machine's proxies are not for loopback."""
    monkeypatch.setenv("NO_PROXY", "*")


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [True, False])
def test_a_page_beyond_the_limit_is_not_read(length, index, connect, wheel):
    index.publish(wheel)
    page = index.page("demo")
    index.answer("/simple/demo/", Canned(page.body, headers=page.headers, length=length))
    assert len(connect(index, max_response_bytes=len(page.body)).list().revisions) == 1
    error = failure(connect(index, max_response_bytes=len(page.body) - 1))
    assert (type(error), error.reason) == (Stalled, "PageTooLarge")


def test_a_compressed_page_counts_as_large_as_it_becomes(index, connect):
    import gzip

    packed = gzip.compress(b" " * 1_000_000)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    index.answer("/simple/demo/", Canned(packed, headers=headers))
    assert failure(connect(index, max_response_bytes=100_000)).reason == "PageTooLarge"


def test_where_nothing_listens_the_index_is_unreachable(connect):
    source = connect(f"http://127.0.0.1:{free_port()}/simple")
    error = failure(source)
    assert (type(error), error.reason) == (Transient, "IndexUnreachable")
    assert source.calls == {"unreachable": 1}


def test_an_index_that_never_answers_is_given_up(connect):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = failure(connect(f"http://127.0.0.1:{port}/simple", timeout=0.2))
    assert (type(error), error.reason) == (Transient, "IndexUnreachable")
    assert "0.2 s" in error.message


@pytest.mark.parametrize("length", [True, False])
def test_a_body_that_comes_drop_by_drop_is_given_up(length, index, connect, wheel):
    index.publish(wheel)
    source = connect(index)
    [revision] = source.list().revisions
    steps = itertools.count(0.0, 100.0)
    slow = connect(index, clock=lambda: next(steps))
    with pytest.raises(Transient) as caught:
        b"".join(slow.fetch(revision))
    assert caught.value.reason == "IndexSlow"
    assert wheel.stat().st_size < 100 * PACE


@pytest.mark.parametrize(("status", "kind"), [(418, Stalled), (204, Stalled), (408, Transient)])
def test_answers_that_no_index_gives_are_told_with_their_status(status, kind, index, connect):
    index.answer("/simple/demo/", Canned(status=status))
    error = failure(connect(index))
    assert isinstance(error, kind)
    assert str(status) in error.message


# -- files -----------------------------------------------------------------------------------------


@pytest.fixture
def fetched(index, connect, wheel, tmp_path):
    """Takes a scripted file into a real store."""
    index.publish(wheel, size=None)
    source = connect(index)
    [revision] = source.list().revisions
    store = Store(tmp_path / "cache")

    def fetch(canned=None, limits=None):
        if canned is not None:
            index.once(f"/files/{wheel.name}", canned)
        return store.add(revision, source.fetch(revision), limits or InspectionLimits())

    return fetch


def test_a_file_of_unknown_size_is_whole_when_its_digest_is_right(fetched, wheel):
    assert fetched(Canned(wheel.read_bytes(), length=False)).read_bytes() == wheel.read_bytes()


def test_a_file_of_unknown_size_is_read_no_further_than_the_limit(fetched, wheel):
    with pytest.raises(Rejected) as caught:
        fetched(limits=InspectionLimits(max_size=100))
    assert caught.value.reason == "TooLarge"


@pytest.mark.parametrize("length", [True, False])
def test_a_cut_file_is_never_taken_and_the_whole_one_is_afterwards(length, fetched, wheel):
    with pytest.raises(Transient) as caught:
        fetched(Canned(wheel.read_bytes(), cut=100, length=length))
    assert caught.value.reason == ("BodyIncomplete" if length else "DigestMismatch")
    assert fetched().read_bytes() == wheel.read_bytes()


def test_wrong_bytes_are_never_taken(fetched, wheel):
    with pytest.raises(Transient) as caught:
        fetched(Canned(wheel.read_bytes()[::-1]))
    assert caught.value.reason == "DigestMismatch"


@pytest.mark.parametrize(
    ("canned", "kind", "reason"),
    [
        (Canned(status=404), Transient, "FileMissing"),
        (Canned(status=410), Transient, "FileMissing"),
        (Canned(status=401), Stalled, "IndexUnauthorized"),
        (Canned(status=403), Stalled, "IndexForbidden"),
        (Canned(status=503, headers={"Retry-After": "3"}), Transient, "IndexFailed"),
        (leads_to("http://files.invalid/x"), Stalled, "AddressRefused"),
    ],
)
def test_a_file_that_cannot_be_had_says_why(canned, kind, reason, fetched, wheel):
    with pytest.raises(kind) as caught:
        fetched(canned)
    assert caught.value.reason == reason
    assert getattr(caught.value, "retry_after", None) in {None, 3.0}
    assert fetched().read_bytes() == wheel.read_bytes()


def test_a_file_may_be_redirected_within_the_allowed(index, elsewhere, connect, wheel):
    """As indexes do that keep their files in an object store."""
    elsewhere.publish(wheel)
    index.publish(wheel)
    signed = f"{by_name(elsewhere.origin)}/files/{wheel.name}"
    index.answer(f"/files/{wheel.name}", leads_to(signed))
    source = connect(index, allowed_hosts=["localhost"])
    [revision] = source.list().revisions
    assert b"".join(source.fetch(revision)) == wheel.read_bytes()


def test_leaving_a_file_half_read_leaves_the_source_usable(index, connect, wheel):
    index.publish(wheel)
    source = connect(index)
    [revision] = source.list().revisions
    chunks = source.fetch(revision)
    assert next(chunks)
    chunks.close()
    assert b"".join(source.fetch(revision)) == wheel.read_bytes()


@pytest.mark.parametrize("answers", [["drip"], [(200, b"{}", {}), "drip"], ["trickle"]])
def test_an_answer_that_never_ends_is_given_up(monkeypatch, answers):
    """On a connection of its own, on one that was kept, and in the body."""
    with canned() as server:
        server.answers["/simple/"] = list(answers)
        options = Options(type="index", url=f"{server.url}/simple", packages=["demo"])
        with closing(Web(options)) as web:
            for _ in answers[1:]:
                assert web.page(f"{server.url}/simple/", {}).body == b"{}"
            with monkeypatch.context() as soon:
                soon.setattr("controller.sources.simple_index.web.GRACE", 0.5)
                with pytest.raises(Transient) as caught:
                    web.page(f"{server.url}/simple/", {})
            assert caught.value.reason == "IndexSlow"
            server.says("/simple/", {})
            assert web.page(f"{server.url}/simple/", {}).body == b"{}"


def test_an_answer_that_never_ends_ends_no_other(monkeypatch):
    """All go over connections that were kept: of such a one nobody sees the beginning."""
    together, given_up = threading.Barrier(3, timeout=60), threading.Event()

    def script(line, send):
        send(b"HTTP/1.1 200 OK\r\n")
        if "/never" in line:
            while not given_up.wait(0.01):
                send(b"x")
            return
        together.wait()
        send(b"content-length: 4\r\n\r\nhe")
        if "/later" in line:
            assert given_up.wait(60)
        send(b"re")

    def read(path):
        with web.opened(f"{server.url}/simple/{path}", {}) as response:
            return b"".join(web.body(response))

    with (
        hostile() as server,
        closing(Web(Options(type="index", url=f"{server.url}/simple", packages=["demo"]))) as web,
        ThreadPoolExecutor(3) as readers,
    ):
        server.script = script
        assert list(readers.map(read, ["a", "b", "c"])) == [b"here"] * 3
        wheel = readers.submit(read, "later/wheel")
        page = readers.submit(web.page, f"{server.url}/simple/later", {})
        together.wait()
        monkeypatch.setattr("controller.sources.simple_index.web.GRACE", 0.5)
        monkeypatch.setattr("controller.sources.simple_index.web.PACE", 0)  # the others may be slow
        with pytest.raises(Transient) as caught:
            read("never")
        given_up.set()
        assert caught.value.reason == "IndexSlow"
        assert [wheel.result(), page.result().body] == [b"here"] * 2
        assert server.connections == 3
