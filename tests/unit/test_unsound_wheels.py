"""A wheel that failed inspection: followed as itself, until its pipelines are known."""

from __future__ import annotations

import pytest
from packaging.version import Version

from controller.journal import Journal
from controller.journal.migrations import MIGRATIONS
from controller.model import Phase, Quarantine, Release, Transition, UnsoundWheel
from controller.ops import explain, orders, status

pytestmark = pytest.mark.unit

BYTES = "ab" * 32
VERSION = Version("1.0")
WHEEL = UnsoundWheel("iris", VERSION, BYTES)
RELEASE = Release("iris", VERSION, BYTES)
FAILED = Quarantine(WHEEL, "inspect", "NotAZip", "it is no zip", "inputs", at=1.0)
TIGHTER = {"max_files": 2}
"""Refuses every wheel."""


@pytest.fixture
def journal(tmp_path):
    with Journal.open(tmp_path) as opened:
        opened.add_quarantine(FAILED)
        opened.record(Transition(WHEEL, Phase.QUARANTINED, "NotAZip", "it is no zip"), 1.0)
        yield opened


def test_the_journal_knows_a_wheel_from_a_release_of_the_same_name(journal, tmp_path):
    assert [record.subject for record in journal.releases()] == [WHEEL]
    assert journal.records().keys() == {WHEEL}
    assert journal.quarantines() == journal.quarantines_of({BYTES}) == [FAILED]
    with Journal.read(tmp_path) as beside:
        assert beside.records().keys() == {WHEEL}
    journal.clear_quarantine("iris", at=2.0)
    assert journal.records().keys() == {WHEEL}


def test_a_release_goes_on_with_the_row_of_the_wheel_that_it_is_in(journal, tmp_path):
    with Journal.read(tmp_path) as beside:
        for reader in (journal, beside):
            assert {s: r.phase for s, r in reader.records([RELEASE]).items()} == {
                RELEASE: Phase.QUARANTINED
            }
        journal.record(Transition(RELEASE, Phase.PREPARED, "WaitingToStage", "so"), 2.0)
        for reader in (journal, beside):
            assert {s: [*r.times] for s, r in reader.records([RELEASE]).items()} == {
                RELEASE: [Phase.QUARANTINED, Phase.PREPARED]
            }
        journal.record(Transition(WHEEL, Phase.QUARANTINED, "NotAZip", "again"), 3.0)
        for reader in (journal, beside):
            assert reader.records().keys() == {WHEEL}


def test_an_upgrade_tells_the_wheels_of_an_earlier_journal_from_its_releases(tmp_path):
    before = MIGRATIONS[: next(n for n, text in enumerate(MIGRATIONS) if "unsound" in text)]
    stages = {"a": "inspect", "b": "stage", "c": "inspect"}
    with Journal.open(tmp_path, migrations=before) as journal:
        for name, stage in stages.items():
            journal._put(
                "quarantines", name, "1.0", BYTES, stage, "Bad", "it is", "inputs", "", 0.0
            )
            phase = "Staged" if name == "c" else "Quarantined"  # it has passed since
            row = (name, "1.0.0", BYTES, phase, "Bad", "it is", "", "", 1.0)
            journal._run("INSERT INTO releases VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", *row)
    with Journal.open(tmp_path) as journal:
        kinds = {record.subject.name: type(record.subject) for record in journal.releases()}
        assert kinds == {"a": UnsoundWheel, "b": Release, "c": Release}
        failed = {one.subject.name: type(one.subject) for one in journal.quarantines()}
        assert failed == {"a": UnsoundWheel, "b": Release, "c": UnsoundWheel}
        # What it says of them is told beside each, whichever kind it is of.
        chapters = [explain.tell(journal, name, now=1.0)["releases"] for name in stages]
        assert [chapter["quarantine"]["stage"] for [chapter] in chapters] == [*stages.values()]
        assert len(status.quarantines(journal, everything=False)) == len(stages)


@pytest.mark.parametrize("pipeline", ["demo", "other"])
def test_once_its_wheel_passes_a_release_is_live_and_the_wheel_held_back_no_more(at_work, pipeline):
    """Whether its pipeline is called as its project or otherwise."""
    work = at_work(inspection=TIGHTER)
    work.drop(pipelines={pipeline: "demo.pipeline:Demo"})
    report = work.settle()
    [failed] = report.quarantines
    assert failed.subject == UnsoundWheel("demo", VERSION, failed.subject.digest)
    assert report.sentence == "0 live, 1 quarantined"
    assert [event.subject for event in work.journal.events()] == [str(failed.subject)]
    [told] = explain.tell(work.journal, "demo", now=work.clock())["releases"]
    assert (told["pipeline"], told["digest"]) == ("demo", failed.subject.digest)
    work.restart()
    work.settle()
    assert work.phases()[f"{pipeline}-1.0"] is Phase.LIVE
    assert work.journal.quarantines() == []
    kinds = {record.subject.name: type(record.subject) for record in work.journal.releases()}
    assert kinds == {pipeline: Release, **({"demo": UnsoundWheel} if pipeline != "demo" else {})}


@pytest.mark.parametrize("pipeline", ["demo", "other"])
def test_one_bad_wheel_in_a_running_releases_place_is_one_failure(at_work, pipeline):
    work = at_work()
    pipelines = {pipeline: "demo.pipeline:Demo"}
    work.drop(pipelines=pipelines)
    work.settle()
    work.drop(pipelines=pipelines, marker="other bytes", wrong_hash=["demo/pipeline.py"])
    report = work.settle()
    assert report.sentence == "1 live, 1 quarantined"
    [failed] = report.quarantines
    assert isinstance(failed.subject, UnsoundWheel)
    assert [failed.subject] == [one.subject for one in work.journal.quarantines()]
    assert work.pass_(after=30.0).quarantines == (failed,)


def test_an_order_that_lifts_it_goes_by_its_projects_name(work):
    work.drop(wrong_hash=["demo/pipeline.py"])
    work.settle()
    with Journal.amend(work.state) as beside:
        [lifted] = orders.clear_quarantine(beside, "demo", VERSION, by="me", at=work.clock())
    assert lifted["pipeline"] == "demo"
    [again] = work.settle().quarantines
    assert isinstance(again.subject, UnsoundWheel)


def test_a_file_that_may_be_on_its_way_again_is_not_taken_for_gone(at_work):
    work = at_work(source={"settle": 0.0})
    (work.wheels / "iris-1.0-py3-none-any.whl").write_bytes(b"no zip")

    def phases():
        return [(record.phase, record.reason) for record in work.journal.releases("iris")]

    for _ in range(4):
        work.pass_(after=5.0)
    assert phases() == [(Phase.QUARANTINED, "NotAZip")]
    work.restart(source={"settle": 60.0})  # it may be being copied, for all that is known
    for _ in range(4):
        work.pass_(after=0.5)
        assert phases() == [(Phase.QUARANTINED, "NotAZip")]
