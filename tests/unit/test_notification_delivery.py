"""How notifications get to real receivers on loopback that behave and that do not."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress

import pytest

from controller.config.telemetry import WebhookNotification
from controller.errors import ConfigError
from controller.telemetry.notifications import QUEUED
from tests.support.head import eventually
from tests.support.receivers import DOWN, NOW, OK, report

pytestmark = pytest.mark.unit


def test_failures_are_tried_again_until_it_is_taken(office, monkeypatch):
    office.server.answers["/hook"] = [
        (500, b"", {}),
        (503, b"", {"Retry_After": "3"}),
        (429, b"", {"Retry_After": "200"}),
        OK,
    ]
    asked = []

    def delay(attempt, *, retry_after, **_):
        asked.append((attempt, retry_after))
        return 0.0

    monkeypatch.setattr("controller.retry.delay", delay)
    told = office.notifications()
    told.observe(office.live())
    assert len({str(document) for document in office.heard(4)}) == 1
    eventually(lambda: told.counts() == {("webhook", "sent"): 1})
    assert asked == [(1, None), (2, 3.0), (3, 200.0)]


def test_a_refusal_is_dropped_counted_and_told_without_the_address(office, caplog):
    office.server.answers["/hook"] = [(404, b"no_team", {}), OK]
    told = office.notifications()
    with caplog.at_level(logging.WARNING):
        told.observe(office.live("1"))
        told.observe(office.live("2"))
        eventually(lambda: sum(told.counts().values()) == 2)
    assert told.counts() == {("webhook", "dropped"): 1, ("webhook", "sent"): 1}
    (record,) = [found for found in caplog.records if "dropped" in found.getMessage()]
    assert "404" in record.getMessage()
    assert office.server.url not in caplog.text
    assert record.wheelway.kind == "NotificationDropped"


def test_what_cannot_be_delivered_for_long_is_given_up(office, caplog):
    office.server.answers["/hook"] = (500, b"", {})
    told = office.notifications(office.webhook(give_up=0))
    told.observe(office.live())
    eventually(lambda: told.counts() == {("webhook", "dropped"): 1})
    assert len(office.server.asked) == 1


def test_a_receiver_that_hangs_holds_up_no_pass_and_no_other_receiver(office, caplog):
    office.server.answers["/slow"] = "hang"
    slow = WebhookNotification(type="webhook", name="slow", url=f"{office.server.url}/slow")
    told = office.notifications(slow, office.webhook())
    with caplog.at_level(logging.WARNING):
        for number in range(QUEUED + 20):
            told.observe(office.live(str(number)))
    eventually(lambda: told.counts().get(("webhook", "sent"), 0) >= QUEUED, 60)
    # One is being sent, the rest of those beyond the queue were the oldest.
    eventually(lambda: told.counts().get(("slow", "dropped"), 0) in {19, 20})
    told_of = [found for found in caplog.records if "slow: more than" in found.getMessage()]
    assert len(told_of) == 1
    assert told.counts().get(("slow", "sent"), 0) == 0


@pytest.fixture
def dripping():
    """A receiver that sends a beginning, and then a byte now and then for as long as it may."""
    listening, ended = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def drip(beginning):
        def answer():
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(beginning)
                while not ended.wait(0.02):
                    connection.sendall(b"x")

        thread = threading.Thread(target=answer)
        thread.start()
        threads.append(thread)
        return f"http://127.0.0.1:{listening.getsockname()[1]}/"

    threads = []
    yield drip
    ended.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    listening.close()


BODY = b"\r\nContent-Length: 999999999\r\n\r\n"


@pytest.mark.parametrize(
    ("beginning", "timeout", "result", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Long: ", 0.3, "dropped", "does not answer"),
        (b"HTTP/1.1 200 OK" + BODY, 60, "sent", ""),
        (b"HTTP/1.1 404 No" + BODY + b"no team ", 0.3, "dropped", "no team"),
        (b"HTTP/1.1 404 No" + BODY + b"no" * 5000, 60, "dropped", "nono"),
    ],
)
def test_a_receiver_that_answers_for_ever_is_left_in_time(
    office, dripping, caplog, beginning, timeout, result, said
):
    told = office.notifications(office.webhook(url=dripping(beginning), timeout=timeout, give_up=0))
    with caplog.at_level(logging.WARNING):
        told.observe(office.live())
        eventually(lambda: told.counts() == {("webhook", result): 1})
    assert said in caplog.text


def test_ending_waits_for_nobody_for_long(office):
    office.server.answers["/hook"] = "hang"
    told = office.notifications()
    for number in range(5):
        told.observe(office.live(str(number)))
    office.heard(1)
    ended = threading.Thread(target=told.close, args=(0.2,))
    ended.start()
    ended.join(60)
    assert not ended.is_alive()
    assert told.counts() == {("webhook", "dropped"): 4}


def test_ending_hands_over_what_is_queued(office):
    told = office.notifications()
    for number in range(20):
        told.observe(office.live(str(number)))
    told.close(20)
    assert told.counts() == {("webhook", "sent"): 20}


def test_addresses_and_tokens_come_from_files_that_may_change(office, tmp_path):
    address, token = tmp_path / "url", tmp_path / "token"
    token.write_text("first\n")
    told = office.notifications(office.webhook(url_file=address, token_file=token))
    told.observe(office.live("1"))
    address.write_text(f"{office.server.url}/hook\n")  # it waits for the file
    office.heard(1)
    token.write_text("second\n")
    told.observe(office.live("2"))
    office.heard(2)
    sent = [headers["authorization"] for _, _, headers, _ in office.server.asked]
    assert sent == ["Bearer first", "Bearer second"]


def test_another_configuration_keeps_the_receivers_that_stay(office):
    stays, goes = office.webhook(hold=0), office.webhook(name="goes", hold=0)
    told = office.notifications(stays, goes)
    told.observe(report(conditions=[DOWN]))
    office.heard(2)
    comes = office.webhook(name="comes", hold=0)
    office.journal.set_conditions([DOWN], NOW - 300)
    told.renew([stays, comes], ["shelf"])
    told.observe(report(conditions=[DOWN]))
    told.observe(report())
    eventually(lambda: sum(told.counts().values()) == 4)
    assert told.counts() == {
        ("webhook", "sent"): 2,
        ("goes", "sent"): 1,
        ("comes", "sent"): 1,
    }


def test_a_receiver_that_cannot_be_used_leaves_those_before_as_they_were(office, monkeypatch):
    goes = office.webhook(hold=0)
    told = office.notifications(goes)
    comes = [office.webhook(name=name, hold=0) for name in ("comes", "never")]
    before = set(threading.enumerate())
    monkeypatch.setenv("HTTPS_PROXY", "socks9://proxy")
    with pytest.raises(ConfigError, match="environment variable HTTPS_PROXY"):
        told.renew(comes, [])
    assert set(threading.enumerate()) <= before
    told.observe(report(conditions=[DOWN]))
    eventually(lambda: told.counts() == {("webhook", "sent"): 1}, 90)
