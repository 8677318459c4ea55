"""What lies in the cache is altered, damaged or deleted while the daemon runs."""

from __future__ import annotations

import os
import shutil

import pytest

from controller.errors import Transient
from controller.model import Phase
from controller.reconcile.upkeep import EVERY, STALE
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
