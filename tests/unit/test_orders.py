"""Orders written into a real journal, beside the daemon or without one."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import replace

import pytest
from packaging.version import Version

from controller.errors import WheelwayError
from controller.journal import Journal
from controller.journal.migrations import MIGRATIONS
from controller.model import Availability, Event, Listing, Phase, Transition
from controller.ops import orders
from tests.support.service import fill, reach, release, revision

pytestmark = pytest.mark.unit

BY = {"by": "alice", "at": 1000.0}


@pytest.fixture
def journal(tmp_path):
    with Journal.open(tmp_path) as journal:
        fill(journal)
        yield journal


def refused(reason, order, *args, **more):
    with pytest.raises(WheelwayError) as caught:
        order(*args, **BY, **more)
    assert caught.value.reason == reason
    return caught.value.message


def listed(journal, *versions):
    journal.save_listing(Listing("shelf", tuple(map(revision, versions))), time.time())


# -- rolling back --------------------------------------------------------------------------------


def test_each_rollback_goes_one_version_further_back(journal):
    first = orders.roll_back(journal, "iris", **BY)
    assert (first["before"], first["after"]) == ("1.4", "1.3")
    again = orders.roll_back(journal, "iris", **BY)
    assert again["after"] == first["after"], "nothing changed yet"
    reach(journal, "1.4", Phase.RETIRED, time.time())
    second = orders.roll_back(journal, "iris", **BY)
    assert (second["before"], second["after"]) == ("1.3", "1.2")
    assert journal.overrides().pins["iris"].versions == (Version("1.2"),)


def test_a_rollback_tells_its_note_or_what_it_did(journal):
    assert orders.roll_back(journal, "iris", **BY)["pin"]["note"] == "rolled back from 1.4 to 1.3"
    event = journal.events(pipeline="iris")[-1]
    assert event.message == "pinned to 1.3 by alice (rolled back from 1.4 to 1.3)"
    assert orders.roll_back(journal, "iris", **BY, note="drift")["pin"]["note"] == "drift"
    event = journal.events(pipeline="iris")[-1]
    assert event.message.startswith("rolled back from 1.4 to 1.3: pinned to 1.3 by alice (drift)")


def test_a_version_that_no_source_lists_cannot_be_gone_back_to(journal):
    listed(journal, "1.4", "1.2")
    said = refused("RollbackImpossible", orders.roll_back, journal, "iris")
    assert said.startswith("iris 1.3 was live before 1.4, but no source lists its wheel any more")
    assert "listed are 1.4, 1.2" in said
    assert journal.overrides().pins == {}


def test_a_version_that_failed_since_cannot_be_gone_back_to(journal):
    reach(journal, "1.3", Phase.RETIRED, time.time())
    failed = replace(journal.quarantines("iris")[0], subject=release("1.3"))
    journal.add_quarantine(failed)
    said = refused("RollbackImpossible", orders.roll_back, journal, "iris")
    assert "wheelway quarantine clear iris 1.3" in said


def test_without_a_former_version_there_is_nothing_to_go_back_to(journal):
    for version in ("1.1", "1.2", "1.3"):
        journal._run("DELETE FROM releases WHERE version = ?1", version)
    said = refused("RollbackImpossible", orders.roll_back, journal, "iris")
    assert "no version of iris was live before 1.4" in said
    assert "wheelway pin iris VERSION" in said


def test_with_nothing_live_the_newest_that_ever_was_comes_back(journal):
    for version in ("1.3", "1.4"):
        reach(journal, version, Phase.RETIRED, time.time())
    done = orders.roll_back(journal, "iris", **BY)
    assert (done["before"], done["after"]) == (None, "1.4")


# -- pins ----------------------------------------------------------------------------------------


def test_what_a_source_retains_can_be_pinned_only_where_it_ran(journal):
    kept = [replace(revision(v), availability=Availability.RETAINED) for v in ("1.3", "0.1")]
    journal.save_listing(Listing("shelf", tuple(kept)), time.time())
    assert orders.pin(journal, "iris", [Version("1.3")], **BY)["versions"] == ["1.3"]
    refused("VersionUnlisted", orders.pin, journal, "iris", [Version("0.1")])


def test_a_wheel_that_carries_other_pipelines_does_not_count(journal):
    rose = replace(release("9.0"), pipeline="rose")
    journal.record(Transition(rose, Phase.LIVE, "AsPlanned", "as said"), time.time())
    listed(journal, "9.0", "1.4")
    refused("VersionUnlisted", orders.pin, journal, "iris", [Version("9.0")])


def test_a_wheel_nobody_looked_into_is_judged_by_its_project(journal):
    listed(journal, "2.0", "1.4")
    assert orders.pin(journal, "iris", [Version("2.0")], **BY)["versions"] == ["2.0"]


def test_names_that_stand_for_nothing_are_met_with_those_that_come_near(journal):
    for order in (orders.suspend, orders.roll_back):
        assert "did you mean iris" in refused("NameUnknown", order, journal, "irsi")
    assert journal.overrides().suspensions == {}


# -- where it is kept ----------------------------------------------------------------------------


def test_orders_outlast_the_daemon_and_are_written_beside_it(journal, tmp_path):
    with Journal.amend(tmp_path) as beside:
        orders.pin(beside, "iris", [Version("1.2"), Version("1.3")], **BY, note="n")
        orders.suspend(beside, "", **BY)
        orders.suspend(beside, "Iris", **BY)
    seen = journal.overrides()
    assert [str(v) for v in seen.pins["iris"].versions] == ["1.3", "1.2"]
    assert seen.pins["iris"].note == "n"
    assert seen.suspension_of("iris").pipeline == ""
    assert seen.suspension_of("rose").pipeline == ""
    orders.resume(journal, "", **BY)
    journal.close()
    with Journal.open(tmp_path) as later:
        assert later.overrides().suspension_of("iris").by == "alice"
        assert later.overrides().suspension_of("rose") is None
        assert later.overrides().pins == seen.pins


def test_a_journal_from_before_there_were_orders_is_migrated(tmp_path):
    with Journal.open(tmp_path, migrations=MIGRATIONS[:2]) as journal:
        journal.append(Event(1.0, "x", "Y", "z"))
        with pytest.raises(sqlite3.OperationalError):
            journal._connection.execute("SELECT * FROM overrides")
    with Journal.open(tmp_path) as journal:
        assert journal.overrides().pins == {}
        assert journal.events()[0].reason == "Y"


def test_events_are_numbered_for_whoever_follows(journal):
    known = journal.events_after(0)
    assert [number for number, _ in known] == sorted(number for number, _ in known)
    assert journal.last_event() == known[-1][0]
    assert journal.events_after(known[-1][0]) == []
    assert [n for n, _ in journal.events_after(known[0][0], limit=1)] == [known[1][0]]
    journal.append(Event(1.0, "shelf", "Y", "z"))
    assert journal.events_after(known[-1][0], pipeline="iris") == []
    assert [event.reason for _, event in journal.events_after(known[-1][0])] == ["Y"]
