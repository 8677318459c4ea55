"""What Ray's schema took once, remembered on the disk, so that a preview need not import Ray again.

Importing it is two thirds of a preview. Its answer depends on the document, on Ray, pydantic and
Python, on the environment and on how this room asks: another of these, and nothing is remembered.
Only what it took is kept. Daemons ask Ray itself; before anything is sent it always is asked.
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
"""Options that may name code, which Ray imports to judge them: the answer is that code's."""


class Accepted:
    """One file of answers. What is missing there, damaged or of another Ray is asked for again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._judge = _judge()  # now: Ray's modules change the environment
        self.answers = self._read()
        """By question, as JSON."""

    def save(self, answers: Mapping[str, str]) -> None:
        """Keep these instead, if any of them is new; a disk that takes nothing costs time and
        nothing else.
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
    """Another value means that Ray might judge otherwise; None when it cannot be told."""
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
