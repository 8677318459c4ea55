"""The one place where the daemon's parts are put together."""

from __future__ import annotations

import logging
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from controller import survivors
from controller.cache import entry_points, filenames, inspection
from controller.cache.base import Base, detect
from controller.cache.environments import Environments
from controller.cache.store import Store
from controller.errors import JournalError, Rejected
from controller.jobs import Jobs
from controller.journal import Journal, boot_id, identity, steady_clock
from controller.reconciler import Reconciler
from controller.refusals import Refusals
from controller.serve.accepted import Accepted
from controller.serve.dashboard import Dashboard
from controller.serve.ingress import Ingress
from controller.serve.rendering import Renderer
from controller.sources import Source, open_index, open_source
from controller.supply import Supply
from controller.survivors import Survivors

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from controller.config import Config, InspectionLimits
    from controller.journal import Reader
    from controller.model import Artifact, Revision
    from controller.report import Report

log = logging.getLogger(__name__)

PREVIEW_PASSES = 20
"""More than the steps from an unknown wheel to its placement."""


@dataclass(slots=True)
class Assembly:
    """The parts of one configuration, running."""

    reconciler: Reconciler
    supply: Supply
    jobs: Jobs
    dashboard: Dashboard
    base: Base
    _cluster: ExitStack
    """What ends with the reconciler."""
    _stock: ExitStack
    """What ends with the supply."""

    def close(self, *, keep: Assembly | None = None) -> None:
        """End threads and connections, but for those that another one goes on with. Jobs that run
        are waited for; building environments end.
        """
        if keep is None or keep.reconciler is not self.reconciler:
            self._cluster.close()
        if keep is None or keep.supply is not self.supply:
            self._stock.close()


def assemble(
    config: Config,
    journal: Reader,
    *,
    wake: Callable[[], None],
    workers: int | None = None,
    accepted: Accepted | None = None,
) -> Assembly:
    """Build everything for a configuration.

    Args:
        config: validated.
        journal: open; a `Journal` for passes that act, any `Reader` for those that do not.
        wake: called, from other threads, when there is something new to look at.
        workers: threads for jobs; None for the configured number, 0 to do them in the pass.
        accepted: what Ray's schema need not be asked again; for passes that do not act.

    Raises:
        Stalled: the cache, the interpreter, a source or a file named in the configuration cannot
            be used; the message says which and what to do.
    """
    with ExitStack() as undo:
        stock, base, jobs, supply = _stocked(config, journal, wake, workers)
        undo.callback(stock.close)
        cluster, dashboard, reconciler = _connected(config, journal, base, supply, accepted)
        undo.pop_all()
    return Assembly(reconciler, supply, jobs, dashboard, base, cluster, stock)


def renewed(
    before: Assembly, config: Config, journal: Reader, *, wake: Callable[[], None]
) -> Assembly:
    """The parts for an edited configuration: those whose sections did not change go on, with all
    that they know and wait for. Close the former ones (`keep=` these).

    Raises:
        Stalled: as `assemble`; then those before go on as they were.
    """
    was = before.reconciler.config
    if _of_the_stock(config) != _of_the_stock(was):
        return assemble(config, journal, wake=wake)
    if _of_the_cluster(config) == _of_the_cluster(was):
        before.reconciler.renew(config)
        return before
    cluster, dashboard, reconciler = _connected(config, journal, before.base, before.supply)
    return replace(before, reconciler=reconciler, dashboard=dashboard, _cluster=cluster)


def _of_the_stock(config: Config) -> object:
    """What sources, cache, jobs and Ray's interpreter are made of."""
    paths, ray = config.paths, config.ray
    return (
        *(config.sources, config.inspection, config.environments, config.rollout.workers),
        *(paths.cache, paths.state, paths.retention, ray.python),
    )


def _of_the_cluster(config: Config) -> object:
    """What the clients and the templates are made of."""
    return config.ray, config.paths.templates


def _stocked(
    config: Config, journal: Reader, wake: Callable[[], None], workers: int | None
) -> tuple[ExitStack, Base, Jobs, Supply]:
    """The sources and all that makes their wheels ready."""
    clock = steady_clock(journal, boot_id())
    with ExitStack() as resources:
        base = detect(config.ray.python)
        store = Store(config.paths.cache)
        index = open_index(config)
        if index is not None:
            resources.callback(index.close)
        environments = Environments(config.paths.cache, base, config.environments, index=index)
        # Each source has a thread for its listings: none waits for builds, nor for another source.
        jobs = Jobs(
            config.rollout.workers if workers is None else workers,
            wake,
            apart={"list": len(config.sources)},
        )
        resources.callback(jobs.close)
        resources.callback(environments.close)  # before: a job that builds one ends soon
        remembered = journal.listings_of(origins(config))
        sources = [
            open_source(
                options,
                tags=base.tags,
                python_version=base.version,
                before=remembered.get(options.name),
            )
            for options in config.sources
        ]
        for source in sources:
            resources.callback(source.close)
        supply = Supply(
            sources,
            jobs,
            receive=partial(_receive, store, base, config.inspection),
            prepare=environments.prepare,
            is_sound=partial(_is_sound, store, environments),
            renew=partial(_renew, store, environments),
            prune=partial(_prune, store, environments, config.paths.retention, clock),
            remembered=remembered,
            refusals=refusals_in(journal, base),
            survivors=Survivors(partial(survivors.renew, store, environments)),
        )
        return resources.pop_all(), base, jobs, supply


def _connected(
    config: Config, journal: Reader, base: Base, supply: Supply, accepted: Accepted | None = None
) -> tuple[ExitStack, Dashboard, Reconciler]:
    """The clients of the cluster, and what makes passes with them."""
    mark = identity(journal.path.parent, make=isinstance(journal, Journal))
    with ExitStack() as resources:
        dashboard = Dashboard.connect(config.ray)
        resources.callback(dashboard.close)
        ingress = Ingress.connect(config.ray)
        resources.callback(ingress.close)
        reconciler = Reconciler(
            config,
            supply=supply,
            dashboard=dashboard,
            ingress=ingress,
            renderer=Renderer(
                config.paths.templates, wheelway=version("wheelway"), mark=mark, accepted=accepted
            ),
            journal=journal,
            tags=base.tags,
            fingerprint=base.fingerprint,
            clock=steady_clock(journal, boot_id()),
            mark=mark,
        )
        resources.callback(reconciler.close)
        return resources.pop_all(), dashboard, reconciler


def origins(config: Config) -> dict[str, str]:
    """What each source is, by its name: its kind, and where it is."""
    return {source.name: f"{source.type} {source.where}" for source in config.sources}


def watch(assembly: Assembly, wake: Callable[[], None]) -> None:
    """Have the sources wake the daemon when something may have changed."""

    def look_again(name: str) -> None:
        assembly.supply.look_again(name)
        wake()

    for source in assembly.supply.sources.values():
        source.watch(partial(look_again, source.name))


def preview(config: Config) -> Report:
    """What the next passes would do, without doing it: nothing is sent, nothing is recorded.

    Wheels are fetched and environments built into the cache as the daemon would, since only then
    it is known whether they can be.

    Raises:
        WheelwayError: something needed for a plan cannot be had.
    """
    with ExitStack() as stack:
        accepted = Accepted(config.paths.cache / "accepted.json")
        records = _records(config, stack)
        assembly = assemble(config, records, wake=_nobody, workers=0, accepted=accepted)
        stack.callback(assembly.close)
        stack.callback(accepted.save)
        report = assembly.reconciler.run_pass(act=False)
        for _ in range(PREVIEW_PASSES):
            before = report.config
            report = assembly.reconciler.run_pass(act=False)
            if report.plan is not None and report.config == before:
                break
        return report


def _nobody() -> None:
    """Wakes nobody: a preview makes its passes one after another."""


def _records(config: Config, stack: ExitStack) -> Reader:
    """The daemon's journal; an empty one where no daemon has run yet."""
    try:
        return stack.enter_context(Journal.read(config.paths.state))
    except JournalError as error:
        if error.reason != "JournalMissing":
            raise
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="wheelway-preview-"))
        Journal.open(Path(folder)).close()
        # Only read: what previews must say the same whenever it is asked, of no daemon.
        return stack.enter_context(Journal.read(Path(folder)))


def refusals_in(journal: Reader, base: Base) -> Refusals:
    """What the journal remembers of wheels that no release comes of, and of the others."""
    return Refusals(
        journal.refused_wheels(),
        by_bytes=entry_points.GROUP,
        by_name=base.fingerprint,
        carriers={record.release.digest for record in journal.releases()},
    )


def _receive(
    store: Store, base: Base, limits: InspectionLimits, source: Source, revision: Revision
) -> Artifact:
    """Fetch a wheel, inspect it, unpack it: what is in the store already is verified again. What is
    refused does not stay there, unless it was there before: it may serve, accepted under other
    limits or by an earlier wheelway, and leaves with `prune` once it does not.
    """
    digest = revision.sha256
    filenames.check_name(revision, frozenset(base.tags))
    kept = store.get(digest)
    wheel = kept or store.add(revision, source.fetch(revision), limits)
    try:
        found = inspection.inspect(wheel, revision, limits, base.tags, base.version)
    except Rejected:
        if kept is None:
            store.drop_wheel(digest)
        raise
    artifact = found.artifact(revision, wheel, store.tree_path(digest))
    store.tree(artifact)
    return artifact


def _is_sound(store: Store, environments: Environments, artifact: Artifact) -> bool:
    """Whether a tree and its environment are as they were made, by a quick look."""
    return store.is_untouched(artifact) and environments.is_sound(artifact)


def _renew(store: Store, environments: Environments, artifact: Artifact, doubted: bool) -> bool:  # noqa: FBT001 - see Supply
    """Make again what is damaged of a tree and its environment; whether anything was."""
    whole = store.is_whole(artifact, afresh=doubted)
    if not whole:
        store.tree(artifact)
    sound = environments.is_sound(artifact)
    if not sound:
        environments.renew(artifact)
    return not (whole and sound)


def _prune(
    store: Store,
    environments: Environments,
    retention: float,
    clock: Callable[[], float],
    wheels: AbstractSet[str],
    locks: AbstractSet[str],
) -> None:
    """Free the cache of what was not needed for a while."""
    # Whichever clock is behind: a step of the wall clock makes nothing old.
    before = min(time.time(), clock()) - retention
    freed = store.prune(wheels, before=before)
    removed = environments.prune(locks, before=before)
    environments.forget(wheels)
    if freed or removed:
        log.info("freed the cache of %d bytes and %d environments", freed, len(removed))
