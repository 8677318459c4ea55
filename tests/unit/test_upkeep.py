"""What lies in the cache is altered, damaged or deleted while the daemon runs."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import closing

import pytest

from controller.config.loading import load
from controller.errors import Transient
from controller.journal import Journal
from controller.model import Phase
from controller.reconcile.assembly import assemble
from controller.reconcile.jobs import Jobs
from controller.reconcile.upkeep import EVERY, MENDING, ROUND, STALE, Upkeep
from tests.support.head import eventually
from tests.support.passes import reasons, routes
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.unit

MISMATCH = "wheelway-failure[DigestMismatch] demo/pipeline.py has other bytes than were published"


def artifact(work):
    [listing] = work.artifacts.listings().values()
    [revision] = listing.revisions
    return work.artifacts.known(revision)


def altered(known):
    code = known.tree / "demo/pipeline.py"
    code.write_bytes(code.read_bytes().replace(b"echo", b"evil"))


def removed(known):
    shutil.rmtree(known.tree)


def removed_with_its_wheel(known):
    shutil.rmtree(known.tree)
    shutil.rmtree(known.wheel.parent)


def removed_and_the_wheel_damaged(known):
    shutil.rmtree(known.tree)
    known.wheel.chmod(0o644)
    known.wheel.write_bytes(known.wheel.read_bytes()[:-20])


def all_of_the_cache_removed(known):
    shutil.rmtree(known.tree.parents[2])


def a_module_added(known):
    (known.tree / "demo/generated.py").write_text("X = 1\n")


DAMAGES = [
    altered,
    removed,
    removed_with_its_wheel,
    removed_and_the_wheel_damaged,
    all_of_the_cache_removed,
    a_module_added,
]


def content(known):
    return {
        str(path.relative_to(known.tree)): path.read_bytes()
        for path in known.tree.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_files_of_a_live_release_are_made_again(work, paper_head, damage, caplog):
    work.drop()
    work.settle()
    known = artifact(work)
    before, sent = content(known), len(paper_head.puts)
    damage(known)
    work.pass_(after=EVERY)
    assert content(known) == before
    assert "find out who writes there" in caplog.text
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    assert len(paper_head.puts) == sent


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_a_replica_reports_is_looked_at_at_once(work, paper_head, damage):
    work.drop()
    work.settle()
    known = artifact(work)
    before = content(known)
    damage(known)
    paper_head.failing["demo"] = MISMATCH
    work.pass_(after=0.1)
    assert content(known) == before
    paper_head.failing.clear()
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}


def test_a_sound_tree_that_a_replica_doubts_is_not_hashed_in_every_pass(work, paper_head):
    work.drop()
    work.settle()
    paper_head.failing["demo"] = MISMATCH
    work.pass_(after=0.1)
    rounds = []
    work.artifacts.upkeep._mend = lambda digest, _doubted: rounds.append(digest) or False
    for _ in range(20):
        work.pass_(after=0.1)
    assert not rounds
    work.pass_(after=EVERY)
    assert len(rounds) == 1


def test_a_release_that_was_staged_from_damaged_files_is_freed_by_itself(work, paper_head):
    work.drop()
    work.pass_()
    known = artifact(work)
    altered(known)
    paper_head.failing["demo"] = MISMATCH
    while not work.journal.quarantines():
        work.pass_(after=0.5)
    paper_head.failing.clear()
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    told = [event for event in work.journal.events(limit=100) if "Cleared" in event.reason]
    assert "made the damaged files in the cache again" in told[0].message


def test_whoever_is_damaged_again_and_again_is_freed_a_few_times_only(work, paper_head):
    work.drop()
    work.pass_()
    known = artifact(work)
    paper_head.failing["demo"] = MISMATCH
    for _ in range(400):
        if known.tree.exists():
            altered(known)
        work.pass_(after=1.0)
    assert [quarantine.reason for quarantine in work.journal.quarantines()] == ["DigestMismatch"]
    told = [event for event in work.journal.events(limit=1000) if "Cleared" in event.reason]
    assert len(told) == 3
    chronicle, options = work.reconciler._recorder, work.config.journal
    assert chronicle._absolved.keys() == {known.digest}
    chronicle.forget_what_is_over(options, work.clock())
    assert chronicle._absolved  # or it would be freed again and again
    for wheel in work.wheels.iterdir():
        work.remove(wheel)
    work.settle()
    work.journal.clear_quarantine("demo", at=work.clock())
    chronicle.forget_what_is_over(options, work.clock())
    assert not chronicle._absolved


def test_what_a_person_frees_is_looked_at_before_it_is_staged_again(work, paper_head):
    work.drop()
    paper_head.failing["demo"] = "wheelway-failure[LoadFailed] no such file"
    work.settle()
    known = artifact(work)
    before = content(known)
    removed_with_its_wheel(known)
    paper_head.failing.clear()
    seen = []
    paper_head.on_put = lambda _config: seen.append(content(known))
    work.journal.clear_quarantine("demo", at=work.clock())
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    assert seen[0] == before


def test_what_cannot_be_made_again_is_told_and_retried(work):
    wheel = work.drop()
    work.settle()
    known = artifact(work)
    aside = wheel.rename(wheel.with_suffix(".aside"))
    removed_with_its_wheel(known)
    work.pass_(after=EVERY)
    assert reasons(work.pass_())[wheel.name]
    assert not known.tree.exists()
    aside.rename(wheel)
    work.pass_(after=EVERY)
    assert known.tree.exists()
    assert wheel.name not in reasons(work.settle())


@pytest.fixture
def with_requirement(at_work, tmp_path):
    """Two versions that need a package that the base does not have; the newer one is live."""
    packages = tmp_path / "packages"
    code = {"zz_extra/__init__.py": "VERSION = 1\n"}
    make_wheel(packages, "zz-extra", "1.0", pipelines={}, files=code)
    work = at_work(environments={"find_links": [packages]}, pipelines=[{"name": "demo", "keep": 1}])
    work.drop(requires=["zz-extra"])
    work.settle()
    return work


def environments(work):
    folder = work.config.paths.cache / "environments"
    return [place for place in folder.iterdir() if not place.name.startswith(".")]


@pytest.mark.parametrize("part", ["", "bin", "lib"])
def test_the_environment_of_a_live_release_is_made_again(with_requirement, part):
    work = with_requirement
    [place] = environments(work)
    shutil.rmtree(place / part)
    work.pass_(after=EVERY)
    assert (place / "bin/python").exists()
    assert list(place.glob("lib/python*/site-packages/zz_extra/__init__.py"))


def test_an_environment_that_was_pruned_is_there_before_its_release_is_staged_again(
    with_requirement, paper_head
):
    work = with_requirement
    newer = work.drop(version="2.0")
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.RETIRED, "demo-2.0": Phase.LIVE}
    [place] = environments(work)
    os.utime(place, (0, 0))
    work.pass_(after=3600.0)  # what is not in use and was not needed lately leaves the cache
    assert not environments(work)
    seen = []
    paper_head.on_put = lambda _config: seen.append((place / "bin/python").exists())
    work.remove(newer)
    work.pass_()
    work.pass_(after=60.0)
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE, "demo-2.0": Phase.RETIRED}
    assert seen
    assert all(seen)


# -- who is looked at when -----------------------------------------------------------------------


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


@pytest.mark.parametrize("row", ["zz_extra/__init__.py,,²", "zz_extra/a\0b,,1", f"a,,{'9' * 5000}"])
def test_an_environment_with_a_damaged_list_of_files_is_made_again(with_requirement, row):
    work = with_requirement
    [place] = environments(work)
    [record] = place.glob("lib/python*/site-packages/zz_extra-*.dist-info/RECORD")
    written = record.read_text()
    record.write_text(f"{written}{row}\n")
    work.pass_(after=EVERY)
    assert record.read_text() == written


def test_a_look_at_its_files_costs_no_release_its_turn(at_work, paper_head, monkeypatch):
    work = at_work(rollout={"max_staging": 1, "ready_deadline": 300})
    paper_head.starting = 10**6
    for name in ("slow", "earlier", "a-later"):
        work.drop(name)
        work.pass_(after=5.0)
    known = len(work.journal.events())
    monkeypatch.setattr(
        "controller.reconcile.upkeep.BUDGET", 0.0
    )  # each look has to wait for the next round
    waiting = {"earlier-1.0", "a-later-1.0"}
    for _ in range(10):
        work.pass_(after=STALE / 4)
        phases = work.phases()
        assert {phases[name] for name in waiting} == {Phase.PREPARED}
    assert len(work.journal.events()) == known
    while not waiting & routes(paper_head)[-1].keys():  # the slow one fails by its deadline
        work.pass_(after=1.0)
    assert waiting & routes(paper_head)[-1].keys() == {"earlier-1.0"}


def test_what_cannot_be_mended_says_why_and_lets_others_start_first(
    at_work, paper_head, monkeypatch
):
    work = at_work(rollout={"max_staging": 1, "ready_deadline": 300})
    paper_head.starting = 10**6
    for name in ("slow", "earlier", "later"):
        work.drop(name)
        work.pass_(after=5.0)
    [revision] = work.artifacts.listed().projects["earlier"]
    removed_with_its_wheel(work.artifacts.known(revision))

    def fetch(_):
        raise Transient("FileChanged", "it is gone for now")

    monkeypatch.setattr(work.artifacts.sources["wheels"], "fetch", fetch)
    while "later-1.0" not in routes(paper_head)[-1]:
        report = work.pass_(after=10.0)
    [item] = [item for item in report.waiting if item.subject.startswith("earlier@")]
    assert (item.phase, item.reason) == (Phase.PREPARED, "FileChanged")
    assert "earlier-1.0" not in routes(paper_head)[-1]
    monkeypatch.undo()
    paper_head.starting = 1
    for _ in range(60):
        work.pass_(after=10.0)
    assert work.phases()["earlier-1.0"] is Phase.LIVE
