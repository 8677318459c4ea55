"""What the daemon last saw, kept for its next run in place of what was kept before.

The record of what happened is in `writing`.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, TypeVar

from controller.journal.records import listing_text
from controller.journal.restoring import Restorable
from controller.journal.schema import matching
from controller.journal.wording import concerns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from controller.journal.records import DaemonStatus, RefusedWheel
    from controller.model import Event, Listing, Loss, PlacementRecord
    from controller.observed import Part

_T = TypeVar("_T")


class Keeping(Restorable):
    """A journal that keeps what was last seen."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is written inside; on disk when it (the outer one) ends."""
        with self._mutex:
            if self._connection.in_transaction:
                yield
                return
            self._begin()
            try:
                yield
                self._run("COMMIT")
            except BaseException:
                self._forget()
                if self._connection.in_transaction:  # SQLite itself may have rolled back
                    self._run("ROLLBACK")
                raise

    def _begin(self) -> None:
        """Wait for others that write, and begin in the file that is there then: the daemon may have
        written it anew meanwhile, and nobody would read the old one.
        """
        self._run("BEGIN IMMEDIATE")
        while self._successor() is not None:
            self._run("ROLLBACK")
            self._run("BEGIN IMMEDIATE")

    def append(self, event: Event) -> Event:
        """Add an event; returns it, for the log. It is found by pipeline and version when its
        subject is a release as `str()` writes it, or its fields have `pipeline` (and `version`).
        """
        pipeline, version = concerns(event)
        with self.transaction():
            self._run(
                "INSERT INTO events (at, subject, pipeline, version, reason, message, fields) "
                "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                *(event.at, event.subject, pipeline, version, event.reason, event.message),
                json.dumps(dict(event.fields), sort_keys=True),
            )
        return event

    def _put(self, table: str, *row: object) -> None:
        """Write a row, in place of one with the same key."""
        values = ", ".join("?" * len(row))
        self._run(f"INSERT OR REPLACE INTO {table} VALUES ({values})", *row)  # noqa: S608 - ours

    def _keep(
        self,
        table: str,
        key: str,
        before: Mapping[str, _T],
        now: Mapping[str, _T],
        row: Callable[[str, _T], tuple[object, ...]],
        *,
        cluster: str | None = None,
    ) -> None:
        """Have a table, which held what was `before`, hold what is `now`, by its column `key`; a
        table of clusters hold it of this one.
        """
        if before == now:
            return
        with self.transaction():
            self._forget(table)
            for gone in before.keys() - now.keys():
                which, values = matching(**{"cluster": cluster, key: gone})
                self._run(f"DELETE FROM {table} WHERE {which}", *values)  # noqa: S608 - ours
            of = () if cluster is None else (cluster,)
            for name, value in now.items():
                if value != before.get(name):
                    self._put(table, *of, *row(name, value))

    def save_listing(self, listing: Listing, at: float) -> bool:
        """Keep a source's last good listing; returns whether it differs from the one before."""
        saved = self._known.setdefault("listings", {})
        if saved.get(listing.source) == listing:
            return False
        with self.transaction():
            changed = self._run(
                "INSERT INTO listings VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE "
                "SET at = excluded.at, content = excluded.content "
                "WHERE content != excluded.content RETURNING source",
                *(listing.source, at, listing_text(listing)),
            )
            saved[listing.source] = listing
        return bool(changed)

    def keep_losses(self, losses: Mapping[str, Loss]) -> None:
        """Remember these and no others."""
        self._keep(
            *("losses", "source", self.losses(), losses),
            lambda name, loss: (name, *astuple(loss)),
            cluster=self.cluster,
        )

    def keep_owners(self, owners: Mapping[str, str]) -> None:
        """Remember these projects and no others as the owners of pipelines' names."""
        self._keep("owners", "pipeline", self.owners(), owners, lambda *row: row)

    def date(self, records: Mapping[str, PlacementRecord]) -> None:
        """Remember these dates of what is on the cluster, and forget all others."""
        self._keep(
            *("placements", "name", self.placements(), records),
            lambda _, one: astuple(one),
            cluster=self.cluster,
        )

    def keep_parts(self, parts: Mapping[str, tuple[Part, ...]]) -> None:
        """Remember these parts of what is on the cluster, by placement, and no others."""
        self._keep(
            *("parts", "placement", self.parts(), parts),
            lambda name, of: (name, _text(of)),
            cluster=self.cluster,
        )

    def keep_refused(self, wheels: Sequence[RefusedWheel]) -> None:
        """Remember these wheels and no others as those that no release comes of."""
        if self.refused_wheels() == wheels:
            return
        with self.transaction():
            self._forget("refused_wheels")
            self._run("DELETE FROM refused_wheels")
            for wheel in wheels:
                self._put("refused_wheels", *astuple(wheel))

    def keep_listings_of(self, origins: Mapping[str, str]) -> None:
        """Drop what others than these sources listed, by name and what each is (`listings_of`)."""
        kept = self.listings_of(origins)
        with self.transaction():
            for source in self.listings().keys() - kept.keys():
                self._run("DELETE FROM listings WHERE source = ?1", source)
            self._forget("listings")
            if self._origins() != origins:
                self._put("meta", "origins", json.dumps(dict(origins), sort_keys=True))

    def keep_clock_offset(self, boot: str, offset: float) -> None:
        """See `Reader.clock_offset`."""
        self._put("meta", "clock", f"{boot} {offset!r}")

    def set_status(self, status: DaemonStatus, *, told: int | None = None) -> None:
        """A pass ended; everything up to the event `told` was told of."""
        with self.transaction():
            self._put("status", 1, *astuple(status))
            if told is not None:
                self._put("meta", "told", str(told))


def _text(parts: Iterable[Part]) -> str:
    return json.dumps([asdict(part) for part in parts], sort_keys=True)
