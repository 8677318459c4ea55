"""A small daemon's life with something of everything that there is to tell of, for golden files.

Made by the daemon's own parts beside a paper head. Its times are the same in each run; what is not
(hashes of applications, ports, folders) stands in `Scene.names` with what to write in its place.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from controller.api import Api, ApiContext
from controller.daemon.passes import Passes as Told
from controller.journal import DaemonStatus, Journal
from controller.model import Condition, Event
from controller.ops import orders
from tests.support.indexes import free_port
from tests.support.passes import Passes
from tests.support.wheels import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from controller.cache.environments.base import Base
    from controller.config.settings import Config
    from controller.reconcile.reconciler import Report
    from tests.support.paper_head import PaperHead

POLICY = (
    {"name": "birch", "active": False},
    {"name": "iris", "versions": ">=1,<3", "keep": 2, "settings": {"threshold": 0.7}},
    {"name": "lily", "options": {"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.5}}},
)
FAILURE = """\
Traceback (most recent call last):
  File "pipeline.py", line 9, in load
    raise ValueError("no model.bin")
ValueError: no model.bin
wheelway-failure[LoadFailed] ValueError: no model.bin
"""
HAPROXY_OFF = Condition("ray", "HAProxyOff", "set RAY_SERVE_ENABLE_HA_PROXY=1 for Ray's head")
MARK = {"id": "0a1b2c3d", "since": 1_000_000.0, "host": "ray-head-1", "user": "wheelway"}
STEP = 10.0
"""Seconds between two things that happen."""


@dataclass(frozen=True)
class Served:
    """The API of a scene: the command's configuration, the control socket, the loopback port."""

    config: Path
    socket: Path
    port: int
    told: Told


@dataclass
class Scene:
    """What came of it. The journal is closed: it is read and written to in copies."""

    folder: Path
    config: Config
    now: float
    reports: list[Report]
    events: list[Event]
    puts: list[dict]
    names: dict[str, str] = field(default_factory=dict)
    """What differs from run to run, and what stands for it."""

    @contextmanager
    def serving(
        self, metrics: Callable[[], bytes] = bytes, *, ended: bool = True
    ) -> Iterator[Served]:
        """The control API over a copy of the journal; each wake-up is a pass that finds what the
        last one found, and one has `ended` already.
        """
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(self.folder / "state", folder / "state")
        port = free_port()
        self.names |= {str(folder): "<folder>", f"127.0.0.1:{port}": "127.0.0.1:<port>"}
        file = folder / "controller.toml"
        file.write_text(
            f'[api]\nlisten = "127.0.0.1:{port}"\n[paths]\nstate = "state"\n'
            f'[ray]\ndashboard_url = "{self.config.ray.dashboard_url}"\n'
        )

        def wake() -> None:
            told.wanted()
            told.reloaded(told.reloads(), None)
            told.ended(41, self.reports[-1], complete=True)

        told = Told(wake, lambda: 60.0, reload=wake, clock=lambda: self.now)
        if ended:
            told.ended(40, self.reports[-1], complete=True)
        options = self.config.api.model_copy(update={"listen": f"127.0.0.1:{port}"})
        with Journal.read(folder / "state") as reader, Journal.amend(folder / "state") as writer:
            now = self.now + 2
            inside = ApiContext(
                reader, writer, told, lambda: self.config, metrics, clock=lambda: now
            )
            api = Api(inside, state=folder / "state")
            try:
                assert api.apply(options) == ()
                yield Served(file, options.path(folder / "state"), port, told)
            finally:
                told.over()
                api.close()
                shutil.rmtree(folder)


def play(folder: Path, head: PaperHead, base: Base) -> Scene:
    """The life of one daemon, as far as there is something to see: what of it is live, on its way,
    waiting, in conflict, pinned, suspended, failed, left out, refused and gone.
    """
    state = folder / "state"
    state.mkdir()
    (state / "daemon.json").write_text(json.dumps(MARK))
    passes = Passes(folder, head, base, pipelines=POLICY, rollout={"max_staging": 2})
    reports: list[Report] = []

    def goes_on(number: int = 8) -> None:
        reports.extend(passes.pass_(after=STEP) for _ in range(number))

    def drop(name: str, number: str = "1.0", **how: object) -> None:
        passes.drop(name, number, compression=zipfile.ZIP_STORED, **how)

    def weights(number: str) -> None:
        how = {"pipelines": {"lily": "lily_weights"}, "compression": zipfile.ZIP_STORED}
        passes.drop_weights(number, "lily-weights", **how)

    try:
        passes.reconciler.notes = (HAPROXY_OFF,)
        head.runs("theirs", "/predict/moss/1.0")
        for name in ("iris", "rose", "ivy"):
            drop(name)
        drop("lily", wheelway_toml="[settings]\nlimit = 3\n", pipelines=_TWO)
        goes_on(12)
        passes.reconciler.notes = ()
        orders.pin(passes.journal, "rose", [Version("1.0")], by="alice", at=passes.clock.now)
        orders.suspend(passes.journal, "ivy", by="bob", at=passes.clock.now, note="see 42")
        head.failing = {"fern": FAILURE}
        for name, number in _SECOND:
            drop(name, number)
        goes_on(10)
        drop("iris", "1.2")
        drop("oak", wrong_hash=["oak/pipeline.py"])
        drop("elm", pipelines={})
        (passes.wheels / "Bad Name.whl").write_text("not a wheel")
        passes.artifacts.request_poll("wheels")
        goes_on(12)
        head.starting = 1000
        for name in ("aster", "balsam", "cedar"):
            drop(name)
        goes_on(5)
        head.refused_weights = {"2026.11.28": WEIGHTS_FAILURE}
        for number in ("2026.11.26", "2026.11.27", "2026.11.28"):
            weights(number)
            goes_on(5)
        last = reports[-1]
        passes.journal.set_status(
            DaemonStatus(40, passes.clock.now, last.sentence, 0.25, 1, "0.1.0", 1_000_000.0)
        )
        scene = Scene(
            folder,
            passes.config,
            passes.clock.now,
            reports,
            [event for _, event in passes.journal.events_after(0, limit=10_000)],
            head.puts,
        )
        scene.names = _names(scene, passes)
    finally:
        passes.close()
    return scene


WEIGHTS_FAILURE = {"reason": "LoadFailed", "message": "load() raised ValueError: 3 classes, not 4"}
_TWO = {"lily": "lily.pipeline:Lily", "lotus": "lily.pipeline:Lotus"}
_SECOND = (
    *(("iris", "1.1"), ("iris", "3.0"), ("iris", "2.0rc1"), ("rose", "2.0"), ("ivy", "2.0")),
    *(("fern", "1.0"), ("moss", "1.0"), ("birch", "1.0")),
)


def _names(scene: Scene, passes: Passes) -> dict[str, str]:
    """By what differs from run to run: what stands for it."""
    head = passes.head
    found = {
        str(scene.folder): "<folder>",
        head.dashboard_url: "http://127.0.0.1:<ray>",
        f"port: {head.ports.ingress}": "port: <ray>",
        f'"port": {head.ports.ingress}': '"port": "<ray>"',
        f"wheelway: {version('wheelway')}": "wheelway: <version>",
        f'"wheelway": "{version("wheelway")}"': '"wheelway": "<version>"',
    }
    for wheel in scene.folder.glob("wheels/*-*.whl"):
        label = "-".join(wheel.name.split("-")[:2])
        digest = sha256(wheel)
        found[f"trees/{digest[:2]}/{digest}"] = f"trees/../<sha256 of {label}>"
        found |= {digest: f"<sha256 of {label}>", digest[:8]: f"<sha8 of {label}>"}
    for number, config in enumerate(reversed(passes.journal.configs(1000)), 1):
        found |= {config.digest: f"<sha256 of config {number}>"}
        found |= {config.digest[:8]: f"<sha8 of config {number}>"}
    found |= {failed.inputs: "<inputs>" for failed in passes.journal.quarantines()}
    for record in passes.journal.releases():
        if name := record.placement:
            found[name] = f"{name[:-8]}<app8>"
    return found
