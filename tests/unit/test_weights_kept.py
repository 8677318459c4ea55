"""Wheels of weights in the cache: which are kept, lost, damaged and made again, pass by pass."""

import os
import shutil
from pathlib import Path

import pytest

from controller.planning.weights import former_in_document, in_document
from controller.reconcile.upkeep import EVERY
from tests.support.passes import reasons
from tests.unit.test_weights_passes import BAD, served, wanted

pytestmark = pytest.mark.unit


@pytest.fixture
def live(work):
    """With its release live, without weights."""
    work.drop()
    work.settle()
    return work


def in_cache(work):
    """The digests of all wheels, and of all trees."""
    cache = work.config.paths.cache
    return [{path.name for path in (cache / kind).glob("??/*")} for kind in ("wheels", "trees")]


def tidied(work):
    """A while later the cache is pruned, and nothing in it was needed lately."""
    for kind in ("wheels", "trees"):
        for path in (work.config.paths.cache / kind).glob("??/*"):
            os.utime(path, (0, 0))
    work.artifacts._tidied_at = float("-inf")
    return work.pass_(after=60.0)


def test_nights_of_weights_leave_the_cache_again_though_they_are_listed(live, paper_head):
    for night in range(1, 13):
        live.drop_weights(f"2026.{night}")
        live.settle()
    sent, fetched = len(paper_head.puts), len(live.received)
    tidied(live)
    # The release itself, what it serves with, what it falls back to, and what is behind that.
    assert [len(digests) for digests in in_cache(live)] == [4, 4]
    for _ in range(3):
        live.settle()
        tidied(live)
    assert (len(paper_head.puts), len(live.received)) == (sent, fetched)
    live.restart()
    live.settle()
    tidied(live)
    assert [len(digests) for digests in in_cache(live)] == [4, 4]
    assert len(paper_head.puts) == sent


def test_what_is_lost_is_no_former(live, paper_head):
    wheels = [live.drop_weights("2026.1")]
    for night in (2, 3):
        live.settle()
        wheels.append(live.drop_weights(f"2026.{night}"))
    live.settle()
    for wheel in wheels[:2]:
        live.remove(wheel)
    tidied(live)
    (proven,) = live.journal.proven_weights().values()
    lost, behind = proven[1].weights, proven[2].weights
    assert Path(behind.tree).is_dir()
    for kind in ("wheels", "trees"):
        shutil.rmtree(live.config.paths.cache / kind / lost.digest[:2] / lost.digest)
    live.restart()
    report = live.settle()
    for _ in range(3):
        report = live.pass_(after=EVERY)
    (document,) = paper_head.puts[-1]["applications"]
    assert (in_document(document), former_in_document(document)) == (proven[0].weights, behind)
    assert reasons(report) == {}


def test_those_that_failed_are_not_fetched_again_and_again(live, paper_head):
    paper_head.refused_weights["2026.2"] = BAD
    for night in (1, 2):
        live.drop_weights(f"2026.{night}")
        live.settle()
    fetched = len(live.received)
    for _ in range(3):
        tidied(live)
        live.settle()
    assert len(live.received) == fetched
    assert served(live) == ["2026.1"]


def test_damaged_files_of_what_no_source_lists_are_made_again(live, paper_head):
    wheel = live.drop_weights("2026.1")
    live.settle()
    live.remove(wheel)
    live.restart()
    live.settle()
    live.pass_(after=EVERY)
    user_config = paper_head.puts[-1]["applications"][0]["deployments"][0]["user_config"]
    model = Path(user_config["weights"]["tree"]) / "demo_weights/model.bin"
    model.chmod(0o644)
    model.write_text("evil")
    for _ in range(3):
        live.pass_(after=EVERY)
    assert model.read_text() == "2026.1"


def test_what_a_replica_finds_damaged_is_made_again_and_no_fault_of_the_weights(live, paper_head):
    paper_head.refused_weights["2026.1"] = {"reason": "DigestMismatch", "message": "other bytes"}
    live.drop_weights("2026.1")
    for _ in range(8):
        report = live.pass_(after=1.0)
    assert "DigestMismatch" in {condition.reason for condition in report.conditions}
    assert live.journal.refused_weights() == {}
    assert wanted(paper_head)[-1] == ["2026.1"]
