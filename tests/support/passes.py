"""A reconciler over real parts, beside a paper head: the test makes its passes and its time.

Sources, store, environments, journal, templates and HTTP clients are the daemon's own. Jobs are
done within the pass that asks for them, so that each pass is the same in each run.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from controller.cache.environments.builder import Environments
from controller.cache.wheels.store import Store
from controller.config.settings import Config
from controller.journal import Journal, identity, steady_clock
from controller.model import Phase
from controller.reconcile import survivors
from controller.reconcile.artifacts import Artifacts, Means
from controller.reconcile.assembly import _is_sound, _mend, _prune, _receive, refusals_in
from controller.reconcile.jobs import Jobs
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.survivors import Survivors
from controller.serve.dashboard import Dashboard
from controller.serve.ingress import Ingress
from controller.serve.rendering import Renderer
from controller.sources import Source, open_source
from tests.support.wheels import make_weights, make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from controller.cache.environments.base import Base
    from controller.journal import ReleaseRecord
    from controller.model import Artifact, Revision
    from controller.reconcile.report import Report
    from controller.serve.outline import Schema
    from tests.support.paper_head import PaperHead

ON_THE_WAY = {Phase.STAGED, Phase.READY, Phase.RETIRING}
PATIENCE = 30.0
"""Seconds for an answer: a busy machine must not pass for a head that is silent."""


class Clock:
    """Time that passes when a test says so, of the wall or since a boot."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def reasons(report: Report) -> dict[str, str]:
    """By subject: why something stands in the way."""
    return {condition.subject: condition.reason for condition in report.conditions}


def routes(head: PaperHead) -> list[dict[str, str | None]]:
    """Every config that was sent, as names without their digests, and routes."""
    return [
        {name.rsplit("-", 1)[0]: route for name, route in config.items()} for config in head.sent()
    ]


def _rests(report: Report) -> bool:
    if report.plan is None or report.plan.changes:
        return False
    return not {transition.phase for transition in report.plan.transitions} & ON_THE_WAY


class Passes:
    """One folder of wheels, one journal, one reconciler; `close` it."""

    def __init__(
        self,
        folder: Path,
        head: PaperHead,
        base: Base,
        *,
        schema: Schema | None = None,
        **sections: object,
    ) -> None:
        self._schema = schema
        self.folder, self.head, self.base = folder, head, base
        self.wheels, self.state = folder / "wheels", folder / "state"
        self.wheels.mkdir()
        self.clock, self.monotonic, self.boot = Clock(), Clock(), "this boot"
        self.received: list[str] = []
        """The wheels that were fetched and inspected, each as often as it was."""
        self._open(sections)

    def _open(self, sections: dict[str, Any]) -> None:
        urls = {"dashboard_url": self.head.dashboard_url, "ingress_url": self.head.ingress_url}
        ray = {**urls, "timeout": PATIENCE, **sections.pop("ray", {})}
        paths = {"cache": self.folder / "cache", "state": self.state, **sections.pop("paths", {})}
        source = {"type": "directory", "name": "wheels", "path": self.wheels}
        self.config = Config(
            sources=[source | sections.pop("source", {})],
            ray=ray,
            environments={"offline": True, **sections.pop("environments", {})},
            paths=paths,
            **sections,
        )
        with ExitStack() as parts:
            self.journal = parts.enter_context(Journal.open(self.state, clock=self.clock))
            self.mark = identity(self.state, make=True, wall_clock=self.clock)
            self.artifacts = self._artifacts(parts)
            dashboard = Dashboard.connect(self.config.ray)
            ingress = Ingress(self.head.ingress_url, PATIENCE)
            self.reconciler = Reconciler(
                self.config,
                artifacts=self.artifacts,
                dashboard=dashboard,
                ingress=ingress,
                renderer=Renderer(self.config.paths.templates, mark=self.mark, schema=self._schema),
                journal=self.journal,
                tags=self.base.tags,
                fingerprint=self.base.fingerprint,
                clock=self._steady(),
                mark=self.mark,
                wall_clock=self.clock,
                jitter=lambda: 0.0,
            )
            for part in (dashboard, ingress, self.reconciler):
                parts.callback(part.close)
            self._parts = parts.pop_all()

    def _steady(self) -> Callable[[], float]:
        clocks = {"wall_clock": self.clock, "monotonic": self.monotonic}
        return steady_clock(self.journal, self.boot, **clocks)

    def _artifacts(self, parts: ExitStack) -> Artifacts:
        store = Store(self.config.paths.cache)
        environments = Environments(self.config.paths.cache, self.base, self.config.environments)
        parts.callback(environments.close)
        remembered = self.journal.listings()
        options = self.config.sources[0]
        source = open_source(
            options,
            tags=self.base.tags,
            python_version=self.base.version,
            before=remembered.get(options.name),
        )
        parts.callback(source.close)
        return Artifacts(
            [source],
            Jobs(0, lambda: None, clock=self.monotonic, jitter=lambda: 0.0),
            Means(
                receive=partial(self._receive, store),
                prepare=environments.prepare,
                is_sound=partial(_is_sound, store, environments),
                mend=partial(_mend, store, environments),
                prune=partial(_prune, store, environments, 60.0, time.time),
                has=partial(survivors.has, store),
                survivors=Survivors(partial(survivors.renew, store, environments)),
            ),
            remembered=remembered,
            refusals=refusals_in(self.journal, self.base),
            clock=self.monotonic,
            wall_clock=self.clock,
        )

    def _receive(self, store: Store, source: Source, revision: Revision) -> Artifact:
        self.received.append(revision.filename)
        return _receive(store, self.base, self.config.inspection, source, revision)

    def close(self) -> None:
        self._parts.close()

    def restart(self, state: Path | None = None, **sections: object) -> None:
        """Another process takes over, with other options perhaps: from this journal, or from a copy
        of it, as it was at another moment.
        """
        self.close()
        if state is not None:
            shutil.rmtree(self.state)
            if state.exists():
                shutil.copytree(state, self.state)
        self._open(sections)

    # -- what a person does ----------------------------------------------------------------------

    def drop(self, name: str = "demo", version: str = "1.0", **how: object) -> Path:
        """Publish a wheel; the watched folder says so."""
        return self._publish(make_wheel(self.folder / "made", name, version, **how))

    def drop_weights(self, version: str = "2026.1", name: str = "demo-weights", **how: Any) -> Path:
        """Publish weights for `demo`; `fits` says which versions of it can take them."""
        package = name.replace("-", "_")
        files = {f"{package}/model.bin": how.pop("content", version)}
        if fits := how.pop("fits", ""):
            files[f"{package}/wheelway.toml"] = f"fits = '{fits}'"
        how = {"pipelines": {"demo": package}, "files": files, **how}
        return self._publish(make_weights(self.folder / "made", name, version, **how))

    def _publish(self, made: Path) -> Path:
        target = self.wheels / made.name
        os.replace(made, target)  # noqa: PTH105 - the same call publishers make
        self.artifacts.request_poll("wheels")
        return target

    def remove(self, wheel: Path) -> None:
        """Take a wheel out of the folder."""
        wheel.unlink()
        self.artifacts.request_poll("wheels")

    # -- passes ----------------------------------------------------------------------------------

    def pass_(self, *, after: float = 0.0, act: bool = True) -> Report:
        """One pass, some seconds after the one before."""
        self.time_passes(after)
        return self.reconciler.run_pass(act=act)

    def time_passes(self, seconds: float) -> None:
        """On both clocks; to turn one of them is to change its `now`."""
        self.clock.now += seconds
        self.monotonic.now += seconds

    def settle(self, passes: int = 40) -> Report:
        """Passes, each when the one before says so, until nothing is on its way for two of them."""
        quiet, report = 0, self.pass_()
        for _ in range(passes):
            quiet = quiet + 1 if _rests(report) else 0
            if quiet == 2:
                return report
            report = self.pass_(after=report.next_in)
        raise AssertionError(f"not settled after {passes} passes: {report.sentence}")

    # -- what the journal says -------------------------------------------------------------------

    def records(self) -> dict[str, ReleaseRecord]:
        """By `pipeline-version`."""
        found = self.journal.releases()
        return {f"{item.subject.name}-{item.subject.version}": item for item in found}

    def phases(self) -> dict[str, Phase]:
        return {name: record.phase for name, record in self.records().items()}

    def outcomes(self) -> list[str]:
        """What became of each config that was sent."""
        return [config.outcome for config in self.journal.configs()]

    def story(self) -> tuple[object, ...]:
        """Everything the journal holds that a pass might add to."""
        journal = self.journal
        told = journal.events(limit=1000), journal.conditions(), journal.configs()
        found = journal.releases(), journal.placements(), journal.quarantines(), journal.listings()
        weights = journal.proven_weights(), journal.refused_weights(), journal.judged_weights()
        return *told, *found, *weights
