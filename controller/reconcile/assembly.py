"""The one place where the daemon's parts are put together."""

from __future__ import annotations

import logging
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from controller.cache.environments.base import Base, detect
from controller.cache.environments.builder import Environments
from controller.cache.wheels import entry_points, filenames, inspection
from controller.cache.wheels.store import Store
from controller.errors import JournalError, Rejected
from controller.journal import Journal, boot_id, identity, steady_clock
from controller.model import Release
from controller.reconcile import survivors, upkeep
from controller.reconcile.artifacts import TIDY, Artifacts, Means
from controller.reconcile.jobs import Jobs
from controller.reconcile.parts import Parts
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.refusals import Refusals
from controller.reconcile.survivors import Survivors
from controller.serve.accepted import Accepted
from controller.serve.dashboard import Dashboard
from controller.serve.ingress import Ingress
from controller.serve.outline import Schema
from controller.serve.rendering import Renderer
from controller.sources import Source, index_access, open_index, open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from controller.config.settings import AnySource, Config, EnvironmentOptions, InspectionLimits
    from controller.journal import Reader
    from controller.model import Artifact, Listing, Revision
    from controller.planning.daemons import DaemonMark
    from controller.reconcile.report import Report
    from controller.sources.codeartifact import CodeArtifactIndex

log = logging.getLogger(__name__)

MEASURE = "measure"
"""The kind of the job that measures the cache."""
APART = frozenset({"list", upkeep.ROUND, upkeep.MENDING, TIDY, MEASURE})
"""Kinds of jobs that have a thread each: listings, upkeep, and what a full disk needs wait for no
build."""
PREVIEW_PASSES = 20
"""Most passes of a preview: more than the steps from an unknown wheel to its placement."""


@dataclass(slots=True)
class Assembly:
    """The parts of one configuration, running."""

    reconciler: Reconciler
    artifacts: Artifacts
    jobs: Jobs
    dashboard: Dashboard
    base: Base
    sources: tuple[Source, ...]
    parts: Parts
    """The parts by name, with all that they are made of."""

    def close(self, *, keep: Assembly | None = None) -> None:
        """End threads and connections, except those that another assembly goes on with. Running
        jobs are waited for; builds of environments are ended.
        """
        self.parts.close(keep=keep.parts if keep else None)


def assemble(
    config: Config,
    journal: Reader,
    *,
    wake: Callable[[], None],
    workers: int | None = None,
    schema: Schema | None = None,
    before: Assembly | None = None,
    another_head: bool = False,
) -> Assembly:
    """Put everything together for a configuration.

    Args:
        config: validated.
        journal: a `Journal` for passes that act, any `Reader` for those that do not.
        wake: called, from other threads, when there is something new for a pass.
        workers: threads for jobs; None for the configured number, 0 to do them in the pass.
        schema: Ray's; None to have it in this process.
        before: the parts for the configuration before, over the same journal. Those that this one
            does not change go on, with all that they know and wait for; close the rest (`keep=`
            these).
        another_head: Ray's head is another one than before: what is known of it is asked anew.

    Raises:
        Stalled: the cache, the interpreter, a source or a file named in the configuration cannot
            be used; the message says which and what to do. Those before go on as they were.
    """
    threads = config.rollout.workers if workers is None else workers
    with Parts(before.parts if before else None) as parts:
        clock = parts.made("clock", lambda one: steady_clock(one, boot_id()), journal)
        base = parts.made("interpreter", detect, config.ray.python, anew=another_head)
        jobs = parts.made("jobs", lambda: Jobs(threads, wake, apart=APART))
        means = _means(parts, config, base, clock)
        remembered = cache(lambda: journal.listings_of(origins(config)))
        sources = _sources(parts, config, base, remembered)
        refusals = parts.made("refusals", refusals_in, journal, base)
        artifacts = parts.made(
            "supply",
            lambda jobs: Artifacts(
                sources, jobs, means, remembered=remembered(), refusals=refusals
            ),
            jobs,
        )
        reconciler, dashboard = _reconciler(
            parts, config, journal, base, artifacts, clock, schema, anew=another_head
        )
    # Nothing can fail any more: those that go on are told what is another now.
    if before is not None:
        others = set(sources).difference(before.sources)
        listed = remembered() if others else {}
        artifacts.renew(sources, means, remembered=listed, refusals=refusals)
        jobs.share(threads)
        reconciler.renew(config)
    return Assembly(reconciler, artifacts, jobs, dashboard, base, sources, parts)


def _means(parts: Parts, config: Config, base: Base, clock: Callable[[], float]) -> Means:
    """The cache, and what is done with it."""
    paths, options = config.paths, config.environments
    store = parts.made("cache", Store, paths.cache)
    index = None
    if (access := index_access(config)) is not None:
        index = parts.made("package index", open_index, access, options.timeout)
    environments = parts.made("environments", _environments, paths.cache, base, options, index)
    is_sound, mend, running = parts.made("upkeep", _upkeep, store, environments)
    return Means(
        receive=parts.made("inspection", partial, _receive, store, base, config.inspection),
        prepare=environments.prepare,
        is_sound=is_sound,
        mend=mend,
        prune=parts.made("pruning", partial, _prune, store, environments, paths.retention, clock),
        has=partial(survivors.has, store),
        survivors=running,
    )


def _environments(
    root: Path, base: Base, options: EnvironmentOptions, index: CodeArtifactIndex | None
) -> Environments:
    return Environments(root, base, options, index=index)


def _upkeep(
    store: Store, environments: Environments
) -> tuple[Callable[[Artifact], bool], Callable[[Artifact, bool], bool], Survivors]:
    ready = store, environments
    running = Survivors(partial(survivors.renew, *ready))
    return partial(_is_sound, *ready), partial(_mend, *ready), running


def _sources(
    parts: Parts, config: Config, base: Base, remembered: Callable[[], Mapping[str, Listing]]
) -> tuple[Source, ...]:
    """Each of them is a part; `remembered` has what an earlier run listed."""

    def opened(options: AnySource, *_: object) -> Source:
        before = remembered().get(options.name)
        return open_source(options, tags=base.tags, python_version=base.version, before=before)

    found = []
    for one in config.sources:
        # A folder is listed as it is; of an index, what the interpreter can use.
        fit = () if one.type == "directory" else (base.tags, base.version)
        found.append(parts.made(f"source {one.name}", opened, one, *fit))
    return tuple(found)


def _reconciler(
    parts: Parts,
    config: Config,
    journal: Reader,
    base: Base,
    artifacts: Artifacts,
    clock: Callable[[], float],
    schema: Schema | None,
    *,
    anew: bool,
) -> tuple[Reconciler, Dashboard]:
    """What makes passes, and the clients of the cluster."""
    mark = parts.made(
        "mark", lambda one: identity(one.path.parent, make=isinstance(one, Journal)), journal
    )
    dashboard = parts.made("dashboard", Dashboard.connect, config.ray)
    ingress = parts.made("ingress", Ingress.connect, config.ray)
    renderer = parts.made("templates", _renderer, config.paths.templates, mark, schema)

    def made(*_: object) -> Reconciler:
        return Reconciler(
            config,
            artifacts=artifacts,
            dashboard=dashboard,
            ingress=ingress,
            renderer=renderer,
            journal=journal,
            tags=base.tags,
            fingerprint=base.fingerprint,
            clock=clock,
            mark=mark,
        )

    of = artifacts, dashboard, ingress, renderer, base, clock
    return parts.made("reconciler", made, *of, anew=anew), dashboard


def _renderer(templates: Path | None, mark: DaemonMark | None, schema: Schema | None) -> Renderer:
    return Renderer(templates, wheelway=version("wheelway"), mark=mark, schema=schema)


def origins(config: Config) -> dict[str, str]:
    """What each source is, by its name: its kind, and where it is."""
    return {source.name: f"{source.type} {source.where}" for source in config.sources}


def watch(assembly: Assembly, wake: Callable[[], None], *, before: Assembly | None = None) -> None:
    """Have the sources wake the daemon when something may have changed; those before do."""

    def request_poll(name: str) -> None:
        assembly.artifacts.request_poll(name)
        wake()

    for source in set(assembly.sources).difference(before.sources if before else ()):
        source.watch(partial(request_poll, source.name))


def preview(config: Config) -> Report:
    """What the next passes would do, without doing it: nothing is sent, nothing is recorded.

    Wheels are fetched and environments built into the cache as the daemon would, since only then
    it is known whether they can be.

    Raises:
        WheelwayError: something needed for a plan cannot be had.
    """
    with ExitStack() as stack:
        schema = Schema(kept=Accepted(config.paths.cache / "accepted.json"))
        records = _records(config, stack)
        # A preview makes its passes one after another, so nothing needs waking.
        assembly = assemble(config, records, wake=lambda: None, workers=0, schema=schema)
        stack.callback(assembly.close)
        stack.callback(schema.save)
        report = assembly.reconciler.run_pass(act=False)
        for _ in range(PREVIEW_PASSES):
            before = report.serve_config
            report = assembly.reconciler.run_pass(act=False)
            if report.plan is not None and report.serve_config == before:
                break
        return report


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
        by_bytes=" ".join(entry_points.GROUPS),
        by_name=base.fingerprint,
        carriers={
            record.subject.digest
            for record in journal.releases()
            if isinstance(record.subject, Release)
        },
    )


def _receive(
    store: Store, base: Base, limits: InspectionLimits, source: Source, revision: Revision
) -> Artifact:
    """Fetch a wheel, inspect and unpack it; what is in the store already is verified again. A
    refused wheel leaves the store, unless it was there before: accepted under other limits, or by
    an earlier wheelway, it may serve, and leaves with `prune` once it does not.
    """
    digest = revision.sha256
    filenames.check_name(revision, frozenset(base.tags))
    kept = store.get(digest)
    wheel = kept or store.add(revision, source.fetch(revision), limits)
    try:
        with store.unpacking(revision) as into:
            judged_by = limits, base.tags, base.version, store.tree_path(digest)
            artifact = inspection.inspect(wheel, revision, *judged_by, into)
            store.tree(artifact, into)
    except Rejected:
        store.verified(revision.filename, digest)  # else it is not this wheel that was refused
        if kept is None:
            store.drop_wheel(digest)
        raise
    return artifact


def _is_sound(store: Store, environments: Environments, artifact: Artifact) -> bool:
    """Whether a tree and its environment are as they were made, by a quick look. Weights have none
    of the latter.
    """
    sound = bool(artifact.weights) or environments.is_sound(artifact)
    return sound and store.is_untouched(artifact)


def _mend(store: Store, environments: Environments, artifact: Artifact, doubted: bool) -> bool:  # noqa: FBT001 - see Upkeep
    """Make again what is damaged of a tree and its environment; whether anything was."""
    whole = store.is_whole(artifact, afresh=doubted)
    if not whole:
        store.tree(artifact)
    sound = bool(artifact.weights) or environments.is_sound(artifact)
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
    # Ages count by whichever clock is behind: a step of the wall clock makes nothing old.
    before = min(time.time(), clock()) - retention
    freed = store.prune(wheels, before=before)
    removed = environments.prune(locks, before=before)
    environments.forget(wheels)
    if freed or removed:
        log.info("freed the cache of %d bytes and %d environments", freed, len(removed))
