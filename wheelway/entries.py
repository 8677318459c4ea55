"""Which parts a pipeline has, by entry points: those of an unpacked wheel, or of what is installed.

In production the daemon reads them, and a replica is told; this is for an author's machine.
"""

from __future__ import annotations

import re
from importlib.metadata import PathDistribution, entry_points
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.metadata import Distribution
    from pathlib import Path

    from wheelway.contract import Pipeline

PIPELINES: Final = "wheelway.pipelines"
PARTS: Final = "wheelway.parts"


def parts_in(tree: Path, pipeline: str) -> dict[str, str]:
    """The parts of a pipeline in an unpacked wheel: `module:Class` by name."""
    found: dict[str, str] = {}
    for folder in sorted(tree.glob("*.dist-info")):
        found.update(_parts(PathDistribution(folder), pipeline))
    return found


def parts_of(pipeline: type[Pipeline], name: str = "") -> dict[str, str]:
    """The parts of a pipeline class by what is installed, perhaps to be edited: those of the entry
    point that names it, of that `name` if there are several.
    """
    for entry in entry_points(group=PIPELINES):
        named = (entry.module, entry.attr) == (pipeline.__module__, pipeline.__qualname__)
        if named and (not name or normalised(entry.name) == normalised(name)):
            return {} if entry.dist is None else _parts(entry.dist, entry.name)
    return {}


def normalised(name: str) -> str:
    """A pipeline's name as in its route (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _parts(distribution: Distribution, pipeline: str) -> dict[str, str]:
    found = {}
    for entry in distribution.entry_points.select(group=PARTS):
        owner, _, name = entry.name.rpartition(".")
        if normalised(owner) == normalised(pipeline):
            found[name] = f"{entry.module}:{entry.attr}"
    return dict(sorted(found.items()))
