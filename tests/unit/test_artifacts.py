"""From a folder of wheels to inspected artifacts and environments, asked again and again."""

import os
import shutil
import threading
import time
from dataclasses import replace
from functools import partial

import pytest

from controller.cache.environments.builder import Environments
from controller.cache.wheels.store import Store
from controller.config.settings import DirectorySource as Options
from controller.config.settings import EnvironmentOptions, InspectionLimits
from controller.errors import Rejected, Stalled, Waiting
from controller.model import Artifact, Environment, Listing
from controller.reconcile.artifacts import Artifacts, Means
from controller.reconcile.assembly import _is_sound, _mend, _prune, _receive
from controller.reconcile.jobs import Jobs
from controller.sources.directory.source import DirectorySource
from tests.support.head import eventually
from tests.support.wheels import make_wheel, revision_of

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


class Counting(DirectorySource):
    """The real source; it counts how often it was listed."""

    listed = 0

    def list(self) -> Listing:
        self.listed += 1
        return super().list()


@pytest.fixture
def source(folder, clock):
    options = Options(type="directory", path=folder, poll_interval=10, settle=5)
    source = Counting(options, clock=clock)
    yield source
    source.close()


@pytest.fixture
def artifacts_of(source, interpreter, clock, tmp_path):
    """Over the real store and real environments; takes what runs its jobs."""
    store = Store(tmp_path / "cache")
    environments = Environments(tmp_path / "cache", interpreter, EnvironmentOptions(offline=True))
    return lambda jobs: Artifacts(
        [source],
        jobs,
        Means(
            receive=partial(_receive, store, interpreter, InspectionLimits()),
            prepare=environments.prepare,
            is_sound=partial(_is_sound, store, environments),
            mend=partial(_mend, store, environments),
            prune=partial(_prune, store, environments, 60.0, time.time),
        ),
        remembered={},
        clock=clock,
    )


@pytest.fixture
def artifacts(artifacts_of, clock):
    """Every job runs in the asking thread."""
    return artifacts_of(Jobs(0, lambda: None, clock=clock, jitter=lambda: 0.0))


def listed(artifacts):
    artifacts.poll()
    [listing] = artifacts.listings().values()
    return listing.revisions


def test_a_source_is_complete_once_it_was_listed(artifacts):
    assert not artifacts.complete()
    artifacts.poll()
    assert artifacts.complete()
    assert artifacts.conditions() == []


def test_a_look_that_is_asked_for_before_one_has_begun_is_that_one(source, artifacts_of):
    jobs, busy = Jobs(1, lambda: None), threading.Event()
    artifacts = artifacts_of(jobs)
    jobs.ensure(("before",), lambda: busy.wait(60))
    artifacts.poll()  # has to wait for its turn
    artifacts.request_poll(source.name)
    busy.set()
    eventually(lambda: not jobs.busy())
    artifacts.poll()
    eventually(lambda: not jobs.busy())
    jobs.close()
    assert source.listed == 1


def test_a_wheel_is_fetched_inspected_unpacked_and_prepared_when_it_is_asked_for(artifacts, folder):
    wheel = make_wheel(folder)
    [revision] = listed(artifacts)
    assert artifacts.known(revision) is None
    artifact = artifacts.artifact(revision)
    assert isinstance(artifact, Artifact)
    assert artifact.wheel.read_bytes() == wheel.read_bytes()
    assert (artifact.tree / "demo/pipeline.py").is_file()
    assert [entry.name for entry in artifact.pipelines] == ["demo"]
    assert artifacts.known(revision) is artifact
    assert artifacts.artifact(revision) is artifact
    assert artifacts.environment(artifact) == Environment("", None)


def test_a_source_is_listed_when_its_time_has_come_or_somebody_says_so(artifacts, source, clock):
    artifacts.poll()
    clock.now += 9.9
    artifacts.poll()
    assert source.listed == 1
    assert artifacts.next_poll() == pytest.approx(0.1)
    clock.now += 0.1
    artifacts.poll()
    assert source.listed == 2
    artifacts.request_poll(source.name)
    artifacts.poll()
    assert source.listed == 3
    assert artifacts.next_poll() == 10


def test_what_is_neither_listed_nor_on_the_cluster_nor_recent_leaves_the_cache(
    artifacts, folder, clock
):
    wheels = [make_wheel(folder, version=version) for version in ("1.0", "2.0", "3.0", "4.0")]
    running, listed_still, forgotten, recent = (artifacts.artifact(r) for r in listed(artifacts))
    for wheel in wheels:
        if wheel.name != listed_still.filename:
            wheel.unlink()
    for artifact in (running, listed_still, forgotten):
        for place in (artifact.wheel.parent, artifact.tree):
            os.utime(place, (0, 0))
    clock.now += 3600
    artifacts.poll()
    artifacts.tidy([running.digest], [])
    kept = {artifact.tree.exists() for artifact in (running, listed_still, recent)}
    assert kept == {True}
    assert not forgotten.tree.exists()
    assert not forgotten.wheel.exists()
    store, environments = artifacts._means.prune.args[:2]
    for known in (
        *(artifacts.first_listed_at, artifacts.fetched_at, artifacts._received_as),
        *(store._wheels, store._trees, environments._prepared),
        dict.fromkeys(artifacts.refusals._carriers),
    ):
        assert known.keys() == {running.digest, listed_still.digest}
    assert not environments._turns


@pytest.mark.parametrize("wrong", ["demo-0.9-py3-none-any.whl", "demo-1.1-py3-none-any.whl"])
def test_the_same_bytes_under_a_wrong_name_too_are_judged_by_each_name(artifacts, folder, wrong):
    right = make_wheel(folder)
    shutil.copy(right, folder / wrong)
    found = {revision.filename: artifacts.artifact(revision) for revision in listed(artifacts)}
    assert isinstance(found[right.name], Artifact)
    assert found[wrong].reason == "MetadataMismatch"


def test_a_wheel_that_left_the_cache_is_fetched_anew_when_it_is_listed_again(
    artifacts, folder, clock, tmp_path
):
    wheel = make_wheel(folder)
    [artifact] = [artifacts.artifact(revision) for revision in listed(artifacts)]
    wheel.rename(tmp_path / wheel.name)
    for place in (artifact.wheel.parent, artifact.tree):
        os.utime(place, (0, 0))
    clock.now += 3600
    artifacts.poll()
    artifacts.tidy([], [])
    assert not artifact.tree.exists()
    (tmp_path / wheel.name).rename(wheel)
    artifacts.request_poll("directory")
    [again] = [artifacts.artifact(revision) for revision in listed(artifacts)]
    assert again == artifact
    assert again.tree.is_dir()


def test_a_wheel_is_known_while_its_environment_is_still_being_built(
    artifacts_of, folder, monkeypatch
):
    make_wheel(folder)
    jobs, built = Jobs(1, lambda: None), threading.Event()
    artifacts = artifacts_of(jobs)
    artifacts.poll()
    eventually(artifacts.complete)
    [revision] = listed(artifacts)
    prepare = artifacts._means.prepare
    slowly = replace(
        artifacts._means, prepare=lambda artifact: built.wait(60) and prepare(artifact)
    )
    monkeypatch.setattr(artifacts, "_means", slowly)
    assert artifacts.known(revision) is None
    artifact = eventually(lambda: artifacts.artifact(revision))
    assert [entry.name for entry in artifact.pipelines] == ["demo"]
    assert artifacts.known(revision) is artifact
    assert artifacts.environment(artifact) is None
    built.set()
    assert eventually(lambda: artifacts.environment(artifact)) == Environment("", None)
    assert artifacts.known(revision) is artifact
    jobs.close()


def test_a_bad_wheel_stays_bad_until_it_is_forgotten(artifacts, folder):
    make_wheel(folder, wrong_hash=["demo/pipeline.py"])
    [revision] = listed(artifacts)
    first = artifacts.artifact(revision)
    assert isinstance(first, Rejected)
    assert first.reason == "RecordInvalid"
    assert artifacts.artifact(revision) is first
    artifacts.clear_failures(revision.sha256)
    again = artifacts.artifact(revision)
    assert again is not first
    assert again.reason == "RecordInvalid"


def test_a_shortage_passes_by_itself_once_it_is_over(artifacts, folder, clock):
    make_wheel(folder, requires=["no-such-distribution-anywhere"])
    [revision] = listed(artifacts)
    artifact = artifacts.artifact(revision)
    waiting = artifacts.environment(artifact)
    assert isinstance(waiting, Waiting)
    assert waiting.reason == "RequirementMissingOffline"
    assert artifacts.environment(artifact) is waiting  # its backoff has not passed
    clock.now += 3600
    again = artifacts.environment(artifact)
    assert again is not waiting
    assert again.reason == "RequirementMissingOffline"


def test_a_source_that_cannot_be_read_keeps_its_last_good_listing_and_says_why(
    artifacts, folder, clock
):
    make_wheel(folder)
    before = listed(artifacts)
    folder.rename(folder.with_name("elsewhere"))
    clock.now += 10
    assert listed(artifacts) == before
    [condition] = artifacts.conditions()
    assert (condition.subject, condition.reason) == ("directory", "DirectoryMissing")
    assert str(folder) in condition.message
    folder.with_name("elsewhere").rename(folder)
    clock.now += 600
    artifacts.poll()
    assert artifacts.conditions() == []


def test_a_failed_listing_is_tried_again_after_its_backoff_and_not_at_each_look(
    artifacts, source, folder, clock
):
    folder.rmdir()
    artifacts.poll()
    for _ in range(5):
        artifacts.poll()
    assert source.listed == 1
    clock.now += 1
    artifacts.poll()
    assert source.listed == 2


def test_a_look_that_was_asked_for_while_a_source_must_be_left_alone_is_kept_until_it_may_be(
    artifacts, source, folder, clock
):
    folder.rmdir()
    artifacts.poll()
    artifacts.request_poll(source.name)
    artifacts.poll()
    assert source.listed == 1
    assert artifacts.polling()
    assert 0 < artifacts.next_poll() <= 1
    folder.mkdir()
    clock.now += 1
    artifacts.poll()
    assert source.listed == 2
    assert not artifacts.polling()


def test_a_person_who_asks_does_not_wait_for_the_backoff(artifacts, source, folder):
    folder.rmdir()
    for looks in range(1, 4):
        artifacts.poll_now()
        artifacts.poll()
        artifacts.poll()
        assert source.listed == looks
        assert not artifacts.polling()


def test_files_that_are_refused_or_not_whole_are_conditions(artifacts, folder):
    make_wheel(folder, filename="demo-latest.whl")
    (folder / "half-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 and no end")
    artifacts.poll()
    found = {condition.subject: condition.reason for condition in artifacts.conditions()}
    assert found == {
        "demo-latest.whl": "FilenameInvalid",
        "half-1.0-py3-none-any.whl": "StillCopying",
    }


def all_by(never):
    return Means(receive=never, prepare=never, is_sound=never, mend=never, prune=never)


def test_what_an_earlier_run_listed_counts_until_this_one_has_looked(source, folder):
    remembered = Listing(source.name, ())
    gone = Listing("no longer configured", ())

    def never(*_: object):
        raise Stalled("NotAsked", "nobody asked for it")

    artifacts = Artifacts(
        [source],
        Jobs(0, lambda: None),
        all_by(never),
        remembered={source.name: remembered, gone.source: gone},
    )
    assert artifacts.complete()
    assert artifacts.listings() == {source.name: remembered}
    make_wheel(folder)
    assert len(listed(artifacts)) == 1


def test_without_sources_there_is_nothing_to_wait_for():
    artifacts = Artifacts(
        [],
        Jobs(0, lambda: None),
        Means(receive=None, prepare=None, is_sound=None, mend=None, prune=None),
        remembered={},
    )
    artifacts.poll()
    assert artifacts.complete()
    assert artifacts.next_poll() == 60


class Partial:
    """A source that lists what a test says."""

    name = "index"
    poll_interval = 0.0
    watch_note = ""

    def __init__(self, *listings: Listing):
        self.listings = list(listings)

    def list(self) -> Listing:
        return self.listings.pop(0)


def test_what_was_listed_of_a_project_stays_while_it_cannot_be_looked_at(tmp_path):
    def listed_as(*wheels, unobserved=()):
        revisions = tuple(revision_of(wheel, "index") for wheel in wheels)
        return Listing("index", revisions, unobserved=unobserved)

    old, new = (make_wheel(tmp_path, "demo", version) for version in ("1.0", "2.0"))
    other = make_wheel(tmp_path, "other")
    source = Partial(
        listed_as(other, unobserved=("demo",)),
        listed_as(unobserved=("demo",)),
        listed_as(new, unobserved=("demo",)),
        listed_as(new),
    )
    remembered = {"index": listed_as(old, other)}  # by an earlier run, as after a restart
    never = pytest.fail
    artifacts = Artifacts(
        *([source], Jobs(0, lambda: None)),
        all_by(never),
        remembered=remembered,
    )
    names = [{revision.filename for revision in listed(artifacts)} for _ in range(4)]
    assert names == [
        {old.name, other.name},
        {old.name},
        {old.name, new.name},
        {new.name},
    ]
