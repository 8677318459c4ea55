"""Background work: once at a time, retried with backoff, never lost."""

import gc
import logging
import threading
import weakref

import pytest

from controller.errors import Rejected, Transient
from controller.reconcile.jobs import Jobs
from tests.support.head import eventually

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
    jobs.clear_failures(lambda key: key == ("key",))
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
        assert release.wait(60)
        return "done"

    assert jobs.ensure(("key",), work) is None
    assert started.wait(60)
    assert jobs.ensure(("key",), work) is None
    release.set()
    assert woken.wait(60)
    assert jobs.ensure(("key",), work).value == "done"
    assert calls == [1]
    jobs.close()


def test_work_with_threads_of_its_own_waits_for_no_other():
    release, listed = threading.Event(), threading.Event()
    jobs = Jobs(2, lambda: None, apart={"list"})
    try:
        for number in range(4):
            jobs.ensure(("prepare", str(number)), lambda: release.wait(120))
        jobs.ensure(("list", "directory"), listed.set)
        assert listed.wait(60)
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
        started = jobs.rerun(("key",), work)
        assert started == (retry_after is None)
        clock.now = 3.6
        if not started:
            assert jobs.rerun(("key",), work)
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
    monkeypatch.setattr(logging.getLogger("controller.reconcile.jobs"), "disabled", True)
    jobs = inline()
    assert jobs.ensure(("list",), work).error.message == "the index is down"
    assert "the cause" in jobs.ensure(("bug",), buggy).error.message
    gc.collect()
    assert len(held) == 3
    assert [one() for one in held] == [None] * 3


@pytest.fixture
def threaded():
    """Jobs on threads, and an event that the blocking ones wait for."""
    made = Jobs(1, lambda: None)
    made.release = threading.Event()
    yield made
    made.release.set()
    made.close()


def blocking(jobs, value="former"):
    """Work that has begun once this returns."""
    begun = threading.Event()

    def work():
        begun.set()
        assert jobs.release.wait(60)
        return value

    return work, begun


def test_what_is_disowned_ends_for_nobody_and_can_be_begun_anew_at_once(threaded):
    work, begun = blocking(threaded)
    threaded.share(2)
    threaded.ensure(("prepare", "a"), work)
    assert begun.wait(60)
    threaded.disown(lambda key: key[0] == "prepare")
    assert not threaded.running(("prepare", "a"))
    assert not threaded.busy()
    threaded.ensure(("prepare", "a"), lambda: "present")
    eventually(lambda: threaded.outcome(("prepare", "a")))
    threaded.release.set()
    threaded.close()
    assert threaded.outcome(("prepare", "a")).value == "present"
    assert threaded.changes("prepare") == 1


def test_a_bug_in_what_is_disowned_is_nobodys(threaded, caplog):
    begun = threading.Event()

    def buggy():
        begun.set()
        threaded.release.wait(60)
        raise RuntimeError("it is closed")

    threaded.ensure(("list", "a"), buggy)
    assert begun.wait(60)
    threaded.drop(lambda key: True)
    threaded.release.set()
    threaded.close()
    assert threaded.outcome(("list", "a")) is None
    assert threaded.counts().errors == {}
    assert "failed unexpectedly" not in caplog.text


def test_what_waits_for_a_thread_gets_one_when_there_may_be_more(threaded):
    work, begun = blocking(threaded)
    threaded.ensure(("fetch", "first"), work)
    assert begun.wait(60)
    done = [threading.Event() for _ in range(3)]
    for number, event in enumerate(done):
        threaded.ensure(("fetch", str(number)), event.set)
    assert not any(event.is_set() for event in done)
    threaded.share(2)
    assert all(event.wait(60) for event in done)
    assert threaded.running(("fetch", "first"))  # what runs goes on
    threaded.release.set()
    eventually(lambda: threaded.outcome(("fetch", "first")))


def test_with_fewer_threads_those_that_are_too_many_end_with_what_they_do(threaded):
    threaded.share(3)
    for number in range(3):
        work, begun = blocking(threaded)
        threaded.ensure(("fetch", str(number)), work)
        assert begun.wait(60)
    threaded.share(1)
    at_once, most = [], []

    def alone():
        at_once.append(1)
        most.append(len(at_once))
        threading.Event().wait(0.05)
        at_once.pop()

    for number in range(4):
        threaded.ensure(("prepare", str(number)), alone)
    threaded.release.set()
    eventually(lambda: not threaded.busy())
    assert most == [1, 1, 1, 1]
    assert threaded.outcome(("fetch", "0")).value == "former"


def test_jobs_that_have_nothing_to_do_have_no_threads(threaded):
    before = threading.active_count()
    for number in range(20):
        threaded.ensure(("fetch", str(number)), lambda: None)
    eventually(lambda: not threaded.busy() and threading.active_count() <= before)
