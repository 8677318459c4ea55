"""Wheels that no release comes of: a name that is no good, a library among the pipelines."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from controller.errors import NoRelease
from controller.journal.records import RefusedWheel
from controller.model import Listing, Phase
from controller.ops.explain import tell
from controller.reconcile.refusals import ONE_BY_ONE, Refusals
from controller.sources.directory.source import DirectorySource
from tests.support.passes import reasons, routes
from tests.support.wheels import make_wheel, revision_of, sha256

pytestmark = pytest.mark.unit

ROUTE = "/predict/demo/1.0"
COPIES = {
    "demo-1.0-py3-none-any (1).whl": "FilenameInvalid",
    "demo-1.0-py3-none-any copy.whl": "FilenameInvalid",
    "demo-1.0-cp27-cp27m-win32.whl": "TagsIncompatible",
    "demo-1.1-py3-none-any.whl": "MetadataMismatch",
}


def copy(work, wheel, name):
    """Publish the same bytes under another name: at once, as a slow copy is waited for."""
    work.artifacts.request_poll("wheels")
    made = Path(shutil.copy(wheel, work.folder / "copy.part"))
    return made.rename(wheel.with_name(name))


def wheels_in_cache(work):
    return sorted(path.name for path in (work.folder / "cache" / "wheels").rglob("*.whl"))


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_under_a_bad_name_is_refused_alone_and_leaves_nothing_behind(work, name):
    wheel = work.drop()
    bad = copy(work, wheel, name)
    report = work.settle()
    assert reasons(report) == {name: COPIES[name]}
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    assert work.journal.quarantines() == []
    work.remove(bad)
    assert reasons(work.settle()) == {}
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    assert work.journal.refused_wheels() == []


@pytest.mark.parametrize("name", COPIES)
def test_a_live_release_outlasts_a_bad_copy_a_restart_and_its_head(work, paper_head, name):
    wheel = work.drop()
    work.settle()
    copy(work, wheel, name)
    work.settle()
    work.restart()
    assert work.settle().sentence == "1 live"
    paper_head.forgets()
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    assert [*routes(paper_head)[-1].values()] == [ROUTE]


def test_a_bad_name_is_looked_into_once_however_often_the_daemon_starts(work):
    wheel = work.drop()
    name = "demo-1.1-py3-none-any.whl"
    copy(work, wheel, name)
    work.settle()
    assert sorted(work.received) == [wheel.name, name]
    work.restart()
    assert reasons(work.settle()) == {name: "MetadataMismatch"}
    assert work.received.count(name) == 1


def test_a_name_that_does_not_fit_is_refused_before_a_byte_is_fetched(work, monkeypatch):
    fetched, fetch = [], DirectorySource.fetch
    monkeypatch.setattr(
        DirectorySource, "fetch", lambda self, r: fetched.append(r.filename) or fetch(self, r)
    )
    work.drop(tag="cp27-cp27m-win32")
    assert [*reasons(work.settle()).values()] == ["TagsIncompatible"]
    good = work.drop()
    work.settle()
    assert fetched == [good.name]
    assert wheels_in_cache(work) == [good.name]


def test_a_live_version_is_kept_when_a_renamed_copy_of_another_takes_its_files_place(work):
    first = work.drop()
    work.drop(version="1.1")
    work.settle()
    copy(work, first, "demo-1.1-py3-none-any.whl")
    work.settle()
    work.clock.now += 3600.0
    assert reasons(work.settle()) == {"demo-1.1-py3-none-any.whl": "MetadataMismatch"}
    assert work.phases() == {"demo-1.0": Phase.LIVE, "demo-1.1": Phase.LIVE}


# -- libraries -----------------------------------------------------------------------------------


def library(work, version):
    return work.drop("acme-lib", version, pipelines={}, entry_points="")


def test_a_library_is_looked_into_no_more_than_it_takes_also_after_a_restart(work):
    for minor in range(6):
        library(work, f"1.{minor}")
    work.drop()
    report = work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    assert work.journal.quarantines() == []
    assert {c.reason for c in report.conditions if c.ok} == {"NotAPipelineWheel"}
    assert [c for c in report.conditions if not c.ok] == []
    looked_into = [name for name in work.received if name.startswith("acme_lib")]
    assert looked_into == ["acme_lib-1.5-py3-none-any.whl", "acme_lib-1.4-py3-none-any.whl"]
    work.restart()
    work.settle()
    library(work, "1.6")
    work.settle()
    looked_into = [name for name in work.received if name.startswith("acme_lib")]
    assert looked_into[2:] == ["acme_lib-1.6-py3-none-any.whl"]


def test_wheels_none_of_which_is_for_this_machine_are_told_of_once_a_release(work):
    tags = ("cp27-cp27m-win32", "cp27-cp27m-macosx_10_9_x86_64", "cp26-cp26m-win32")
    for version in ("1.0", "1.1"):
        for tag in tags:
            work.drop("acme-lib", version, tag=tag, pipelines={}, entry_points="")
    work.drop("acme-lib", "2.0", tag=tags[0], pipelines={}, entry_points="")
    work.drop()
    work.settle()
    report = work.settle()
    assert reasons(report) == {
        "acme-lib==1.0": "TagsIncompatible",
        "acme-lib==1.1": "TagsIncompatible",
        "acme_lib-2.0-cp27-cp27m-win32.whl": "TagsIncompatible",
    }
    told = {condition.subject: condition.message for condition in report.conditions}
    assert told["acme-lib==1.0"].startswith("3 wheels of it are for other machines: ")
    assert work.phases() == {"demo-1.0": Phase.LIVE}


def test_a_librarys_wheels_for_other_machines_are_not_told_of_and_hide_nothing(work):
    for minor in range(4):
        for tag in ("py3-none-any", "cp27-cp27m-win32", "cp27-cp27m-macosx_10_9_x86_64"):
            work.drop("acme-lib", f"1.{minor}", pipelines={}, entry_points="", tag=tag)
    work.drop(tag="cp27-cp27m-win32", version="2.0")
    work.drop()
    report = work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    told = [c.subject for c in report.conditions if not c.ok]
    assert told == ["demo-2.0-cp27-cp27m-win32.whl"]
    assert {name.split("-")[1] for name in work.received if "lib" in name} == {"1.3", "1.2"}


@pytest.mark.parametrize("how", [{"entry_points": ""}, {"wrong_hash": ["demo/pipeline.py"]}])
def test_what_is_refused_does_not_stay_on_disk(work, how):
    work.drop(**how)
    work.settle()
    assert work.received != []
    assert wheels_in_cache(work) == []


def test_a_version_that_lost_its_pipeline_hides_none_before_it(work, paper_head):
    work.drop()
    work.drop(version="2.0", pipelines={}, entry_points="")
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    work.drop(version="3.0", pipelines={}, entry_points="")
    work.settle()
    work.restart()
    paper_head.forgets()
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}


def test_a_live_version_is_kept_when_bytes_without_a_pipeline_take_its_files_place(work):
    work.drop()
    work.settle()
    work.drop(pipelines={}, entry_points="", marker="other bytes")
    report = work.settle()
    assert report.sentence == "1 live"
    work.pass_(after=3600.0)
    assert work.phases() == {"demo-1.0": Phase.LIVE}


def test_explain_tells_of_a_library_that_it_carries_no_pipeline(work):
    wheel = library(work, "1.0")
    work.settle()
    for name in ("acme-lib", wheel.name):
        told = tell(work.journal, name, now=work.clock())
        assert [c["reason"] for c in told["conditions"]] == ["NotAPipelineWheel"]
        assert told["unread"] == []


def test_many_libraries_are_told_of_at_once(tmp_path):
    known = Refusals()
    revisions = []
    for number in range(ONE_BY_ONE + 1):
        revision = revision_of(make_wheel(tmp_path, f"lib{number}", entry_points=""))
        known.add(revision, NoRelease("NotAPipelineWheel", "none", by_name=False), 1.0)
        revisions.append(revision)
    few = known.conditions(Listing("test", tuple(revisions[1:])))
    assert [condition.subject for condition in few] == [r.filename for r in revisions[1:]]
    [all_of_them] = known.conditions(Listing("test", tuple(revisions)))
    assert (all_of_them.subject, all_of_them.ok) == ("test", True)
    assert all_of_them.message.startswith("11 wheels of test carry no pipeline")


def test_what_judged_otherwise_is_forgotten():
    by_name = RefusedWheel("d", "x.whl", "TagsIncompatible", "", "python 3.11")
    by_bytes = RefusedWheel("e", "", "NotAPipelineWheel", "", "group")
    kept = Refusals([by_name, by_bytes], by_bytes="group", by_name="python 3.12")
    assert [*kept._wheels.values()] == [by_bytes]


# -- one version, one release --------------------------------------------------------------------


def test_bytes_under_two_spellings_of_their_version_are_one_release(work, paper_head):
    wheel = work.drop()
    twin = copy(work, wheel, "demo-1.0.0-py3-none-any.whl")
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    work.remove(wheel)
    work.settle()
    work.restart()
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.LIVE}
    assert [*routes(paper_head)[-1].values()] == [ROUTE]
    work.remove(twin)
    work.settle()
    work.clock.now += 60.0
    work.settle()
    work.settle()
    assert work.phases() == {"demo-1.0": Phase.RETIRED}


def test_other_bytes_under_another_spelling_take_the_route_of_their_version(work, paper_head):
    wheel = work.drop()
    work.settle()
    work.drop(version="1.0.0")
    wheel.unlink()
    work.settle()
    assert len(paper_head.sent()[-1]) == 1
    assert [*routes(paper_head)[-1].values()] == [ROUTE]
    work.restart()
    work.settle()
    assert [*routes(paper_head)[-1].values()] == [ROUTE]


def test_a_bad_wheel_that_is_gone_leaves_no_release_behind(work):
    bad = work.drop("acme-lib", wrong_hash=["acme_lib/pipeline.py"])
    work.settle()
    [record] = work.journal.releases()
    assert (record.phase, record.source) == (Phase.QUARANTINED, "wheels")
    work.remove(bad)
    work.settle()
    assert work.phases() == {"acme-lib-1.0": Phase.SUPERSEDED}


def test_a_wheel_that_passes_after_all_leaves_nothing_under_its_projects_name(work):
    work.drop("acme", pipelines={"iris": "acme.pipeline:Demo", "rose": "acme.pipeline:Other"})
    work.restart(inspection={"max_pipelines": 1})
    work.settle()
    assert work.phases() == {"acme-1.0": Phase.QUARANTINED}
    work.restart()
    work.settle()
    assert work.phases() == {
        "acme-1.0": Phase.SUPERSEDED,
        "iris-1.0": Phase.LIVE,
        "rose-1.0": Phase.LIVE,
    }


def test_what_is_listed_no_more_is_forgotten_and_looked_into_again_when_it_comes_back(work):
    wheel = library(work, "1.0")
    work.settle()
    assert [refused.reason for refused in work.journal.refused_wheels()] == ["NotAPipelineWheel"]
    work.remove(wheel)
    work.settle()
    assert work.journal.refused_wheels() == []
    library(work, "1.0")
    work.settle()
    assert work.received == [wheel.name] * 2


def test_what_an_earlier_wheelway_took_for_a_library_is_looked_into_again(work):
    """It knew nothing of weights."""
    wheel = work.drop_weights()
    before = RefusedWheel(sha256(wheel), "", "NotAPipelineWheel", "none", "wheelway.pipelines")
    work.journal.keep_refused([before])
    work.restart()
    work.settle()
    assert work.received == [wheel.name]
    assert work.journal.refused_wheels() == []
