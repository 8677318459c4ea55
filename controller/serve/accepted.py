"""Documents that Ray's schema took, kept on the disk so that previews need not import Ray.

Importing it is two thirds of a preview. An answer depends on the document, on Ray, pydantic and
Python, on the environment and on how this room asks: when one of these changes, nothing kept
counts. Refusals are not kept. Daemons ask Ray itself, as is always done before a config is sent.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_IMPORTED: Final = ("request_router_config", "deployment_actors", "gang_scheduling_config")
"""Options that may name code, which Ray imports to judge them: the answer depends on that code."""


class Accepted:
    """One file of answers; what is missing, damaged or of another Ray is asked for again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._judge = _judge()  # now: Ray's modules change the environment
        self.answers = self._read()
        """By question, as JSON."""

    def save(self, answers: Mapping[str, str]) -> None:
        """Keep these instead, if any is new. A full disk costs later previews time and nothing
        else.
        """
        lasting = {k: v for k, v in answers.items() if not any(name in k for name in _IMPORTED)}
        if self._judge is None or lasting.keys() <= self.answers.keys():
            return
        staging = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with suppress(OSError):
            try:
                staging.write_text(json.dumps({"judge": self._judge, "taken": lasting}), "utf-8")
                staging.replace(self._path)
            finally:
                staging.unlink(missing_ok=True)  # what a full disk took of it

    def _read(self) -> dict[str, str]:
        try:
            kept = json.loads(self._path.read_text("utf-8"))
            return dict(kept["taken"]) if kept["judge"] == self._judge is not None else {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}


def _judge() -> str | None:
    """A digest of all that Ray's answers depend on; None when it cannot be found out."""
    try:
        # The digests of all of its files; an installation in place has none.
        files = distribution("ray").read_text("RECORD")
        libraries = [distribution(name).version for name in ("pydantic", "pydantic-core")]
    except PackageNotFoundError:
        return None
    if files is None:
        return None
    heeded = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(("RAY_", "SERVE_"))]
    said = "\0".join([sys.version, *libraries, *heeded, files])
    digest = hashlib.sha256(said.encode(errors="surrogateescape"))
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()
