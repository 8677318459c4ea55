"""What an edit of the cache, the environments or the interpreter makes anew, and what goes on."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from functools import partial

import pytest

from controller.cache.environments.builder import Environments
from controller.errors import Transient
from controller.model import Environment
from controller.reconcile import assembly as module
from controller.reconcile.assembly import assemble
from tests.support.edits import INDEX, NOTHING, forget, known, nobody
from tests.support.head import eventually

pytestmark = pytest.mark.unit

CODEARTIFACT = {"type": "codeartifact", "domain": "acme", "repository": "pipelines"}


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
