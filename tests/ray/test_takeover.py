"""What a daemon does at its start beside what runs already: nothing to it, whatever it remembers.

The tests share a release that an earlier daemon made live, in whatever order they run.
"""

import shutil
from contextlib import closing

import pytest

from controller.model import Phase
from controller.observed import Answer
from controller.planning.daemons import mark_of
from controller.serve.ingress import Ingress
from tests.support.head import eventually

pytestmark = pytest.mark.ray

ROUTE = "/predict/kept/1.0"


@pytest.fixture(scope="module")
def site(folder):
    """Its release is live; the daemon has ended."""
    with folder.daemon():
        folder.drop("kept")
        folder.wait_for_phase(folder.wait_for(ROUTE), Phase.LIVE)
        eventually(lambda: folder.reports[-1].plan and not folder.reports[-1].plan.changes)
    return folder


@pytest.fixture
def live(site):
    """The release, which has the process and the route afterwards that it had before."""
    live, pids = site.release_at(ROUTE), site.pids("kept")
    yield live
    assert site.release_at(ROUTE) == live
    assert site.pids("kept") == pids


def test_a_start_over_an_already_correct_cluster_sends_nothing(site, live):
    applied, seen = site.sent(), len(site.reports)
    with site.daemon():
        eventually(lambda: len(site.reports) > seen + 5)
        eventually(lambda: sum("live" in r.sentence for r in site.reports[seen:]) > 3)
    assert site.sent() == applied


def test_a_lost_journal_costs_nothing_that_serves(site, live):
    for file in (site.folder / "state").glob("journal.sqlite*"):
        file.unlink()
    seen = len(site.reports)
    with site.daemon():
        site.wait_for_phase(live, Phase.LIVE)
        eventually(lambda: len(site.reports) > seen + 5)
    assert site.sent() == 0


def test_whoever_lost_its_state_takes_over_without_a_new_process_or_a_lost_answer(site, live):
    [before] = marks(site)
    shutil.rmtree(site.folder / "state")
    with site.daemon():
        eventually(lambda: site.conditions("TakingOver"))
        eventually(lambda: not site.conditions("TakingOver"))
        site.drop("next")
        site.wait_for("/predict/next/1.0")
    [after] = marks(site)
    assert before != after


def marks(site):
    return {mark_of(app.document) for app in site.dashboard.applications() if app.release}


def test_a_404_counts_when_it_is_this_heads_ingress_that_says_it(site, live, head):
    with closing(Ingress(head.ingress_url)) as ingress:
        nowhere = {"/predict/nowhere/1.0": ingress.probe("/predict/nowhere/1.0")}
        assert nowhere["/predict/nowhere/1.0"].status == 404
        there = site.dashboard.applications()
        assert ingress.vouched(nowhere, there) == nowhere
        strange = ingress.vouched({"/x": Answer(None, 404, "not-here")}, [])
        assert not strange["/x"].reached
