"""Golden files: what an operator, a script or an author sees, kept in `tests/golden/` as it was.

A file is text for a person who reviews it: JSON is indented and its keys are sorted, and what is
another in each run (folders, ports, hashes over them) has a name in its place.
"""

from __future__ import annotations

import json
from difflib import unified_diff
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "golden"
SHOWN = 60
"""Lines of a difference."""


class Golden:
    """Compares with the kept files, or writes them anew."""

    def __init__(self, *, update: bool) -> None:
        self._update = update

    def check(self, path: str, value: object, names: dict[str, str] | None = None) -> None:
        """A text as it is, anything else as JSON; each key of `names` is told by its value."""
        text = told(value if isinstance(value, str) else pretty(value), names or {})
        file = FOLDER / path
        if self._update:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            return
        kept = file.read_text(encoding="utf-8") if file.exists() else ""
        if kept != text:
            lines = (kept.splitlines(), text.splitlines())
            differs = list(unified_diff(*lines, f"kept: {path}", "now", lineterm="", n=2))
            more = len(differs) - SHOWN
            rest = [f"... and {more} lines more"] if more > 0 else []
            why = (
                "not what was kept; if it is meant to be so: --update-golden, and look at the diff"
            )
            pytest.fail("\n".join([why, *differs[:SHOWN], *rest]), pytrace=False)


def pretty(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def told(text: str, names: dict[str, str]) -> str:
    """The text with names for what differs each time; the longest first: some hold others."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, names[name])
    return text
