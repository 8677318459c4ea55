"""What runs on a cluster has rows of its own in the journal; an older journal's are those of `ray`.

`schema-13.sql` is the journal of a daemon of the version before there were clusters, as
`sqlite3 .dump` writes it (its texts shortened).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from packaging.version import Version

from controller.errors import JournalError
from controller.journal import DaemonStatus, Journal
from controller.journal.migrations import MIGRATIONS
from controller.journal.schema import FILE
from controller.model import (
    Condition,
    Loss,
    Phase,
    PlacementRecord,
    Quarantine,
    Release,
    Transition,
)
from controller.observed import Part
from controller.planning.overrides import Suspension
from controller.planning.weights import WeightsQuarantine
from tests.unit.test_weights_choice import weights

pytestmark = pytest.mark.unit

FORMER = Path(__file__).parents[1] / "support/journals/schema-13.sql"
OF_A_CLUSTER = {
    *("releases", "phases", "quarantines", "placements", "parts", "conditions", "configs"),
    *("losses", "proven_weights", "refused_weights"),
}
RELEASE = Release("iris", Version("1.0"), "a" * 64)


@pytest.fixture
def former(tmp_path):
    """A folder with the journal of the version before."""
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.executescript(FORMER.read_text())
    return tmp_path


def tables(folder):
    """By table: its rows as dictionaries."""
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.row_factory = sqlite3.Row
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        return {
            name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]
            for (name,) in names
        }


def told(rows):
    """Rows in an order of their own."""
    return sorted(repr(sorted(row.items())) for row in rows)


# -- from the version before ---------------------------------------------------------------------


def test_every_row_of_the_former_journal_is_there_as_one_of_the_cluster_ray(former):
    before = tables(former)
    Journal.open(former).close()
    after = tables(former)
    assert before.keys() == after.keys()
    for name, rows in before.items():
        assert rows, f"{name} is not tried"
        given = [{**row, "cluster": "ray"} for row in rows] if name in OF_A_CLUSTER else rows
        assert told(given) == told(after[name]), name


def test_what_the_former_journal_says_is_read_and_goes_on(former):
    with Journal.open(former) as journal:
        live = [one for one in journal.releases(over=False) if one.phase is Phase.LIVE]
        assert live
        assert all(Phase.LIVE in one.times for one in live)
        assert {one.placement for one in live} <= journal.placements().keys()
        assert journal.quarantines()
        assert journal.conditions()
        assert journal.configs()
        assert journal.losses() == {"wheels": Loss(3, 4)}
        proven = journal.proven_weights().items()
        release, (newer, older) = next((of, both) for of, both in proven if len(both) == 2)
        assert newer.weights.version > older.weights.version
        assert journal.refused_weights()[release]
        of = live[0].subject
        journal.record(Transition(of, Phase.RETIRED, "Gone", "so"), 2_000_000.0)
        journal.prune(before=3_000_000.0, releases=0, events=1)
        assert of not in journal.records([of])
        assert journal._run("PRAGMA foreign_key_check") == []
        assert journal._run("SELECT 1 FROM phases WHERE digest = ?1", of.digest) == []


def test_beside_the_daemon_the_former_journal_is_called_older_and_left_alone(former):
    content = (former / FILE).read_bytes()
    for door in (Journal.read, Journal.amend):
        with pytest.raises(JournalError, match="restart the daemon, which upgrades it") as refused:
            door(former)
        assert refused.value.reason == "JournalOlder"
    assert (former / FILE).read_bytes() == content


def test_the_former_program_refuses_the_new_journal_and_leaves_it_as_it_is(former):
    Journal.open(former).close()
    content = (former / FILE).read_bytes()
    with pytest.raises(JournalError, match="install that version again") as refused:
        Journal.open(former, migrations=MIGRATIONS[:13])
    assert refused.value.reason == "JournalNewer"
    assert (former / FILE).read_bytes() == content


# -- clusters beside each other ------------------------------------------------------------------


def told_of(journal):
    """All that a journal says of what runs on its cluster."""
    return {
        "releases": [(r.subject, r.phase, dict(r.times)) for r in journal.releases()],
        "records": {s: r.phase for s, r in journal.records([RELEASE]).items()},
        "counted": journal.counted(),
        "quarantines": journal.quarantines(),
        "quarantines_of": journal.quarantines_of({RELEASE.digest}),
        "placements": journal.placements(),
        "parts": journal.parts(),
        "conditions": journal.conditions(),
        "configs": [(one.digest, one.outcome) for one in journal.configs()],
        "losses": journal.losses(),
        "proven": journal.proven_weights(),
        "refused": journal.refused_weights(),
        "lifted": journal.lifted_weights(),
    }


def fill(journal, at):
    """Something of everything, which differs by its time."""
    name = f"iris-1.0-{at:08.0f}"
    journal.record(Transition(RELEASE, Phase.STAGED, "Starting", "so", name), at)
    journal.add_quarantine(Quarantine(RELEASE, "stage", "LoadFailed", f"at {at}", "inputs", at=at))
    journal.date({name: PlacementRecord(name, at)})
    journal.placement_live(name, at + 1)
    journal.keep_parts({name: (Part("scaler", inline=False, state="HEALTHY", message=f"{at}"),)})
    journal.set_conditions([Condition("ray", "Down", f"since {at}")], at)
    journal.sent(journal.sending(f"at: {at}", f"{at:064.0f}", "a release", at))
    journal.keep_losses({"wheels": Loss(int(at), 4)})
    journal.weights_live(RELEASE, weights(f"{at:.0f}.1", "1"), at)
    for number in (2, 3):
        bad = weights(f"{at:.0f}.{number}", str(number))
        journal.refuse_weights(WeightsQuarantine(RELEASE, bad, "LoadFailed", "bad", "", at))
    journal.clear_refused_weights(lambda one: one.weights.version.minor == 2, at=at)


@pytest.fixture
def two(tmp_path):
    """The journals of the two clusters of one daemon: what its own has, and another's."""
    with Journal.open(tmp_path) as ray, Journal.amend(tmp_path, cluster="green") as green:
        yield ray, green


def test_nothing_of_one_cluster_is_told_of_another(two):
    ray, green = two
    fill(ray, 10.0)
    before = told_of(ray)
    assert all(before.values()), before
    assert not any(told_of(green).values())
    fill(green, 20.0)
    assert told_of(ray) == before
    other = told_of(green)
    assert all(other.values())
    assert [name for name in before if before[name] == other[name]] == ["records", "counted"]
    with Journal.read(ray.path.parent, cluster="green") as beside:
        assert told_of(beside) == other


def test_what_becomes_of_one_cluster_leaves_the_rows_of_another(two):
    ray, green = two
    fill(ray, 10.0)
    fill(green, 20.0)
    before = told_of(green)
    [event] = ray.set_conditions([], 30.0)
    assert event.fields["condition"] == "gone"
    ray.clear_quarantine("iris", at=30.0)
    ray.date({})
    ray.keep_parts({})
    ray.keep_losses({})
    [lifted] = ray.lifted_weights()[RELEASE]
    ray.try_weights_again([lifted])
    ray.clear_refused_weights(lambda _: True, at=30.0)
    ray.try_weights_again(ray.lifted_weights()[RELEASE])
    ray.drop_weights([RELEASE])
    ray.record(Transition(RELEASE, Phase.RETIRED, "Gone", "so"), 30.0)
    ray.prune(before=40.0, releases=0, events=100)
    assert not any(found for name, found in told_of(ray).items() if name != "configs")
    assert told_of(green) == before


def test_a_config_is_found_by_its_cluster(two):
    ray, green = two
    green.sending("at: green", "c" * 64, "a release", 1.0)
    assert green.serve_config("ccc") == "at: green"
    with pytest.raises(JournalError) as unknown:
        ray.serve_config("ccc")
    assert unknown.value.reason == "ConfigUnknown"


def test_orders_the_story_and_the_daemon_are_those_of_all_clusters(two):
    ray, green = two
    green.order(Suspension("iris", "bob", "", 1.0), message="so it is")
    green.set_status(DaemonStatus(1, 10.0, "1 live, nothing to do", 0.25, 4711, "0.1.0", 1.0))
    assert ray.overrides() == green.overrides()
    assert ray.overrides().suspensions.keys() == {"iris"}
    assert ray.events() == green.events() != []
    assert ray.status() == green.status() is not None
