"""What the rollout takes from Ray and its ingress, on real ones."""

import shutil
from contextlib import closing

import pytest

from controller.model import Answer, Phase
from controller.planning.daemons import mark_of
from controller.serve.ingress import Ingress
from tests.support.head import eventually

pytestmark = pytest.mark.ray

MAY_SCALE_TO_NOTHING = "[options]\nautoscaling_config = { min_replicas = 0, max_replicas = 1 }\n"
FAILING = """
from wheelway import Pipeline

class Demo(Pipeline):
    def load(self, context):
        raise RuntimeError("no weights")

    def infer(self, request):
        return request
"""


def test_what_may_scale_to_nothing_is_live_only_once_a_replica_passed_its_examples(site):
    with site.daemon():
        site.drop("sleepy", wheelway_toml=MAY_SCALE_TO_NOTHING)
        site.drop("broken", code=FAILING, wheelway_toml=MAY_SCALE_TO_NOTHING)
        site.wait_for_phase(site.wait_for("/predict/sleepy/1.0"), Phase.LIVE)
        assert len(site.pids("sleepy")) == 1
        assert site.quarantine("broken").reason == "LoadFailed"


def test_whoever_lost_its_state_takes_over_without_a_new_process_or_a_lost_answer(site):
    with site.daemon():
        site.drop("kept")
        live = site.wait_for("/predict/kept/1.0")
        site.wait_for_phase(live, Phase.LIVE)
    pids, [before] = site.pids("kept"), marks(site)
    shutil.rmtree(site.folder / "state")
    with site.daemon():
        eventually(lambda: site.conditions("TakingOver"))
        eventually(lambda: not site.conditions("TakingOver"))
        site.drop("next")
        site.wait_for("/predict/next/1.0")
        assert site.release_at("/predict/kept/1.0") == live
    assert site.pids("kept") == pids
    [after] = marks(site)
    assert before != after


def marks(site):
    return {mark_of(app.document) for app in site.dashboard.applications() if app.release}


def test_a_404_counts_when_it_is_this_heads_ingress_that_says_it(site, head):
    with site.daemon():
        site.drop("there")
        site.wait_for("/predict/there/1.0")
        with closing(Ingress(head.ingress_url)) as ingress:
            nowhere = {"/predict/nowhere/1.0": ingress.probe("/predict/nowhere/1.0")}
            assert nowhere["/predict/nowhere/1.0"].status == 404
            there = site.dashboard.applications()
            assert ingress.vouched(nowhere, there) == nowhere
            strange = ingress.vouched({"/x": Answer(None, 404, "not-here")}, [])
            assert not strange["/x"].reached
