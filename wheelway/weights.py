"""Weights: a wheel that holds only data, which a pipeline of other code reads in `load`.

They come and go in the `user_config` of the release's document, as long as two instances fit into
one replica (instances.py); else in its `args`, so that replicas are rolled instead.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from wheelway import readonly
from wheelway.failure import DIGEST_MISMATCH, LOAD_FAILED, REPLICA_DIED, StartFailure
from wheelway.loading import verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wheelway.contract import Release

WITH_WEIGHTS: Final = "with the weights "
"""What the message of a failure begins with in which weights took part."""


DEATHS: Final = 2
"""One may be a coincidence: the machine's, or of a node that was stopped."""
REMEMBERED: Final = 900.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Those of one wheel, as the release's document names them."""

    project: str
    version: str
    digest: str
    """SHA-256 of the wheel, lower-case hex."""
    tree: Path
    """The unpacked wheel."""
    record_digest: str
    """SHA-256 of the tree's RECORD."""
    package: str
    """The package whose folder holds the files; may be dotted."""

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Self | None:
        """From the document's JSON."""
        if given is None:
            return None
        return cls(
            project=given["project"],
            version=given["version"],
            digest=given["digest"],
            tree=Path(given["tree"]),
            record_digest=given["record_digest"],
            package=given["package"],
        )

    def __str__(self) -> str:
        """As in the header `x-wheelway-weights`: `<project>@<version>+<digest8>`."""
        return f"{self.project}@{self.version}+{self.digest[:8]}"

    @property
    def folder(self) -> Path:
        """What the pipeline finds in `context.weights`."""
        return self.tree.joinpath(*self.package.split("."))

    def verify(self) -> None:
        """Make sure that their bytes are those that were published, and that they stay so.

        Raises:
            StartFailure: DigestMismatch, or LoadFailed where the wheel has no such package.
        """
        try:
            verify(self.tree, self.record_digest)
        except OSError as error:
            raise StartFailure(DIGEST_MISMATCH, f"{self.tree} cannot be read: {error}") from error
        if not self.folder.is_dir():
            raise StartFailure(
                LOAD_FAILED,
                f"their wheel has no folder {self.package!r}, which its entry point names",
            )
        readonly.protect(self.tree)


def verified(weights: Weights | None) -> Path | None:
    """What is to be found in `context.weights`; see `Weights.verify`."""
    if weights is None:
        return None
    weights.verify()
    return weights.folder


@contextmanager
def noted(weights: Weights | None, release: Release) -> Iterator[None]:
    """Leave a note on this machine while a replica loads weights, so that those which end the
    process, in native code or by `os._exit`, do not end one replica after the other.

    Raises:
        StartFailure: ReplicaDied; `DEATHS` replicas of the release ended while they loaded them.
    """
    if weights is None:
        yield
        return
    folder = Path(tempfile.gettempdir(), f"wheelway-{os.getuid()}", "loading")
    name = f"{release.digest[:16]}-{weights.digest[:16]}"
    own = folder / f"{name}-{os.getpid()}"
    with suppress(OSError):  # a full disk, say: they are only not remembered then
        folder.mkdir(0o700, parents=True, exist_ok=True)
        own.touch()
    try:
        deaths = sum(map(_tells_of_a_death, folder.glob(f"{name}-*")))
        if deaths >= DEATHS:
            raise StartFailure(
                REPLICA_DIED,
                f"{deaths} replicas ended while they loaded them: by `os._exit`, by a crash in "
                f"native code, or killed for memory. For {REMEMBERED / 60:g} minutes no replica on "
                "this machine loads them, not even once their quarantine is lifted",
            )
        yield
    finally:
        with suppress(OSError):
            own.unlink()


def _tells_of_a_death(note: Path) -> bool:
    if Path("/proc", note.name.rpartition("-")[2]).exists():
        return False
    with suppress(OSError):
        if time.time() - note.stat().st_mtime < REMEMBERED:
            return True
        note.unlink()
    return False


@contextmanager
def with_weights(weights: Weights | None) -> Iterator[None]:
    """A StartFailure in here is told to be that of an instance with these weights."""
    try:
        yield
    except StartFailure as failure:
        if weights is None:
            raise
        message = f"{WITH_WEIGHTS}{weights}: {failure.message}"
        raise StartFailure(failure.reason, message, failure.tail) from failure.__cause__


@dataclass(frozen=True, slots=True)
class Refusal:
    """Weights that are not served, and why. None: to be served without any."""

    weights: Weights | None
    failure: StartFailure

    def told(self) -> dict[str, str]:
        """As the metadata's `weights_error`."""
        return {
            "weights": str(self.weights or ""),
            "digest": self.weights.digest if self.weights else "",
            "reason": self.failure.reason,
            "message": self.failure.message,
            "tail": self.failure.tail,
        }
