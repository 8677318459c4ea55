"""Forgets what is over in time, so that the journal stays bounded however long the daemon runs.

What may change here: what counts as over, and in which order it goes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from controller.journal.keeping import Keeping
from controller.journal.records import OVER

if TYPE_CHECKING:
    from collections.abc import Iterable

AT_ONCE: Final = 1000
"""Releases that are forgotten in one go: it must not hold up a pass."""
_OVER_RELEASES: Final = (
    "SELECT *, since AS ended FROM releases WHERE cluster = ?7 AND phase IN (?1, ?2)"
)
_OVER_QUARANTINES: Final = (
    "SELECT *, max(at, coalesce((SELECT since FROM releases r WHERE "
    "(r.cluster, r.pipeline, r.version, r.digest) = "
    "(q.cluster, q.pipeline, q.version, q.digest)), at)) AS ended "
    "FROM quarantines q WHERE cluster = ?7 "
    "AND (pipeline, digest, canonical_version(version)) NOT IN ("
    "SELECT pipeline, digest, canonical_version(version) FROM releases "
    "WHERE cluster = ?7 AND phase NOT IN (?1, ?2))"
)
"""A quarantine is as old as the end of its release, or itself where that is forgotten."""

_REFUSED_IN_THE_PAST: Final = (
    "DELETE FROM refused_weights AS q WHERE cluster = ?3 AND at < ?1 "
    "AND weights NOT IN (SELECT value FROM json_each(?2)) "
    "AND weights NOT IN (SELECT weights FROM proven_weights p WHERE "
    "(p.cluster, p.pipeline, p.digest) = (q.cluster, q.pipeline, q.digest))"
)
"""Weights that no source lists cannot be elected, but where they served: there they would come
back.
"""


class Pruning(Keeping):
    """A journal that forgets."""

    def prune(
        self, *, before: float, releases: int, events: int, listed: Iterable[str] | None = ()
    ) -> bool:
        """Forget what is over; whether there is more to forget.

        A release that only tells of the past goes once it has been over since `before`, or more
        than so many `releases` ended after it; one that a source still lists stays, for it would
        come back as new. So does the quarantine of one that is over, or forgotten. That of weights
        goes by the same age, unless they are listed or the release served with them. Events and
        sent configs go by it too, and beyond so many `events`; never the newest, by whose numbers
        later ones are counted.

        Args:
            before: seconds since the epoch.
            releases: how many that are over are kept.
            events: how many events are kept, and how many configs.
            listed: digests of what the sources list; None when that is not known of all of them,
                then only events and configs go.
        """
        with self.transaction():
            more = False
            if listed is not None:
                limits = before, releases, json.dumps(sorted(set(listed)))
                more = self._prune("releases", _OVER_RELEASES, *limits)
                more |= self._prune("quarantines", _OVER_QUARANTINES, *limits)
                self._run(_REFUSED_IN_THE_PAST, before, limits[2], self.cluster)
                for table in ("proven_weights", "refused_weights"):
                    self._run(
                        f"DELETE FROM {table} WHERE cluster = ?1 "  # noqa: S608 - ours
                        "AND (pipeline, digest) NOT IN "
                        "(SELECT pipeline, digest FROM releases WHERE cluster = ?1)",
                        self.cluster,
                    )
                    self._forget(table)
                self._forget("lifted_weights")
            for table in ("events", "configs"):
                self._run(
                    f"DELETE FROM {table} WHERE id < (SELECT max(id) FROM {table}) "  # noqa: S608 - ours
                    f"AND (at < ?1 OR id <= (SELECT max(id) FROM {table}) - ?2)",
                    *(before, events),
                )
            self._run("DELETE FROM config_texts WHERE digest NOT IN (SELECT digest FROM configs)")
        return more

    def _prune(self, table: str, over: str, before: float, number: int, listed: str) -> bool:
        gone = self._run(
            f"DELETE FROM {table} WHERE cluster = ?7 "  # noqa: S608 - ours
            "AND (pipeline, version, digest) IN ("
            "SELECT pipeline, version, digest FROM ("
            f"SELECT *, row_number() OVER (ORDER BY ended DESC) AS position FROM ({over})) "
            "WHERE (ended < ?3 OR position > ?4) "
            "AND digest NOT IN (SELECT value FROM json_each(?5)) LIMIT ?6) RETURNING 1",
            *(*OVER, before, number, listed, AT_ONCE, self.cluster),
        )
        if gone:
            self._forget(table, "past", "asked")
        return len(gone) == AT_ONCE
