"""A pipeline that other weights are published for, and what its replicas say, in tests of `ray`.

Answers say which weights they came from. Weights say in `model.json` what becomes of them: `raise`
has `load` fail, `wrong` the examples; with `gate`, each `load` waits for a file in that folder,
which it takes away, and with `lottery` it fails where there is none; with `service` it fails while
that file is not there; `exit` ends the replica's process, `big` is how many MiB are held.
"""

from __future__ import annotations

import json
import time

from controller.journal import Journal
from tests.support.head import eventually
from tests.support.wheels import make_weights, sha256

CODE = """
import json, os, time
from pathlib import Path
from wheelway import Pipeline

def pass_through(gate):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for turn in gate.iterdir():
            try:
                turn.unlink()
            except FileNotFoundError:
                continue
            return
        time.sleep(0.02)

class Demo(Pipeline):
    examples = ({"n": 1},)

    def load(self, context):
        self.model = {}
        if context.weights is not None:
            self.model = json.loads((context.weights / "model.json").read_text())
        if "gate" in self.model:
            pass_through(Path(self.model["gate"]))
        if "lottery" in self.model:
            next(Path(self.model["lottery"]).iterdir()).unlink()
        if "service" in self.model and not Path(self.model["service"]).exists():
            raise TimeoutError("the feature store did not answer")
        if "exit" in self.model:
            os._exit(3)
        self.held = bytearray(self.model.get("big", 0) << 20)
        if "raise" in self.model:
            raise ValueError(self.model["raise"])

    def infer(self, request: dict[str, int]) -> dict[str, object]:
        if "wrong" in self.model:
            raise ValueError(self.model["wrong"])
        return {"n": request["n"], "model": self.model.get("name")}
"""
HEADER = "x-wheelway-weights"


class Tuned:
    """One pipeline, the weights that are published for it, and what its replicas say."""

    def __init__(self, site, name):
        self.site, self.name = site, name
        self.route = f"/predict/{name}/1.0"
        self.project = f"{name}-weights"

    def publish(self, wheelway_toml="", **more):
        """The pipeline itself."""
        self.site.drop(self.name, code=CODE, wheelway_toml=wheelway_toml, **more)

    def weights(self, version, model=None, **more):
        """Weights; returns their mark."""
        package = self.project.replace("-", "_")
        made = make_weights(
            self.site.folder / "made",
            self.project,
            version,
            pipelines={self.name: package},
            files={f"{package}/model.json": json.dumps({"name": version} | (model or {}))},
            **more,
        )
        mark = f"{self.project}@{version}+{sha256(made)[:8]}"
        made.replace(self.site.wheels / made.name)
        return mark

    def told(self):
        """The metadata of any replica; nothing while none answers."""
        answer = self.site.client.get(f"{self.site.ingress}{self.route}")
        return answer.json() if answer.is_success else {}

    def by_replica(self):
        """The weights of each replica that answers now."""
        said = [self.told() for _ in range(12)]
        return {one["replica"]: one.get("weights", "") for one in said if one}

    def answer(self):
        answer = self.site.ask(self.route, {"n": 1})
        return answer.json()["model"], answer.headers.get(HEADER, "")

    def live_with(self):
        """The weights that the journal has the release live with; empty when none."""
        with Journal.read(self.site.folder / "state") as journal:
            found = [p for r, p in journal.proven_weights().items() if r.pipeline == self.name]
        return found[0][0].weights.mark if found else ""

    def wait_live_with(self, mark, deadline=120):
        """Until it is live with these; every replica must answer with them by then."""
        eventually(lambda: self.live_with() == mark, deadline)

    def refused(self):
        """Every quarantine of weights for its release, by mark."""
        with Journal.read(self.site.folder / "state") as journal:
            refused = journal.refused_weights()
        return {
            one.weights.mark: one
            for release, found in refused.items()
            if release.pipeline == self.name
            for one in found
        }

    def wait_refused(self, mark):
        return eventually(lambda: self.refused().get(mark))

    def applications(self):
        """Names of its applications, and ids of their replicas."""
        return {
            app.name: {replica.id for replica in app.replicas}
            for app in self.site.dashboard.applications()
            if app.release is not None and app.release.pipeline == self.name
        }

    def configured(self):
        """Marks of the wanted and the former weights in the applied config."""
        [config] = [
            deployment["user_config"]
            for app in self.site.dashboard.applications()
            if app.release is not None and app.release.pipeline == self.name
            for deployment in app.document["deployments"]
            if deployment["name"] == "Host"
        ]
        said = [config.get("weights"), config.get("former_weights")]
        return [w and f"{w['project']}@{w['version']}+{w['digest'][:8]}" for w in said]


class Gate:
    """Lets as many through as turns were given."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def turn(self):
        (self.folder / str(time.monotonic_ns())).touch()
