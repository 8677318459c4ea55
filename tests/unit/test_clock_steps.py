"""Somebody turns the clock on the wall: nothing is decided by that, and nothing waits for it."""

from __future__ import annotations

import pytest

from controller.journal import Journal, boot_id, steady_clock
from controller.model import Phase
from tests.support.passes import Clock

pytestmark = pytest.mark.unit

HOUR = 3600.0
STEPS = pytest.mark.parametrize("step", [-HOUR, HOUR])
ROUTE_2 = "/predict/demo/2.0"


# -- the clock that everything waits by ----------------------------------------------------------


def test_it_goes_on_over_a_step_and_over_a_restart_after_a_step(tmp_path):
    wall, monotonic = Clock(), Clock()
    clocks = {"wall_clock": wall, "monotonic": monotonic}
    monotonic.now = 50.0
    with Journal.open(tmp_path) as journal:
        before = steady_clock(journal, "boot", **clocks)
        assert before() == wall()
        wall.now += HOUR
        assert before() == wall() - HOUR
        monotonic.now += 7
        with Journal.read(tmp_path) as reader:
            assert steady_clock(reader, "boot", **clocks)() == before()
    with Journal.open(tmp_path) as journal:
        assert steady_clock(journal, "boot", **clocks)() == before()


def test_another_boot_begins_with_the_time_on_the_wall(tmp_path):
    wall, monotonic = Clock(), Clock()
    clocks = {"wall_clock": wall, "monotonic": monotonic}
    with Journal.open(tmp_path) as journal:
        steady_clock(journal, "boot", **clocks)
        wall.now, monotonic.now = 5_000_000.0, 3.0
        with Journal.read(tmp_path) as reader:
            assert steady_clock(reader, "another", **clocks)() == wall()
        assert journal.clock_offset("another") is None  # whoever only reads keeps nothing
        assert steady_clock(journal, "another", **clocks)() == wall()
        assert journal.clock_offset("another") == 5_000_000.0 - 3.0


def test_where_a_boot_has_no_name_none_is_taken_for_the_same(tmp_path):
    wall, monotonic = Clock(), Clock()
    clocks = {"wall_clock": wall, "monotonic": monotonic}
    assert boot_id(tmp_path / "nothing") == ""
    with Journal.open(tmp_path) as journal:
        steady_clock(journal, "", **clocks)
        wall.now += HOUR
        assert steady_clock(journal, "", **clocks)() == wall()


# -- what waits ----------------------------------------------------------------------------------


@STEPS
def test_a_head_that_is_back_is_looked_at_as_soon_as_ever(work, paper_head, step):
    work.drop()
    work.settle()
    paper_head.fails(503)
    for _ in range(3):
        work.pass_(after=5.0)
    work.clock.now += step
    paper_head.recovers()
    assert work.pass_(after=5.0).plan is not None


@STEPS
def test_a_config_that_was_refused_is_sent_again_after_its_backoff(work, paper_head, step):
    work.drop()
    paper_head.refusal = "no"
    work.pass_()
    paper_head.refusal = ""
    work.clock.now += step
    assert not work.pass_(after=0.1).tried
    assert work.pass_(after=5.0).sent


@STEPS
def test_what_is_missing_for_a_moment_stays_and_goes_when_its_grace_is_over(work, paper_head, step):
    wheel = work.drop()
    work.settle()
    work.remove(wheel)
    work.pass_(after=1.0)
    work.clock.now += step
    work.pass_(after=5.0)
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    work.pass_(after=5.0)
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.RETIRED}


@pytest.mark.parametrize("restarted", [False, True])
@STEPS
def test_a_start_has_its_deadline_whatever_the_wall_says(work, paper_head, step, restarted):
    paper_head.starting = 1000
    work.drop()
    for _ in range(3):
        work.pass_(after=1.0)
    work.clock.now += step
    if restarted:
        work.restart()
    for _ in range(28):
        work.pass_(after=10.0)
    assert work.phases() == {"demo-1.0": Phase.STAGED}
    work.pass_(after=30.0)
    [quarantine] = work.journal.quarantines()
    assert (quarantine.reason, quarantine.at) == ("StartTimeout", work.clock())


@pytest.mark.parametrize("restarted", [False, True])
@STEPS
def test_a_promotion_has_its_deadline_whatever_the_wall_says(work, paper_head, step, restarted):
    work.drop(version="2.0")
    paper_head.mute.add(ROUTE_2)
    while ROUTE_2 not in (paper_head.sent() or [{}])[-1].values():
        work.pass_(after=0.5)
    for _ in range(4):
        work.pass_(after=1.0)
    work.clock.now += step
    if restarted:
        work.restart()
    work.pass_(after=1.0)
    work.pass_(after=1.0)
    assert not work.journal.quarantines()
    work.pass_(after=30.0)
    assert [q.reason for q in work.journal.quarantines()] == ["ProbeFailed"]


def test_what_happened_is_told_by_the_wall(work):
    work.clock.now += HOUR
    work.drop()
    work.settle()
    times = work.records()["demo-1.0"].times
    assert all(work.clock() - 60 < at <= work.clock() for at in times.values())
    assert all(work.clock() - 60 < config.at for config in work.journal.configs())


def test_a_date_of_an_earlier_boot_that_is_still_to_come_is_none(work, paper_head):
    paper_head.starting = 1000
    work.drop()
    for _ in range(3):  # until its start is dated
        work.pass_(after=1.0)
    work.boot = "another"
    work.clock.now -= 10 * HOUR
    work.restart()
    work.pass_(after=1.0)
    work.pass_(after=1.0)
    work.pass_(after=300.0)
    assert [q.reason for q in work.journal.quarantines()] == ["StartTimeout"]


def test_a_year_that_never_was_makes_nothing_old_enough_to_be_forgotten(work):
    work.drop()
    work.settle()
    told = work.journal.events(limit=1000)
    work.time_passes(2 * HOUR)  # the next look at what can be forgotten is due
    work.clock.now += 400 * 86400
    work.pass_()
    work.clock.now -= 400 * 86400
    work.pass_(after=5.0)
    assert len(told) > 3
    assert {event.at for event in told} <= {e.at for e in work.journal.events(limit=1000)}


def test_what_is_old_by_both_clocks_is_forgotten(work):
    work.drop()
    work.settle()
    work.time_passes(400 * 86400)
    work.pass_()
    assert len(work.journal.events(limit=1000)) < 3
