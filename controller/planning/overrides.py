"""What operators ordered by command: frozen values, as those of `model`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.version import Version


@dataclass(frozen=True, slots=True)
class Pin:
    """Serve exactly these versions of a pipeline, whatever the configuration's policy says."""

    pipeline: str
    versions: tuple[Version, ...]
    """The newest first."""
    by: str
    note: str
    """Why, in the operator's words; may be empty."""
    at: float
    of_weights: bool = False
    """Of its weights' versions, one of which is in force, instead of its own."""

    def __str__(self) -> str:
        versions, why = ", ".join(map(str, self.versions)), f" ({self.note})" if self.note else ""
        return f"pinned to {versions} by {self.by}{why}"


@dataclass(frozen=True, slots=True)
class Suspension:
    """Change nothing on the cluster for one pipeline, or at all; what serves goes on."""

    pipeline: str
    """Empty: everything."""
    by: str
    note: str
    at: float

    def __str__(self) -> str:
        return f"suspended by {self.by}" + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True, slots=True)
class Overrides:
    """What operators ordered by command; it holds over the configuration until it is lifted."""

    pins: Mapping[str, Pin] = field(default_factory=dict)
    """By pipeline."""
    suspensions: Mapping[str, Suspension] = field(default_factory=dict)
    """By pipeline; the empty name stands for everything."""
    weights: Mapping[str, Pin] = field(default_factory=dict)
    """By pipeline: pins of its weights."""

    def suspension_of(self, pipeline: str) -> Suspension | None:
        """The suspension that holds a pipeline, if any."""
        return self.suspensions.get("") or self.suspensions.get(pipeline)


NOTHING_ORDERED = Overrides()
