"""Weights: a wheel that holds only data, which a pipeline of other code reads in `load`.

They come and go in the `user_config` of the release's document, as long as two instances fit into
one replica (instances.py); else in its `args`, so that replicas are rolled instead.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from wheelway import readonly
from wheelway.failure import DIGEST_MISMATCH, LOAD_FAILED, StartFailure
from wheelway.loading import verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WITH_WEIGHTS: Final = "with the weights "
"""What the message of a failure begins with in which weights took part."""


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
