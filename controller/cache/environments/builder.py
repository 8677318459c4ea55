"""Environments: what an artifact requires, installed where its replicas find it.

    <cache>/locks/<artifact digest>-<8 of the base's fingerprint>.txt   resolved once, then kept
    <cache>/environments/<lock digest>/             shared by equal locks; see `overlay`
    <cache>/environments/.<owner>/                  what is being built; see `owners`
    <cache>/base/<16 of the base's fingerprint>/    stand-ins, see `resolution`
    <cache>/uv/                                     uv's cache, which environments are linked from

Everything is built in a folder of its own and then renamed; a kill at any instant leaves only what
the next opening sweeps. `resolution` decides which versions, `uv` brings their bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from controller.cache import files, owners
from controller.cache.environments import overlay
from controller.cache.environments.resolution import (
    read_lock,
    requirements_of,
    resolve,
    unsolved,
    write_stand_ins,
)
from controller.cache.environments.uv import NoSolution, Uv, find
from controller.errors import Transient, Waiting
from controller.model import Environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from packaging.requirements import Requirement

    from controller.cache.environments.base import Base
    from controller.cache.environments.resolution import Lock
    from controller.cache.environments.uv import Index
    from controller.config.settings import EnvironmentOptions
    from controller.model import Artifact

BASE_ALONE = Environment("", None)
"""For an artifact whose requirements the base satisfies."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Environments:
    """The environments under one cache folder, for one base and one set of options.

    Methods may be called from several threads at once, and several processes may share the folder.

    Args:
        root: the cache folder.
        base: what Ray's interpreter has.
        options: where wheels come from and how long it may take.
        environ: the variables that uv gets; default: the daemon's.
        clock: monotonic seconds.
        index: where requirements come from, instead of what `options` or uv's configuration say.

    Raises on opening:
        Stalled: `CacheUnusable`, `UvMissing`.
    """

    def __init__(
        self,
        root: Path,
        base: Base,
        options: EnvironmentOptions,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        index: Index | None = None,
    ) -> None:
        self._root = root.absolute()
        self._folder = self._root / "environments"
        self._base = base
        self._options = options
        self._clock = clock
        self._uv = Uv(
            binary=find(),
            options=options,
            cache=self._root / "uv",
            environ=os.environ if environ is None else environ,
            clock=clock,
            index=index,
        )
        self._turns: weakref.WeakValueDictionary[str, threading.Lock] = (
            weakref.WeakValueDictionary()
        )
        """A lock is there as long as somebody has it or waits for it."""
        self._turns_lock = threading.Lock()
        self._prepared: dict[str, Environment] = {}  # by artifact digest
        self._sound: set[str] = set()  # lock digests whose files were checked in this process
        with files.opening(self._root):
            self._make_folders()
            self._own = owners.Own(self._folder, ".")

    def prepare(self, artifact: Artifact) -> Environment:
        """Install what the artifact requires, unless that is already done.

        The same artifact on the same base gets the same environment, always. Returns at once when
        it was prepared before; without network when its lock is kept and uv's cache has its wheels.

        Raises:
            Rejected: `RequirementsUnsatisfiable`, `RequirementNotFromIndex`, `RequirementInvalid`,
                `HashMismatch`, `EnvironmentUnusable`.
            Waiting: `DiskFull`, `RequirementMissingOffline`.
            Stalled: `IndexUnauthorized`, `FindLinksMissing`, `RayMissing`, `WheelwayMissing`,
                `UvMissing`.
            Transient: `IndexUnreachable`, `EnvironmentTimeout`, `EnvironmentInterrupted`,
                `UvInterrupted`, `UvFailed`, `CacheUnusable`.
        """
        if (known := self._prepared.get(artifact.digest)) == BASE_ALONE:
            return known
        requirements = requirements_of(artifact, self._base)
        environment = BASE_ALONE
        if self._base.first_unmet(requirements) is not None:
            environment = self._prepare(artifact, requirements)
        self._prepared[artifact.digest] = environment
        return environment

    def is_sound(self, artifact: Artifact) -> bool:
        """Whether the environment of a prepared artifact is there, with files as long as they were
        installed. Whoever asks is about to use it: see `prune`.
        """
        known = self._prepared.get(artifact.digest)
        if known is None or known == BASE_ALONE:
            return True
        path = self._path(known.lock_digest)
        with contextlib.suppress(OSError):
            os.utime(path)
        return overlay.is_usable(path) and overlay.is_intact(path)

    def recall(self, artifact: Artifact, lock_digest: str) -> None:
        """Take a running artifact to have this environment, whatever it would be prepared with now;
        none, if `lock_digest` is no digest.
        """
        if _DIGEST.fullmatch(lock_digest):
            python = str(overlay.python(self._path(lock_digest)))
            self._prepared[artifact.digest] = Environment(lock_digest, python)

    def renew(self, artifact: Artifact) -> Environment:
        """Make it again if it is damaged or gone; raises what `prepare` raises."""
        known = self._prepared.get(artifact.digest, BASE_ALONE)
        self._sound.discard(known.lock_digest)
        return self.prepare(artifact)

    def close(self) -> None:
        """End what is being built; `prepare` raises Transient("UvInterrupted") from now on."""
        self._uv.closed.set()

    def prune(self, keep: AbstractSet[str], *, before: float) -> tuple[str, ...]:
        """Remove the environments whose lock digest is not in `keep` and that were not needed since
        `before` (seconds since the epoch); returns those removed. What is kept is needed now.

        The caller must keep what replicas run in. Locks stay: they are small, and a release that
        comes back gets the environment it had.

        Raises:
            Transient: `CacheUnusable`.
        """
        with self._translated("environments"):
            present = sorted(folder.name for folder in self._folder.iterdir())
            self._sound.intersection_update(present)
            for digest in (name for name in present if name in keep):
                os.utime(self._path(digest))
            unwanted = [name for name in present if _DIGEST.fullmatch(name) and name not in keep]
            return tuple(digest for digest in unwanted if self._removed(digest, before))

    def forget(self, keep: AbstractSet[str]) -> None:
        """Forget the environments of all artifacts but those in `keep`, by digest; they are
        prepared again if they are needed.
        """
        for digest in set(self._prepared) - keep:
            self._prepared.pop(digest, None)

    def _removed(self, digest: str, before: float) -> bool:
        """Remove an environment; False when it is needed right now, or was lately."""
        turn = self._turn(digest)
        if not turn.acquire(blocking=False):
            return False
        try:
            if self._path(digest).stat().st_mtime >= before:
                return False
            self._sound.discard(digest)
            self._discard(self._path(digest))
        finally:
            turn.release()
        return True

    # -- one artifact ----------------------------------------------------------------------------

    def _prepare(self, artifact: Artifact, requirements: Sequence[Requirement]) -> Environment:
        until = self._clock() + self._options.timeout
        with self._translated(f"what {artifact.filename} requires"), self._turn(artifact.digest):
            self._make_folders()  # somebody may have deleted the cache as a whole
            lock = self._lock_of(artifact, requirements, until)
            if not lock.versions:
                return BASE_ALONE
            with self._turn(lock.digest):
                self._ensure(artifact, lock, until)
        return Environment(lock.digest, str(overlay.python(self._path(lock.digest))))

    def _lock_of(
        self, artifact: Artifact, requirements: Sequence[Requirement], until: float
    ) -> Lock:
        """The lock as it is kept, or a new one."""
        path = self._root / "locks" / f"{artifact.digest}-{self._base.fingerprint[:8]}.txt"
        # ValueError: somebody edited it; resolving again is what they would do next.
        with contextlib.suppress(FileNotFoundError, ValueError):
            return read_lock(path.read_text(encoding="utf-8"), self._base)
        with self._scratch() as scratch:
            lock = resolve(
                artifact,
                requirements,
                base=self._base,
                uv=self._uv,
                stand_ins=self._stand_ins(),
                scratch=scratch,
                until=until,
            )
            heading = (
                f"# What {artifact.filename} requires beyond {self._base.python}, resolved once.\n"
                "# Remove this file to resolve again.\n"
            )
            files.write(scratch / "lock.txt", heading + lock.text)
            (scratch / "lock.txt").replace(path)
            files.sync_folder(path.parent)
        return lock

    def _stand_ins(self) -> Path:
        path = self._root / "base" / self._base.fingerprint[:16]
        with self._turn(self._base.fingerprint):
            if not path.is_dir():
                with self._scratch() as scratch:
                    folder = scratch / "stand-ins"
                    folder.mkdir()
                    write_stand_ins(self._base, folder)
                    files.publish_dir(folder, path)
        return path

    # -- one environment -------------------------------------------------------------------------

    def _ensure(self, artifact: Artifact, lock: Lock, until: float) -> None:
        path = self._path(lock.digest)
        if overlay.is_usable(path) and (lock.digest in self._sound or overlay.is_intact(path)):
            self._sound.add(lock.digest)
            os.utime(path)  # asked for now: see `prune`
            return
        if path.exists():
            self._discard(path)
        with self._scratch() as scratch:
            built = scratch / "environment"
            try:
                overlay.build(built, lock, self._base, self._uv, until)
                if not overlay.is_intact(built):  # what was damaged shares its files with the cache
                    shutil.rmtree(built)
                    overlay.build(built, lock, self._base, self._uv, until, past_cache=True)
            except NoSolution as error:  # what was locked is not to be had (any more)
                raise unsolved(artifact, self._base, self._uv, error) from error
            overlay.check(built, lock, self._base, self._uv, until, what=artifact.filename)
            overlay.compile_sources(built, self._uv, until)
            overlay.complete(built, lock)
            files.publish_dir(built, path)
        self._sound.add(lock.digest)

    # -- folders ---------------------------------------------------------------------------------

    def _make_folders(self) -> None:
        for folder in (self._folder, self._root / "locks", self._root / "base"):
            files.make_folder(folder)

    def _path(self, digest: str) -> Path:
        return self._folder / digest

    def _turn(self, key: str) -> threading.Lock:
        with self._turns_lock:
            return self._turns.setdefault(key, threading.Lock())

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A folder that is gone afterwards; what resists is swept at the next opening."""
        own = self._own.path()
        with tempfile.TemporaryDirectory(dir=own, ignore_cleanup_errors=True) as name:
            yield Path(name)

    def _discard(self, folder: Path) -> None:
        """Rename an environment away at once; deleting its files may take longer."""
        with self._scratch() as scratch, contextlib.suppress(FileNotFoundError):
            folder.rename(scratch / "discarded")

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Waiting(
                    "DiskFull", f"no space left in {self._root} for {what}; free some"
                ) from error
            raise Transient(
                "CacheUnusable",
                f"{self._root} cannot hold {what}: {error}; check that disk and its permissions",
            ) from error
