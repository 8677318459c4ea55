"""What an edit of each section makes anew, and what goes on: told by what is done again."""

from __future__ import annotations

import gc
import threading
from functools import partial
from pathlib import Path

import pytest

from controller.errors import Stalled, Transient
from controller.reconcile.assembly import watch
from controller.sources.directory.source import DirectorySource
from tests.support.edits import INDEX, NOTHING, forget, known, nobody
from tests.support.head import eventually

pytestmark = pytest.mark.unit


# -- sources -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("pipelines", [{"name": "alpha", "keep": 1}]),
        ("rollout", {"interval": 9.0}),
        ("journal", {"keep_for": 1.0}),
        ("policy", {"unlisted": "inactive"}),
    ],
)
def test_what_only_decides_otherwise_does_nothing_again(stocked, done, section, keys):
    assert stocked.edit(**{section: keys}) == []
    stocked.poll()
    assert done == NOTHING
    assert known(stocked) == stocked.fetched


def test_an_edited_source_alone_is_listed_anew(stocked, done, tmp_path):
    beside = stocked.artifacts.sources["b"]
    edited = stocked.source("a", poll_interval=1800)
    assert stocked.edit(sources=[edited, stocked.source("b")]) == ["source a"]
    assert stocked.artifacts.sources["b"] is beside
    assert stocked.artifacts.complete()  # what it listed last holds, as after a restart
    assert list(stocked.poll()) == ["alpha", "beta"]
    assert done.pop("hashed") == [tmp_path / "a" / "alpha-1.0-py3-none-any.whl"]  # to list it
    assert done == {"inspected": [], "prepared": [], "listed": ["a"]}
    assert known(stocked) == stocked.fetched


def test_a_source_that_is_elsewhere_now_is_believed_only_when_it_was_listed(stocked, done):
    stocked.edit(sources=[stocked.source("a", folder="elsewhere"), stocked.source("b")])
    assert list(stocked.artifacts.listings()) == ["b"]
    assert not stocked.artifacts.complete()
    assert list(stocked.poll()) == ["beta"]
    assert done["listed"] == ["a"]


def test_a_source_that_comes_or_goes_leaves_the_others(stocked, done):
    a, b = stocked.artifacts.sources.values()
    more = [stocked.source("c"), stocked.source("b"), stocked.source("a")]
    stocked.wheel("c", "gamma")
    assert stocked.edit(sources=more) == ["source c"]
    assert list(stocked.artifacts.sources.values())[1:] == [b, a]
    assert list(stocked.poll()) == ["gamma", "beta", "alpha"]
    assert done["listed"] == ["c"]
    assert stocked.edit(sources=[stocked.source("a")]) == []
    assert list(stocked.poll()) == ["alpha"]
    assert done["listed"] == ["c"]
    stocked.artifacts.request_poll("c")  # its watch may say so a last time
    assert not stocked.artifacts.polling()
    assert {condition.subject for condition in stocked.artifacts.conditions()} <= {"a"}


def test_the_backoff_of_another_source_goes_on(running, done):
    (running.folder / "b").rmdir()
    running.poll()
    failed = running.jobs.outcome(("list", "b"))
    assert (failed.error.reason, failed.failures) == ("DirectoryMissing", 1)
    wait = failed.retry_at - running.artifacts._clock()
    running.sections["sources"][0]["poll_interval"] = 7
    assert running.edit() == ["source a"]
    forget(done)
    running.poll()
    assert running.jobs.outcome(("list", "b")) is failed
    assert done["listed"] == ["a"]
    assert running.artifacts.next_poll() <= wait


def test_an_edited_source_does_not_wait_for_the_backoff_of_the_one_before(running):
    (running.folder / "b").rmdir()
    running.poll()
    running.edit(sources=[running.source("a"), running.source("b", folder="there")])
    running.poll()
    assert running.jobs.outcome(("list", "b")).error is None
    assert running.artifacts.conditions() == []


def test_a_listing_of_the_source_before_says_nothing_of_the_one_now(running, monkeypatch):
    begun, release = threading.Event(), threading.Event()
    listing = DirectorySource.list

    def slow(self):
        if self._path.name == "a":
            begun.set()
            assert release.wait(60)
        return listing(self)

    monkeypatch.setattr(DirectorySource, "list", slow)
    running.wheel("a", "alpha")
    running.artifacts.poll()
    assert begun.wait(60)
    running.edit(sources=[running.source("a", folder="there"), running.source("b")])
    running.wheel("there", "other")
    assert list(running.poll()) == ["other"]  # it does not wait for the one before either
    present = running.jobs.outcome(("list", "a"))
    release.set()
    eventually(lambda: not any(t.name == "wheelway-list" for t in threading.enumerate()))
    assert running.jobs.outcome(("list", "a")) is present
    assert list(running.poll()) == ["other"]


def test_a_wheel_that_the_source_before_could_not_bring_is_fetched_from_the_one_now(
    running, monkeypatch
):
    wheel = running.wheel("a", "alpha")
    revision = running.poll()["alpha"]
    content = wheel.read_bytes()
    wheel.unlink()
    failed = eventually(lambda: running.artifacts.artifact(revision))
    assert isinstance(failed, Transient)
    wheel.write_bytes(content)
    running.edit(sources=[running.source("a", poll_interval=60), running.source("b")])
    assert not isinstance(running.fetch(running.poll()["alpha"]), Transient)


def test_a_fetch_from_the_source_before_is_not_waited_for(running, monkeypatch):
    begun, release = threading.Event(), threading.Event()
    fetch = DirectorySource.fetch

    def slow(self, revision):
        if self.poll_interval == 3600:
            begun.set()
            assert release.wait(60)
            raise Transient("FileChanged", "it is closed")
        return fetch(self, revision)

    monkeypatch.setattr(DirectorySource, "fetch", slow)
    running.wheel("a", "alpha")
    revision = running.poll()["alpha"]
    assert running.artifacts.artifact(revision) is None
    assert begun.wait(60)
    running.edit(sources=[running.source("a", poll_interval=60), running.source("b")])
    artifact = running.fetch(running.poll()["alpha"])
    release.set()
    eventually(lambda: not any(t.name == "wheelway-job" for t in threading.enumerate()))
    assert running.artifacts.known(revision) is artifact
    assert running.jobs.counts().errors == {}


def test_a_damaged_wheel_is_fetched_again_from_whoever_offers_it_now(stocked):
    artifact = stocked.fetched["alpha"]
    (stocked.folder / "a" / artifact.filename).rename(stocked.folder / "b" / artifact.filename)
    stocked.edit(sources=[stocked.source("b", poll_interval=60)])
    stocked.poll()
    for place in (artifact.wheel, artifact.tree / "alpha" / "__init__.py"):
        place.chmod(0o644)
        place.unlink()
    assert stocked.artifacts._mend(artifact.digest, True)
    assert artifact.wheel.is_file()


# -- all together --------------------------------------------------------------------------------


@pytest.mark.parametrize("section", ["paths", "ray"])
def test_what_cannot_be_made_leaves_those_before_as_they_were(stocked, done, section):
    blocked = stocked.folder / "blocked"
    blocked.write_text("a file where a folder should be")
    wrong = {
        "paths": {**stocked.sections["paths"], "cache": blocked / "cache"},
        "ray": {"ca_file": blocked / "none.pem"},
    }
    sources, threads = dict(stocked.artifacts.sources), threading.active_count()
    good = dict(stocked.sections)
    with pytest.raises(Stalled):
        stocked.edit(
            **{section: wrong[section]},
            sources=[stocked.source("a", poll_interval=5), stocked.source("c")],
            environments={"offline": True, "timeout": 60.0},
            rollout={"workers": 1},
        )
    assert stocked.artifacts.sources == sources
    assert known(stocked) == stocked.fetched
    assert stocked.poll().keys() == stocked.revisions.keys()
    assert done == NOTHING
    eventually(lambda: threading.active_count() <= threads)
    stocked.sections = good
    assert stocked.edit() == []


def test_after_many_edits_there_are_no_more_threads_and_open_files_than_after_one(stocked):
    def edit(number):
        folder = stocked.folder
        stocked.edit(
            sources=[
                stocked.source("a", poll_interval=3600 + number),
                stocked.source("b", folder=f"b{number % 2}"),
                *([{**INDEX, "timeout": 1.0 + number}] if number % 2 else []),
            ],
            environments={"offline": True, "timeout": 60.0 + number},
            inspection={"max_files": 1000 + number},
            rollout={"workers": 1 + number % 3},
            ray={"timeout": 1.0 + number},
            paths={**stocked.sections["paths"], "cache": folder / f"cache{number % 2}"},
        )
        watch(stocked.assembly, nobody)
        eventually(partial(stocked.fetch, stocked.revisions["alpha"]))

    def held():
        gc.collect()  # what was given up may still wait for it
        return threading.active_count(), sum(1 for _ in Path("/proc/self/fd").iterdir())

    edit(0)
    edit(2)
    threads, files = held()
    for number in range(1, 13):
        edit(number)
    eventually(lambda: held()[0] <= threads and held()[1] <= files)
