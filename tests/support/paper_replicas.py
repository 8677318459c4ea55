"""The replicas of a paper head's application, as far as weights go: each loads what it is told in
its own time, serves on with what it has meanwhile, and says what it could not take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.planning.weights import Weights


def said(document: dict[str, Any] | None) -> dict[str, Any]:
    """What replicas are told by their `user_config`, or by the application's arguments."""
    document = document or {}
    if (document.get("args") or {}).get("weights"):
        return {"weights": document["args"]["weights"]}
    return next((d.get("user_config") or {} for d in document.get("deployments") or ()), {})


def mark(weights: dict[str, Any] | None) -> str:
    """As in the header."""
    return str(Weights.of(weights)) if weights else ""


@dataclass
class PaperReplica:
    """One replica, which serves."""

    id: str
    serves: dict[str, Any] | None
    wanted: dict[str, Any] | None = None
    left: int = 0
    """Observations until it has loaded what it wants."""
    error: dict[str, str] | None = None

    def told(self, config: dict[str, Any], takes: int) -> None:
        """Its `reconfigure`."""
        wanted = config.get("weights")
        if mark(wanted) == mark(self.wanted):
            return
        self.wanted, self.error, self.left = wanted, None, takes

    def steps(self, refused: dict[str, dict[str, str]]) -> None:
        """Time passes; `refused` says by version what weights fail by."""
        if mark(self.wanted) == mark(self.serves) or self.error is not None:
            return
        if self.left:
            self.left -= 1
        elif why := refused.get((self.wanted or {}).get("version", "")):
            names = {"weights": mark(self.wanted), "digest": (self.wanted or {})["digest"]}
            message = f"with the weights {mark(self.wanted)}: {why['message']}"
            self.error = {**names, "tail": "", **why, "message": message}
        else:
            self.serves = self.wanted

    def metadata(self) -> dict[str, Any]:
        """What it says at its route."""
        found: dict[str, Any] = {"replica": self.id}
        if self.serves:
            found["weights"] = mark(self.serves)
        if self.error:
            found["weights_error"] = self.error
        return found


def started(
    name: str, number: int, config: dict[str, Any], refused: dict[str, dict[str, str]]
) -> list[PaperReplica]:
    """The replicas of an application that has started."""
    wanted = config.get("weights")
    first = PaperReplica("", wanted, wanted)
    if wanted and wanted["version"] in refused:
        first = PaperReplica("", config.get("former_weights"), wanted)
        first.steps(refused)
    return [
        PaperReplica(f"{name}#{n}", first.serves, wanted, 0, first.error) for n in range(number)
    ]


def fault(config: dict[str, Any], refused: dict[str, dict[str, str]]) -> str:
    """Why nothing starts with these weights; empty when something does."""
    wanted = config.get("weights")
    if not wanted or wanted["version"] not in refused or "former_weights" in config:
        return ""
    why = refused[wanted["version"]]
    return f"wheelway-failure[{why['reason']}] with the weights {mark(wanted)}: {why['message']}"
