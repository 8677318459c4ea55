"""Every query of the journal. Lists are in order of time or name, the oldest or first on top."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from packaging.utils import canonicalize_version
from packaging.version import Version

from controller.errors import JournalError
from controller.journal.records import (
    OVER,
    AppliedConfig,
    DaemonStatus,
    ReleaseRecord,
    listing_of,
)
from controller.journal.schema import SAME, key_of, matching, translated
from controller.model import (
    Condition,
    Event,
    Listing,
    Loss,
    Phase,
    PlacementRecord,
    Quarantine,
    RefusedWheel,
    Release,
)
from controller.planning.overrides import Overrides, Pin, Suspension

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path


class Reader:
    """A journal that is only read. Usable from several threads; close it, or use `with`.

    Every method raises JournalError when the file turns out damaged or unusable and Waiting
    ("JournalBusy") when another process keeps it locked.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        *,
        reopen: Callable[[], sqlite3.Connection] | None = None,
    ) -> None:
        """With `reopen` the file is followed when the daemon writes it anew."""
        self._connection = connection
        self._mutex = threading.RLock()
        self._reopen = reopen
        self._file = path.stat().st_ino if reopen is not None else 0
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        self._connection.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Inside, all queries see the journal as at one moment."""
        with self._mutex:
            if self._connection.in_transaction:
                yield
                return
            self._run("BEGIN")
            try:
                yield
            finally:
                self._run("COMMIT")

    # -- releases --------------------------------------------------------------------------------

    def releases(self, pipeline: str | None = None, *, over: bool = True) -> list[ReleaseRecord]:
        """Every release the journal knows, or one pipeline's; by pipeline, version and digest.
        Without those that are `over`: what is left does not grow with time.
        """
        which, values = matching(pipeline=pipeline)
        which += " AND (? OR phase NOT IN (?, ?))"
        found = self._records(which, *values, over, *(phase.value for phase in OVER))
        return sorted(found, key=lambda record: record.release)

    def records(self, releases: Collection[Release] = ()) -> dict[Release, ReleaseRecord]:
        """Every release that is not over, and of these all that are known."""
        found = {record.release: record for record in self.releases(over=False)}
        others = [self._record(release) for release in releases if release not in found]
        return found | {record.release: record for record in others if record is not None}

    def _record(self, release: Release) -> ReleaseRecord | None:
        found = self._records(SAME, *key_of(release))
        return found[0] if found else None

    def _records(self, which: str, *values: object) -> list[ReleaseRecord]:
        """Those that a condition of ours picks out."""
        columns = "pipeline, version, digest, phase, reason, message, source, placement, since"
        found = f"SELECT {columns} FROM releases WHERE {which}"  # noqa: S608 - a text of ours
        with self.snapshot():
            rows = self._run(found, *values)
            times: dict[tuple[str, str, str], dict[Phase, float]] = {}
            dated = (
                f"SELECT pipeline, version, digest, p.phase, p.at FROM ({found}) "  # noqa: S608 - same
                "JOIN phases p USING (pipeline, version, digest) ORDER BY p.at"
            )
            for *key, phase, at in self._run(dated, *values):
                times.setdefault((key[0], key[1], key[2]), {})[Phase(phase)] = at
        return [
            ReleaseRecord(
                release=Release(name, Version(version), digest),
                phase=Phase(phase),
                reason=reason,
                message=message,
                source=source,
                placement=placement,
                since=since,
                times=times.get((name, version, digest), {}),
            )
            for name, version, digest, phase, reason, message, source, placement, since in rows
        ]

    def counted(self) -> dict[tuple[str, Phase], int]:
        """How many releases are in each phase, by pipeline and phase; those that are over too."""
        rows = self._run("SELECT pipeline, phase, count(*) FROM releases GROUP BY pipeline, phase")
        return {(pipeline, Phase(phase)): count for pipeline, phase, count in rows}

    def listed(self) -> set[str]:
        """Digests of all wheels that the sources listed last."""
        rows = self._run(
            "SELECT json_extract(one.value, '$.sha256') "
            "FROM listings, json_each(content, '$.revisions') one"
        )
        return {digest for (digest,) in rows}

    def pipelines(self) -> set[str]:
        """The pipelines that are known by name: of a release, a pin or a suspension."""
        rows = self._run("SELECT pipeline FROM releases UNION SELECT pipeline FROM overrides")
        return {pipeline for (pipeline,) in rows}

    def quarantines(self, pipeline: str | None = None) -> list[Quarantine]:
        """Every quarantine in force, or one pipeline's; by pipeline, version and digest."""
        which, values = matching(pipeline=pipeline)
        columns = "pipeline, version, digest, stage, reason, message, inputs, log_tail, at"
        rows = self._run(f"SELECT {columns} FROM quarantines WHERE {which}", *values)  # noqa: S608 - ours
        found = [
            Quarantine(Release(name, Version(version), digest), *rest)
            for name, version, digest, *rest in rows
        ]
        return sorted(found, key=lambda quarantine: quarantine.release)

    def quarantines_of(self, *digests: AbstractSet[str]) -> list[Quarantine]:
        """Those in force of wheels with these digests; in the same order."""
        wanted: set[str] = set().union(*digests)
        return [one for one in self.quarantines() if one.release.digest in wanted]

    def placements(self) -> dict[str, PlacementRecord]:
        """What is remembered of each Serve application of ours, by its name."""
        rows = self._run(
            "SELECT name, staged_at, routed_at, live_at, building_since FROM placements "
            "ORDER BY name"
        )
        return {row[0]: PlacementRecord(*row) for row in rows}

    def overrides(self) -> Overrides:
        """What operators ordered by command and nobody lifted since."""
        pins: dict[str, Pin] = {}
        suspensions: dict[str, Suspension] = {}
        for kind, pipeline, versions, *rest in self._run(
            "SELECT kind, pipeline, versions, who, note, at FROM overrides ORDER BY kind, pipeline"
        ):
            if kind == "pin":
                pinned = tuple(Version(text) for text in json.loads(versions))
                pins[pipeline] = Pin(pipeline, pinned, *rest)
            else:
                suspensions[pipeline] = Suspension(pipeline, *rest)
        return Overrides(pins, suspensions)

    # -- the story -------------------------------------------------------------------------------

    def conditions(self) -> list[tuple[Condition, float]]:
        """The present conditions, each with the time since when it holds."""
        rows = self._run(
            "SELECT subject, reason, message, ok, since FROM conditions ORDER BY subject, reason"
        )
        return [
            (Condition(subject, reason, message, bool(ok)), since)
            for subject, reason, message, ok, since in rows
        ]

    def events(
        self,
        *,
        subject: str | None = None,
        pipeline: str | None = None,
        version: Version | None = None,
        since: float | None = None,
        limit: int = 200,
    ) -> list[Event]:
        """The last `limit` events that match all of what is given, oldest first.

        Args:
            subject: exactly as the event has it.
            pipeline: normalised; matches events about any of its releases.
            version: together with `pipeline`; 1.0 matches 1.0.0, as PEP 440 has it.
            since: seconds since the epoch, included.
            limit: at most this many.
        """
        told = None if version is None else canonicalize_version(version)
        which, values = matching(subject=subject, pipeline=pipeline, version=told)
        rows = self._run(
            f"SELECT at, subject, reason, message, fields FROM events WHERE {which} "  # noqa: S608 - ours
            "AND at >= ? ORDER BY id DESC LIMIT ?",
            *(*values, float("-inf") if since is None else since, limit),
        )
        return [
            Event(at, about, reason, message, json.loads(fields))
            for at, about, reason, message, fields in reversed(rows)
        ]

    def events_after(
        self, number: int, *, pipeline: str | None = None, limit: int = 200
    ) -> list[tuple[int, Event]]:
        """The next `limit` events after one, each with its number, of all or of one pipeline.
        Numbers only grow; those of events that are no longer kept are never given again.
        """
        rows = self._run(
            "SELECT id, at, subject, reason, message, fields FROM events "
            "WHERE id > ?1 AND (?2 IS NULL OR pipeline = ?2) ORDER BY id LIMIT ?3",
            *(number, pipeline, limit),
        )
        return [
            (own, Event(at, about, reason, message, json.loads(fields)))
            for own, at, about, reason, message, fields in rows
        ]

    def knows_since(self) -> float | None:
        """When the oldest event was that is still kept; None when none was ever dropped."""
        rows = self._run("SELECT id, at FROM events ORDER BY id LIMIT 1")
        return float(rows[0][1]) if rows and rows[0][0] > 1 else None

    def told(self) -> int | None:
        """The number of the last event that a daemon told of; None before any did."""
        rows = self._run("SELECT value FROM meta WHERE key = 'told'")
        return int(rows[0][0]) if rows else None

    def clock_offset(self, boot: str) -> float | None:
        """Seconds that the clock of waiting is ahead of the monotonic one, in this boot of the
        machine; None before that was kept.
        """
        rows = self._run("SELECT value FROM meta WHERE key = 'clock'")
        kept, _, offset = rows[0][0].rpartition(" ") if rows else ("", "", "")
        return float(offset) if kept == boot else None

    def last_event(self) -> int:
        """The number of the newest event; 0 when there is none."""
        ((newest,),) = self._run("SELECT coalesce(max(id), 0) FROM events")
        return int(newest)

    def configs(self, limit: int = 50) -> list[AppliedConfig]:
        """The last `limit` configs that were sent, oldest first."""
        rows = self._run(
            "SELECT at, digest, cause, EXISTS (SELECT 1 FROM config_texts t "
            "WHERE t.digest = configs.digest), outcome FROM configs ORDER BY id DESC LIMIT ?1",
            limit,
        )
        return [
            AppliedConfig(at, digest, cause, bool(kept), outcome)
            for at, digest, cause, kept, outcome in reversed(rows)
        ]

    def config(self, digest_prefix: str) -> str:
        """The text of an applied config, found by the start of its digest.

        Raises:
            JournalError: no config starts so ("ConfigUnknown"), several do ("DigestAmbiguous"), or
                its text is no longer kept ("ConfigForgotten").
        """
        rows = self._run(
            "SELECT DISTINCT c.digest, t.text FROM configs c LEFT JOIN config_texts t "
            "ON t.digest = c.digest WHERE substr(c.digest, 1, length(?1)) = ?1 LIMIT 3",
            digest_prefix.lower(),
        )
        if not rows:
            raise JournalError(
                "ConfigUnknown",
                f"no config with a digest that starts with {digest_prefix!r} was sent; see "
                "`wheelway history` for those that were",
            )
        if len(rows) > 1:
            raise JournalError(
                "DigestAmbiguous",
                f"several configs start with {digest_prefix!r} ("
                + ", ".join(sorted(digest[: len(digest_prefix) + 4] for digest, _ in rows))
                + ", ...); give more of its digits",
            )
        digest, text = rows[0]
        if text is None:
            raise JournalError(
                "ConfigForgotten",
                f"config {digest[:12]} was sent, but only the texts of the last ones are kept",
            )
        return str(text)

    # -- what was last seen ----------------------------------------------------------------------

    def listings(self) -> dict[str, Listing]:
        """The last good listing of each source, by the source's name."""
        rows = self._run("SELECT source, content FROM listings ORDER BY source")
        return {source: listing_of(content) for source, content in rows}

    def listings_of(self, origins: Mapping[str, str]) -> dict[str, Listing]:
        """The last good listings of these sources, by name and what each is: what another kind of
        source listed under the name, or one elsewhere, says nothing of this one.
        """
        before = self._origins()
        return {
            source: listing
            for source, listing in self.listings().items()
            if source in origins and before.get(source, origins[source]) == origins[source]
        }

    def _origins(self) -> dict[str, str]:
        """What each source was; empty in the journal of a daemon that did not keep it."""
        rows = self._run("SELECT value FROM meta WHERE key = 'origins'")
        found: dict[str, str] = json.loads(rows[0][0]) if rows else {}
        return found

    def refused_wheels(self) -> list[RefusedWheel]:
        """The listed wheels that no release comes of, by digest and name."""
        rows = self._run(
            "SELECT digest, filename, reason, message, inputs, at FROM refused_wheels "
            "ORDER BY digest, filename"
        )
        return [RefusedWheel(*row) for row in rows]

    def owners(self) -> dict[str, str]:
        """By pipeline: the project that owns its name."""
        return dict(self._run("SELECT pipeline, project FROM owners"))

    def losses(self) -> dict[str, Loss]:
        """By source: how much of it vanished at once, for as long as that keeps what is left."""
        rows = self._run("SELECT source, vanished, live FROM losses ORDER BY source")
        return {source: Loss(vanished, live) for source, vanished, live in rows}

    def status(self) -> DaemonStatus | None:
        """The last pass of the last daemon; None before the first one ended."""
        rows = self._run(
            "SELECT number, at, sentence, duration, pid, version, started_at FROM status"
        )
        return DaemonStatus(*rows[0]) if rows else None

    def _run(self, statement: str, *values: object) -> list[Any]:
        if not self._connection.in_transaction:
            self._follow()
        with translated(self.path):
            return self._connection.execute(statement, [_storable(v) for v in values]).fetchall()

    def _follow(self) -> None:
        """Go on with the file that is there now. The old connection ends with its last query."""
        if self._successor() is None:
            return
        with self._mutex:
            if self._reopen is not None and (now := self._successor()) is not None:
                self._connection, self._file = self._reopen(), now

    def _successor(self) -> int | None:
        """The inode of the file that is there now, if it is another one, for who follows it. Of one
        that was deleted, all is in what is open, until the daemon notices.
        """
        if self._reopen is None:
            return None
        try:
            now = self.path.stat().st_ino
        except OSError:
            return None
        return None if now == self._file else now


def _storable(value: object) -> object:
    """Undecodable bytes of a file name or a log become escapes: SQLite's text is UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value
