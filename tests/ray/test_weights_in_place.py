"""Other weights, and other settings, in replicas as Serve runs them, by documents as the daemon
renders them.
"""

import json
import os
import shutil
import signal
from contextlib import closing, suppress

import httpx
import pytest

from controller.config.settings import RayOptions, ServeOptions
from controller.serve.dashboard import Dashboard
from controller.serve.rendering import Renderer
from tests.support.head import application, eventually
from tests.support.load import load_on
from tests.support.tuned import Tuned
from tests.support.wheels import make_weights, make_wheel, sha256, tree_of

pytestmark = pytest.mark.ray

NAME, ROUTE = "weighty-1.0-ab", "/predict/weighty/1.0"
CODE = """
import json, time
from pathlib import Path
from wheelway import Pipeline

def wait_for(path):
    end = time.monotonic() + 120
    while path and not Path(path).exists():
        assert time.monotonic() < end
        time.sleep(0.05)

class Demo(Pipeline):
    examples = ({"n": 1},)

    def load(self, context):
        self.add = 0
        if context.weights is not None:
            model = json.loads((context.weights / "model.json").read_text())
            wait_for(model.get("gate"))
            self.add = model["add"]
        self.settings = context.settings

    def reconfigure(self, settings):
        wait_for(settings.get("gate"))
        self.settings = settings

    def infer(self, request: dict[str, int]) -> list:
        return [request["n"] + self.add, self.settings.get("s")]
"""


class Deployed:
    """The application, PUT as a whole each time."""

    def __init__(self, head, dashboard, folder):
        self.dashboard, self.folder = dashboard, folder
        self.url = f"{head.ingress_url}{ROUTE}"
        self.client = httpx.Client(timeout=20)
        self.serve = head.dashboard_url
        self._ingress = head.ingress_url
        self._tree, self._record = tree_of(make_wheel(folder, "weighty", code=CODE))

    def put(self, **user_config):
        document = {
            "name": NAME,
            "route_prefix": ROUTE,
            "import_path": "wheelway.host:build",
            "runtime_env": {},
            "args": {
                "release": {"pipeline": "weighty", "version": "1.0", "digest": "ab" * 32},
                "target": "weighty.pipeline:Demo",
                "tree": str(self._tree),
                "record_digest": self._record,
            },
            "deployments": [
                {
                    "name": "Host",
                    "max_ongoing_requests": 200,
                    "graceful_shutdown_timeout_s": 1,
                    "ray_actor_options": {"num_cpus": 0.05},
                    "user_config": user_config,
                }
            ],
        }
        config = Renderer(wheelway="0").serve_config([document], ServeOptions(), self._ingress)
        self.dashboard.put(config)

    def weights(self, version, model):
        files = {"weighty_weights/model.json": json.dumps(model)}
        wheel = make_weights(self.folder, "weighty-weights", version, files=files)
        tree, record = tree_of(wheel)
        return {
            "project": "weighty-weights",
            "version": version,
            "digest": sha256(wheel),
            "tree": str(tree),
            "record_digest": record,
            "package": "weighty_weights",
        }

    def ask(self, n=1):
        answer = self.client.post(self.url, json={"n": n})
        return answer.json(), answer.headers.get("x-wheelway-weights", "")

    def running(self):
        """The replica, while Serve has nothing to do about it."""
        [replica] = application(self.dashboard, NAME).replicas
        return replica.state == "RUNNING" and replica

    def told(self):
        """The metadata; nothing while nobody answers."""
        with suppress(httpx.TransportError):
            return self.client.get(self.url).json()
        return {}


@pytest.fixture
def deployed(site, head, tmp_path):  # `site` leaves no application behind
    options = RayOptions(dashboard_url=head.dashboard_url, timeout=60)
    with closing(Dashboard.connect(options)) as dashboard:
        made = Deployed(head, dashboard, tmp_path)
        with closing(made.client):
            yield made


def mark(weights):
    return f"weighty-weights@{weights['version']}+{weights['digest'][:8]}"


def test_a_replica_answers_all_the_while_it_takes_other_weights_and_settings(deployed, tmp_path):
    gate = tmp_path / "gate"
    one = deployed.weights("1.0", {"add": 1})
    two = deployed.weights("2.0", {"add": 2, "gate": str(gate)})
    bad = deployed.weights("3.0", {})
    deployed.put(settings={"s": 1})
    eventually(lambda: deployed.client.post(deployed.url, json={"n": 1}).status_code == 200, 180)
    with load_on(deployed.url, 2, pause=0.02) as load:
        assert deployed.ask() == ([1, 1], "")
        deployed.put(settings={"s": 1}, weights=one, former_weights=None)
        eventually(lambda: deployed.ask() == ([2, 1], mark(one)))
        # Both take until the gate opens: if Serve waited for that, nobody would be answered.
        deployed.put(settings={"s": 2, "gate": str(gate)}, weights=two, former_weights=one)
        state = eventually(lambda: (t := deployed.told()).get("weights_loading") and t)
        assert (state["weights_loading"], state["settings_pending"]) == (mark(two), True)
        replica = eventually(deployed.running)
        told = deployed.client.get(f"{deployed.serve}/api/serve/applications/").json()
        [there] = told["applications"][NAME]["deployments"]["Host"]["replicas"]
        assert state["replica"] == there["replica_id"]
        for _ in range(20):
            assert deployed.ask() == ([2, 1], mark(one))
        gate.touch()
        eventually(lambda: deployed.ask() == ([3, 2], mark(two)))
        state = deployed.told()
        assert {"weights_loading", "weights_error", "settings_pending"}.isdisjoint(state)

        deployed.put(settings={"s": 3}, weights=bad, former_weights=two)
        error = eventually(lambda: deployed.told().get("weights_error"))
        assert (error["weights"], error["reason"]) == (mark(bad), "LoadFailed")
        assert "KeyError: 'add'" in error["message"]
        eventually(lambda: deployed.ask() == ([3, 3], mark(two)))
        assert [r.pid for r in application(deployed.dashboard, NAME).replicas] == [replica.pid]
    assert not load.failures

    dead = state["replica"]
    os.kill(replica.pid, signal.SIGKILL)  # the next one finds the bad ones, and the former
    eventually(lambda: deployed.told().get("replica", dead) != dead, 180)
    assert deployed.ask() == ([3, 3], mark(two))
    assert deployed.told()["weights_error"]["weights"] == mark(bad)
    deployed.put(settings={"s": 3}, weights=two, former_weights=one)
    eventually(lambda: "weights_error" not in deployed.told())


def test_a_release_that_starts_with_bad_weights_alone_says_that_they_took_part(deployed):
    bad = deployed.weights("3.0", {})
    deployed.put(settings={}, weights=bad)
    message = eventually(
        lambda: (
            (a := application(deployed.dashboard, NAME))
            and a.status.value == "DEPLOY_FAILED"
            and a.message
        ),
        180,
    )
    assert message.startswith(f"wheelway-failure[LoadFailed] with the weights {mark(bad)}: `load` ")


def test_a_daemon_without_its_journal_learns_from_what_serves(site):
    tuned = Tuned(site, "forgotten")
    tuned.publish()
    with site.daemon():
        one = tuned.weights("1.0")
        site.wait_for(tuned.route)
        tuned.wait_live_with(one)
        two = tuned.weights("2.0")
        tuned.wait_live_with(two)
        before = tuned.applications()
    shutil.rmtree(site.folder / "state")
    with load_on(site.ingress + tuned.route, 2, pause=0.02) as load, site.daemon():
        tuned.wait_live_with(two)
        site.passes()
        assert tuned.applications() == before
        assert site.sent() <= 1  # which weights were the former is not known any more
    assert not load.failures
