"""A restart is no reason to tell of what stands in the way as over, and anew."""

from __future__ import annotations

import threading

import pytest

from controller.journal import Journal
from controller.model import Condition
from controller.reconcile.holdover import LONGEST, Holdover
from controller.sources.directory.source import DirectorySource
from tests.support.head import eventually
from tests.support.site import Site

pytestmark = pytest.mark.unit

SICK = Condition("iris@1.0+abababab", "RequirementMissing", "no numpy")
SHUT = Condition("directory", "DirectoryMissing", "it is not there")
WRONG = Condition("config", "ConfigInvalid", "line 2")


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def journal(tmp_path):
    with Journal.open(tmp_path / "state") as opened:
        opened.set_conditions([SICK, SHUT, WRONG], 1.0)
        yield opened


def test_what_held_holds_until_all_that_the_first_pass_began_has_ended(journal):
    holdover = Holdover(journal)
    holdover.begin(busy=False)  # it has begun nothing yet
    assert holdover.besides([]) == [SHUT, SICK]
    assert holdover.besides([SICK]) == [SHUT]
    holdover.begin(busy=True)
    assert holdover.besides([]) == [SHUT, SICK]
    holdover.begin(busy=False)
    assert holdover.besides([]) == []
    holdover.begin(busy=True)
    assert holdover.besides([]) == []


def test_what_does_not_come_to_an_end_holds_nothing_up_for_long(journal):
    clock = Clock()
    holdover = Holdover(journal, clock=clock)
    holdover.begin(busy=True)
    clock.now += LONGEST
    holdover.begin(busy=True)
    assert holdover.besides([]) == []


@pytest.mark.parametrize("ray", ["there", "away"])
def test_a_restart_tells_of_nothing_that_stayed_as_it_was(tmp_path, paper_head, monkeypatch, ray):
    site = Site(tmp_path, paper_head)
    site.configure("[rollout]\ninterval = 0.1\n")
    if ray == "away":
        paper_head.fails(503)
    site.wheels.rmdir()
    with site.daemon():
        eventually(lambda: site.conditions("DirectoryMissing"))
    listed, original = threading.Event(), DirectorySource.list

    def slow(self):
        listed.wait(60)
        return original(self)

    monkeypatch.setattr(DirectorySource, "list", slow)
    before = len(site.reports)
    with site.daemon():
        eventually(lambda: len(site.reports) > before + 2)
        assert site.conditions("DirectoryMissing")
        listed.set()
        passed = len(site.reports)
        eventually(lambda: len(site.reports) > passed + 2)
        assert site.conditions("DirectoryMissing")
        site.wheels.mkdir()
        eventually(lambda: not site.conditions("DirectoryMissing"))
    with Journal.read(tmp_path / "state") as journal:
        story = [e.fields["condition"] for e in journal.events() if e.reason == "DirectoryMissing"]
    assert story == ["appeared", "gone"]
    site.close()
