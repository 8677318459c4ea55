"""The content-addressed store: wheels and their unpacked trees, found by SHA-256 and nothing else.

    <cache>/GENERATION                          the layout's number
    <cache>/wheels/<2 hex>/<digest>/<file>.whl  as fetched; the file's name is for people only
    <cache>/trees/<2 hex>/<digest>/...          the same wheel unpacked, for `sys.path`
    <cache>/incoming/<owner>/...                what is being written; its owner holds a lock on it

Everything enters by one rename of a complete folder: no reader sees half of one, and a kill at any
instant leaves only what the next opening sweeps. What comes out was verified in this process. Data
comes from a source's chunks (`add`) or from the store's own wheel (`tree`).

Raise `generation.GENERATION` when things lie elsewhere; the identity never changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from controller.cache import files, owners
from controller.cache.usage import size_of
from controller.cache.wheels import contents, generation, trees
from controller.errors import Rejected, Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from collections.abc import Set as AbstractSet

    from controller.config.settings import InspectionLimits
    from controller.model import Artifact, Revision

_CHUNK = 1 << 20
_PLAIN = 0o644
_HEX = re.compile(r"[0-9a-f]{64}")
_FILENAME = re.compile(r"[^\W_][\w.+!-]*\.whl")

Kind = Literal["wheels", "trees"]


class Store:
    """Wheels and trees under one folder. Methods may be called from several threads at once.

    Raises on opening:
        Stalled: the folder cannot be used, or a newer wheelway wrote it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._wheels: dict[str, trees.Identity] = {}  # verified in this process, as they were then
        self._trees: dict[str, bytes] = {}  # their signatures when they were hashed whole
        with files.opening(self.root):
            self._open()

    # -- wheels ----------------------------------------------------------------------------------

    def add(self, revision: Revision, chunks: Iterable[bytes], limits: InspectionLimits) -> Path:
        """Keep the wheel's bytes and return their path; what is already there is not read again.

        Bytes that are not those listed are `Transient`, not `Rejected`: a source may replace a file
        between listing and fetching, and then its next listing says so. Errors of `chunks` itself
        pass through. Whatever happens, no partial file stays.

        Raises:
            Rejected: `FilenameInvalid`, `DigestInvalid`, `TooLarge` (beyond the limit).
            Transient: `DigestMismatch`; `CacheUnusable` when the file system fails.
            Waiting: `DiskFull`.
        """
        path = self._path("wheels", revision.sha256)
        if not _FILENAME.fullmatch(revision.filename) or len(os.fsencode(revision.filename)) > 255:
            raise Rejected(
                "FilenameInvalid",
                f"{revision.filename!r} of {revision.source} is not a wheel's file name; publish it"
                " as the build backend named it (PEP 427)",
            )
        if revision.size is not None and revision.size > limits.max_size:
            raise _too_large(revision, limits.max_size)
        if present := self.get(revision.sha256):
            return present
        with self._staging() as staging:
            with self._translated(revision.filename):
                copies = 1 if self.tree_path(revision.sha256).exists() else 2  # with the tree
                files.expect_room(staging, copies * (revision.size or 0))
            wheel = staging / revision.filename
            received = self._receive(revision, chunks, wheel, limits.max_size)
            with self._translated(revision.filename):
                self._publish(staging, path, unless=lambda: _wheel_in(path) is not None)
            # These bytes were hashed on their way: they are not read again as long as they lie
            # there. The file that somebody else put there meanwhile is another one.
            self._wheels[revision.sha256] = received
        if stored := self.get(revision.sha256):
            return stored
        raise Transient(
            "CacheUnusable",
            f"{revision.filename} was written to {self.root} and does not read back as written; "
            "check that disk",
        )

    def get(self, digest: str) -> Path | None:
        """The wheel with this digest, its bytes verified; None when there is none (any more).

        A file is hashed the first time in this process and whenever its inode, size or times
        changed; one that no longer matches is dropped.
        """
        path = self._path("wheels", digest)
        try:
            if (wheel := _wheel_in(path)) is None:
                return None
            identity = _identity(wheel)
            if self._wheels.get(digest) == identity:
                return wheel
            if _sha256(wheel) == digest and _identity(wheel) == identity:
                self._wheels[digest] = identity
                return wheel
            self._drop_wheel(path, identity)
        except FileNotFoundError:  # dropped or pruned by another thread while we looked
            return None
        except OSError as error:
            raise files.unusable(self.root, digest, error) from error
        return None

    def verified(self, filename: str, digest: str) -> Path:
        """The wheel that was added under this digest, its bytes verified.

        Raises:
            Transient: `WheelMissing` (fetch it again), `CacheUnusable`.
        """
        if wheel := self.get(digest):
            return wheel
        raise Transient(
            "WheelMissing",
            f"{filename} ({digest[:12]}) is gone from the cache {self.root} or was damaged there; "
            "it is fetched again from its source",
        )

    def _receive(
        self, revision: Revision, chunks: Iterable[bytes], wheel: Path, most: int
    ) -> trees.Identity:
        """Write what was listed into a new file; returns what it is known by from then on."""
        digest, size, listed = hashlib.sha256(), 0, revision.size
        with self._translated(revision.filename):
            stream = wheel.open("xb", buffering=0)  # nothing left to fail when it is closed
        with stream:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                if size > (most if listed is None else listed):
                    break
                with self._translated(revision.filename):
                    contents.write(stream, chunk)
            if listed is None and size > most:
                raise _too_large(revision, most)
            if listed not in {None, size} or digest.hexdigest() != revision.sha256:
                got = f"{size} bytes with {digest.hexdigest()[:12]}"
                raise Transient(
                    "DigestMismatch",
                    f"{revision.filename} from {revision.source} is not what was listed: listed "
                    f"{listed or 'some'} bytes with SHA-256 {revision.sha256[:12]}, got "
                    f"{'more' if size > (listed or size) else got}; it is fetched again with the "
                    "next listing, if this stays publish it again",
                )
            with self._translated(revision.filename):
                os.fchmod(stream.fileno(), _PLAIN)
                os.fsync(stream.fileno())
                return _identity(wheel)

    def _drop_wheel(self, path: Path, seen: trees.Identity) -> None:
        with self._exchange():
            wheel = _wheel_in(path)
            if wheel is not None and _identity(wheel) == seen:  # else a good one came meanwhile
                self._discard(path)

    # -- trees -----------------------------------------------------------------------------------

    def tree_path(self, digest: str) -> Path:
        """Where the tree of this digest is or will be; whether it is there is `tree`'s business."""
        return self._path("trees", digest)

    @contextlib.contextmanager
    def unpacking(self, revision: Revision) -> Iterator[trees.Unpacking | None]:
        """Where a wheel may be unpacked while it is inspected, for `tree` to take; None when it has
        a tree. What was not taken at the end is deleted.

        Raises, also for what goes wrong in its block:
            Transient: `CacheUnusable`.
            Waiting: `DiskFull`.
        """
        if self.tree_path(revision.sha256).exists():
            yield None
            return
        with self._staging() as staging, self._translated(revision.filename):
            yield trees.Unpacking(staging, self._wheels.get(revision.sha256))

    def tree(self, artifact: Artifact, unpacked: trees.Unpacking | None = None) -> Path:
        """The wheel unpacked: as it was published, without byte code, writable by the owner alone.

        A tree found there is used again if it `is_whole`; otherwise it is what was `unpacked`, or
        is unpacked now. Either way the wheel must be what was verified when all of it was read. A
        replica verifies the tree fully once more.

        Raises:
            Transient: `WheelMissing` (fetch it again), `CacheUnusable`.
            Waiting: `DiskFull`.
        """
        path = self.tree_path(artifact.digest)
        with self._exchange():  # not while `prune` checks it
            self._touch(path, self._path("wheels", artifact.digest))
        if self.is_whole(artifact):
            return path
        if unpacked is not None:
            self._keep_tree(artifact, unpacked)
            return path
        wheel = self.verified(artifact.filename, artifact.digest)
        with self._staging() as staging, self._translated(artifact.filename):
            unpacked = trees.Unpacking(staging, self._wheels.get(artifact.digest))
            trees.unpack(wheel, unpacked)
            self._keep_tree(artifact, unpacked)
        return path

    def _keep_tree(self, artifact: Artifact, unpacked: trees.Unpacking) -> None:
        path, digest = self.tree_path(artifact.digest), artifact.record_digest
        self.verified(artifact.filename, artifact.digest)
        if unpacked.wheel != self._wheels.get(artifact.digest):  # changed, and changed back
            raise Transient(
                "CacheUnusable",
                f"{artifact.filename} was written to in {self.root} while it was unpacked; it is "
                "unpacked again, find out what writes to that cache",
            )
        with self._translated(artifact.filename):
            if not trees.matches(unpacked.folder, digest, unpacked.hashes):
                raise Transient(
                    "CacheUnusable",
                    f"{artifact.filename} did not unpack into {self.root} as its RECORD says; "
                    "check that disk",
                )
            self._publish(unpacked.folder, path, unless=lambda: trees.matches(path, digest))
            self._trees[artifact.digest] = trees.signature(path)

    def is_untouched(self, artifact: Artifact) -> bool:
        """Whether nobody touched its tree since it was hashed in this process."""
        seen = self._trees.get(artifact.digest)
        return seen is not None and seen == trees.signature(self.tree_path(artifact.digest))

    def is_whole(self, artifact: Artifact, *, afresh: bool = False) -> bool:
        """Whether its tree is as it was published. Its files are hashed the first time in this
        process, whenever the inode, size or times of one changed, and when asked for `afresh`.
        """
        if not afresh and self.is_untouched(artifact):
            return True
        path = self.tree_path(artifact.digest)
        signature = trees.signature(path)
        if trees.matches(path, artifact.record_digest):
            self._trees[artifact.digest] = signature
            return True
        self._trees.pop(artifact.digest, None)
        return False

    # -- upkeep ----------------------------------------------------------------------------------

    def drop_wheel(self, digest: str) -> None:
        """Delete a wheel that was refused, unless it has a tree: then it was good once, or is good
        under another name, and may be in use.

        Raises:
            Transient: `CacheUnusable`.
        """
        with self._exchange(), self._translated(digest):
            if not self.tree_path(digest).exists():
                self._wheels.pop(digest, None)
                self._discard(self._path("wheels", digest))

    def prune(self, keep: AbstractSet[str], *, before: float) -> int:
        """Delete the wheels and trees whose digest is not in `keep` and that were not needed since
        `before` (seconds since the epoch); returns the bytes freed. What is kept is needed now.
        """
        freed = 0
        for kind in ("wheels", "trees"):
            for path in (self.root / kind).glob("??/*"):
                if path.name in keep:
                    self._touch(path)
                    continue
                with self._exchange(), self._translated(path.name):
                    if path.stat().st_mtime >= before:
                        continue
                    trash = self._buried(path)
                freed += size_of(trash, set())  # which takes its time: nobody waits
                shutil.rmtree(trash, ignore_errors=True)
        for known in (self._wheels, self._trees):  # also of what others removed
            for digest in set(known) - keep:
                known.pop(digest, None)
        return freed

    @staticmethod
    def _touch(*paths: Path) -> None:
        for path in paths:
            with contextlib.suppress(OSError):  # not there, or not ours: it only hastens `prune`
                os.utime(path)

    def _open(self) -> None:
        for folder in (self.root, *(self.root / name for name in ("wheels", "trees", "incoming"))):
            if not folder.is_dir():
                files.make_folder(folder)
        generation.check(self.root)
        self._own = owners.Own(self.root / "incoming")

    # -- how things enter and leave --------------------------------------------------------------

    def _path(self, kind: Kind, digest: str) -> Path:
        if not _HEX.fullmatch(digest):
            raise Rejected(
                "DigestInvalid",
                f"{digest[:80]!r} is not a SHA-256 in lower-case hex; the source must list one",
            )
        return self.root / kind / digest[:2] / digest

    @contextlib.contextmanager
    def _staging(self) -> Iterator[Path]:
        with self._translated("a new entry"):
            staging = Path(tempfile.mkdtemp(dir=self._own.path()))
            staging.chmod(trees.FOLDER)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # gone already when it entered its place

    def _publish(self, staging: Path, path: Path, *, unless: Callable[[], bool]) -> None:
        """Move a complete folder to its place, `unless` what is there already is as good."""
        files.sync_folder(staging)
        with self._exchange():
            if unless():
                return
            files.make_folder(path.parent)
            self._discard(path)
            staging.rename(path)
            files.sync_folder(path.parent)
            files.sync_folder(path.parent.parent)

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[None]:
        """A lock for threads and processes alike, held while a folder enters or leaves its place,
        so that nobody acts between the check of what is there and the rename.
        """
        with contextlib.ExitStack() as stack:
            with self._translated("its lock"):
                if not self.root.is_dir():  # somebody deleted it as a whole
                    files.make_folder(self.root)
                stack.enter_context(owners.locked(self.root))
            yield

    def _discard(self, path: Path) -> None:
        """Rename a folder away, then delete it: nobody sees half of it, and it takes no space on a
        disk that may be full.
        """
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._buried(path), ignore_errors=True)

    def _buried(self, path: Path) -> Path:
        """Rename a folder to where it can be deleted; returns that path."""
        return path.rename(self._own.path() / f"{path.name}.{secrets.token_hex(4)}")

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise files.unusable(self.root, what, error) from error


def _too_large(revision: Revision, limit: int) -> Rejected:
    return Rejected(
        "TooLarge",
        f"{revision.filename} has {revision.size or 'more'} bytes, the limit is {limit}; "
        "make the wheel smaller or raise `inspection.max_size`",
    )


def _wheel_in(path: Path) -> Path | None:
    return min(path.glob("*.whl"), default=None)


def _identity(path: Path) -> trees.Identity:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
