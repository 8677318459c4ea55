"""Background work: once at a time, retried with backoff, never lost."""

import gc
import logging
import threading
import weakref

import pytest

from controller.errors import Rejected, Transient
from controller.jobs import Jobs

pytestmark = pytest.mark.unit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def inline(clock=None):
    return Jobs(0, lambda: None, clock=clock or Clock(), jitter=lambda: 0.0)


def test_a_job_that_succeeded_is_not_done_again():
    jobs, calls = inline(), []
    for _ in range(3):
        outcome = jobs.ensure(("key",), lambda: calls.append(1) or "value")
    assert outcome.value == "value"
    assert calls == [1]


def test_a_passing_failure_is_tried_again_only_after_its_backoff():
    clock, calls = Clock(), []
    jobs = inline(clock)

    def work():
        calls.append(clock.now)
        raise Transient("Down", "the index is down", retry_after=3)

    assert jobs.ensure(("key",), work).error.reason == "Down"
    clock.now = 3.4
    jobs.ensure(("key",), work)
    clock.now = 3.6
    jobs.ensure(("key",), work)
    assert calls == [0.0, 3.6]


def test_a_final_failure_is_not_tried_again_until_forgiven():
    jobs, calls = inline(), []

    def work():
        calls.append(1)
        raise Rejected("NotAZip", "no zip")

    jobs.ensure(("key",), work)
    jobs.ensure(("key",), work)
    assert calls == [1]
    jobs.forgive(lambda key: key == ("key",))
    jobs.ensure(("key",), work)
    assert calls == [1, 1]


def test_a_bug_in_a_job_is_reported_as_an_error_and_not_swallowed():
    jobs = inline()
    outcome = jobs.ensure(("key",), lambda: 1 / 0)
    assert outcome.error.reason == "InternalError"
    assert isinstance(outcome.error.__cause__, ZeroDivisionError)


def test_a_running_job_is_not_started_twice_and_wakes_when_it_ends():
    started, release, woken = threading.Event(), threading.Event(), threading.Event()
    calls = []
    jobs = Jobs(2, woken.set)

    def work():
        calls.append(1)
        started.set()
        assert release.wait(10)
        return "done"

    assert jobs.ensure(("key",), work) is None
    assert started.wait(10)
    assert jobs.ensure(("key",), work) is None
    release.set()
    assert woken.wait(10)
    assert jobs.ensure(("key",), work).value == "done"
    assert calls == [1]
    jobs.close()


def test_work_with_threads_of_its_own_waits_for_no_other():
    release, listed = threading.Event(), threading.Event()
    jobs = Jobs(2, lambda: None, apart={"list": 1})
    try:
        for number in range(4):
            jobs.ensure(("prepare", str(number)), lambda: release.wait(60))
        jobs.ensure(("list", "directory"), listed.set)
        assert listed.wait(30)
        assert jobs.running(("prepare", "0"))
    finally:
        release.set()
        jobs.close()


def test_what_is_hastened_does_not_wait_unless_the_other_side_said_so():
    for retry_after, expected in ((None, [0.0, 0.1]), (3.0, [0.0, 3.6])):
        clock, calls = Clock(), []
        jobs = inline(clock)

        def work(clock=clock, calls=calls, retry_after=retry_after):
            calls.append(clock.now)
            raise Transient("Down", "the index is down", retry_after=retry_after)

        jobs.ensure(("key",), work)
        clock.now = 0.1
        jobs.hasten(("key",))
        started = jobs.again(("key",), work)
        assert started == (retry_after is None)
        clock.now = 3.6
        if not started:
            assert jobs.again(("key",), work)
        assert calls == expected


def test_what_is_remembered_of_a_failure_keeps_nothing_that_was_worked_on(monkeypatch):
    class Large:
        """Stands for the bytes of a wheel."""

    held = []

    def deeper():
        large = Large()
        held.append(weakref.ref(large))
        raise KeyError("the cause")

    def work():
        large = Large()
        held.append(weakref.ref(large))
        try:
            deeper()
        except KeyError as error:
            raise Transient("Down", "the index is down") from error

    def buggy():
        deeper()

    # pytest keeps what is logged, tracebacks and all.
    monkeypatch.setattr(logging.getLogger("controller.jobs"), "disabled", True)
    jobs = inline()
    assert jobs.ensure(("list",), work).error.message == "the index is down"
    assert "the cause" in jobs.ensure(("bug",), buggy).error.message
    gc.collect()
    assert len(held) == 3
    assert [one() for one in held] == [None] * 3
