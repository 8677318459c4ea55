"""What Ray's schema took once, remembered on the disk, so that a preview need not import Ray again.

Importing it is two thirds of a preview. Its answer depends on the document, on Ray, pydantic and
Python, on the environment and on how this room asks: all of these are in the key. Only what it took
is kept. Daemons ask Ray itself; before anything is sent it always is asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from controller.serve.canonical import quoted
from controller.serve.schema import Asker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.model import JSON

_IMPORTED: Final = ("request_router_config", "deployment_actors", "gang_scheduling_config")
"""Options that may name code, which Ray imports to judge them: the answer is that code's."""


class Accepted(Asker):
    """An `Asker` that remembers; `save` keeps what was asked for since the start.

    Args:
        path: the file; what is missing there, damaged or of another Ray is asked for again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._judge = _judge()
        self._known = _read(path, self._judge)
        self._used: dict[str, Any] = {}

    def ask(self, question: str, document: Mapping[str, JSON]) -> JSON:
        """As `Asker` has it; never Waiting."""
        key = None if self._judge is None else _key(question, document)
        if key is None:
            return super().ask(question, document)
        if key not in self._used:
            known = key in self._known
            self._used[key] = self._known[key] if known else super().ask(question, document)
        return self._used[key]

    def save(self) -> None:
        """Write down what was asked for, if any of it is new; a disk that takes nothing costs
        time and nothing else.
        """
        if self._used.keys() <= self._known.keys():
            return
        staging = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with suppress(OSError):
            try:
                staging.write_text(json.dumps({"judge": self._judge, "taken": self._used}), "utf-8")
                staging.replace(self._path)
            finally:
                staging.unlink(missing_ok=True)  # what a full disk took of it


def _key(kind: str, document: Mapping[str, JSON]) -> str | None:
    """None for what has to be judged afresh each time."""
    try:
        text = quoted(document)
    except ValueError:  # nothing that JSON could tell from its like
        return None
    if any(name in text for name in _IMPORTED):
        return None
    return hashlib.sha256(f"{kind} {text}".encode()).hexdigest()


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


def _read(path: Path, judge: str | None) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text("utf-8"))
        return dict(kept["taken"]) if kept["judge"] == judge else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
