"""What serves and is not offered any more: refused under other limits, or listed nowhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from controller.model import Phase
from controller.reconcile.upkeep import EVERY
from tests.support.passes import reasons
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.unit

LIVE = {"demo-1.0": Phase.LIVE}
MISMATCH = "wheelway-failure[DigestMismatch] demo/pipeline.py has other bytes than were published"
TIGHTER = {"max_files": 2}
"""Refuses every wheel, as an upgrade may refuse what the one before took."""


def files(work, kind):
    return {
        path.relative_to(work.config.paths.cache): path.read_bytes()
        for path in (work.config.paths.cache / kind).rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "how", [{"inspection": TIGHTER}, {"inspection": {"max_unpacked_size": 10}}]
)
def test_what_is_live_keeps_its_files_when_its_wheel_is_refused_from_now_on(work, paper_head, how):
    work.drop()
    work.settle()
    before = files(work, "wheels"), files(work, "trees")
    work.restart(**how)
    work.settle()
    assert [quarantine.stage for quarantine in work.journal.quarantines()] == ["inspect"]
    work.pass_(after=3600.0)  # what nobody needs leaves the cache
    assert (files(work, "wheels"), files(work, "trees")) == before
    assert work.phases() == LIVE
    assert list(paper_head.sent()[-1].values()) == ["/predict/demo/1.0"]


def test_a_wheel_that_is_refused_at_once_leaves_nothing_behind(at_work):
    work = at_work(inspection=TIGHTER)
    work.drop()
    work.settle()
    assert files(work, "wheels") == files(work, "trees") == {}


# -- what is damaged -----------------------------------------------------------------------------


def listed_no_more(work, paper_head):
    """Other bytes took its place in the folder and failed: what they should replace serves on."""
    paper_head.failing["demo"] = "wheelway-failure[LoadFailed] no such file"
    work.drop(code="from wheelway import Pipeline\n\n\nclass Demo(Pipeline):\n    infer = None\n")
    work.settle()
    paper_head.failing.clear()
    work.restart(**work.sections)


def refused(work, paper_head):
    del paper_head
    work.restart(inspection=TIGHTER, **work.sections)


@pytest.fixture(params=[listed_no_more, refused])
def survivor(request, at_work, paper_head, tmp_path):
    """A daemon beside a live release that needs an environment, and that nobody offers."""
    packages = tmp_path / "packages"
    code = {"zz_extra/__init__.py": "VERSION = 1\n"}
    make_wheel(packages, "zz-extra", "1.0", pipelines={}, files=code)
    sections = {"environments": {"find_links": [packages]}}
    work = at_work(**sections)
    work.sections = sections
    work.drop(requires=["zz-extra"])
    work.settle()
    [app] = paper_head.puts[-1]["applications"]
    request.param(work, paper_head)
    work.settle()
    return work, app["args"]


def environment(work, arguments):
    return work.config.paths.cache / "environments" / arguments["environment"]


def test_its_files_are_made_again(survivor, paper_head, caplog):
    work, arguments = survivor
    tree = Path(arguments["tree"])
    before = (tree / "demo/pipeline.py").read_bytes()
    shutil.rmtree(tree)
    shutil.rmtree(environment(work, arguments))
    sent = len(paper_head.puts)
    work.pass_(after=EVERY)
    assert (tree / "demo/pipeline.py").read_bytes() == before
    assert (environment(work, arguments) / "bin/python").exists()
    assert "though no source offers it" in caplog.text
    assert len(paper_head.puts) == sent


def test_what_a_replica_doubts_of_it_is_looked_at_at_once(survivor, paper_head):
    work, arguments = survivor
    code = Path(arguments["tree"]) / "demo/pipeline.py"
    before = code.read_bytes()
    work.pass_(after=EVERY)
    code.chmod(0o644)
    code.write_bytes(before.replace(b"echo", b"evil"))
    paper_head.failing["demo"] = MISMATCH
    work.pass_(after=0.1)
    assert code.read_bytes() == before


def test_what_cannot_be_made_again_is_told_until_it_is_published_again(survivor):
    work, arguments = survivor
    tree, digest = Path(arguments["tree"]), arguments["release"]["digest"]
    shutil.rmtree(tree)
    [wheel] = (work.config.paths.cache / "wheels").glob(f"*/{digest}/*.whl")
    wheel.rename(work.folder / wheel.name)
    work.pass_(after=EVERY)
    told = reasons(work.pass_())
    assert told[f"demo@1.0+{digest[:8]}"] == "FilesLost"
    wheel.parent.mkdir(exist_ok=True)
    (work.folder / wheel.name).rename(wheel)
    work.pass_(after=EVERY)
    assert "FilesLost" not in reasons(work.pass_()).values()
    assert tree.is_dir()


def test_an_environment_that_would_be_another_one_is_not_taken_for_it(survivor):
    work, arguments = survivor
    shutil.rmtree(environment(work, arguments))
    for lock in (work.config.paths.cache / "locks").iterdir():
        lock.unlink()
    [packages] = work.config.environments.find_links
    make_wheel(packages, "zz-extra", "2.0", pipelines={}, files={"zz_extra/__init__.py": ""})
    for _ in range(3):
        work.pass_(after=EVERY)
        assert "FilesLost" in reasons(work.pass_()).values()
