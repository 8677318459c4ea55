"""Writes down what becomes of weights: what releases are live with, what failed, whose they are."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import TYPE_CHECKING, Final

from packaging.version import Version

from controller.journal.pruning import Pruning
from controller.journal.schema import key_of
from controller.journal.wording import with_note
from controller.model import Event
from controller.planning.weights import NOT_SINCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from controller.model import Release
    from controller.planning.weights import JudgedWeights, KnownWeights, Weights, WeightsQuarantine

PROVEN_KEPT: Final = 20
"""Weights of one release, the last it was live with: what it can be rolled back to."""


class WeightsJournal(Pruning):
    """A journal that keeps what becomes of weights."""

    def weights_live(self, release: Release, weights: Weights, at: float) -> Event:
        """Every replica of a release answered with these; returns the event that was appended."""
        key = self.cluster, release.pipeline, release.digest
        with self.transaction():
            ((turn,),) = self._run("SELECT coalesce(max(turn), 0) + 1 FROM proven_weights")
            before = self.proven_weights().get(release, ())
            self._put(
                "proven_weights",
                *key_of(self.cluster, release),
                *(weights.digest, _text(weights), turn, at),
            )
            self._run(
                "DELETE FROM proven_weights WHERE cluster = ?1 AND pipeline = ?2 AND digest = ?3 "
                "AND turn <= (SELECT turn FROM proven_weights WHERE cluster = ?1 "
                "AND pipeline = ?2 AND digest = ?3 ORDER BY turn DESC LIMIT 1 OFFSET ?4)",
                *(*key, PROVEN_KEPT),
            )
            self._forget("proven_weights")
            others = (one.weights for one in before if one.weights.digest != weights.digest)
            former = next(map(str, others), "")
            said = f"every replica answers with {weights}"
            said += f", before with {former}" if former else ""
            fields = {"weights": str(weights), "former": former}
            return self.append(Event(at, str(release), "WeightsLive", said, fields))

    def weights_ended(self) -> None:
        """Nothing serves any more: that releases are live with theirs is to be seen anew."""
        with self.transaction():
            self._run(
                "UPDATE proven_weights SET at = ?1 WHERE cluster = ?2", NOT_SINCE, self.cluster
            )
            self._forget("proven_weights")

    def drop_weights(self, releases: Iterable[Release]) -> None:
        """Forget what these releases were live with: they are to serve without any."""
        proven = self.proven_weights()
        for release in proven.keys() & set(releases):
            self._run(
                "DELETE FROM proven_weights WHERE cluster = ?1 AND pipeline = ?2 AND digest = ?3",
                *(self.cluster, release.pipeline, release.digest),
            )
            self._forget("proven_weights")

    def refuse_weights(self, refused: WeightsQuarantine) -> Event:
        """Quarantine weights for one release; returns the event that was appended."""
        release, weights = refused.release, refused.weights
        with self.transaction():
            self._put(
                "refused_weights",
                *key_of(self.cluster, release),
                *(weights.digest, _text(weights), refused.reason, refused.message),
                *(refused.log_tail, refused.at, None),
            )
            self._forget("refused_weights", "lifted_weights")
            said = f"{weights} are quarantined for it: {refused.message}"
            fields = {"weights": str(weights), "digest": weights.digest}
            return self.append(Event(refused.at, str(release), refused.reason, said, fields))

    def clear_refused_weights(
        self,
        which: Callable[[WeightsQuarantine], bool],
        *,
        at: float,
        by: str = "operator",
        note: str = "",
    ) -> list[WeightsQuarantine]:
        """Lift quarantines of weights; returns what was lifted. They stay in `lifted_weights` until
        they can be tried again (`try_weights_again`).
        """
        with self.transaction():
            lifted = [
                one for refused in self.refused_weights().values() for one in refused if which(one)
            ]
            for one in lifted:
                self._run(
                    "UPDATE refused_weights SET lifted_at = ?5 "
                    "WHERE cluster = ?1 AND pipeline = ?2 AND digest = ?3 AND weights = ?4",
                    *(self.cluster, one.release.pipeline, one.release.digest),
                    *(one.weights.digest, at),
                )
                said = (
                    f"that of {one.weights} was lifted by {with_note(by, note)}; it was: "
                    f"{one.reason}: {one.message}"
                )
                fields = {"by": by, "weights": str(one.weights)}
                self.append(Event(at, str(one.release), "QuarantineCleared", said, fields))
            self._forget("refused_weights", "lifted_weights")
        return lifted

    def try_weights_again(self, lifted: Iterable[WeightsQuarantine]) -> None:
        """Forget that these failed, which a person ordered before."""
        with self.transaction():
            for one in lifted:
                self._run(
                    "DELETE FROM refused_weights WHERE cluster = ?1 AND pipeline = ?2 "
                    "AND digest = ?3 AND weights = ?4 AND lifted_at IS NOT NULL",
                    *(self.cluster, one.release.pipeline, one.release.digest, one.weights.digest),
                )
            self._forget("lifted_weights")

    def keep_weights_owners(self, owners: Mapping[str, str]) -> None:
        """Remember these projects and no others as those whose weights pipelines take."""
        before = self.weights_owners()
        self._keep("weights_owners", "pipeline", before, owners, lambda *row: row)

    def keep_known_weights(self, known: Mapping[str, tuple[KnownWeights, ...]]) -> None:
        """Remember what is inside these wheels, by digest, and no others."""
        if known == self.known_weights():
            return
        rows = [
            (one.pipeline, one.weights.document, one.fits) for of in known.values() for one in of
        ]
        rows.sort(key=lambda row: (str(row[1]["digest"]), row[0]))
        with self.transaction():
            self._forget("known_weights")
            self._put("meta", "known_weights", json.dumps(rows, sort_keys=True))

    def keep_judged_weights(self, judged: Iterable[JudgedWeights]) -> None:
        """Remember what became of these offers and of no others."""
        kept = sorted(judged, key=lambda one: (one.version, one.digest), reverse=True)
        kept.sort(key=lambda one: one.pipeline)
        if kept == self.judged_weights():
            return
        with self.transaction():
            self._forget("judged_weights")
            self._run("DELETE FROM judged_weights")
            for one in kept:
                self._put("judged_weights", *map(_plain, astuple(one)))


def _text(weights: Weights) -> str:
    return json.dumps(weights.document, sort_keys=True)


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return json.dumps(value)
    return str(value) if isinstance(value, Version) else value
