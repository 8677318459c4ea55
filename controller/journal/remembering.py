"""What the daemon asks its journal in every pass, read once and remembered until somebody writes.

Its own writes say what they change; of those of others, through connections of their own, SQLite
tells (`PRAGMA data_version`). What is over is not kept in memory, but for what is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from controller.journal.reading import Reader

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from controller.journal.records import ReleaseRecord
    from controller.model import Condition, Loss, PlacementRecord, Quarantine, RefusedWheel, Release
    from controller.planning.overrides import Overrides

_T = TypeVar("_T")


class Remembering(Reader):
    """A reader that asks the file nothing twice. What it returns belongs to the caller."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        *,
        reopen: Callable[[], sqlite3.Connection] | None = None,
    ) -> None:
        super().__init__(connection, path, reopen=reopen)
        self._known: dict[str, Any] = {}
        self._past: dict[Release, ReleaseRecord | None] = {}
        """Those that are over, or unknown, among the releases that were last asked for."""
        self._version: int | None = None

    def records(self, releases: Collection[Release] = ()) -> dict[Release, ReleaseRecord]:
        """As `Reader.records`; call it with all that matter at once, for the others go."""
        with self._mutex:
            current = self._remembered("releases", super().records)
            past = self._past
            self._past = {
                release: past[release] if release in past else self._record(release)
                for release in releases
                if release not in current
            }
            found = {release: one for release, one in self._past.items() if one is not None}
            return current | found

    def placements(self) -> dict[str, PlacementRecord]:
        """As `Reader.placements`."""
        return dict(self._remembered("placements", super().placements))

    def quarantines(self, pipeline: str | None = None) -> list[Quarantine]:
        """As `Reader.quarantines`."""
        if pipeline is not None:
            return super().quarantines(pipeline)
        known = self._remembered("quarantines", self._by_digest)
        return sorted((one for group in known.values() for one in group), key=_release)

    def quarantines_of(self, *digests: AbstractSet[str]) -> list[Quarantine]:
        """As `Reader.quarantines_of`; what it does not ask for costs nothing."""
        known = self._remembered("quarantines", self._by_digest)
        found = set().union(*(known.keys() & one for one in digests if known))
        return sorted((one for digest in found for one in known[digest]), key=_release)

    def _by_digest(self) -> dict[str, list[Quarantine]]:
        found: dict[str, list[Quarantine]] = {}
        for one in super().quarantines():
            found.setdefault(one.release.digest, []).append(one)
        return found

    def overrides(self) -> Overrides:
        """As `Reader.overrides`."""
        return self._remembered("overrides", super().overrides)

    def conditions(self) -> list[tuple[Condition, float]]:
        """As `Reader.conditions`."""
        return list(self._remembered("conditions", super().conditions))

    def losses(self) -> dict[str, Loss]:
        """As `Reader.losses`."""
        return dict(self._remembered("losses", super().losses))

    def refused_wheels(self) -> list[RefusedWheel]:
        """As `Reader.refused_wheels`."""
        return list(self._remembered("refused_wheels", super().refused_wheels))

    def owners(self) -> dict[str, str]:
        """As `Reader.owners`."""
        return dict(self._remembered("owners", super().owners))

    def _remembered(self, table: str, query: Callable[[], _T]) -> _T:
        with self._mutex:
            ((version,),) = self._run("PRAGMA data_version")
            if version != self._version:
                self._forget()
                self._version = version
            if table not in self._known:
                self._known[table] = query()
            found: _T = self._known[table]
            return found

    def _forget(self, *tables: str) -> None:
        """These were written to; none given: everything may have changed."""
        for table in tables or tuple(self._known):
            self._known.pop(table, None)
        if not tables:
            self._past.clear()

    def _learn(self, release: Release) -> None:
        """One release was written to: read it alone again."""
        current: dict[Release, ReleaseRecord] | None = self._known.get("releases")
        self._past.pop(release, None)
        if current is None:
            return
        current.pop(release, None)
        record = self._record(release)
        if record is not None and not record.over:
            current[release] = record


def _release(quarantine: Quarantine) -> Release:
    return quarantine.release
