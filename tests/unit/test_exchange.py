"""What bounds each exchange by HTTP goes on, whatever becomes of one of them."""

from __future__ import annotations

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
        eventually(lambda: failing.over and caplog.records)
    assert "can't start new thread" in caplog.text
    timed_out()


def test_deadlines_are_watched_anew_when_their_thread_has_ended(monkeypatch):
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    watch = exchange._Watch()
    watch._thread = ended
    monkeypatch.setattr(exchange, "_WATCH", watch)
    timed_out()
