"""What is told of weights after the daemon was killed at some moment of their swap."""

import io
import time

import pytest
from packaging.version import Version
from rich.console import Console

from controller.cli.progress import Progress
from controller.cli.status import weights_cells
from controller.daemon.all_in_one import _end_with_head
from controller.ops import explain, status
from controller.ops import weights as orders

pytestmark = pytest.mark.unit


def told(work):
    """By version of the weights: reason and message."""
    story = explain.tell(work.journal, "demo-weights", now=time.time())
    return {one["version"]: (one["reason"], one["message"]) for one in story["weights"]}


@pytest.mark.parametrize("passes", range(8))
def test_weights_that_served_before_are_never_told_to_fit_nothing(at_work, paper_head, passes):
    work = at_work()
    paper_head.loading = 3
    work.drop()
    work.drop_weights("2026.1")
    work.settle()
    work.drop_weights("2026.2")
    for _ in range(passes):
        work.pass_(after=0.5)
    work.restart()
    for _ in range(30):
        work.pass_(after=1.0)
        assert "FitsNothing" not in {reason for reason, _ in told(work).values()}
    seen = told(work)
    assert seen["2026.2"] == ("Elected", "for 1.0")
    assert seen["2026.1"] == ("NotKept", "keep = 1, which newer versions fill: 2026.2")


def test_weights_that_a_later_run_did_not_look_into_are_judged_by_policy(at_work):
    work = at_work()
    work.drop()
    for night in ("2026.1", "2026.2"):
        work.drop_weights(night)
        work.settle()
    work.restart(pipelines=[{"name": "demo", "weights": {"versions": "!=2026.1"}}])
    work.settle()
    assert told(work)["2026.1"] == ("VersionExcluded", "the policy allows versions !=2026.1")
    work.restart(pipelines=[{"name": "demo", "weights": {"active": False}}])
    work.settle()
    assert {reason for reason, _ in told(work).values()} == {"Inactive"}


def test_a_pin_of_weights_that_a_later_run_did_not_look_into_is_never_told_as_unfit(at_work):
    work = at_work()
    work.drop()
    for night in ("2026.1", "2026.2"):
        work.drop_weights(night)
        work.settle()
    work.restart()
    work.settle()
    orders.pin(work.journal, "demo", [Version("2026.1")], by="ada", at=work.clock())
    for _ in range(10):
        work.pass_(after=1.0)
        assert "FitsNothing" not in {reason for reason, _ in told(work).values()}
    assert told(work)["2026.1"] == ("Pinned", "for 1.0")


def test_what_fits_nothing_says_what_to_do(at_work):
    work = at_work()
    work.drop()
    work.drop_weights("2026.1", fits=">=7")
    (condition,) = work.settle().conditions
    assert condition.message == (
        "demo is to be served as 1.0, and fits = '>=7' in the wheel admits none of these. Publish "
        "weights whose `fits` admits one, or a version of demo that it admits"
    )


def test_weights_are_live_again_only_once_a_new_head_answers_with_them(at_work, paper_head):
    work = at_work()
    work.drop()
    for night in ("2026.1", "2026.2"):
        work.drop_weights(night)
        work.settle()
    work.time_passes(100.0)
    work.journal.close()
    paper_head.forgets()
    _end_with_head(work.state)
    work.restart()
    began, printed = work.clock(), io.StringIO()
    out = Console(file=printed, width=500)
    progress = Progress("http://127.0.0.1:1", out=out, get=lambda _: None, clock=work.clock)
    seen = []
    for _ in range(9):
        progress(work.pass_(after=1.0))
        now = work.clock()
        (one,) = status.tell(work.journal, lambda: work.config, now, everything=False)["releases"]
        ((_, version, (state, _), *_),) = weights_cells(one, now)
        seen.append((one["phase"], version, state))
    assert ("Staged", "2026.2", "Wanted") in seen
    assert all(phase == "Live" for phase, _, state in seen if state == "Live")
    assert seen[-1] == ("Live", "2026.2", "Live")
    (proven,) = work.journal.proven_weights().values()
    assert [str(one.weights.version) for one in proven] == ["2026.2", "2026.1"]
    assert proven[0].at > began
    assert printed.getvalue().count("weights live") == 1
