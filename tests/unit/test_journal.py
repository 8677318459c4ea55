"""The journal, on real files, with real processes beside it and killed ones before it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from controller.errors import JournalError, Waiting
from controller.journal import AppliedConfig, DaemonStatus, Journal
from controller.model import (
    Availability,
    Condition,
    Event,
    Listing,
    Phase,
    PlacementRecord,
    Quarantine,
    Refusal,
    Release,
    Revision,
    Transition,
)

pytestmark = pytest.mark.unit

IRIS = Release("iris", Version("1.0"), "ab" * 32)
IRIS_2 = Release("iris", Version("2.0+gpu.1"), "cd" * 32)
GREETER = Release("greeter", Version("1!0.9rc1"), "ef" * 32)


@pytest.fixture
def journal(tmp_path):
    with Journal.open(tmp_path, clock=lambda: 1_700_000_000.0) as made:
        yield made


def quarantine(release, at=5.0, reason="LoadFailed"):
    return Quarantine(release, "stage", reason, "load() raised", "inputs", "Traceback ...", at)


def status(number, at=10.0):
    return DaemonStatus(number, at, "1 live, nothing to do", 0.25, 4711, "0.1.0", 1.0)


def reasons(events):
    return [(event.subject, event.reason) for event in events]


# -- what is recorded comes back -----------------------------------------------------------------


def test_a_release_is_told_with_the_time_of_every_phase_it_reached(journal):
    journal.record(Transition(IRIS, Phase.DISCOVERED, "Listed", "found"), 1.0, source="directory")
    journal.record(Transition(IRIS, Phase.STAGED, "Staged", "starting", "iris-1.0-aa"), 2.0)
    journal.record(Transition(IRIS, Phase.LIVE, "Answered", "at its route"), 3.0)
    journal.record(Transition(IRIS, Phase.STAGED, "Staged", "again"), 4.0)
    journal.record(Transition(IRIS, Phase.STAGED, "Staged", "still"), 5.0)
    (record,) = journal.releases()
    assert (record.subject, record.phase, record.message) == (IRIS, Phase.STAGED, "still")
    assert (record.source, record.placement, record.since) == ("directory", "iris-1.0-aa", 4.0)
    assert record.times == {Phase.DISCOVERED: 1.0, Phase.STAGED: 2.0, Phase.LIVE: 3.0}
    assert [event.at for event in journal.events(pipeline="iris")] == [1.0, 2.0, 3.0, 4.0]


def test_quarantines_are_lifted_by_pipeline_or_by_an_equal_version(journal):
    for release in (IRIS, IRIS_2, GREETER):
        journal.add_quarantine(quarantine(release))
    journal.add_quarantine(quarantine(IRIS, at=6.0))
    assert journal.quarantines("iris") == [quarantine(IRIS, at=6.0), quarantine(IRIS_2)]
    assert journal.clear_quarantine("iris", Version("1.0.0"), at=7.0) == [quarantine(IRIS, at=6.0)]
    assert journal.clear_quarantine("iris", at=8.0) == [quarantine(IRIS_2)]
    assert journal.quarantines() == [quarantine(GREETER)]
    assert reasons(journal.events()) == [
        (str(IRIS), "QuarantineCleared"),
        (str(IRIS_2), "QuarantineCleared"),
    ]
    journal.end_quarantine(GREETER)
    assert journal.quarantines() == []


def test_a_placement_has_the_dates_it_was_given_and_is_live_once_a_promotion(journal):
    name = "iris-1.0-aa"
    journal.date({name: PlacementRecord(name, 1.0, 11.0, None, 2.0)})
    for at in (21.0, 22.0):
        journal.placement_live(name, at)
    assert journal.placements() == {name: PlacementRecord(name, 1.0, 11.0, 21.0, 2.0)}
    journal.date({name: PlacementRecord(name, 1.0, 50.0, 21.0)})
    journal.placement_live(name, 60.0)
    assert journal.placements() == {name: PlacementRecord(name, 1.0, 50.0, 60.0)}
    journal.date({"rag-2": PlacementRecord("rag-2", 70.0)})
    assert journal.placements() == {"rag-2": PlacementRecord("rag-2", 70.0)}


def test_a_condition_keeps_its_time_and_speaks_only_when_it_comes_goes_or_turns(journal):
    down = Condition("ray", "DashboardUnreachable", "try 1")
    full = Condition("source:directory", "DirectoryMissing", "create it")
    assert reasons(journal.set_conditions([down, full], 1.0)) == [
        ("ray", "DashboardUnreachable"),
        ("source:directory", "DirectoryMissing"),
    ]
    again = Condition("ray", "DashboardUnreachable", "try 2")
    assert journal.set_conditions([again, full], 2.0) == []
    assert journal.conditions() == [(again, 1.0), (full, 1.0)]
    (gone,) = journal.set_conditions([again], 3.0)
    assert (gone.subject, gone.message) == ("source:directory", "no longer: create it")
    better = Condition("ray", "DashboardUnreachable", "try 2", ok=True)
    assert len(journal.set_conditions([better], 4.0)) == 1
    assert journal.conditions() == [(better, 4.0)]
    assert len(journal.events()) == 4


def test_events_are_found_by_what_they_are_about(tmp_path):
    with Journal.open(tmp_path) as journal:
        for number in range(15):
            journal.append(Event(number, "config", "Applied", f"number {number}"))
        journal.append(Event(20, str(IRIS_2), "LoadFailed", "load() raised", {"pid": 1}))
        journal.append(Event(21, "elsewhere", "Renamed", "so", {"pipeline": "iris"}))
        journal.append(Event(22, "undecodable \udcff", "LogTail", "bytes \udc80"))
        assert [event.at for event in journal.events(subject="config", limit=2)] == [13, 14]
        assert [event.at for event in journal.events(since=14)] == [14, 20, 21, 22]
        assert [event.at for event in journal.events(pipeline="iris")] == [20, 21]
        (found,) = journal.events(pipeline="iris", version=Version("2+gpu.1"))
        assert found == Event(20, str(IRIS_2), "LoadFailed", "load() raised", {"pid": 1})


def test_configs_are_found_by_the_start_of_their_digest_while_their_text_is_kept(
    journal, monkeypatch
):
    monkeypatch.setattr("controller.journal.writing.CONFIGS_KEPT", 2)
    for at, name in enumerate(("aa11", "ab22", "cc33", "ab22")):
        number = journal.sending(f"text of {name}", name, f"cause {at}", at)
        if at < 3:
            journal.sent(number, ("Applied", "Applied", "DashboardTimeout")[at])
    assert journal.configs(limit=3) == [
        AppliedConfig(1, "ab22", "cause 1", kept=True, outcome="Applied"),
        AppliedConfig(2, "cc33", "cause 2", kept=True, outcome="DashboardTimeout"),
        AppliedConfig(3, "ab22", "cause 3", kept=True, outcome="Sending"),
    ]
    assert journal.serve_config("AB") == "text of ab22"
    expected = {"a": "DigestAmbiguous", "aa": "ConfigForgotten", "%": "ConfigUnknown"}
    for prefix, reason in expected.items():
        with pytest.raises(JournalError) as failure:
            journal.serve_config(prefix)
        assert failure.value.reason == reason


def test_a_listing_comes_back_whole_and_is_written_only_when_it_changed(journal):
    revision = Revision(
        *("directory", "iris", Version("2.0+gpu.1"), "iris-2.0+gpu.1-py3-none-any.whl", "x"),
        *("ab" * 32, 1234, Availability.RETAINED),
    )
    unsized = replace(revision, size=None, note="yanked")
    refused, pending = (Refusal("a", "B", "c"),), (Refusal("d", "E", "f"),)
    listing = Listing("directory", (revision, unsized), refused, pending, unobserved=("iris",))
    assert journal.save_listing(listing, 1.0)
    assert not journal.save_listing(listing, 2.0)
    assert journal.listings() == {"directory": listing}
    journal.keep_listings_of({})
    assert journal.listings() == {}
    interrupted(journal, lambda: journal.save_listing(listing, 3.0))
    assert journal.save_listing(listing, 4.0), "the first one was rolled back"
    journal.close()
    with Journal.open(journal.path.parent) as after:
        assert not after.save_listing(listing, 5.0)


# -- transactions and other processes ------------------------------------------------------------


def test_a_listing_counts_for_the_source_that_it_is_of(journal):
    listings = {name: Listing(name, ()) for name in ("a", "b", "c")}
    for listing in listings.values():
        journal.save_listing(listing, 1.0)
    before = {"a": "index x", "b": "index y"}
    assert journal.listings_of(before).keys() == {"a", "b"}
    journal.keep_listings_of(before)  # which an older daemon listed: it is believed once
    assert journal.listings().keys() == {"a", "b"}
    now = {"a": "directory x", "b": "index y"}
    assert journal.listings_of(now).keys() == {"b"}
    assert journal.listings().keys() == {"a", "b"}, "asking changes nothing"
    journal.keep_listings_of(now)
    assert journal.listings().keys() == {"b"}
    assert journal.save_listing(listings["a"], 2.0)
    assert journal.listings_of(now).keys() == {"a", "b"}


def test_a_pass_that_fails_while_recording_leaves_nothing(journal):
    journal.set_status(status(1))
    interrupted(
        journal,
        lambda: journal.set_status(status(2)),
        lambda: journal.record(Transition(IRIS, Phase.LIVE, "Answered", "yes"), 1.0),
    )
    assert (journal.status(), journal.releases(), journal.events()) == (status(1), [], [])


def test_threads_write_one_after_another(journal):
    def write(thread):
        for number in range(20):
            with journal.transaction():
                journal.append(Event(thread, "thread", "Wrote", str(number)))
                journal.append(Event(thread, "thread", "WroteAgain", str(number)))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    told = journal.events()
    assert len(told) == 160
    pairs = zip(told[::2], told[1::2], strict=True)
    assert all((one.at, one.message) == (two.at, two.message) for one, two in pairs)


def test_a_reader_sees_one_moment_while_the_daemon_goes_on(journal, tmp_path):
    journal.set_status(status(1))
    with Journal.read(tmp_path) as reader:
        with reader.snapshot():
            assert reader.status() == status(1)
            journal.set_status(status(2))
            assert reader.status() == status(1)
        assert reader.status() == status(2)


def test_a_journal_is_readable_when_the_daemon_is_down(tmp_path):
    with Journal.open(tmp_path) as journal:
        journal.set_status(status(3))
    with Journal.read(tmp_path) as reader:
        assert reader.status() == status(3)
        with pytest.raises(JournalError, match="readonly"):
            reader._run("DELETE FROM status")


def test_before_the_first_daemon_there_is_nothing_to_read(tmp_path):
    with pytest.raises(JournalError, match="the daemon has not run here yet") as missing:
        Journal.read(tmp_path)
    assert missing.value.reason == "JournalMissing"
    assert list(tmp_path.iterdir()) == []


def test_an_operator_lifts_a_quarantine_from_another_process_while_the_daemon_writes(
    journal, tmp_path
):
    journal.add_quarantine(quarantine(IRIS))
    code = (
        "import pathlib, sys; from controller.journal import Journal\n"
        "with Journal.amend(pathlib.Path(sys.argv[1])) as journal:\n"
        "    print('ready', flush=True)\n"
        "    print(len(journal.clear_quarantine('iris', at=9.0)))\n"
    )
    child = python(code, tmp_path)
    with journal.transaction():
        journal.set_status(status(1))
        assert child.stdout.readline() == "ready\n", "and now it waits for this transaction"
    output, _ = child.communicate(timeout=60)
    assert (output, child.returncode) == ("1\n", 0)
    assert journal.quarantines() == []


def test_a_second_daemon_is_refused_by_the_number_of_the_first(journal, tmp_path):
    code = "import pathlib, sys; from controller.journal import Journal\n"
    code += "Journal.open(pathlib.Path(sys.argv[1]))"
    child = python(code, tmp_path)
    _, errors = child.communicate(timeout=60)
    assert child.returncode != 0
    assert f"in use by another wheelway daemon, process {os.getpid()};" in errors
    journal.close()
    Journal.open(tmp_path).close()


def test_a_daemon_killed_while_writing_leaves_whole_passes(tmp_path):
    code = (
        "import os, pathlib, sys\n"
        "from controller.journal import DaemonStatus, Journal\n"
        "from controller.model import Event\n"
        "journal = Journal.open(pathlib.Path(sys.argv[1]))\n"
        "last = journal.status()\n"
        "for number in range(last.number + 1 if last else 1, 10**9):\n"
        "    with journal.transaction():\n"
        "        journal.append(Event(number, 'pass', 'Passed', 'x' * 5000))\n"
        "        journal.set_status(DaemonStatus(number, 0, '', 0, os.getpid(), '', 0))\n"
        "    print(number, flush=True)\n"
    )
    for _ in range(3):
        child = python(code, tmp_path)
        told = [int(child.stdout.readline()) for _ in range(30)]
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=60)
        with Journal.open(tmp_path) as journal:
            assert journal.set_aside is None
            last = journal.status()
            assert last.number >= told[-1]
            passes = [event.at for event in journal.events(subject="pass", limit=10**6)]
            assert passes == list(range(1, last.number + 1))


def test_a_journal_that_stays_locked_is_a_shortage_not_a_crash(journal, tmp_path, monkeypatch):
    monkeypatch.setattr("controller.journal.schema.BUSY_TIMEOUT", 0.05)
    with Journal.amend(tmp_path) as operator, journal.transaction():
        with pytest.raises(Waiting) as busy:
            operator.set_status(status(1))
        assert busy.value.reason == "JournalBusy"


LONG = replace(IRIS, version=Version("1.0.0"))
"""The same release, its version spelled otherwise."""


def test_a_version_is_one_however_it_is_spelled_and_keeps_its_first_spelling(journal):
    journal.record(Transition(IRIS, Phase.FETCHED, "Verified", ""), 1.0)
    journal.record(Transition(LONG, Phase.LIVE, "AnswersAtRoute", ""), 2.0)
    [record] = journal.releases()
    assert (str(record.subject.version), record.phase) == ("1.0", Phase.LIVE)
    assert [*record.times] == [Phase.FETCHED, Phase.LIVE]
    assert journal.records([LONG]).keys() == {IRIS}
    journal.add_quarantine(quarantine(IRIS))
    journal.add_quarantine(quarantine(LONG, reason="ReplicaDied"))
    assert [failed.reason for failed in journal.quarantines()] == ["ReplicaDied"]
    journal.end_quarantine(IRIS)
    assert journal.quarantines() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("running", [True, False])
def test_someone_who_may_only_read_the_folder_can_read_the_journal(running):
    code = (
        "import os, pathlib, sys; from controller.journal import Journal\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "with Journal.read(pathlib.Path(sys.argv[1])) as reader: print(reader.status().number)\n"
    )
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        Path(name).chmod(0o755)
        with Journal.open(Path(name)) as journal:
            journal.set_status(status(4))
            if not running:
                journal.close()
            output, errors = python(code, name).communicate(timeout=60)
    assert (output, errors) == ("4\n", "")


def interrupted(journal, *writes):
    """Do these in a transaction that fails at its end."""

    def fail():
        with journal.transaction():
            for write in writes:
                write()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()


def python(code, *arguments):
    """A Python process of this environment that runs `code`."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
