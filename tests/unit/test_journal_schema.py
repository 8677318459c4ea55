"""The journal's file: damaged, of a newer or an older program, migrated."""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3

import pytest
from packaging.version import Version

from controller.errors import JournalError
from controller.journal import DaemonStatus, Journal
from controller.journal.migrations import MIGRATIONS
from controller.journal.schema import FILE, LOCK, holder
from controller.model import Event, Quarantine, tracked

pytestmark = pytest.mark.unit

STATUS = DaemonStatus(1, 10.0, "1 live, nothing to do", 0.25, 4711, "0.1.0", 1.0)


def quarantine(pipeline, stage, reason):
    subject = tracked(pipeline, Version("1.0"), "ab" * 32, stage)
    return Quarantine(subject, stage, reason, "so it is", "inputs", "Traceback ...", 5.0)


@pytest.mark.parametrize("damage", ["no database at all", "pages overwritten", "cut short"])
def test_a_corrupt_journal_is_set_aside_and_a_fresh_one_says_so(tmp_path, damage):
    path = tmp_path / FILE
    with Journal.open(tmp_path) as journal:
        for number in range(500):
            journal.append(Event(number, "x", "X", "y" * 200))
    content = path.read_bytes()
    path.write_bytes(
        {
            "no database at all": b"this was a journal once\n" * 500,
            "pages overwritten": content[:8192] + b"\x55" * 40960 + content[49152:],
            "cut short": content[: len(content) // 2],
        }[damage]
    )
    damaged = path.read_bytes()
    with Journal.open(tmp_path, clock=lambda: 1_700_000_000.0) as journal:
        aside = tmp_path / "journal.corrupt-20231114T221320Z"
        assert journal.set_aside == aside
        (event,) = journal.events()
        assert (event.reason, event.at) == ("JournalSetAside", 1_700_000_000.0)
        assert "journal.corrupt-20231114T221320Z" in event.message
    assert aside.read_bytes() == damaged
    with Journal.open(tmp_path) as journal:
        assert journal.set_aside is None


def test_a_reader_never_sets_a_corrupt_journal_aside(tmp_path):
    (tmp_path / FILE).write_bytes(b"this was a journal once\n" * 500)
    with pytest.raises(JournalError, match="restart the daemon") as corrupt:
        Journal.read(tmp_path)
    assert corrupt.value.reason == "JournalCorrupt"
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_two_corrupt_journals_within_a_second_are_both_kept(tmp_path):
    for _ in range(2):
        (tmp_path / FILE).write_bytes(b"this was a journal once\n" * 500)
        Journal.open(tmp_path, clock=lambda: 1_700_000_000.0).close()
    names = sorted(path.name for path in tmp_path.glob("journal.corrupt-*"))
    assert names == ["journal.corrupt-20231114T221320Z", "journal.corrupt-20231114T221320Z-2"]


def test_a_newer_journal_is_refused_by_every_door_with_who_wrote_it(tmp_path):
    newer = (*MIGRATIONS, "CREATE TABLE later (x); UPDATE meta SET value = 'x'")
    Journal.open(tmp_path, migrations=newer).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE meta SET value = '9.9' WHERE key = 'written_by'")
    connection.close()
    for door in (Journal.open, Journal.read, Journal.amend):
        with pytest.raises(JournalError, match=re.escape("written by wheelway 9.9")) as refused:
            door(tmp_path)
        assert refused.value.reason == "JournalNewer"
    assert not list(tmp_path.glob("journal.corrupt-*"))


def test_an_older_journal_is_upgraded_by_the_daemon_with_what_is_in_it(tmp_path):
    later = (
        *MIGRATIONS,
        "ALTER TABLE status ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'",
        "UPDATE status SET mood = 'upgraded'",
    )
    with Journal.open(tmp_path) as journal:
        journal._run("INSERT INTO status VALUES (1, 7, 1, 's', 1, 1, '0', 1)")
    for _ in range(2):
        with Journal.open(tmp_path, migrations=later) as journal:
            assert journal._run("SELECT number, mood FROM status") == [(7, "upgraded")]
            assert journal._run("PRAGMA user_version") == [(len(later),)]


def test_a_migration_that_fails_leaves_the_schema_before_it(tmp_path):
    broken = (*MIGRATIONS, "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1)")
    with Journal.open(tmp_path) as journal:
        journal.set_status(STATUS)
    with pytest.raises(JournalError):
        Journal.open(tmp_path, migrations=broken)
    with Journal.open(tmp_path) as journal:
        assert journal.status() == STATUS
        assert journal._run("SELECT name FROM sqlite_schema WHERE name = 'half'") == []


def _migrations_before(what):
    return MIGRATIONS[: next(n for n, text in enumerate(MIGRATIONS) if what in text)]


def test_an_upgrade_leaves_one_of_two_spellings_that_an_earlier_version_kept(tmp_path):
    before = _migrations_before("canonical_version")
    with Journal.open(tmp_path, migrations=before) as journal:
        for version, at in (("1.0", 1.0), ("1.0.0", 2.0), ("2.0", 3.0)):
            row = ("iris", version, "ab" * 32, "Live", "r", "m", "", "", at)
            journal._run("INSERT INTO releases VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", *row)
    with Journal.open(tmp_path) as journal:
        assert [str(r.subject.version) for r in journal.releases()] == ["1.0.0", "2.0"]


def test_an_upgrade_ends_quarantines_that_a_file_name_brought_on_good_bytes(tmp_path):
    before = _migrations_before("FilenameInvalid")
    failed = [quarantine("a", "inspect", "NotAZip"), quarantine("b", "stage", "LoadFailed")]
    with Journal.open(tmp_path, migrations=before) as journal:
        for one in (quarantine("c", "inspect", "TagsIncompatible"), *failed):
            row = (one.subject.name, "1.0", one.subject.digest, one.stage, one.reason, one.message)
            journal._put("quarantines", *row, one.inputs, one.log_tail, one.at)
    with Journal.open(tmp_path) as journal:
        assert journal.quarantines() == failed


@pytest.mark.parametrize("goes", [True, False])
def test_a_daemon_that_starts_while_somebody_looks_who_has_the_lock_waits_for_that(
    tmp_path, monkeypatch, goes
):
    (tmp_path / LOCK).touch()
    looking = os.open(tmp_path / LOCK, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    naps = []

    def nap(seconds):
        naps.append(seconds)
        assert holder(tmp_path) is None
        if goes:
            fcntl.flock(looking, fcntl.LOCK_UN)

    monkeypatch.setattr("controller.journal.schema.time.sleep", nap)
    if goes:
        with Journal.open(tmp_path):
            assert holder(tmp_path).process == str(os.getpid())
            with pytest.raises(JournalError, match=f"process {os.getpid()}"):
                Journal.open(tmp_path)
        assert len(naps) == 1
    else:
        with pytest.raises(JournalError, match=r"process \(unknown\)"):
            Journal.open(tmp_path)
        assert 1.0 <= sum(naps) < 10.0
    os.close(looking)
