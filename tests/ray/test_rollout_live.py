"""What the rollout takes from Ray and its ingress, on real ones."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from controller.model import Phase
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


IMPERATIVE = """
import ray
from ray import serve

@serve.deployment(ray_actor_options={"num_cpus": 0})
class Imperative:
    async def __call__(self, request):
        return "imperative"

ray.init(log_to_driver=False, namespace="theirs")
serve.run(Imperative.bind(), name="their-imperative", route_prefix="/imperative")
print("running", flush=True)
input()
serve.delete("their-imperative")
"""


@contextmanager
def imperative_application(head):
    """Somebody's own program with `serve.run`, beside ours."""
    with subprocess.Popen(
        [sys.executable, "-c", IMPERATIVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **head.driver_environment},
    ) as program:
        assert any(line == "running\n" for line in program.stdout)
        yield
        program.stdin.write("\n")
        program.stdin.close()
        assert program.wait(60) == 0


def test_applications_that_are_not_ours_stay_untouched(site, head):
    theirs = {
        "name": "their-declarative",
        "route_prefix": "/theirs",
        "import_path": "wheelway.host:build_encoded_routes",
        "args": {"ingress_url": site.ingress, "wheelway": "test"},
        "deployments": [{"name": "EncodedRoutes", "ray_actor_options": {"num_cpus": 0}}],
    }
    http = {"host": "127.0.0.1", "port": head.ports.ingress}
    site.dashboard.put({"http_options": http, "applications": [theirs]})

    def theirs_now():
        return {
            app.name: (app.document, [replica.pid for replica in app.replicas])
            for app in site.dashboard.applications()
            if app.name.startswith("their-") and app.status == "RUNNING"
        }

    def both():
        now = theirs_now()
        return now if len(now) == 2 else None

    with imperative_application(head):
        before = eventually(both)
        assert before["their-imperative"][0] is None  # Serve has no document of it
        with site.daemon():
            site.drop("ours")
            site.wait_for("/predict/ours/1.0")
        assert eventually(both) == before
