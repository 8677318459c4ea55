"""What the daemon last saw and found, kept for its next run: each in place of what was kept before.

What may change here: what is worth keeping. The record of what happened is `writing`'s business.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from controller.journal.records import listing_text
from controller.journal.restoring import Restorable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from controller.journal.records import DaemonStatus
    from controller.model import Listing, Loss, RefusedWheel


class Keeping(Restorable):
    """A journal that keeps what was last seen."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        *,
        lock: int | None = None,
        reopen: Callable[[], sqlite3.Connection] | None = None,
    ) -> None:
        super().__init__(connection, path, lock=lock, reopen=reopen)
        self._saved: dict[str, Listing] = {}

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
                self._saved.clear()
                self._forget()
                if self._connection.in_transaction:  # SQLite itself may have rolled back
                    self._run("ROLLBACK")
                raise

    def _begin(self) -> None:
        """Wait for others that write, and then begin in the file that is there now: who writes it
        anew does so meanwhile, and then nobody reads the old one any more.
        """
        self._run("BEGIN IMMEDIATE")
        while self._successor() is not None:
            self._run("ROLLBACK")
            self._run("BEGIN IMMEDIATE")

    def save_listing(self, listing: Listing, at: float) -> bool:
        """Keep a source's last good listing; returns whether it differs from the one before."""
        if self._saved.get(listing.source) == listing:
            return False
        content = listing_text(listing)
        with self.transaction():
            changed = self._run(
                "INSERT INTO listings VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE "
                "SET at = excluded.at, content = excluded.content "
                "WHERE content != excluded.content RETURNING source",
                *(listing.source, at, content),
            )
            self._saved[listing.source] = listing
        return bool(changed)

    def keep_losses(self, losses: Mapping[str, Loss]) -> None:
        """Remember these and no others."""
        if self.losses() == losses:
            return
        with self.transaction():
            self._forget("losses")
            self._run("DELETE FROM losses")
            for source, loss in losses.items():
                row = (source, loss.vanished, loss.live)
                self._run("INSERT INTO losses VALUES (?1, ?2, ?3)", *row)

    def keep_refused(self, wheels: Sequence[RefusedWheel]) -> None:
        """Remember these wheels and no others as those that no release comes of."""
        if self.refused_wheels() == wheels:
            return
        with self.transaction():
            self._forget("refused_wheels")
            self._run("DELETE FROM refused_wheels")
            for wheel in wheels:
                row = (wheel.digest, wheel.filename, wheel.reason, wheel.message, wheel.inputs)
                self._run(
                    "INSERT INTO refused_wheels VALUES (?1, ?2, ?3, ?4, ?5, ?6)", *row, wheel.at
                )

    def keep_owners(self, owners: Mapping[str, str]) -> None:
        """Remember these projects and no others as the owners of pipelines' names."""
        before = self.owners()
        if before == owners:
            return
        with self.transaction():
            self._forget("owners")
            for pipeline in before.keys() - owners.keys():
                self._run("DELETE FROM owners WHERE pipeline = ?1", pipeline)
            for pipeline, project in owners.items() - before.items():
                self._run("INSERT OR REPLACE INTO owners VALUES (?1, ?2)", pipeline, project)

    def keep_listings_of(self, origins: Mapping[str, str]) -> None:
        """Drop what others than these sources listed, by name and what each is (`listings_of`)."""
        kept = self.listings_of(origins)
        with self.transaction():
            for source in self.listings().keys() - kept.keys():
                self._saved.pop(source, None)
                self._run("DELETE FROM listings WHERE source = ?1", source)
            if self._origins() != origins:
                said = json.dumps(dict(origins), sort_keys=True)
                self._run("INSERT OR REPLACE INTO meta VALUES ('origins', ?1)", said)

    def keep_clock_offset(self, boot: str, offset: float) -> None:
        """See `Reader.clock_offset`."""
        self._run("INSERT OR REPLACE INTO meta VALUES ('clock', ?1)", f"{boot} {offset!r}")

    def set_status(self, status: DaemonStatus, *, told: int | None = None) -> None:
        """A pass ended; everything up to the event `told` was told of."""
        with self.transaction():
            self._run(
                "INSERT OR REPLACE INTO status VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                *(status.number, status.at, status.sentence, status.duration),
                *(status.pid, status.version, status.started_at),
            )
            if told is not None:
                self._run("INSERT OR REPLACE INTO meta VALUES ('told', ?1)", str(told))
