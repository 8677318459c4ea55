"""From a folder of wheels to inspected artifacts and environments, asked again and again."""

import os
import shutil
import threading
import time
from dataclasses import replace
from functools import partial

import pytest

from controller.cache.environments.base import detect
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


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def base():
    return detect()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


@pytest.fixture
def clock():
    return Clock()


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
def supply_of(source, base, clock, tmp_path):
    """Over the real store and real environments; takes what runs its jobs."""
    store = Store(tmp_path / "cache")
    environments = Environments(tmp_path / "cache", base, EnvironmentOptions(offline=True))
    return lambda jobs: Artifacts(
        [source],
        jobs,
        Means(
            receive=partial(_receive, store, base, InspectionLimits()),
            prepare=environments.prepare,
            is_sound=partial(_is_sound, store, environments),
            mend=partial(_mend, store, environments),
            prune=partial(_prune, store, environments, 60.0, time.time),
        ),
        remembered={},
        clock=clock,
    )


@pytest.fixture
def supply(supply_of, clock):
    """Every job runs in the asking thread."""
    return supply_of(Jobs(0, lambda: None, clock=clock, jitter=lambda: 0.0))


def listed(supply):
    supply.poll()
    [listing] = supply.listings().values()
    return listing.revisions


def test_a_source_is_complete_once_it_was_listed(supply):
    assert not supply.complete()
    supply.poll()
    assert supply.complete()
    assert supply.conditions() == []


def test_a_look_that_is_asked_for_before_one_has_begun_is_that_one(source, supply_of):
    jobs, busy = Jobs(1, lambda: None), threading.Event()
    supply = supply_of(jobs)
    jobs.ensure(("before",), lambda: busy.wait(60))
    supply.poll()  # has to wait for its turn
    supply.request_poll(source.name)
    busy.set()
    eventually(lambda: not jobs.busy())
    supply.poll()
    eventually(lambda: not jobs.busy())
    jobs.close()
    assert source.listed == 1


def test_a_wheel_is_fetched_inspected_unpacked_and_prepared_when_it_is_asked_for(supply, folder):
    wheel = make_wheel(folder)
    [revision] = listed(supply)
    assert supply.known(revision) is None
    artifact = supply.artifact(revision)
    assert isinstance(artifact, Artifact)
    assert artifact.wheel.read_bytes() == wheel.read_bytes()
    assert (artifact.tree / "demo/pipeline.py").is_file()
    assert [entry.name for entry in artifact.pipelines] == ["demo"]
    assert supply.known(revision) is artifact
    assert supply.artifact(revision) is artifact
    assert supply.environment(artifact) == Environment("", None)


def test_a_source_is_listed_when_its_time_has_come_or_somebody_says_so(supply, source, clock):
    supply.poll()
    clock.now += 9.9
    supply.poll()
    assert source.listed == 1
    assert supply.next_poll() == pytest.approx(0.1)
    clock.now += 0.1
    supply.poll()
    assert source.listed == 2
    supply.request_poll(source.name)
    supply.poll()
    assert source.listed == 3
    assert supply.next_poll() == 10


def test_what_is_neither_listed_nor_on_the_cluster_nor_recent_leaves_the_cache(
    supply, folder, clock
):
    wheels = [make_wheel(folder, version=version) for version in ("1.0", "2.0", "3.0", "4.0")]
    running, listed_still, forgotten, recent = (supply.artifact(r) for r in listed(supply))
    for wheel in wheels:
        if wheel.name != listed_still.filename:
            wheel.unlink()
    for artifact in (running, listed_still, forgotten):
        for place in (artifact.wheel.parent, artifact.tree):
            os.utime(place, (0, 0))
    clock.now += 3600
    supply.poll()
    supply.tidy([running.digest], [])
    kept = {artifact.tree.exists() for artifact in (running, listed_still, recent)}
    assert kept == {True}
    assert not forgotten.tree.exists()
    assert not forgotten.wheel.exists()
    store, environments = supply._means.prune.args[:2]
    for known in (
        *(supply.first_listed_at, supply.fetched_at, supply._received_as),
        *(store._wheels, store._trees, environments._prepared),
        dict.fromkeys(supply.refusals._carriers),
    ):
        assert known.keys() == {running.digest, listed_still.digest}
    assert not environments._turns


@pytest.mark.parametrize("wrong", ["demo-0.9-py3-none-any.whl", "demo-1.1-py3-none-any.whl"])
def test_the_same_bytes_under_a_wrong_name_too_are_judged_by_each_name(supply, folder, wrong):
    right = make_wheel(folder)
    shutil.copy(right, folder / wrong)
    found = {revision.filename: supply.artifact(revision) for revision in listed(supply)}
    assert isinstance(found[right.name], Artifact)
    assert found[wrong].reason == "MetadataMismatch"


def test_a_wheel_that_left_the_cache_is_fetched_anew_when_it_is_listed_again(
    supply, folder, clock, tmp_path
):
    wheel = make_wheel(folder)
    [artifact] = [supply.artifact(revision) for revision in listed(supply)]
    wheel.rename(tmp_path / wheel.name)
    for place in (artifact.wheel.parent, artifact.tree):
        os.utime(place, (0, 0))
    clock.now += 3600
    supply.poll()
    supply.tidy([], [])
    assert not artifact.tree.exists()
    (tmp_path / wheel.name).rename(wheel)
    supply.request_poll("directory")
    [again] = [supply.artifact(revision) for revision in listed(supply)]
    assert again == artifact
    assert again.tree.is_dir()


def test_a_wheel_is_known_while_its_environment_is_still_being_built(
    supply_of, folder, monkeypatch
):
    make_wheel(folder)
    jobs, built = Jobs(1, lambda: None), threading.Event()
    supply = supply_of(jobs)
    supply.poll()
    eventually(supply.complete)
    [revision] = listed(supply)
    prepare = supply._means.prepare
    slowly = replace(supply._means, prepare=lambda artifact: built.wait(60) and prepare(artifact))
    monkeypatch.setattr(supply, "_means", slowly)
    assert supply.known(revision) is None
    artifact = eventually(lambda: supply.artifact(revision))
    assert [entry.name for entry in artifact.pipelines] == ["demo"]
    assert supply.known(revision) is artifact
    assert supply.environment(artifact) is None
    built.set()
    assert eventually(lambda: supply.environment(artifact)) == Environment("", None)
    assert supply.known(revision) is artifact
    jobs.close()


def test_a_bad_wheel_stays_bad_until_it_is_forgotten(supply, folder):
    make_wheel(folder, wrong_hash=["demo/pipeline.py"])
    [revision] = listed(supply)
    first = supply.artifact(revision)
    assert isinstance(first, Rejected)
    assert first.reason == "RecordInvalid"
    assert supply.artifact(revision) is first
    supply.clear_failures(revision.sha256)
    again = supply.artifact(revision)
    assert again is not first
    assert again.reason == "RecordInvalid"


def test_a_shortage_passes_by_itself_once_it_is_over(supply, folder, clock):
    make_wheel(folder, requires=["no-such-distribution-anywhere"])
    [revision] = listed(supply)
    artifact = supply.artifact(revision)
    waiting = supply.environment(artifact)
    assert isinstance(waiting, Waiting)
    assert waiting.reason == "RequirementMissingOffline"
    assert supply.environment(artifact) is waiting  # its backoff has not passed
    clock.now += 3600
    again = supply.environment(artifact)
    assert again is not waiting
    assert again.reason == "RequirementMissingOffline"


def test_a_source_that_cannot_be_read_keeps_its_last_good_listing_and_says_why(
    supply, folder, clock
):
    make_wheel(folder)
    before = listed(supply)
    folder.rename(folder.with_name("elsewhere"))
    clock.now += 10
    assert listed(supply) == before
    [condition] = supply.conditions()
    assert (condition.subject, condition.reason) == ("directory", "DirectoryMissing")
    assert str(folder) in condition.message
    folder.with_name("elsewhere").rename(folder)
    clock.now += 600
    supply.poll()
    assert supply.conditions() == []


def test_a_failed_listing_is_tried_again_after_its_backoff_and_not_at_each_look(
    supply, source, folder, clock
):
    folder.rmdir()
    supply.poll()
    for _ in range(5):
        supply.poll()
    assert source.listed == 1
    clock.now += 1
    supply.poll()
    assert source.listed == 2


def test_a_look_that_was_asked_for_while_a_source_must_be_left_alone_is_kept_until_it_may_be(
    supply, source, folder, clock
):
    folder.rmdir()
    supply.poll()
    supply.request_poll(source.name)
    supply.poll()
    assert source.listed == 1
    assert supply.polling()
    assert 0 < supply.next_poll() <= 1
    folder.mkdir()
    clock.now += 1
    supply.poll()
    assert source.listed == 2
    assert not supply.polling()


def test_a_person_who_asks_does_not_wait_for_the_backoff(supply, source, folder):
    folder.rmdir()
    for looks in range(1, 4):
        supply.poll_now()
        supply.poll()
        supply.poll()
        assert source.listed == looks
        assert not supply.polling()


def test_files_that_are_refused_or_not_whole_are_conditions(supply, folder):
    make_wheel(folder, filename="demo-latest.whl")
    (folder / "half-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 and no end")
    supply.poll()
    found = {condition.subject: condition.reason for condition in supply.conditions()}
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

    supply = Artifacts(
        [source],
        Jobs(0, lambda: None),
        all_by(never),
        remembered={source.name: remembered, gone.source: gone},
    )
    assert supply.complete()
    assert supply.listings() == {source.name: remembered}
    make_wheel(folder)
    assert len(listed(supply)) == 1


def test_without_sources_there_is_nothing_to_wait_for(base):
    supply = Artifacts(
        [],
        Jobs(0, lambda: None),
        Means(receive=None, prepare=None, is_sound=None, mend=None, prune=None),
        remembered={},
    )
    supply.poll()
    assert supply.complete()
    assert supply.next_poll() == 60


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
    supply = Artifacts(
        *([source], Jobs(0, lambda: None)),
        all_by(never),
        remembered=remembered,
    )
    names = [{revision.filename for revision in listed(supply)} for _ in range(4)]
    assert names == [
        {old.name, other.name},
        {old.name},
        {old.name, new.name},
        {new.name},
    ]
