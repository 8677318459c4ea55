"""Releases, and their weights, whose wheel was not received in this run: it is listed nowhere, or
refused now.

Their files are checked and made again as all others are. The application itself says what they must
be, and the cache has what they are made of.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

from controller.errors import Transient, Waiting, WheelwayError
from controller.model import Artifact, WeightsEntry
from controller.planning.weights import Weights, weights_named
from controller.reconcile.upkeep import keep_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet

    from controller.cache.environments.builder import Environments
    from controller.cache.wheels.store import Store
    from controller.model import Release
    from controller.observed import Application

log = logging.getLogger(__name__)


class Survivors:
    """Releases that run, and weights that they have or fall back to, whose wheels were not
    received, by digest.

    `renew` makes again what is damaged of an application's tree and environment, or of the tree of
    weights; told whether there is a reason for doubt. It returns the artifact (None when the files
    are not in this cache) and whether anything was damaged, and raises WheelwayError.
    """

    def __init__(
        self, renew: Callable[[Application | Weights, bool], tuple[Artifact | None, bool]]
    ) -> None:
        self._renew = renew
        self._running: dict[str, Application | Weights] = {}
        self._artifacts: dict[str, Artifact] = {}

    def see(self, applications: Iterable[Application], received: AbstractSet[str]) -> set[str]:
        """Take in what runs now. Returns the digests of releases whose wheel was not received."""
        running: dict[str, Application | Weights] = {}
        for app in applications:
            if app.release is not None:
                running[app.release.digest] = app
                running |= {one.digest: one for one in weights_named(app.document)}
        self._running = {digest: running[digest] for digest in running.keys() - received}
        keep_only(self._running.keys(), self._artifacts)
        return set(self._running)

    def artifact(self, digest: str) -> Artifact | None:
        """The artifact that its files must be; None before `mend` looked at them."""
        return self._artifacts.get(digest)

    def release(self, digest: str) -> str:
        """A running release of these bytes, for a person; empty when there is none."""
        found = self._running.get(digest)
        return "" if found is None else _named(found)

    def mend(self, digest: str, doubted: bool) -> bool:  # noqa: FBT001 - see Upkeep
        """Make its files again where they are damaged; whether any were.

        Raises:
            WheelwayError: `FilesLost` when nothing is left to make them of.
        """
        if (app := self._running.get(digest)) is None:  # gone meanwhile
            return False
        artifact, mended = self._renew(app, doubted)
        if artifact is not None:
            self._artifacts[digest] = artifact
        if mended:
            log.warning(
                "the files of %s in the cache, or its environment, had been altered or removed; "
                "they were made again, though no source offers it: find out who writes there",
                _named(app),
            )
        return mended


def _named(survivor: Application | Weights) -> str:
    return str(survivor) if isinstance(survivor, Weights) else str(survivor.release)


def renew(
    store: Store,
    environments: Environments,
    app: Application | Weights,
    doubted: bool,  # noqa: FBT001 - see Upkeep
) -> tuple[Artifact | None, bool]:
    """Make again what is damaged of an application's tree and environment, or of the tree of
    weights: see `Survivors`.
    """
    if isinstance(app, Weights):
        return _renew_weights(store, app, doubted=doubted)
    release, arguments = app.release, (app.document or {}).get("args") or {}
    if release is None or arguments.get("tree") != str(store.tree_path(release.digest)):
        return None, False  # of another cache
    artifact = _recalled(store, release, str(arguments.get("record_digest")))
    lock = str(arguments.get("environment"))
    environments.recall(artifact, lock)
    whole = _is_made_whole(store, artifact, str(release), doubted=doubted)
    sound = environments.is_sound(artifact)
    if not sound and environments.renew(artifact).lock_digest != lock:
        environments.recall(artifact, lock)
        raise _lost(str(release), "its environment would not be the one that its replicas start in")
    return artifact, not (whole and sound)


def _renew_weights(
    store: Store, weights: Weights, *, doubted: bool
) -> tuple[Artifact | None, bool]:
    if weights.tree != str(store.tree_path(weights.digest)):
        return None, False  # of another cache
    entry = WeightsEntry("", weights.package)
    artifact = replace(_recalled(store, weights, weights.record_digest), weights=(entry,))
    return artifact, not _is_made_whole(store, artifact, str(weights), doubted=doubted)


def has(store: Store, weights: Weights) -> bool:
    """Whether the files of weights are where they are said to be, or can be made again there."""
    tree = Path(weights.tree)
    if tree.is_dir() or tree != store.tree_path(weights.digest):
        return tree.is_dir()
    try:
        return store.get(weights.digest) is not None
    except WheelwayError:
        return True  # nothing can be read, which `upkeep` tells: nobody knows


def _is_made_whole(store: Store, artifact: Artifact, name: str, *, doubted: bool) -> bool:
    """Whether a tree was whole; it is now."""
    if store.is_whole(artifact, afresh=doubted):
        return True
    try:
        store.tree(artifact)
    except Transient as error:
        if error.reason != "WheelMissing":
            raise
        raise _lost(name, "its wheel is not in the cache") from error
    return False


def _recalled(store: Store, of: Release | Weights, record_digest: str) -> Artifact:
    """The artifact of what runs, by its verified wheel, or else by its tree."""
    digest, version = of.digest, of.version
    tree, wheel = store.tree_path(digest), store.get(digest)
    project, requires = _metadata(wheel or tree)
    return Artifact(
        digest=digest,
        project=project,
        version=version,
        filename=wheel.name if wheel else f"{project}-{version}.whl",
        size=wheel.stat().st_size if wheel else 0,
        wheel=wheel or tree,
        tree=tree,
        record_digest=record_digest,
        requires=requires,
        pipelines=(),
    )


def _metadata(folder: Path) -> tuple[str, tuple[str, ...]]:
    """Project and `Requires-Dist` of a wheel or a tree; empty when it is damaged. A tree's
    requirements count only once it was found whole.
    """
    try:
        for distribution in distributions(path=[str(folder)]):
            return distribution.metadata["Name"] or "", tuple(distribution.requires or ())
    except (OSError, ValueError):
        pass
    return "", ()


def _lost(name: str, why: str) -> Waiting:
    return Waiting(
        "FilesLost",
        f"the files that replicas of {name} start from are damaged or gone and cannot be "
        f"made again: no source offers it, and {why}. Those that run go on, no other can start: "
        "publish the same wheel again or a newer version; if it is refused, `wheelway explain` "
        "says why",
    )
