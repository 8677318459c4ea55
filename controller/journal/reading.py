"""Every query of the journal. Lists are in order of time or name, the oldest or first on top."""

from __future__ import annotations

import json
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_version
from packaging.version import Version

from controller.errors import JournalError
from controller.journal.connection import remembered
from controller.journal.records import (
    OVER,
    AppliedConfig,
    DaemonStatus,
    RefusedWheel,
    ReleaseRecord,
    listing_of,
)
from controller.journal.schema import SAME, key_of, matching
from controller.journal.weights_reading import WeightsReader
from controller.model import (
    Condition,
    Event,
    Listing,
    Loss,
    Phase,
    PlacementRecord,
    Quarantine,
    Release,
    UnsoundWheel,
    tracked,
)
from controller.observed import Part
from controller.planning.overrides import Overrides, Pin, Suspension

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from controller.model import Tracked

_EVENTS = "SELECT id, at, subject, reason, message, fields FROM events WHERE"


class Reader(WeightsReader):
    """A journal that is only read."""

    # -- releases --------------------------------------------------------------------------------

    def releases(self, pipeline: str | None = None, *, over: bool = True) -> list[ReleaseRecord]:
        """Every release the journal knows, or one pipeline's; by pipeline, version and digest.
        Without those that are `over`: what is left does not grow with time.
        """
        which, values = matching(cluster=self.cluster, pipeline=pipeline)
        which += " AND (? OR phase NOT IN (?, ?))"
        return sorted(self._records(which, *values, over, *OVER), key=attrgetter("subject.key"))

    def records(self, releases: Collection[Tracked] = ()) -> dict[Tracked, ReleaseRecord]:
        """Every release that is not over, and those of `releases` that are known. Ask for all of
        them at once: only the last that were asked for are remembered. If a wheel failed inspection
        and passes now, its release has the record that was the wheel's, and the wheel has none.
        """
        with self._mutex:
            current = self._remembered("releases", self._current)
            asked: tuple[object, dict[Tracked, ReleaseRecord]] | None
            asked = self._known.get("asked")
            if asked is None or asked[0] is not releases:
                asked = self._known["asked"] = releases, self._of(releases, current)
            return dict(asked[1])

    def _of(
        self, releases: Collection[Tracked], current: Mapping[Tracked, ReleaseRecord]
    ) -> dict[Tracked, ReleaseRecord]:
        """Those that are `current`, and of `releases` all that are known."""
        past = self._known.get("past", {})
        self._known["past"] = past = {
            one: past[one] if one in past else self._record(one)
            for one in releases
            if one not in current
        }
        asked = {subject: record for subject, record in past.items() if record is not None}
        found = {**current, **asked}
        for subject, record in asked.items():
            if record.subject != subject:
                found.pop(record.subject, None)
        return found

    def _current(self) -> dict[Tracked, ReleaseRecord]:
        return {record.subject: record for record in self.releases(over=False)}

    def _record(self, subject: Tracked) -> ReleaseRecord | None:
        return next(iter(self._records(SAME, *key_of(self.cluster, subject))), None)

    def _records(self, which: str, *values: object) -> list[ReleaseRecord]:
        """Those that a condition of ours picks out."""
        columns = (
            "cluster, pipeline, version, digest, "
            "unsound, phase, reason, message, source, placement, since"
        )
        found = f"SELECT {columns} FROM releases WHERE {which}"  # noqa: S608 - a text of ours
        dated = (
            f"SELECT pipeline, version, digest, p.phase, p.at FROM ({found}) "  # noqa: S608 - same
            "JOIN phases p USING (cluster, pipeline, version, digest) ORDER BY p.at"
        )
        times: dict[tuple[str, ...], dict[Phase, float]] = {}
        with self.snapshot():
            rows = self._run(found, *values)
            for *key, phase, at in self._run(dated, *values):
                times.setdefault(tuple(key), {})[Phase(phase)] = at
        return [
            ReleaseRecord(
                (UnsoundWheel if unsound else Release)(name, Version(version), digest),
                *(Phase(phase), why, said, source, placed, since),
                times.get((name, version, digest), {}),
            )
            for _, name, version, digest, unsound, phase, why, said, source, placed, since in rows
        ]

    def counted(self) -> dict[tuple[str, Phase], int]:
        """How many releases are in each phase, by pipeline and phase; those that are over too."""
        rows = self._run(
            "SELECT pipeline, phase, count(*) FROM releases WHERE cluster = ?1 "
            "GROUP BY pipeline, phase",
            self.cluster,
        )
        return {(pipeline, Phase(phase)): count for pipeline, phase, count in rows}

    def listed(self) -> set[str]:
        """Digests of all wheels that the sources listed last."""
        rows = self._run(
            "SELECT json_extract(one.value, '$.sha256') "
            "FROM listings, json_each(content, '$.revisions') one"
        )
        return {digest for (digest,) in rows}

    def pipelines(self) -> set[str]:
        """The pipelines that are known by name: of a release, wherever, a pin or a suspension."""
        rows = self._run("SELECT pipeline FROM releases UNION SELECT pipeline FROM overrides")
        return {pipeline for (pipeline,) in rows}

    def quarantines(self, pipeline: str | None = None) -> list[Quarantine]:
        """Every quarantine in force, or one pipeline's; by pipeline, version and digest."""
        columns = "pipeline, version, digest, stage, reason, message, inputs, log_tail, at"
        which, values = matching(cluster=self.cluster, pipeline=pipeline)
        rows = self._run(f"SELECT {columns} FROM quarantines WHERE {which}", *values)  # noqa: S608 - ours
        return _in_order(
            Quarantine(tracked(name, Version(version), digest, stage), stage, *rest)
            for name, version, digest, stage, *rest in rows
        )

    def quarantines_of(self, *digests: AbstractSet[str]) -> list[Quarantine]:
        """Those in force of wheels with these digests; in the same order. All are remembered, so
        that a pass asks the file for none.
        """
        known = self._remembered("quarantines", self._by_digest)
        found = set().union(*(known.keys() & one for one in digests if known))
        return _in_order(one for digest in found for one in known[digest])

    def _by_digest(self) -> dict[str, list[Quarantine]]:
        found: dict[str, list[Quarantine]] = {}
        for quarantine in self.quarantines():
            found.setdefault(quarantine.subject.digest, []).append(quarantine)
        return found

    @remembered
    def placements(self) -> dict[str, PlacementRecord]:
        """What is remembered of each Serve application of ours, by its name."""
        rows = self._run(
            "SELECT name, staged_at, routed_at, live_at, building_since FROM placements "
            "WHERE cluster = ?1 ORDER BY name",
            self.cluster,
        )
        return {row[0]: PlacementRecord(*row) for row in rows}

    @remembered
    def overrides(self) -> Overrides:
        """What operators ordered by command and nobody lifted since."""
        pins: dict[str, Pin] = {}
        weights: dict[str, Pin] = {}
        suspensions: dict[str, Suspension] = {}
        for kind, pipeline, versions, *signed in self._run(
            "SELECT kind, pipeline, versions, who, note, at FROM overrides ORDER BY kind, pipeline"
        ):
            pinned = tuple(Version(text) for text in json.loads(versions))
            if kind == "suspension":
                suspensions[pipeline] = Suspension(pipeline, *signed)
                continue
            of_weights = kind == "weights"
            order = Pin(pipeline, pinned, *signed)
            (weights if of_weights else pins)[pipeline] = replace(order, of_weights=of_weights)
        return Overrides(pins, suspensions, weights)

    # -- the story -------------------------------------------------------------------------------

    @remembered
    def conditions(self) -> list[tuple[Condition, float]]:
        """The present conditions, each with the time since when it holds."""
        rows = self._run(
            "SELECT subject, reason, message, ok, since FROM conditions WHERE cluster = ?1 "
            "ORDER BY subject, reason",
            self.cluster,
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
            f"{_EVENTS} {which} AND at >= ? ORDER BY id DESC LIMIT ?",
            *(*values, float("-inf") if since is None else since, limit),
        )
        return [_event(*row) for _, *row in reversed(rows)]

    def events_after(
        self, number: int, *, pipeline: str | None = None, limit: int = 200
    ) -> list[tuple[int, Event]]:
        """The next `limit` events after one, each with its number, of all or of one pipeline.
        Numbers only grow; those of events that are no longer kept are never given again.
        """
        rows = self._run(
            f"{_EVENTS} id > ?1 AND (?2 IS NULL OR pipeline = ?2) ORDER BY id LIMIT ?3",
            *(number, pipeline, limit),
        )
        return [(own, _event(*row)) for own, *row in rows]

    def knows_since(self) -> float | None:
        """When the oldest event was that is still kept; None when none was ever dropped."""
        rows = self._run("SELECT id, at FROM events ORDER BY id LIMIT 1")
        return float(rows[0][1]) if rows and rows[0][0] > 1 else None

    def last_event(self) -> int:
        """The number of the newest event; 0 when there is none."""
        ((newest,),) = self._run("SELECT coalesce(max(id), 0) FROM events")
        return int(newest)

    def told(self) -> int | None:
        """The number of the last event that a daemon told of; None before any did."""
        number = self._meta("told")
        return int(number) if number else None

    def configs(self, limit: int = 50) -> list[AppliedConfig]:
        """The last `limit` configs that were sent, oldest first."""
        rows = self._run(
            "SELECT at, digest, cause, EXISTS (SELECT 1 FROM config_texts t "
            "WHERE t.digest = configs.digest), outcome FROM configs WHERE cluster = ?1 "
            "ORDER BY id DESC LIMIT ?2",
            *(self.cluster, limit),
        )
        return [
            AppliedConfig(at, digest, cause, bool(kept), outcome)
            for at, digest, cause, kept, outcome in reversed(rows)
        ]

    def serve_config(self, digest_prefix: str) -> str:
        """The text of an applied config, found by the start of its digest.

        Raises:
            JournalError: no config starts so ("ConfigUnknown"), several do ("DigestAmbiguous"), or
                its text is no longer kept ("ConfigForgotten").
        """
        rows = self._run(
            "SELECT DISTINCT c.digest, t.text FROM configs c LEFT JOIN config_texts t "
            "ON t.digest = c.digest "
            "WHERE c.cluster = ?1 AND substr(c.digest, 1, length(?2)) = ?2 LIMIT 3",
            *(self.cluster, digest_prefix.lower()),
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
        ((digest, text),) = rows
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
        found: dict[str, str] = json.loads(self._meta("origins") or "{}")
        return found

    @remembered
    def refused_wheels(self) -> list[RefusedWheel]:
        """The listed wheels that no release comes of, by digest and name."""
        rows = self._run(
            "SELECT digest, filename, reason, message, inputs, at FROM refused_wheels "
            "ORDER BY digest, filename"
        )
        return [RefusedWheel(*row) for row in rows]

    @remembered
    def owners(self) -> dict[str, str]:
        """By pipeline: the project that owns its name."""
        return dict(self._run("SELECT pipeline, project FROM owners"))

    @remembered
    def parts(self) -> dict[str, tuple[Part, ...]]:
        """By placement: the parts of what is on the cluster, of what has any."""
        rows = self._run(
            "SELECT placement, content FROM parts WHERE cluster = ?1 ORDER BY placement",
            self.cluster,
        )
        return {name: tuple(Part(**one) for one in json.loads(text)) for name, text in rows}

    @remembered
    def losses(self) -> dict[str, Loss]:
        """By source: how much of it vanished at once, for as long as that keeps what is left."""
        rows = self._run(
            "SELECT source, vanished, live FROM losses WHERE cluster = ?1 ORDER BY source",
            self.cluster,
        )
        return {source: Loss(*counts) for source, *counts in rows}

    def status(self) -> DaemonStatus | None:
        """The last pass of the last daemon; None before the first one ended."""
        rows = self._run(
            "SELECT number, at, sentence, duration, pid, version, started_at FROM status"
        )
        return DaemonStatus(*rows[0]) if rows else None

    def clock_offset(self, boot: str) -> float | None:
        """Seconds that the clock of waiting is ahead of the monotonic one, in this boot of the
        machine; None before that was kept.
        """
        kept, _, offset = (self._meta("clock") or "").rpartition(" ")
        return float(offset) if offset and kept == boot else None

    def _meta(self, key: str) -> str | None:
        rows = self._run("SELECT value FROM meta WHERE key = ?1", key)
        return str(rows[0][0]) if rows else None


def _event(at: float, subject: str, reason: str, message: str, fields: str) -> Event:
    return Event(at, subject, reason, message, json.loads(fields))


def _in_order(quarantines: Iterable[Quarantine]) -> list[Quarantine]:
    return sorted(quarantines, key=attrgetter("subject.key"))
