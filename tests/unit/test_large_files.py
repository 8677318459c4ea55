"""Large wheels in a folder are read beside its listings, and hold up nobody."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest

from controller.config import settings
from controller.sources.directory import digests
from controller.sources.directory import source as directory
from controller.sources.directory.digests import opened
from controller.sources.directory.source import DirectorySource
from tests.support.wheels import make_wheel, sha256

pytestmark = pytest.mark.unit

DEADLINE = 60.0
LARGE = 100_000
"""Bytes, here."""


class Reading:
    """Lets a large file be read no sooner than it is told to."""

    def __init__(self):
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.files = 0

    def __call__(self, file, stamp, is_wanted=lambda: True):
        if stamp.size >= LARGE:
            self.files += 1
            self.begun.set()
            assert self.may_go_on.wait(DEADLINE)
        return self.digest_of(file, stamp, is_wanted)

    digest_of = staticmethod(digests.digest_of)


@pytest.fixture
def reading(monkeypatch):
    made = Reading()
    monkeypatch.setattr(directory, "LARGE", LARGE)
    monkeypatch.setattr(digests, "digest_of", made)
    return made


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "wheels"
    made.mkdir()
    return made


@pytest.fixture
def woken():
    return threading.Event()


@pytest.fixture
def source(folder, reading, woken):
    made = DirectorySource(settings.DirectorySource(type="directory", path=folder))
    made.watch(woken.set)
    yield made
    reading.may_go_on.set()
    made.close()


def large(folder, version="1.0", seed=1):
    body = random.Random(seed).randbytes(2 * LARGE)
    return make_wheel(folder, "large", version, files={"large/model.bin": body})


def listed(source):
    return {revision.filename: revision.sha256 for revision in source.list().revisions}


def large_ones(found):
    return sum(name.startswith("large") for name in found)


def listed_after_reading(source, reading, woken):
    """What is listed once the source says that a large file was read."""
    reading.may_go_on.set()
    ends = time.monotonic() + DEADLINE
    while large_ones(found := listed(source)) != 1 and time.monotonic() < ends:
        woken.wait(1.0)
        woken.clear()
    return found


def test_a_small_wheel_is_listed_while_a_large_one_is_read(source, folder, reading, woken):
    source.list()
    big, small = large(folder), make_wheel(folder, "small")
    found = source.list()
    assert [revision.filename for revision in found.revisions] == [small.name]
    assert [(one.subject, one.reason) for one in found.pending] == [(big.name, "StillCopying")]
    assert reading.begun.wait(DEADLINE)
    assert listed(source).keys() == {small.name}
    after = listed_after_reading(source, reading, woken)
    assert after == {big.name: sha256(big), small.name: sha256(small)}
    assert listed(source) == after
    assert reading.files == 1


def test_what_is_there_at_the_first_listing_is_listed_at_once(source, folder, reading):
    reading.may_go_on.set()
    big = large(folder)
    assert listed(source) == {big.name: sha256(big)}


def test_a_large_wheel_that_is_replaced_while_it_is_read_is_read_again(
    source, folder, reading, woken
):
    source.list()
    large(folder)
    source.list()
    assert reading.begun.wait(DEADLINE)
    other = large(folder, seed=2)
    source.list()
    found = listed_after_reading(source, reading, woken)
    assert found == {other.name: sha256(other)}


def test_a_large_wheel_that_goes_while_it_is_read_is_forgotten(source, folder, reading, woken):
    source.list()
    gone, stays = large(folder, "1.0"), large(folder, "2.0", seed=2)
    source.list()
    assert reading.begun.wait(DEADLINE)
    gone.unlink()
    source.list()
    found = listed_after_reading(source, reading, woken)
    assert found == {stays.name: sha256(stays)}


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
def test_a_large_wheel_is_read_once_though_its_time_lies_ahead(
    source, folder, reading, woken, ahead, monkeypatch
):
    source.list()
    big = large(folder)
    moment = time.time() + ahead
    os.utime(big, (moment, moment))
    source.list()
    found = listed_after_reading(source, reading, woken)
    assert found == {big.name: sha256(big)}
    monkeypatch.setattr(directory, "opened", lambda path: pytest.fail(f"{path} was opened"))
    assert listed(source) == found


@pytest.mark.parametrize("stands", [True, False])
def test_a_large_wheel_is_as_old_as_the_clocks_say(folder, reading, woken, stands, monkeypatch):
    reading.may_go_on.set()
    clock, since = iter(range(10**6)), time.time()
    source = DirectorySource(
        settings.DirectorySource(type="directory", path=folder),
        clock=lambda: 0.0 if stands else 60.0 * next(clock),
        wall_clock=lambda: since - 3600,
    )
    source.watch(woken.set)
    source.list()
    large(folder)
    listed_after_reading(source, reading, woken)
    again = []
    monkeypatch.setattr(directory, "opened", lambda path: again.append(path) or opened(path))
    listed(source)
    source.close()
    assert bool(again) == stands


def test_what_waits_to_be_read_is_not_opened_again(source, folder, reading, monkeypatch):
    source.list()
    for minor in range(3):
        large(folder, f"1.{minor}", seed=minor)
    source.list()
    assert reading.begun.wait(DEADLINE)
    monkeypatch.setattr(directory, "opened", lambda path: pytest.fail(f"{path} was opened"))
    assert len(source.list().pending) == 3


def test_closing_ends_what_reads(folder, reading, woken):
    source = DirectorySource(settings.DirectorySource(type="directory", path=folder))
    source.watch(woken.set)
    source.list()
    large(folder)
    source.list()
    assert reading.begun.wait(DEADLINE)
    closing = threading.Thread(target=source.close)
    closing.start()
    reading.may_go_on.set()
    closing.join(DEADLINE)
    assert not closing.is_alive()
    assert not any(one.name.startswith("wheelway-digest") for one in threading.enumerate())
    source.list()  # a last one, that was under way, is no error
