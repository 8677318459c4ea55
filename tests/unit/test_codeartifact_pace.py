"""How fast the `codeartifact` source asks while the service refuses requests as too many."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from controller.errors import Transient
from controller.sources.codeartifact import rate_limiter
from controller.sources.codeartifact.rate_limiter import FORGIVEN, RateLimiter

pytestmark = pytest.mark.unit

REFUSED, TAKEN = True, False


@pytest.fixture
def closing():
    return threading.Event()


@pytest.fixture
def pace(closing, clock):
    return RateLimiter(closing, clock=clock)


def slow_down(pace, monkeypatch):
    """From now on the next token comes after a quarter of an hour."""
    monkeypatch.setattr(rate_limiter, "SLOWEST", 0.001)
    pace._begin()
    for _ in range(40):
        pace.learn(refused=True)


def asked(pace, seconds, service):
    """What became of requests of four threads that want to send as many as they can."""
    end, answers = time.monotonic() + seconds, []

    def ask():
        while time.monotonic() < end:
            pace.acquire()
            answers.append(service())
            pace.learn(refused=answers[-1])

    with ThreadPoolExecutor(4) as askers:
        list(askers.map(lambda _: ask(), range(4)))
    return answers


def test_requests_go_at_once_until_one_was_refused_and_again_a_minute_after(
    pace, clock, closing, monkeypatch
):
    """The service takes twenty a second."""
    began, taken, mutex = time.monotonic(), [], threading.Lock()

    def service():
        with mutex:
            if len(taken) > 20 * (time.monotonic() - began):
                return REFUSED
            taken.append(1)
            return TAKEN

    answers = asked(pace, 1.5, service)
    assert answers.count(TAKEN) > answers[10:].count(REFUSED)
    clock.now += FORGIVEN + 1
    monkeypatch.setattr(
        closing, "wait", lambda seconds: seconds and pytest.fail("it waits for its turn")
    )
    for _ in range(100):
        assert pace.acquire()
        pace.learn(refused=False)


def test_nothing_is_sent_before_the_time_that_was_asked_for(pace, clock):
    pace.learn(refused=True, retry_after=30.0)
    pace.learn(refused=True, retry_after=5.0)
    assert pace.wait == 30.0
    clock.now += 25
    assert pace.wait == 5.0
    clock.now += 6
    assert pace.wait == 0.0


def test_a_step_of_the_wall_clock_changes_nothing(pace, monkeypatch):
    pace.learn(refused=True)
    pace.acquire()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 3600)
    waiting = threading.Thread(target=pace.acquire, daemon=True)
    waiting.start()
    waiting.join(30)
    assert not waiting.is_alive()


def test_what_waits_for_its_turn_goes_at_once_when_the_source_ends(pace, closing, monkeypatch):
    monkeypatch.setattr(rate_limiter, "LONGEST_WAIT", 300.0)
    slow_down(pace, monkeypatch)
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(pace.acquire) for _ in range(20)]
        closing.set()
        pace.learn(refused=True)  # the answer to one that was under way
        assert [one.result(30) for one in waiting] == [False] * 20


def test_nothing_waits_for_its_turn_longer_than_it_may(pace, monkeypatch):
    monkeypatch.setattr(rate_limiter, "LONGEST_WAIT", 0.2)
    slow_down(pace, monkeypatch)
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(pace.acquire) for _ in range(20)]
        assert [one.result(30) for one in waiting] == [False] * 20


def test_what_waits_for_its_turn_is_given_up_when_another_is_refused_for_long(
    pace, closing, monkeypatch
):
    monkeypatch.setattr(rate_limiter, "LONGEST_WAIT", 60.0)
    slow_down(pace, monkeypatch)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(pace.acquire) for _ in range(2)]
        pace.learn(refused=True, retry_after=600.0)
        assert [one.result(30) for one in waiting] == [False] * 2
    monkeypatch.setattr(closing, "wait", lambda _: pytest.fail("it is known at once"))
    assert not pace.acquire()


def test_a_turn_that_does_not_come_is_told_as_throttling(source, at_standin, monkeypatch):
    monkeypatch.setattr(rate_limiter, "LONGEST_WAIT", 0.2)
    slow_down(source._connection._rate_limiter, monkeypatch)
    with pytest.raises(Transient, match="did not come within") as caught:
        source.list()
    assert caught.value.reason == "Throttled"
    assert source.calls == {}
    assert at_standin.asked() == []
