"""The replicas of a release that are played, for `tests/support/cluster.py`: each hears of its
config when it hears of it, loads weights or cannot, and starts anew alone.
"""

from dataclasses import dataclass, field

from controller.observed import Replica, WeightsError
from controller.planning.weights import (
    Weights,
    falls_back_to_none,
    former_in_document,
    in_document,
)

RETRIES_AFTER = 2
"""Moves."""


@dataclass
class Failing:
    """What fails, beside what releases are like."""

    weights: set[str] = field(default_factory=set)
    """Digests of those that no release can ever take."""
    passing: dict[str, int] = field(default_factory=dict)
    """By digest of a release or of weights: moves for which it does not load."""
    nodes: dict[int, int] = field(default_factory=dict)
    """By node: moves for which no weights load there."""

    def takes(self, release, weights, node):
        """Whether a replica can load weights, or go without."""
        if release.digest in self.passing:
            return False
        if weights is None:
            return True
        digest = weights.digest
        return not (digest in self.weights or digest in self.passing or node in self.nodes)

    def pass_on(self):
        self.passing = {of: left - 1 for of, left in self.passing.items() if left > 1}
        self.nodes = {of: left - 1 for of, left in self.nodes.items() if left > 1}

    def end(self):
        """What fails for ever goes on."""
        self.passing, self.nodes = {}, {}


@dataclass
class Played:
    """One replica."""

    id: str
    node: int
    is_up: bool = False
    serves: Weights | None = None
    refused: str = ""
    """The digest of those that it could not take."""
    hears_in: int = 0
    """Moves until it hears of the config that it does not know yet."""
    waits: int = 0
    """Moves until it tries again what it could not take."""
    silent: int = 0
    """Moves in which it answers nobody."""

    @property
    def seen(self):
        """As the dashboard has it."""
        return Replica("RUNNING" if self.is_up else "STARTING", 1, self.id)

    @property
    def error(self):
        return WeightsError(self.refused, "LoadFailed", "it raised") if self.refused else None

    def start(self, release, document, failing):
        """Begin to serve; returns why it cannot, if it cannot."""
        wanted, former = in_document(document), former_in_document(document)
        self.hears_in, self.refused = 0, ""
        taken = [wanted]
        if former is not None or falls_back_to_none(document):
            taken.append(former)
        for weights in taken:
            if failing.takes(release, weights, self.node):
                self.is_up, self.serves = True, weights
                self.refused = wanted.digest if weights != wanted else ""
                self.waits = RETRIES_AFTER
                return ""
        last = taken[-1]
        return f"with the weights {last}: it raised" if last is not None else "it raised"

    def follow(self, release, document, failing):
        """Take in place what the config says; what it cannot take changes nothing."""
        self.silent = max(0, self.silent - 1)
        if self.hears_in:
            self.hears_in -= 1
            return
        wanted = in_document(document)
        if wanted == self.serves:
            self.refused = ""
        elif wanted is not None and self.refused == wanted.digest and self.waits:
            self.waits -= 1  # a replica tries again by itself, in its time
        elif failing.takes(release, wanted, self.node):
            self.serves, self.refused = wanted, ""
        elif wanted is not None:
            self.refused, self.waits = wanted.digest, RETRIES_AFTER


def wanted_number(document):
    """How many replicas a document asks for."""
    return next((d["num_replicas"] for d in document.get("deployments", ())), 1)
