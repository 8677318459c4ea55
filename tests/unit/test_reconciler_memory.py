"""What outlives a pass: kills, restarts, absences, previews, the cache."""

from __future__ import annotations

import os
import shutil

import pytest

from controller.model import Phase
from tests.support.passes import reasons, routes

pytestmark = pytest.mark.unit

ROUTE = "/predict/demo/1.0"
BROKEN = "wheelway-failure[LoadFailed] load() raised: no such file: model.bin"


class Killed(Exception):  # noqa: N818 - what happens, not what is wrong
    """The head died with the request, and the daemon while it waited for it."""


@pytest.fixture
def kill_at_put(paper_head, tmp_path):
    """At the n-th PUT everything stops: gives the folder with the journal as it was then."""

    def arm(work, number):
        left = tmp_path / f"killed-at-{number}"

        def hook(_config):
            if len(paper_head.puts) == number:
                shutil.copytree(work.state, left)
                raise Killed

        paper_head.on_put = hook
        return left

    return arm


# -- kills and restarts --------------------------------------------------------------------------


def test_a_restart_between_any_two_passes_changes_nothing(at_work, paper_head):
    work = at_work(pipelines=[{"name": "demo", "keep": 1}])
    for version in ("1.0", "2.0"):
        work.drop(version=version)
        for _ in range(9):
            work.pass_(after=0.5)
            work.restart(pipelines=[{"name": "demo", "keep": 1}])
    second = "/predict/demo/2.0"
    assert routes(paper_head) == [
        {"demo-1.0": None},
        {"demo-1.0": ROUTE},
        {"demo-1.0": ROUTE, "demo-2.0": None},
        {"demo-1.0": ROUTE, "demo-2.0": second},
        {"demo-2.0": second},
    ]
    assert work.phases() == {"demo-1.0": Phase.RETIRED, "demo-2.0": Phase.LIVE}
    assert len(work.records()["demo-2.0"].times) == 6


def test_a_quarantine_is_in_the_journal_before_the_config_that_acts_on_it(
    work, paper_head, kill_at_put
):
    work.drop()
    work.settle()
    paper_head.failing["bad"] = BROKEN
    work.drop("bad")
    left = kill_at_put(work, 4)
    while not left.exists():
        work.pass_(after=0.5)
    assert routes(paper_head)[-1] == {"demo-1.0": ROUTE}  # not applied: the head died first
    paper_head.failing.clear()  # were it not remembered, it would be promoted now
    work.restart(left)
    [quarantine] = work.journal.quarantines()
    assert (quarantine.stage, quarantine.reason) == ("stage", "LoadFailed")
    assert work.phases() == {"bad-1.0": Phase.QUARANTINED, "demo-1.0": Phase.LIVE}
    assert work.outcomes()[-1] == "Sending"
    work.settle()
    assert routes(paper_head)[4:] == [{"demo-1.0": ROUTE}]
    assert work.journal.quarantines() == [quarantine]


def test_that_a_release_is_live_is_in_the_journal_before_its_predecessor_is_retired(
    work, paper_head, kill_at_put
):
    work.drop()
    work.settle()
    [old] = paper_head.sent()[-1]
    work.drop(marker="other bytes")
    left = kill_at_put(work, 5)
    while not left.exists():
        work.pass_(after=0.5)
    [new] = paper_head.sent()[-1]
    assert new != old
    paper_head.mute.add(ROUTE)  # were it not remembered, it would lose its route after a while
    work.restart(left)
    assert work.journal.placements()[new].live_at is not None
    phases = {record.placement: record.phase for record in work.journal.releases()}
    assert phases[new] is Phase.LIVE
    for _ in range(10):
        report = work.pass_(after=60.0)
    assert set(reasons(report).values()) == {"RouteNotAnswering"}
    assert report.sentence == "1 live (1 not answering)"
    assert len(paper_head.puts) == 5
    paper_head.mute.clear()
    work.settle()
    assert paper_head.sent()[5:] == [{new: ROUTE}]


def test_a_config_whose_answer_nobody_lived_to_hear_is_not_sent_again(work, paper_head, tmp_path):
    left = tmp_path / "killed"
    paper_head.on_put = lambda _: shutil.copytree(work.state, left)
    work.drop()
    work.pass_()
    paper_head.on_put = None
    work.restart(left)
    assert work.outcomes() == ["Sending"]
    work.settle()
    assert routes(paper_head) == [{"demo-1.0": None}, {"demo-1.0": ROUTE}]
    assert work.phases() == {"demo-1.0": Phase.LIVE}


def test_without_its_journal_what_serves_is_taken_for_what_it_is(work, paper_head, tmp_path):
    work.drop()
    work.settle()
    work.restart(tmp_path / "fresh")
    report = work.settle()
    assert report.sentence == "1 live"
    assert paper_head.sent()[2:] == paper_head.sent()[1:2]  # says whose they are, and nothing else
    assert work.phases() == {"demo-1.0": Phase.LIVE}


def test_while_no_source_was_ever_listed_what_serves_stays(work, paper_head, tmp_path):
    work.drop()
    work.settle()
    work.wheels.rename(tmp_path / "elsewhere")
    work.restart(tmp_path / "fresh")
    for _ in range(10):
        report = work.pass_(after=60.0)
    assert reasons(report) == {"wheels": "DirectoryMissing"}
    assert paper_head.sent()[2:] == paper_head.sent()[1:2]


# -- absence -------------------------------------------------------------------------------------


def test_a_version_that_is_missing_for_a_moment_keeps_its_place(at_work, paper_head):
    work = at_work(pipelines=[{"name": "demo", "keep": 1}])
    work.drop()
    newest = work.drop(version="2.0")
    work.settle()
    sent = len(paper_head.puts)
    for _ in range(3):  # each absence counts for itself
        work.remove(newest)
        work.pass_()
        report = work.pass_(after=9.9)
        assert (report.sentence, report.plan.changes) == ("1 live", ())
        work.drop(version="2.0")
        work.pass_(after=0.05)
    work.remove(newest)
    work.pass_()
    assert len(paper_head.puts) == sent
    work.pass_(after=10.0)
    work.settle()
    assert routes(paper_head)[sent:] == [{"demo-1.0": None}, {"demo-1.0": ROUTE}]
    assert work.phases() == {"demo-1.0": Phase.LIVE, "demo-2.0": Phase.RETIRED}


def test_more_that_vanish_at_once_than_the_limit_allows_stay(work, paper_head):
    wheels = [work.drop(name) for name in ("one", "two", "three")]
    work.settle()
    sent = len(paper_head.puts)
    for wheel in wheels[:2]:
        work.remove(wheel)
    work.pass_()
    report = work.pass_(after=60.0)
    assert sorted(reasons(report).values()) == ["RetireLimit", "RetireLimit"]
    assert len(paper_head.puts) == sent


def test_wheels_that_come_back_one_by_one_give_no_leave_to_retire_the_rest(work, paper_head):
    names = ("four", "one", "three", "two")
    wheels = [work.drop(name) for name in names]
    work.settle()
    sent = len(paper_head.puts)
    for wheel in wheels:
        work.remove(wheel)
    work.pass_()
    assert set(reasons(work.pass_(after=60.0)).values()) == {"RetireLimit"}
    for missing, name in zip((3, 2, 1), names[:3], strict=True):
        work.drop(name)
        work.drop(f"new-{name}")
        work.settle()
        work.restart()
        work.settle()
        report = work.pass_(after=60.0)
        assert list(reasons(report).values()) == ["RetireLimit"] * missing
    assert not any(
        set(names) - {n.split("-1.0")[0] for n in put} for put in routes(paper_head)[sent:]
    )
    work.restart(rollout={"retire_limit": 1.0})
    work.settle()
    work.pass_(after=60.0)
    assert "two-1.0" not in routes(paper_head)[-1]


def test_a_release_that_comes_back_is_prepared_when_it_comes_back(work):
    wheel = work.drop()
    work.settle()
    work.remove(wheel)
    work.pass_(after=60.0)
    work.pass_(after=60.0)
    work.settle()
    returned = work.clock()
    work.drop()
    work.settle()
    prepared = [e.at for e in work.journal.events() if e.fields.get("phase") == Phase.PREPARED]
    assert len(prepared) == 2
    assert prepared[1] >= returned


# -- the cache -----------------------------------------------------------------------------------


def test_the_cache_keeps_what_is_on_the_cluster_and_frees_the_rest_after_a_while(work):
    old, running = work.drop(), work.drop(version="2.0")
    work.settle()
    trees = {a.filename: a.tree for a in artifacts(work)}
    work.remove(old)
    work.pass_()
    work.pass_(after=60.0)
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.RETIRED, "demo-2.0": Phase.LIVE}
    for tree in trees.values():
        os.utime(tree, (0, 0))
    work.remove(running)  # on the cluster all the same, for as long as the grace is
    work.pass_(after=3600.0)
    assert {name: tree.exists() for name, tree in trees.items()} == {
        old.name: False,
        running.name: True,
    }


def artifacts(work):
    [listing] = work.artifacts.listings().values()
    return [work.artifacts.known(revision) for revision in listing.revisions]


def test_a_version_that_comes_back_while_it_is_being_deleted_waits_for_that(work, paper_head):
    wheel = work.drop()
    work.drop("other")
    work.settle()
    paper_head.leaving = 8
    work.remove(wheel)
    work.pass_()
    work.pass_(after=10.0)
    work.drop()
    sent = len(paper_head.puts)
    report = work.pass_(after=0.5)
    assert set(reasons(report).values()) == {"WaitingForDeletion"}
    while len(paper_head.puts) == sent:
        work.pass_(after=0.5)
    assert reasons(work.settle()) == {}
    other = "/predict/other/1.0"
    assert routes(paper_head)[sent:] == [
        {"demo-1.0": None, "other-1.0": other},
        {"demo-1.0": ROUTE, "other-1.0": other},
    ]


def test_a_version_that_comes_back_after_the_cache_was_freed_is_served_again(work, paper_head):
    wheel = work.drop()
    work.drop("other")
    work.settle()
    work.remove(wheel)
    work.pass_()
    work.pass_(after=60.0)
    work.settle()
    for folder in work.config.paths.cache.rglob("*"):
        os.utime(folder, (0, 0))
    work.pass_(after=3600.0)
    work.drop()
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE, "other-1.0": Phase.LIVE}


def test_a_daemon_that_begins_while_ray_cannot_be_observed_blames_no_release_for_that(
    work, paper_head
):
    paper_head.starting = 10**6
    work.drop()
    while not paper_head.puts:
        work.pass_(after=1.0)
    for _ in range(3):
        work.pass_(after=1.0)
    paper_head.fails(503)
    for _ in range(2):
        work.restart()
        for _ in range(50):
            work.pass_(after=10.0)
    paper_head.recovers()
    for _ in range(20):
        work.pass_(after=10.0)
    assert work.phases() == {"demo-1.0": Phase.STAGED}
    for _ in range(20):
        work.pass_(after=10.0)
    assert work.phases() == {"demo-1.0": Phase.QUARANTINED}


def test_a_daemon_that_begins_while_ray_cannot_be_observed_gives_what_was_promoted_all_of_its_time(
    work, paper_head
):
    work.drop()
    paper_head.mute.add(ROUTE)
    while ROUTE not in paper_head.routes().values():
        work.pass_(after=0.5)
    work.pass_(after=1.0)
    paper_head.fails(503)
    work.restart()
    for _ in range(20):
        work.pass_(after=10.0)
    paper_head.recovers()
    work.pass_(after=10.0)  # a look after which there is an answer, if a bad one
    for _ in range(14):
        work.pass_(after=2.0)
    assert work.journal.quarantines() == []
    for _ in range(4):
        work.pass_(after=2.0)
    assert [q.reason for q in work.journal.quarantines()] == ["ProbeFailed"]
