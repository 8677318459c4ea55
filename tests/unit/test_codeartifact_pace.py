"""How fast the `codeartifact` source asks while the service refuses requests as too many."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from controller.sources.codeartifact.rate_limiter import FORGIVEN, RateLimiter

pytestmark = pytest.mark.unit

REFUSED = {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {"HTTPStatusCode": 429}}
TAKEN = {"ResponseMetadata": {"HTTPStatusCode": 200}}


@pytest.fixture
def pace(clock):
    return RateLimiter(clock=clock)


def learn(pace, parsed=TAKEN, retry_after=None):
    """As botocore tells of an answer."""
    answer = {
        "response": (None, parsed),
        "caught_exception": None,
        "attempts": 1,
        "request_dict": {"context": {}},
        "operation": None,
    }
    pace.learn(answer, refused=parsed is REFUSED, retry_after=retry_after)


def asked(pace, seconds, service):
    """What became of requests of four threads that want to send as many as they can."""
    end, answers = time.monotonic() + seconds, []

    def ask():
        while time.monotonic() < end:
            pace.acquire()
            answers.append(service())
            learn(pace, answers[-1])

    with ThreadPoolExecutor(4) as askers:
        list(askers.map(lambda _: ask(), range(4)))
    return answers


def test_requests_go_at_once_until_one_was_refused_and_again_a_minute_after(pace, clock):
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
    assert len(asked(pace, 0.3, lambda: TAKEN)) > 100


def test_nothing_is_sent_before_the_time_that_was_asked_for(pace, clock):
    learn(pace, REFUSED, 30.0)
    learn(pace, REFUSED, 5.0)
    assert pace.wait == 30.0
    clock.now += 25
    assert pace.wait == 5.0
    clock.now += 6
    assert pace.wait == 0.0


def test_a_step_of_the_wall_clock_changes_nothing(pace, monkeypatch):
    learn(pace, REFUSED)
    pace.acquire()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 3600)
    waiting = threading.Thread(target=pace.acquire, daemon=True)
    waiting.start()
    waiting.join(30)
    assert not waiting.is_alive()


def test_what_waits_for_its_turn_goes_when_the_source_ends(pace):
    learn(pace, REFUSED)
    waiting = [threading.Thread(target=pace.acquire, daemon=True) for _ in range(20)]
    for one in waiting:
        one.start()
    pace.close()
    for one in waiting:
        one.join(10)  # 20 of them would need 40 s
    assert not any(one.is_alive() for one in waiting)
