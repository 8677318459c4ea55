"""What an edit of each section makes anew, and what goes on: told by what is done again."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from controller.cache.environments.builder import Environments
from controller.config.settings import Config
from controller.errors import Rejected, Stalled, Transient
from controller.journal import Journal
from controller.model import Environment
from controller.reconcile import assembly as module
from controller.reconcile.assembly import assemble, origins, watch
from controller.sources.directory.source import DirectorySource
from tests.support.head import eventually
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.unit


def nobody():
    """Wakes nobody."""


class Running:
    """Parts that go from one configuration to the next, as the daemon's do."""

    def __init__(self, folder, journal):
        self.folder, self.journal = folder, journal
        self.sections = {
            "sources": [self.source("a"), self.source("b")],
            "paths": {"cache": folder / "cache", "state": folder / "state"},
            "environments": {"offline": True},
        }
        self.assembly = None
        self.edit()

    def source(self, name, **more):
        path = self.folder / more.pop("folder", name)
        path.mkdir(exist_ok=True)
        return {"type": "directory", "name": name, "path": path, "poll_interval": 3600, **more}

    def edit(self, **sections):
        """The configuration is another one now; the names of the parts that were made anew."""
        self.sections = {**self.sections, **sections}
        before, config = self.assembly, Config(**self.sections)
        self.assembly = assemble(config, self.journal, wake=nobody, before=before)
        self.journal.keep_listings_of(origins(config))
        if before is None:
            return []
        before.close(keep=self.assembly)
        return self.assembly.parts.besides(before.parts)

    @property
    def artifacts(self):
        return self.assembly.artifacts

    @property
    def jobs(self):
        return self.assembly.jobs

    def wheel(self, source, project, version="1.0", **how):
        return make_wheel(self.folder / source, project, version, **how)

    def poll(self):
        """List what is due; the revisions by project."""
        self.artifacts.poll()
        eventually(lambda: not self.artifacts.busy())
        listings = self.artifacts.listings().values()
        with self.journal.transaction():
            for listing in listings:
                self.journal.save_listing(listing, 0.0)
        return {r.project: r for listing in listings for r in listing.revisions}

    def fetch(self, revision):
        """What becomes of a wheel and, when it is good, of its environment."""
        found = eventually(lambda: self.artifacts.artifact(revision), 60)
        if not isinstance(found, Rejected):
            eventually(lambda: self.artifacts.environment(found), 60)
        return found


@pytest.fixture
def done(monkeypatch):
    """What was done so far: files hashed, wheels inspected and prepared, sources listed."""
    found = {"hashed": [], "inspected": [], "prepared": [], "listed": []}
    digest, inspect = hashlib.file_digest, module.inspection.inspect
    prepare, listing = Environments.prepare, DirectorySource.list

    def hashed(file, how):
        path = file.name if isinstance(file.name, str) else f"/proc/self/fd/{file.fileno()}"
        found["hashed"].append(Path(path).resolve())
        return digest(file, how)

    def inspected(wheel, *args):
        found["inspected"].append(wheel.name)
        return inspect(wheel, *args)

    def prepared(self, artifact):
        found["prepared"].append(artifact.filename)
        return prepare(self, artifact)

    def listed(self):
        found["listed"].append(self.name)
        return listing(self)

    monkeypatch.setattr(hashlib, "file_digest", hashed)
    monkeypatch.setattr(module.inspection, "inspect", inspected)
    monkeypatch.setattr(Environments, "prepare", prepared)
    monkeypatch.setattr(DirectorySource, "list", listed)
    return found


def forget(done):
    for one in done.values():
        one.clear()


@pytest.fixture
def running(tmp_path, done):
    with Journal.open(tmp_path / "state") as journal:
        made = Running(tmp_path, journal)
        yield made
        made.assembly.close()


@pytest.fixture
def stocked(running, done):
    """Each of two sources has a wheel, which is fetched and prepared."""
    running.wheel("a", "alpha")
    running.wheel("b", "beta")
    running.revisions = running.poll()
    running.fetched = {name: running.fetch(one) for name, one in running.revisions.items()}
    forget(done)
    return running


NOTHING = {"hashed": [], "inspected": [], "prepared": [], "listed": []}


def known(running):
    return {name: running.artifacts.known(one) for name, one in running.revisions.items()}


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


# -- how wheels are judged -----------------------------------------------------------------------


def test_other_limits_judge_wheels_anew_and_do_nothing_else(stocked, done):
    assert stocked.edit(inspection={"max_pipelines": 50}) == ["inspection"]
    stocked.poll()
    assert done == NOTHING
    assert known(stocked) == {"alpha": None, "beta": None}
    for revision in stocked.revisions.values():
        stocked.fetch(revision)
    assert sorted(done.pop("inspected")) == [
        "alpha-1.0-py3-none-any.whl",
        "beta-1.0-py3-none-any.whl",
    ]
    assert done == {"hashed": [], "prepared": [], "listed": []}


def test_what_was_refused_under_other_limits_is_accepted_and_the_other_way_round(stocked):
    revision = stocked.revisions["alpha"]
    stocked.edit(inspection={"max_files": 1})
    assert stocked.fetch(revision).reason == "TooManyFiles"
    stocked.edit(inspection={})
    assert stocked.fetch(revision) == stocked.fetched["alpha"]


def test_an_inspection_under_the_limits_before_is_no_verdict(running, monkeypatch):
    begun, release = threading.Event(), threading.Event()
    inspect = module.inspection.inspect

    def slow(wheel, revision, limits, *args):
        if limits.max_files == 20_000:
            begun.set()
            assert release.wait(60)
        return inspect(wheel, revision, limits, *args)

    monkeypatch.setattr(module.inspection, "inspect", slow)
    running.wheel("a", "alpha")
    revision = running.poll()["alpha"]
    running.artifacts.artifact(revision)
    assert begun.wait(60)
    running.edit(inspection={"max_files": 1})
    assert running.fetch(revision).reason == "TooManyFiles"
    release.set()
    eventually(lambda: not any(t.name == "wheelway-job" for t in threading.enumerate()))
    assert running.artifacts.artifact(revision).reason == "TooManyFiles"
    assert running.artifacts.known(revision) is None
    assert running.artifacts._received_as == {}


# -- environments --------------------------------------------------------------------------------


def test_other_environments_are_prepared_anew_and_nothing_is_listed_or_judged(stocked, done):
    sources = dict(stocked.artifacts.sources)
    names = stocked.edit(environments={"offline": True, "timeout": 60.0})
    assert names == ["environments", "upkeep", "pruning"]
    assert stocked.artifacts.sources == sources
    stocked.poll()
    assert known(stocked) == stocked.fetched
    for artifact in stocked.fetched.values():
        assert eventually(partial(stocked.artifacts.environment, artifact)) == Environment("", None)
    assert sorted(done.pop("prepared")) == sorted(a.filename for a in stocked.fetched.values())
    assert done == {"hashed": [], "inspected": [], "listed": []}


@pytest.mark.parametrize("with_its_wheel", [True, False])
def test_what_the_environments_before_prepare_is_no_outcome(running, monkeypatch, with_its_wheel):
    begun, release = threading.Event(), threading.Event()

    def prepare(self, artifact):
        if self._options.timeout == 61.0:
            begun.set()
            assert release.wait(60)
        return Environment(f"within {self._options.timeout:g} s", None)

    monkeypatch.setattr(Environments, "prepare", prepare)
    running.wheel("a", "alpha")
    revision = running.poll()["alpha"]
    if not with_its_wheel:
        running.fetch(revision)
    running.edit(environments={"offline": True, "timeout": 61.0})
    if with_its_wheel:
        assert running.artifacts.artifact(revision) is None
    else:
        assert running.artifacts.environment(running.artifacts.artifact(revision)) is None
    assert begun.wait(60)
    running.edit(environments={"offline": True, "timeout": 62.0})
    if not with_its_wheel:  # it does not wait for the one before
        running.fetch(revision)
    release.set()
    eventually(lambda: not any(t.name == "wheelway-job" for t in threading.enumerate()))
    artifact = running.fetch(revision)
    assert running.artifacts.environment(artifact).lock_digest == "within 62 s"


def test_uv_is_ended_where_its_settings_are_no_longer_in_force(running):
    before = running.assembly.parts.by_name["environments"][0]
    running.edit(environments={"offline": True, "timeout": 60.0})
    with pytest.raises(Transient) as caught:
        before._uv.run("--version", until=before._uv.clock() + 60)
    assert caught.value.reason == "UvInterrupted"


CODEARTIFACT = {"type": "codeartifact", "domain": "acme", "repository": "pipelines"}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"poll_interval": 60}, ["source codeartifact"]),
        ({"packages": ["acme-*"]}, ["source codeartifact"]),
        ({"region": "eu-west-1"}, ["package index", "environments", "source codeartifact"]),
    ],
)
def test_a_source_that_is_the_package_index_too_is_one_only_for_how_it_is_reached(
    running, alone, keys, expected
):
    environments = {"index": "codeartifact"}
    running.edit(sources=[CODEARTIFACT], environments=environments)
    names = running.edit(sources=[{**CODEARTIFACT, **keys}])
    made = ("package index", "environments", "source codeartifact")
    assert [name for name in names if name in made] == expected


# -- the cache -----------------------------------------------------------------------------------


def test_another_retention_is_gone_by_at_once_and_nothing_else_changes(stocked, done):
    artifact = stocked.fetched["alpha"]
    (stocked.folder / "a" / artifact.filename).unlink()
    for place in (artifact.wheel.parent, artifact.tree):
        os.utime(place, (artifact.tree.stat().st_mtime - 3600,) * 2)
    stocked.artifacts.request_poll("a")
    stocked.poll()
    stocked.artifacts.tidy([], [])
    eventually(lambda: not stocked.artifacts.busy())
    assert artifact.tree.is_dir()
    assert not stocked.artifacts.is_untidy()
    forget(done)
    assert stocked.edit(paths={**stocked.sections["paths"], "retention": 60.0}) == ["pruning"]
    stocked.artifacts.tidy([], [])
    eventually(lambda: not artifact.tree.exists())
    assert done == NOTHING


def test_another_cache_is_filled_anew_while_the_sources_go_on(stocked, done):
    sources = dict(stocked.artifacts.sources)
    stocked.edit(paths={**stocked.sections["paths"], "cache": stocked.folder / "larger"})
    stocked.poll()
    assert stocked.artifacts.sources == sources
    assert known(stocked) == {"alpha": None, "beta": None}
    for name, revision in stocked.revisions.items():
        made = stocked.fetch(revision)
        assert made.tree.is_relative_to(stocked.folder / "larger")
        assert made.digest == stocked.fetched[name].digest
    assert done["listed"] == []


# -- threads and the interpreter -----------------------------------------------------------------


def test_another_number_of_workers_interrupts_nothing(stocked, done):
    begun, release = threading.Event(), threading.Event()
    jobs = stocked.jobs

    def work():
        begun.set()
        assert release.wait(60)
        return "done"

    jobs.ensure(("fetch", "running"), work)
    assert begun.wait(60)
    assert stocked.edit(rollout={"workers": 1}) == []
    jobs.ensure(("fetch", "waiting"), lambda: "done")
    assert jobs.running(("fetch", "running"))
    stocked.edit(rollout={"workers": 2})
    eventually(lambda: jobs.outcome(("fetch", "waiting")))
    release.set()
    assert eventually(lambda: jobs.outcome(("fetch", "running"))).value == "done"
    stocked.poll()
    assert done == NOTHING


@pytest.fixture
def another_interpreter(running, monkeypatch):
    """Edits `ray.python` into one that takes other wheels, or the same."""
    here = running.assembly.base

    def edit(**facts):
        python = running.folder / "python"
        other = replace(here, python=python, fingerprint="another", **facts)
        monkeypatch.setattr(module, "detect", lambda _: other)
        return running.edit(ray={"python": python})

    return edit


INDEX = {"type": "index", "url": "http://127.0.0.1:9/simple", "packages": ["demo"]}


def test_another_interpreter_makes_anew_what_is_made_for_it_and_lists_no_folder(
    stocked, done, another_interpreter
):
    sources = dict(stocked.artifacts.sources)
    names = another_interpreter()
    assert {"interpreter", "environments", "inspection", "reconciler"} <= set(names)
    assert not {"cache", "jobs", "supply", "source a", "source b"} & set(names)
    assert stocked.artifacts.sources == sources
    stocked.poll()
    assert known(stocked) == {"alpha": None, "beta": None}
    for revision in stocked.revisions.values():
        stocked.fetch(revision)
    assert (done["hashed"], done["listed"]) == ([], [])


@pytest.mark.parametrize("same", [True, False])
def test_an_index_is_listed_anew_when_other_wheels_can_be_used(running, another_interpreter, same):
    running.edit(sources=[INDEX])
    tags = running.assembly.base.tags
    names = another_interpreter(tags=tags if same else tags[1:])
    assert ("source index" in names) is not same


def test_another_head_of_the_same_interpreter_changes_what_is_known_of_the_cluster_alone(stocked):
    before = stocked.assembly
    config = before.reconciler.config
    after = assemble(config, stocked.journal, wake=nobody, before=before, another_head=True)
    assert after.parts.besides(before.parts) == ["interpreter", "reconciler"]
    before.close(keep=after)
    stocked.assembly = after


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
    assert threading.active_count() <= threads
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
        return threading.active_count(), sum(1 for _ in Path("/proc/self/fd").iterdir())

    edit(0)
    edit(2)
    threads, files = held()
    for number in range(1, 13):
        edit(number)
    eventually(lambda: held()[0] <= threads and held()[1] <= files)
