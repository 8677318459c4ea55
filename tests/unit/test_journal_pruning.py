"""What is over is forgotten in time; what is not is never."""

from __future__ import annotations

import pytest
from packaging.version import Version

from controller.account.history import as_document, from_document, tell
from controller.journal import Journal
from controller.journal.pruning import AT_ONCE
from controller.model import Event, Phase, Quarantine, Release, Transition

pytestmark = pytest.mark.unit

DAY = 86400.0
NOW = 1000 * DAY


@pytest.fixture
def journal(tmp_path):
    with Journal.open(tmp_path) as made:
        yield made


def release(number):
    return Release("iris", Version(f"1.{number}"), f"{number:064x}")


def went(journal, number, phase, at):
    journal.record(Transition(release(number), phase, "Told", "it went so", f"iris-{number}"), at)


def known(journal):
    return sorted(record.release.version.minor for record in journal.releases())


def pruned(journal, *, days=10.0, releases=100, events=20_000, listed=()):
    digests = [release(number).digest for number in listed]
    before = NOW - days * DAY
    return journal.prune(before=before, releases=releases, events=events, listed=digests)


def test_releases_that_are_over_go_by_age_and_all_others_stay(journal):
    for number, phase in enumerate(Phase):
        went(journal, number, phase, NOW - 11 * DAY)
    went(journal, 20, Phase.RETIRED, NOW - 9 * DAY)
    journal.add_quarantine(Quarantine(release(9), "stage", "LoadFailed", "", "inputs"))
    assert pruned(journal) is False
    over = {list(Phase).index(phase) for phase in (Phase.RETIRED, Phase.SUPERSEDED)}
    assert known(journal) == sorted(({*range(len(Phase))} - over) | {20})
    assert len(journal.quarantines()) == 1
    assert "phases" not in str(journal._run("PRAGMA foreign_key_check"))


def test_of_those_that_are_over_the_latest_stay_and_what_is_listed_does_whatever_its_age(journal):
    for number in range(6):
        went(journal, number, Phase.LIVE, NOW - number)
        went(journal, number, Phase.RETIRED, NOW - number)
    pruned(journal, releases=2, listed=[4])
    assert known(journal) == [0, 1, 4]
    pruned(journal, days=-1, listed=[4])
    assert known(journal) == [4]
    assert journal.records({release(4), release(0)}).keys() == {release(4)}


def test_many_go_a_thousand_at_a_time(journal):
    with journal.transaction():
        for number in range(AT_ONCE + 1):
            went(journal, number, Phase.RETIRED, 1.0)
    assert [pruned(journal), pruned(journal)] == [True, False]
    assert known(journal) == []


def test_events_go_by_age_and_number_and_are_never_counted_anew(journal):
    for day in range(20):
        journal.append(Event(NOW - (20 - day) * DAY, "ray", "Down", f"day {day}"))
    assert tell(journal, None, 50).since is None
    pruned(journal, days=10.5)
    assert journal.events()[0].message == "day 10"
    assert tell(journal, None, 50).since == NOW - 10 * DAY
    pruned(journal, events=3)
    assert [event.message for event in journal.events()] == ["day 17", "day 18", "day 19"]
    newest = journal.last_event()
    pruned(journal, days=0)
    assert [event.message for event in journal.events()] == ["day 19"]
    journal.append(Event(NOW, "ray", "Down", "again"))
    assert journal.last_event() == newest + 1


def test_configs_go_with_their_texts(journal):
    for day in (20, 5):
        journal.sending(f"text {day}", f"{day:02}" * 32, "a cause", NOW - day * DAY)
    pruned(journal)
    (kept,) = journal.configs()
    assert (kept.digest, kept.kept) == ("05" * 32, True)
    assert journal._run("SELECT count(*) FROM config_texts") == [(1,)]


def test_history_says_from_when_on_it_knows(journal):
    for day in (20, 5):
        journal.append(Event(NOW - day * DAY, "iris@1.0+00000000", "Told", "once"))
    pruned(journal)
    for name in (None, "iris"):
        told = tell(journal, name, 50)
        assert told.since == NOW - 5 * DAY
        assert from_document(as_document(told)) == told
