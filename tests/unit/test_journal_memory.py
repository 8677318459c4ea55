"""What the daemon remembers of its journal: right at any time, and asked for only once."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from packaging.version import Version

from controller.journal import Journal
from controller.model import (
    Condition,
    Loss,
    Phase,
    PlacementRecord,
    Quarantine,
    Release,
    Transition,
)
from controller.planning.overrides import Pin, Suspension

pytestmark = pytest.mark.unit

IRIS = Release("iris", Version("1.0"), "ab" * 32)
OLD = Release("iris", Version("0.9"), "cd" * 32)
FAILED = Quarantine(IRIS, "stage", "LoadFailed", "load() raised", "inputs", "", 5.0)
ASKED = {OLD}
"""One object, as in a pass at rest."""
PIN = Pin("iris", (Version("0.9"),), "me", "", 6.0)


def seen(journal):
    """All that a pass asks for."""
    return (
        journal.records(ASKED),
        journal.placements(),
        journal.quarantines_of({IRIS.digest, OLD.digest}),
        journal.overrides(),
        journal.conditions(),
        journal.losses(),
        journal.refused_wheels(),
    )


def step(release, phase, message="told"):
    return Transition(release, phase, "Told", message, "iris-1.0-aa")


WRITES = [
    lambda j: j.record(step(IRIS, Phase.LIVE), 1.0, source="wheels"),
    lambda j: j.record(step(IRIS, Phase.LIVE, "in other words"), 2.0),
    lambda j: j.record(step(OLD, Phase.LIVE), 2.0),
    lambda j: j.record(step(OLD, Phase.RETIRED), 3.0),
    lambda j: j.record(step(OLD, Phase.RETIRED, "at last"), 4.0),
    lambda j: j.add_quarantine(FAILED),
    lambda j: j.add_quarantine(replace(FAILED, reason="Other")),
    lambda j: j.clear_quarantine("iris", at=5.0),
    lambda j: j.add_quarantine(FAILED),
    lambda j: j.end_quarantine(IRIS),
    lambda j: j.date({"a": PlacementRecord("a", 1.0), "b": PlacementRecord("b", 1.0, 2.0)}),
    lambda j: j.placement_live("b", 3.0),
    lambda j: j.date({"b": PlacementRecord("b", 1.0, 2.0, 3.0)}),
    lambda j: j.order(PIN, message="pinned"),
    lambda j: j.order(Suspension("", "me", "", 7.0), message="suspended"),
    lambda j: j.lift(PIN, at=8.0, by="me"),
    lambda j: j.set_conditions([Condition("ray", "Down", "try 1")], 1.0),
    lambda j: j.set_conditions([Condition("ray", "Down", "try 2")], 2.0),
    lambda j: j.keep_losses({"wheels": Loss(2, 3)}),
    lambda j: j.keep_losses({}),
    lambda j: j.record(step(OLD, Phase.STAGED), 9.0),
    lambda j: j.set_conditions([], 3.0),
]


@pytest.fixture
def journal(tmp_path):
    with Journal.open(tmp_path) as made:
        yield made


def test_whatever_the_daemon_writes_it_reads_as_the_file_has_it(journal, tmp_path):
    for write in WRITES:
        seen(journal)
        write(journal)
        with Journal.read(tmp_path) as beside:
            assert seen(journal) == seen(beside)
    assert seen(journal)[0].keys() == {IRIS, OLD}


def test_what_others_write_is_seen_at_once(journal, tmp_path):
    with Journal.amend(tmp_path) as writer:
        for write in WRITES:
            seen(journal)
            write(writer)
            with Journal.read(tmp_path) as beside:
                assert seen(journal) == seen(beside)


@pytest.mark.parametrize("write", WRITES)
def test_what_was_taken_back_is_not_remembered(journal, tmp_path, write):
    for other in WRITES[:6]:
        other(journal)
    with suppress(RuntimeError), journal.transaction():
        write(journal)
        seen(journal)
        raise RuntimeError("the disk is full")
    with Journal.read(tmp_path) as beside:
        assert seen(journal) == seen(beside)


def test_what_a_caller_does_with_an_answer_is_its_own_affair(journal):
    journal.record(step(IRIS, Phase.LIVE), 1.0)
    journal.date({"a": PlacementRecord("a", 1.0)})
    for answer in seen(journal)[:3]:
        answer.clear()
    assert journal.records(ASKED).keys() == {IRIS}
    assert journal.placements().keys() == {"a"}


def test_nothing_is_asked_of_the_file_twice(journal):
    for write in WRITES[:6]:
        write(journal)
    seen(journal)
    asked = []
    journal._connection.set_trace_callback(asked.append)
    for _ in range(3):
        seen(journal)
        journal.set_conditions([], 9.0)
        journal.date({})
        journal.keep_losses({})
        journal.keep_refused([])
    assert set(asked) == {"PRAGMA data_version"}


def test_what_is_over_is_known_to_whoever_asks_for_it_and_kept_for_nobody_else(journal):
    journal.record(step(IRIS, Phase.LIVE), 1.0)
    journal.record(step(OLD, Phase.RETIRED), 1.0)
    assert journal.records().keys() == {IRIS}
    assert journal.records({OLD, IRIS}).keys() == {IRIS, OLD}
    assert journal.records().keys() == {IRIS}
    asked = []
    journal._connection.set_trace_callback(asked.append)
    assert journal.records({OLD}).keys() == {IRIS, OLD}
    assert any("FROM releases" in statement for statement in asked)
