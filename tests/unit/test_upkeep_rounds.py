"""Whose files are looked at when, and how what is damaged has its turn."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from controller.config.loading import load
from controller.errors import Transient
from controller.journal import Journal
from controller.reconcile.assembly import assemble
from controller.reconcile.jobs import Jobs
from controller.reconcile.upkeep import EVERY, MENDING, ROUND, STALE, Upkeep
from tests.support.head import eventually

pytestmark = pytest.mark.unit


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def keeper(clock, mend, is_sound=lambda _digest: False):
    return Upkeep(Jobs(0, lambda: None, clock=clock), is_sound, mend, clock=clock)


def test_a_round_looks_at_what_was_not_looked_at_for_longest(clock):
    looked = []
    upkeep = keeper(clock, lambda digest, _: looked.append(digest) or False)
    for digest in "cab":
        upkeep.vouch(digest)
        clock.now += 1
    clock.now += EVERY
    upkeep.poll("abc", ())
    assert looked == ["c", "a", "b"]
    upkeep.poll("abc", ())
    assert len(looked) == 3


def test_a_round_is_over_when_its_budget_is_spent_and_the_next_goes_on(clock, monkeypatch):
    monkeypatch.setattr("controller.reconcile.upkeep.BUDGET", 0.0)
    looked = []
    upkeep = keeper(clock, lambda digest, _: looked.append(digest) or False)
    upkeep.poll("abc", ("b",))
    assert looked == ["b"]  # what is doubted is looked at whatever it takes


def test_what_was_not_looked_at_for_long_is_looked_at_before_anybody_vouches_for_it(clock):
    sound = {"a"}
    upkeep = keeper(clock, lambda digest, _doubted: sound.add(digest) or True, sound.__contains__)
    for digest in "ab":
        upkeep.vouch(digest)
        assert upkeep.vouches_for(digest)
    clock.now = STALE
    assert upkeep.vouches_for("a")
    assert not upkeep.vouches_for("b")
    upkeep.poll((), ())
    assert upkeep.vouches_for("b")


def test_a_pass_spends_no_more_than_the_budget_on_looking(clock, monkeypatch):
    monkeypatch.setattr("controller.reconcile.upkeep.BUDGET", 0.0)
    upkeep = keeper(clock, lambda _digest, _doubted: False, pytest.fail)
    assert not upkeep.vouches_for("a")


def test_one_that_cannot_be_mended_stands_in_nobodys_way(clock):
    def mend(digest, _doubted):
        if digest == "a":
            raise Transient("WheelMissing", "gone")
        return True

    upkeep = keeper(clock, mend)
    upkeep.poll("ab", ())
    assert {digest: fault.reason for digest, fault in upkeep.faults().items()} == {
        "a": "WheelMissing"
    }
    assert upkeep.take_restored() == {"b"}
    assert upkeep.take_restored() == set()
    upkeep.poll("b", ())
    clock.now += 2 * EVERY
    upkeep.poll("b", ())
    assert not upkeep.faults()


def test_what_cannot_be_mended_is_tried_with_backoff_however_often_it_is_asked_for(clock):
    tried = []

    def mend(digest, _doubted):
        tried.append(clock.now)
        raise Transient("WheelMissing", "gone")

    upkeep = keeper(clock, mend)
    for _ in range(6000):  # a pass every tenth of a second, ten minutes
        assert not upkeep.vouches_for("a")
        upkeep.poll((), ())
        clock.now += 0.1
    assert 5 < len(tried) < 20
    assert upkeep.faults()["a"].reason == "WheelMissing"
    upkeep.distrust("a")  # a person lifted its quarantine
    upkeep.vouches_for("a")
    before = len(tried)
    upkeep.poll((), ())
    assert len(tried) == before + 1


def test_one_whose_files_confuse_us_stands_in_nobodys_way(clock, caplog):
    def is_sound(digest):
        if digest == "a":
            raise ValueError("embedded null byte")
        return False

    def mend(digest, _doubted):
        if digest == "a":
            raise ValueError("embedded null byte")
        return True

    upkeep = keeper(clock, mend, is_sound)
    assert not upkeep.vouches_for("a")
    upkeep.poll("ab", ())
    assert upkeep.faults()["a"].reason == "InternalError"
    assert "embedded null byte" in upkeep.faults()["a"].message
    assert upkeep.take_restored() == {"b"}
    assert "looking at the files of a failed unexpectedly" in caplog.text


def test_builds_hold_up_nobody_who_looks_after_what_serves(tmp_path):
    (tmp_path / "wheels").mkdir()
    path = tmp_path / "controller.toml"
    path.write_text(
        '[[sources]]\ntype = "directory"\npath = "wheels"\n'
        '[ray]\ndashboard_url = "http://127.0.0.1:9"\n'
        '[paths]\nstate = "state"\ncache = "cache"\n'
    )
    config = load(path)
    over, looked = threading.Event(), threading.Event()
    with closing(Journal.open(config.paths.state)) as journal:
        assembly = assemble(config, journal, wake=threading.Event().set, workers=1)
        with closing(assembly):
            assembly.jobs.ensure(("prepare", "slow"), over.wait)
            upkeep = Upkeep(assembly.jobs, lambda _: False, lambda *_: looked.set() or False)
            upkeep.poll("a", ())
            try:
                assert looked.wait(60)
            finally:
                over.set()


def test_what_takes_long_to_make_again_holds_up_neither_looks_nor_others():
    over, slow = threading.Event(), threading.Event()
    jobs = Jobs(1, lambda: None, apart={ROUND, MENDING})
    looked = []

    def mend(digest, _doubted):
        if digest == "slow":
            slow.set()
            assert over.wait(60)
        return True

    def is_sound(digest):
        looked.append(digest)
        return digest not in {"slow", "damaged"}

    clock = Clock()
    upkeep = Upkeep(jobs, is_sound, mend, clock=clock)
    try:
        upkeep.poll(["slow"], ())
        assert slow.wait(60)
        for turn in range(3):
            eventually(lambda: not jobs.running((ROUND,)))
            clock.now += EVERY
            upkeep.poll(["slow", f"damaged {turn}", "sound"], [f"damaged {turn}"])
            eventually(lambda turn=turn: f"damaged {turn}" in upkeep._restored)
        eventually(lambda: looked.count("sound") == 3)
        assert looked.count("slow") == 1  # it is being made again
    finally:
        over.set()
        jobs.close()
    assert upkeep.take_restored() == {"slow", "damaged 0", "damaged 1", "damaged 2"}


def test_a_few_are_made_again_at_a_time_and_each_once():
    begun, over = [], threading.Event()
    jobs = Jobs(1, lambda: None, apart={ROUND, MENDING})

    def mend(digest, _doubted):
        begun.append(digest)
        return over.wait(60)

    damaged = [str(number) for number in range(30)]
    upkeep = Upkeep(jobs, lambda _: False, mend, clock=Clock())
    try:
        for _ in range(3):
            upkeep.poll(damaged, damaged)
            eventually(lambda: not jobs.running((ROUND,)) and len(begun) == 4)
        over.set()
        eventually(lambda: upkeep._restored == set(damaged))
    finally:
        over.set()
        jobs.close()
    assert sorted(begun) == sorted(damaged)
