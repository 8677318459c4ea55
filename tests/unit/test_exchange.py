"""What bounds each exchange by HTTP goes on, whatever becomes of one of them."""

from __future__ import annotations

import socket
import threading

import httpx
import pytest

from controller import exchange
from controller.errors import ConfigError
from controller.exchange import NO_REUSE, Deadline, ExchangeTimeout
from tests.support.canned import canned
from tests.support.head import eventually

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "socks9://somebody:secret@proxy"),
        ("all_proxy", "socks5://proxy"),  # would need another distribution
        ("NO_PROXY", "[::::"),
        ("SSL_CERT_FILE", "/nowhere"),
        ("SSL_CERT_FILE", __file__),
    ],
)
def test_what_the_environment_says_wrongly_is_named_as_the_operators_mistake(
    monkeypatch, variable, value
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable) as caught:
        exchange.outward_client()
    assert "secret" not in caught.value.message


class Unendable(Deadline):
    """One that cannot be acted upon, as when the system gives no more threads."""

    def expire(self) -> None:
        self.over = True
        raise RuntimeError("can't start new thread")


def timed_out() -> None:
    """A request at which only its deadline can end the answer."""
    with canned() as server, httpx.Client(trust_env=False, limits=NO_REUSE) as client:
        server.answers["/"] = "trickle"
        threading.Timer(20, server.release.set).start()
        with pytest.raises(ExchangeTimeout):
            exchange.exchange(client, "GET", server.url, seconds=0.2, limit=1 << 20)


def test_a_deadline_that_cannot_be_acted_upon_is_told_and_the_others_still_end_theirs(caplog):
    with Unendable(0.05) as failing:
        eventually(lambda: failing.over and "can't start new thread" in caplog.text)
    timed_out()


def test_a_read_that_meets_the_limit_before_the_whole_does_is_told_alike(monkeypatch):
    monkeypatch.setattr(Deadline, "expire", lambda _: None)
    with canned() as server, httpx.Client(trust_env=False, limits=NO_REUSE) as client:
        server.answers["/"] = "hang"
        with pytest.raises(ExchangeTimeout, match=r"not complete within 0\.2 s"):
            exchange.exchange(client, "GET", server.url, seconds=0.2, limit=1 << 20)


def test_a_name_that_nobody_resolves_is_given_up_and_nothing_is_sent_later(monkeypatch):
    """The resolver of the system waits as long as its own configuration says."""
    resolver, wait = socket.getaddrinfo, threading.Event()

    def late(host, port, *others, **how):
        if host == "slow.invalid":
            assert wait.wait(60)
            host = "127.0.0.1"
        return resolver(host, port, *others, **how)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    with canned() as server, httpx.Client(trust_env=False, limits=NO_REUSE) as client:
        server.says("/", "here")
        url = server.url.replace("127.0.0.1", "slow.invalid")
        with pytest.raises(ExchangeTimeout, match=r"0\.3 s"):
            exchange.exchange(client, "PUT", url, seconds=0.3, limit=1 << 20)
        wait.set()
        eventually(
            lambda: not [one for one in threading.enumerate() if one.name == exchange.ASKING]
        )
        assert server.asked == []
        found = exchange.exchange(client, "GET", url, seconds=20, limit=1 << 20)
        assert found.text == "here"


def test_who_is_asked_by_name_fails_as_who_is_asked_by_address():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with httpx.Client(trust_env=False, limits=NO_REUSE) as client:
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(httpx.ConnectError):
                exchange.exchange(client, "GET", f"http://{host}:{port}", seconds=20, limit=1)


def test_deadlines_are_watched_anew_when_their_thread_has_ended(monkeypatch):
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    watch = exchange._Watch()
    watch._thread = ended
    monkeypatch.setattr(exchange, "_WATCH", watch)
    timed_out()
