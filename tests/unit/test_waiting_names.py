"""How long a new name waits for whose it is: moments, whatever is slow, large or away."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from packaging.version import Version

from controller.config.settings import DirectorySource
from controller.errors import Transient
from controller.model import Phase
from controller.ops.orders import pin
from controller.planning.ownership import LONGEST_WAIT, RECHECK, Unknown
from controller.sources import open_source
from tests.support.names import at, carry, served
from tests.support.passes import reasons

pytestmark = pytest.mark.unit


@pytest.fixture
def unread(work, monkeypatch):
    """The projects whose wheels are being fetched or queue, however long that takes."""
    artifact, projects = work.artifacts.artifact, set()
    monkeypatch.setattr(
        work.artifacts, "artifact", lambda r: None if r.project in projects else artifact(r)
    )
    return projects


def until_served(work, paper_head, longest):
    began = work.clock.now
    while not paper_head.puts:
        report = work.pass_()
        assert work.clock.now - began < longest, report.sentence
        work.time_passes(report.next_in)


def test_a_wheel_whose_fetch_takes_hours_keeps_a_new_name_waiting_for_moments(
    work, paper_head, unread
):
    unread.add("huge")
    at(work, work.drop("huge"), -10)
    work.drop("small")
    report = work.pass_()
    [small] = [item for item in report.waiting if item.subject.startswith("small@")]
    assert (small.reason, small.phase) == ("NameUndecided", Phase.FETCHED)
    assert "huge-1.0-py3-none-any.whl" in small.message
    assert '`project = "small"` in [[pipelines]]' in small.message
    assert report.sentence == "0 live, 2 waiting"
    assert report.next_in <= RECHECK
    until_served(work, paper_head, LONGEST_WAIT + 2)
    assert work.journal.owners() == {"small": "small"}
    work.drop("next")  # nobody waits for that wheel again
    work.pass_()
    assert work.journal.owners() == {"small": "small", "next": "next"}


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_step_of_the_wall_clock_makes_no_name_wait_longer_or_shorter(work, unread, step):
    unread.add("huge")
    at(work, work.drop("huge"), -10_000)
    work.drop("small")
    work.pass_()
    work.clock.now += step
    work.pass_(after=LONGEST_WAIT - 1)
    assert not work.journal.owners()
    work.pass_(after=1)
    assert work.journal.owners() == {"small": "small"}


def test_a_restart_while_a_name_waits_decides_nothing(work, unread):
    unread.add("alpha")
    at(work, carry(work, "alpha", "1.0"), -10)
    carry(work, "beta", "9.0")
    work.pass_()
    work.restart()  # from now on the wheel can be had
    work.settle()
    assert work.journal.owners() == {"iris": "alpha"}
    work.restart()
    work.settle()
    assert work.journal.owners() == {"iris": "alpha"}


def test_what_is_waited_for_is_looked_through_once_however_many_names_wait(
    work, unread, monkeypatch
):
    told, as_text = [], Unknown.__str__
    monkeypatch.setattr(Unknown, "__str__", lambda unknown: told.append(1) or as_text(unknown))
    unread.add("huge")
    at(work, work.drop("huge"), -10)
    for name in ("one", "other", "third"):
        work.drop(name)
    report = work.pass_()
    assert [item.reason for item in report.waiting].count("NameUndecided") == 3
    assert len(told) == 1


def test_a_repository_full_of_older_libraries_keeps_a_new_name_waiting_for_moments(
    work, paper_head, unread
):
    for number in range(40):
        at(work, work.drop(f"library-{number}", pipelines={}), -100)
        unread.add(f"library-{number}")
    work.drop("small")
    began = work.clock.now
    while not paper_head.puts:
        report = work.pass_()
        assert work.clock.now - began < LONGEST_WAIT + 2, report.sentence
        unread.pop()
        work.time_passes(report.next_in)


def test_the_operator_need_not_wait_for_whose_a_name_is(work, paper_head, unread):
    unread.add("huge")
    at(work, work.drop("huge"), -10)
    work.drop("small")
    work.pass_()
    assert not paper_head.puts
    work.restart(pipelines=[{"name": "small", "project": "small"}])
    work.pass_()
    assert len(paper_head.puts) == 1


def test_a_pin_on_a_name_that_waits_is_not_told_as_one_that_cannot_be_met(work, unread):
    unread.add("huge")
    at(work, work.drop("huge"), -10)
    work.drop("small")
    work.pass_()
    pin(work.journal, "small", [Version("1.0")], at=work.clock.now, by="root")
    assert reasons(work.pass_()) == {}


@pytest.fixture
def late(work, monkeypatch):
    """A second source; it is listed once the test says so."""
    answered = threading.Event()
    folder = work.folder / "late"
    folder.mkdir()
    source = open_source(
        DirectorySource(type="directory", name="late", path=folder),
        tags=work.base.tags,
        python_version=work.base.version,
    )
    listing = source.list

    def list_late():
        if not answered.is_set():
            raise Transient("SourceSlow", "it is slow")
        return listing()

    monkeypatch.setattr(source, "list", list_late)
    monkeypatch.setitem(work.artifacts.sources, "late", source)
    work.artifacts.request_poll("late")
    yield SimpleNamespace(folder=folder, answers=answered.set)
    source.close()


def carry_late(work, late):
    wheel = carry(work, "alpha", "1.0")
    moved = late.folder / wheel.name
    wheel.rename(moved)
    at(work, moved, -100)


def test_a_new_name_waits_until_every_source_was_listed_once(work, paper_head, late):
    carry_late(work, late)
    carry(work, "beta", "9.0")
    report = work.pass_()
    [item] = report.waiting
    assert item.reason == "NameUndecided"
    assert "not listed yet: late" in item.message
    late.answers()
    for _ in range(8):
        work.pass_(after=1.0)
    assert work.journal.owners() == {"iris": "alpha"}
    assert served(paper_head) == ["/predict/iris/1.0"]


def test_a_new_name_waits_no_longer_once_the_last_source_was_listed_though_it_has_nothing(
    work, late
):
    carry(work, "beta", "9.0")
    for _ in range(3):
        work.pass_(after=1.0)
    assert not work.journal.owners()
    late.answers()
    for _ in range(5):
        work.pass_(after=1.0)
    assert work.journal.owners() == {"iris": "beta"}


def test_a_source_that_cannot_be_listed_keeps_a_name_from_nobody_for_long(work, paper_head, late):
    carry_late(work, late)
    carry(work, "beta", "9.0")
    until_served(work, paper_head, LONGEST_WAIT + 2)
    assert work.journal.owners() == {"iris": "beta"}
    late.answers()
    for _ in range(16):
        report = work.pass_(after=5.0)
    assert work.journal.owners() == {"iris": "beta"}
    assert set(reasons(report).values()) == {"Conflict"}  # the earlier one is told why
    assert served(paper_head) == ["/predict/iris/9.0"]
