"""The journal's files, deleted, moved or replaced while they are open: nothing is lost by that."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from packaging.version import Version

from controller.journal import Journal
from controller.journal.migrations import MIGRATIONS
from controller.journal.schema import FILE, LOCK
from controller.model import Phase, Release, Transition
from controller.ops import orders
from controller.planning.overrides import Pin
from tests.support.head import eventually
from tests.support.site import Site

pytestmark = pytest.mark.unit

IRIS = Release("iris", Version("1.0"), "ab" * 32)
FILES = [FILE, f"{FILE}-wal", f"{FILE}-shm", LOCK]


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def journal(state):
    with Journal.open(state) as made:
        made.record(Transition(IRIS, Phase.LIVE, "AnswersAtRoute", "it answers"), 1.0)
        yield made


def told(state):
    """What the next daemon finds there."""
    with Journal.read(state) as read:
        return [event.reason for event in read.events()]


def pin(writer, pipeline):
    writer.order(Pin(pipeline, (IRIS.version,), by="ada", note="", at=2.0), message="pinned")


def lose(state, how):
    for name in FILES if how == "all" else [how]:
        (state / name).unlink()


@pytest.mark.parametrize("how", ["all", FILE, f"{FILE}-wal", LOCK])
def test_a_file_that_is_deleted_is_noticed_and_written_anew(journal, state, how):
    assert journal.keep_file(2.0) is None
    lose(state, how)
    assert journal.keep_file(3.0) is None
    assert sorted(told(state)) == ["AnswersAtRoute", "JournalRestored"]
    assert journal.lost() == ""
    journal.record(Transition(IRIS, Phase.RETIRED, "Gone", "it is gone"), 4.0)
    assert journal.keep_file(5.0) is None
    journal.close()
    assert sorted(told(state)) == ["AnswersAtRoute", "Gone", "JournalRestored"]
    with sqlite3.connect(state / FILE) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert file.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def test_a_folder_that_is_deleted_comes_back_with_the_lock_held(journal, state):
    shutil.rmtree(state)
    assert journal.keep_file(3.0) is None
    assert sorted(told(state)) == ["AnswersAtRoute", "JournalRestored"]
    with pytest.raises(Exception, match="in use by another wheelway daemon"):
        Journal.open(state)


def test_another_file_in_its_place_is_kept_beside_it(journal, state, tmp_path):
    with Journal.open(tmp_path / "elsewhere"):
        pass
    os.replace(tmp_path / "elsewhere" / FILE, state / FILE)  # noqa: PTH105 - as `mv` does
    assert journal.keep_file(0.0) is None
    assert sorted(told(state)) == ["AnswersAtRoute", "JournalRestored"]
    assert (state / "journal.other-19700101T000000Z").is_file()


def test_what_others_have_open_goes_on_with_the_new_file(journal, state):
    with Journal.read(state) as reader, Journal.amend(state) as writer:
        lose(state, "all")
        # What is ordered before it is noticed goes into what is open still.
        pin(writer, "iris")
        assert journal.keep_file(3.0) is None
        orders.suspend(writer, "", by="ada", at=4.0)
        journal.record(Transition(IRIS, Phase.RETIRED, "Gone", "it is gone"), 5.0)
        expected = ["AnswersAtRoute", "Gone", "JournalRestored", "PinSet", "SuspensionSet"]
        assert sorted(event.reason for event in reader.events()) == expected
        assert list(journal.overrides().pins) == ["iris"]
    assert journal.keep_file(6.0) is None
    journal.close()
    assert sorted(told(state)) == expected


def test_what_is_ordered_while_it_is_written_anew_goes_into_the_new_file(
    journal, state, monkeypatch
):
    with Journal.amend(state) as writer:
        ordering = threading.Thread(target=pin, args=(writer, "iris"))
        replace = Path.replace

        def meanwhile(path, target):
            """All is copied and nothing is in its place yet."""
            ordering.start()
            ordering.join(1)  # it ended, unless it waits for us
            return replace(path, target)

        monkeypatch.setattr(Path, "replace", meanwhile)
        lose(state, "all")
        assert journal.keep_file(3.0) is None
        ordering.join(60)
    assert sorted(told(state)) == ["AnswersAtRoute", "JournalRestored", "PinSet"]
    assert list(journal.overrides().pins) == ["iris"]


def test_who_orders_on_and_on_while_files_are_deleted_has_every_order_kept(journal, state):
    ordered, enough = [], threading.Event()

    def order():
        with Journal.amend(state) as writer:
            while not enough.wait(0.005):  # SQLite gives nobody a turn who finds it taken each time
                pin(writer, f"p{len(ordered)}")
                ordered.append(f"p{len(ordered)}")

    ordering = threading.Thread(target=order)
    ordering.start()
    try:
        for round_ in range(3):
            before = len(ordered)
            eventually(lambda before=before: len(ordered) > before or not ordering.is_alive())
            lose(state, "all")
            assert journal.keep_file(float(round_)) is None
    finally:
        enough.set()
        ordering.join(60)
    with Journal.read(state) as read:
        assert read.overrides().pins.keys() == set(ordered)


def test_what_cannot_be_written_anew_leaves_what_is_open_as_it_was(journal, state, monkeypatch):
    def full(path, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    with Journal.amend(state) as writer, monkeypatch.context() as patched:
        lose(state, "all")
        patched.setattr(Path, "replace", full)
        assert "No space left" in journal.keep_file(3.0).message
        assert [path.name for path in state.iterdir()] == [LOCK]
        pin(writer, "iris")
        journal.record(Transition(IRIS, Phase.RETIRED, "Gone", "it is gone"), 4.0)
    assert journal.keep_file(30.0) is None
    assert sorted(told(state)) == ["AnswersAtRoute", "Gone", "JournalRestored", "PinSet"]


def test_as_long_as_it_cannot_be_written_anew_a_condition_says_what_is_at_stake(journal, state):
    moved = state.with_name("moved")
    state.rename(moved)
    state.write_text("a file where the folder should be")
    found = journal.keep_file(2.0)
    assert (found.subject, found.reason) == ("journal", "JournalLost")
    assert f"{FILE}, {FILE}-wal, {LOCK} in {state} was deleted" in found.message
    assert "Mend that while it runs" in found.message
    state.unlink()
    assert journal.keep_file(3.0) == found  # not at every pass
    assert journal.keep_file(30.0) is None
    assert sorted(told(state)) == ["AnswersAtRoute", "JournalRestored"]


def test_a_daemon_whose_journal_is_deleted_keeps_pins_and_history_over_a_restart(
    tmp_path, paper_head
):
    site = Site(tmp_path, paper_head)
    site.configure("[rollout]\ninterval = 0.2\n")
    site.drop("demo")
    with site.daemon():
        release = site.wait_for("/predict/demo/1.0")
        site.wait_for_phase(release, Phase.LIVE)
        with Journal.amend(tmp_path / "state") as writer:
            orders.pin(writer, "demo", [Version("1.0")], by="ada", at=time.time())
        lose(tmp_path / "state", "all")
        eventually((tmp_path / "state" / FILE).exists)
    with site.daemon(), Journal.read(tmp_path / "state") as journal:
        assert journal.overrides().pins["demo"].by == "ada"
        reasons = [event.reason for event in journal.events(limit=1000)]
        assert {"AnswersAtRoute", "JournalRestored", "PinSet"} <= set(reasons)
    site.close()
