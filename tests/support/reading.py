"""Replicas of pipelines that read weights, and what they say of them."""

import json
import sys

from tests.support.asking import LOGGER, ROUTE
from tests.support.wheels import make_wheel, sha256, tree_of
from wheelway.replica import Arguments, Replica

READING = """
import json, threading
from wheelway import Pipeline

made, unloaded, gates = [], [], {}

class Demo(Pipeline):
    examples = (1,)

    def load(self, context):
        self.model = {"add": 0}
        if context.weights is not None:
            self.model = json.loads((context.weights / "model.json").read_text())
        if gate := self.model.get("gate"):
            assert gates.setdefault(gate, threading.Event()).wait(60)
        made.append(self)
        self.settings = dict(context.settings)

    def reconfigure(self, settings):
        if settings.get("bad"):
            raise ValueError("bad settings")
        self.settings = dict(settings)

    def infer(self, request: int | str) -> dict:
        if isinstance(request, str):
            assert gates.setdefault(request, threading.Event()).wait(60)
            request = 0
        return {"is": request + self.model["add"], **self.settings}

    def unload(self):
        unloaded.append(self.model["add"])
"""


def made(tmp_path, name, code=READING, replica="host#1", **options):
    tree, digest = tree_of(make_wheel(tmp_path, name, code=code))
    arguments = {
        "release": {"pipeline": name, "version": "1.0", "digest": "ab" * 32},
        "target": f"{name}.pipeline:Demo",
        "tree": str(tree),
        "record_digest": digest,
        "threads": 2,
    }
    made = Replica(Arguments.of(arguments | options), LOGGER, name=replica)
    return made, lambda: sys.modules[f"{name}.pipeline"]


def weights_of(tmp_path, version, model, project="demo-weights"):
    """A wheel of weights, unpacked, as a document names it."""
    package = project.replace("-", "_")
    wheel = make_wheel(
        tmp_path,
        project,
        version,
        files={f"{package}/model.json": json.dumps(model)},
        without=[f"{package}/pipeline.py"],
        entry_points=f"[wheelway.weights]\ndemo = {package}\n",
    )
    tree, record = tree_of(wheel)
    return {
        "project": project,
        "version": version,
        "digest": sha256(wheel),
        "tree": str(tree),
        "record_digest": record,
        "package": package,
    }


def mark(weights):
    return f"{weights['project']}@{weights['version']}+{weights['digest'][:8]}"


async def told(client):
    return (await client.get(ROUTE)).json()
