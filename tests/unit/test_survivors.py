"""What serves and is not offered any more: refused under other limits, or listed nowhere."""

from __future__ import annotations

import pytest

from controller.model import Phase

pytestmark = pytest.mark.unit

LIVE = {"demo-1.0": Phase.LIVE}
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
