"""What is over is forgotten in time; what is not is never."""

from __future__ import annotations

import pytest
from packaging.version import Version

from controller.journal import Journal
from controller.journal.pruning import AT_ONCE
from controller.model import Event, Phase, Quarantine, Release, Transition
from controller.ops.history import tell
from controller.ops.times import iso

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
    return sorted(record.subject.version.minor for record in journal.releases())


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


def failed(journal, number, at):
    journal.add_quarantine(Quarantine(release(number), "stage", "LoadFailed", "", "inputs", at=at))


def quarantined(journal):
    return [quarantine.subject.version.minor for quarantine in journal.quarantines()]


def test_quarantines_of_what_is_over_or_unknown_go_by_age_unless_a_source_lists_it(journal):
    ago = NOW - 11 * DAY
    phases = [Phase.RETIRED, Phase.SUPERSEDED, Phase.QUARANTINED, Phase.LIVE, Phase.RETIRED]
    for number, phase in enumerate(phases):
        went(journal, number, phase, ago)
    went(journal, 5, Phase.RETIRED, NOW - 9 * DAY)  # it failed long ago, and is over since lately
    for number in range(8):
        failed(journal, number, NOW - 9 * DAY if number == 7 else ago)
    assert pruned(journal, listed=[4]) is False
    assert quarantined(journal) == [2, 3, 4, 5, 7]


def test_the_version_of_a_quarantine_may_be_spelled_otherwise(journal):
    went(journal, 1, Phase.QUARANTINED, 1.0)
    other = Release("iris", Version("1.1.0"), release(1).digest)
    journal.add_quarantine(Quarantine(other, "stage", "LoadFailed", "", "inputs"))
    pruned(journal)
    assert len(journal.quarantines()) == 1


def test_of_such_quarantines_the_latest_stay_and_many_go_a_thousand_at_a_time(journal):
    with journal.transaction():
        for number in range(AT_ONCE + 3):
            failed(journal, number, NOW + number)
    assert [pruned(journal, releases=2), pruned(journal, releases=2)] == [True, False]
    assert quarantined(journal) == [AT_ONCE + 1, AT_ONCE + 2]


def test_only_events_and_configs_go_while_nobody_knows_all_that_is_listed(journal):
    went(journal, 1, Phase.RETIRED, 1.0)
    failed(journal, 1, 1.0)
    before = journal.last_event()
    journal.append(Event(NOW, "ray", "Down", "now"))
    journal.prune(before=NOW - DAY, releases=1, events=1, listed=None)
    assert known(journal) == quarantined(journal) == [1]
    assert len(journal.events()) == 1 < before + 1


def test_quarantines_are_found_by_the_bytes_that_failed(journal):
    for number in range(4):
        failed(journal, number, NOW)
    wanted = {release(1).digest}, {release(3).digest, "unknown"}
    with Journal.read(journal.path.parent) as beside:
        for one in (journal, beside):
            assert [q.subject.version.minor for q in one.quarantines_of(*wanted)] == [1, 3]
    journal.end_quarantine(release(1))
    assert [q.subject.version.minor for q in journal.quarantines_of(*wanted)] == [3]


def test_many_go_a_thousand_at_a_time(journal):
    with journal.transaction():
        for number in range(AT_ONCE + 1):
            went(journal, number, Phase.RETIRED, 1.0)
    assert [pruned(journal), pruned(journal)] == [True, False]
    assert known(journal) == []


def test_events_go_by_age_and_number_and_are_never_counted_anew(journal):
    for day in range(20):
        journal.append(Event(NOW - (20 - day) * DAY, "ray", "Down", f"day {day}"))
    assert tell(journal, None, 50)["since"] is None
    pruned(journal, days=10.5)
    assert journal.events()[0].message == "day 10"
    assert tell(journal, None, 50)["since"] == iso(NOW - 10 * DAY)
    pruned(journal, events=3)
    assert [event.message for event in journal.events()] == ["day 17", "day 18", "day 19"]
    newest = journal.last_event()
    pruned(journal, days=0)
    assert [event.message for event in journal.events()] == ["day 19"]
    journal.append(Event(NOW, "ray", "Down", "again"))
    assert journal.last_event() == newest + 1


def test_as_many_events_stay_as_the_configuration_says_now_whoever_writes(journal):
    with journal.transaction():
        for number in range(20_010):
            journal.append(Event(NOW, "ray", "Down", f"{number}"))
    with Journal.amend(journal.path.parent) as beside:
        beside.append(Event(NOW, "ray", "Down", "by an operator's command"))
    pruned(journal, events=30_000)
    assert len(journal.events(limit=100_000)) == 20_011
    pruned(journal, events=50)
    assert len(journal.events(limit=100_000)) == 50


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
        assert tell(journal, name, 50)["since"] == iso(NOW - 5 * DAY)
