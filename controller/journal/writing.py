"""Everything that is written to the journal: each method is a small transaction of its own, unless
`with journal.transaction():` holds several together.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

from controller.errors import JournalError, Waiting
from controller.journal import schema
from controller.journal.migrations import MIGRATIONS
from controller.journal.reading import Reader
from controller.journal.schema import SAME, key_of
from controller.journal.weights_writing import WeightsJournal
from controller.journal.wording import (
    condition_event,
    lost_condition,
    order_event,
    restored_event,
    set_aside_event,
    with_note,
)
from controller.model import DEFAULT_CLUSTER, Condition, Event, UnsoundWheel
from controller.planning.overrides import Pin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from packaging.version import Version

    from controller.journal.records import ReleaseRecord
    from controller.model import Quarantine, Tracked, Transition
    from controller.planning.overrides import Suspension

_R = TypeVar("_R", bound=Reader)

AGAIN_AFTER: Final = 10.0
"""Seconds between two tries to write a lost file anew."""
CONFIGS_KEPT: Final = 200
"""Serve configs, by their digest, whose text is kept."""


class Journal(WeightsJournal):
    """The journal as its daemon has it (`open`), or opened for one short write beside it (`amend`).

    Besides what `Reader` raises, writing raises Waiting("DiskFull"). A transaction belongs to one
    thread; others that write meanwhile wait for it, so it should span recording and nothing slow.
    """

    set_aside: Path | None = None
    """Where a corrupt predecessor was put when this journal was opened."""
    _tried_at, _trouble = 0.0, ""

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
        migrations: Sequence[str] = MIGRATIONS,
        cluster: str = DEFAULT_CLUSTER,
    ) -> Self:
        """Open as the daemon: alone, creating, upgrading or setting aside the file as needed.

        Raises:
            JournalError: another daemon has it ("JournalLocked"), a newer program wrote it
                ("JournalNewer"), the folder cannot be used.
            Waiting: the disk is full.
        """
        path, damaged, cause = folder / schema.FILE, None, ""
        lock = schema.lock(folder)
        try:
            try:
                connection = schema.open_writable(path, migrations)
            except JournalError as error:
                if error.reason != "JournalCorrupt":
                    raise
                cause = str(error.__cause__)
                damaged = schema.set_aside(path, datetime.fromtimestamp(clock(), UTC))
                connection = schema.open_writable(path, migrations)
            journal = cls(connection, path, cluster=cluster, lock=lock)
        except BaseException:
            os.close(lock)
            raise
        if damaged is not None:
            journal.set_aside = damaged
            journal.append(set_aside_event(clock(), path, damaged, cause))
        return journal

    @staticmethod
    def read(folder: Path, *, cluster: str = DEFAULT_CLUSTER) -> Reader:
        """Open for reading only, while the daemon runs or when it is down.

        Raises:
            JournalError: there is none yet ("JournalMissing"), or it is of another schema.
        """
        return _beside(Reader, folder, cluster, write=False)

    @classmethod
    def amend(cls, folder: Path, *, cluster: str = DEFAULT_CLUSTER) -> Self:
        """Open for a short write beside a running daemon, which reads it at its next pass.

        Raises:
            JournalError: as `read`.
        """
        return _beside(cls, folder, cluster, write=True)

    def keep_file(self, at: float) -> Condition | None:
        """Write the file anew if it was deleted or replaced under the daemon; a condition as long
        as that cannot be done.
        """
        if not (lost := self.lost()):
            return None
        if not self._trouble or not 0 <= at - self._tried_at < AGAIN_AFTER:
            self._tried_at = at
            try:
                other = self.write_anew(at)
            except (JournalError, Waiting) as error:
                self._trouble = error.message
            except OSError as error:
                self._trouble = f"{error.filename or self.path}: {error.strerror}"
            else:
                self._trouble = ""
                self.append(restored_event(at, self.path, lost, other))
                return None
        return lost_condition(self.path, lost, self._trouble)

    # -- releases --------------------------------------------------------------------------------

    def record(self, transition: Transition, at: float, *, source: str = "") -> Event | None:
        """A release enters a phase, or stays in it with news. An empty source or placement keeps
        what was known. Returns the event that was appended: none when only the message is new.
        """
        subject, phase, reason = transition.subject, transition.phase.value, transition.reason
        key, unsound = key_of(self.cluster, subject), isinstance(subject, UnsoundWheel)
        with self.transaction():
            row = f"SELECT phase, reason, version, unsound FROM releases WHERE {SAME}"  # noqa: S608 - ours
            before, earlier, version, was_unsound = next(
                iter(self._run(row, *key)), ("", "", key[2], False)
            )
            key = *key[:2], version, key[3]
            self._run(
                "INSERT INTO releases VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) "
                "ON CONFLICT DO UPDATE SET "
                "since = CASE phase WHEN excluded.phase THEN since ELSE excluded.since END, "
                "phase = excluded.phase, reason = excluded.reason, message = excluded.message, "
                "source = CASE excluded.source WHEN '' THEN source ELSE excluded.source END, "
                "placement = "
                "CASE excluded.placement WHEN '' THEN placement ELSE excluded.placement END, "
                "unsound = excluded.unsound",
                *(*key, phase, reason, transition.message, source, transition.placement, at),
                unsound,
            )
            row = "INSERT OR IGNORE INTO phases VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
            self._run(row, *key, phase, at)
            if unsound or was_unsound:  # it may be known under the other kind
                self._forget()
            else:
                self._learn(subject)
            if (before, earlier) == (phase, reason):
                return None
            fields = {
                "phase": phase,
                "before": before,
                "digest": subject.digest,
                "placement": transition.placement,
            }
            return self.append(Event(at, str(subject), reason, transition.message, fields))

    def _learn(self, release: Tracked) -> None:
        """Read again the one release that was written to."""
        self._forget("asked")
        self._known.get("past", {}).pop(release, None)
        current: dict[Tracked, ReleaseRecord] | None = self._known.get("releases")
        if current is None:
            return
        current.pop(release, None)
        record = self._record(release)
        if record is not None and not record.over:
            current[release] = record

    def add_quarantine(self, quarantine: Quarantine) -> None:
        """Put a release, or a wheel, into quarantine, in place of an earlier one of the same."""
        with self.transaction():
            self.end_quarantine(quarantine.subject)
            self._put(
                "quarantines",
                *key_of(self.cluster, quarantine.subject),
                *(quarantine.stage, quarantine.reason, quarantine.message, quarantine.inputs),
                *(quarantine.log_tail, quarantine.at),
            )

    def end_quarantine(self, subject: Tracked) -> None:
        """End a quarantine, for the release went live after all; that has an event of its own."""
        row = f"DELETE FROM quarantines WHERE {SAME}"  # noqa: S608 - a text of ours
        self._run(row, *key_of(self.cluster, subject))
        self._forget("quarantines")

    def clear_quarantine(
        self,
        pipeline: str,
        version: Version | None = None,
        *,
        at: float,
        by: str = "operator",
        note: str = "",
    ) -> list[Quarantine]:
        """Lift a pipeline's quarantines, or those of one version; returns what was lifted."""
        with self.transaction():
            lifted = [
                quarantine
                for quarantine in self.quarantines(pipeline)
                if version is None or quarantine.subject.version == version
            ]
            for one in lifted:
                self.end_quarantine(one.subject)
                message = f"lifted by {with_note(by, note)}; it was: {one.reason}: {one.message}"
                self.append(Event(at, str(one.subject), "QuarantineCleared", message, {"by": by}))
        return lifted

    # -- what operators order --------------------------------------------------------------------

    def order(self, order: Pin | Suspension, *, message: str) -> Event:
        """Keep a pin or a suspension, in place of an earlier one of the same pipeline; returns the
        event that was appended.
        """
        versions = [str(version) for version in order.versions] if isinstance(order, Pin) else []
        with self.transaction():
            self._put(
                "overrides",
                *(_kind(order), order.pipeline, json.dumps(versions)),
                *(order.by, order.note, order.at),
            )
            self._forget("overrides")
            return self.append(order_event(order, "Set", message, order.by, order.at))

    def lift(self, order: Pin | Suspension, *, at: float, by: str, note: str = "") -> Event:
        """Drop a pin or a suspension; returns the event that was appended."""
        with self.transaction():
            self._run(
                "DELETE FROM overrides WHERE kind = ?1 AND pipeline = ?2",
                *(_kind(order), order.pipeline),
            )
            self._forget("overrides")
            message = f"lifted by {with_note(by, note)}; it was {order}"
            return self.append(order_event(order, "Lifted", message, by, at))

    # -- placements ------------------------------------------------------------------------------

    def placement_live(self, name: str, at: float) -> None:
        """The application answered at its route through the ingress: dated once a promotion."""
        self._run(
            "INSERT INTO placements (cluster, name, live_at) VALUES (?1, ?2, ?3) "
            "ON CONFLICT DO UPDATE "
            "SET live_at = excluded.live_at WHERE live_at IS NULL OR live_at < routed_at",
            *(self.cluster, name, at),
        )
        self._forget("placements")

    # -- the story -------------------------------------------------------------------------------

    def set_conditions(self, conditions: Iterable[Condition], at: float) -> list[Event]:
        """Replace the present conditions by these; a second one of the same subject and reason
        replaces the first.

        A condition that stays keeps its time, whatever its message says now; one that comes, goes
        or turns (`ok`) appends an event. Returns these, for the log.
        """
        coming = {(item.subject, item.reason): item for item in conditions}
        present = {(old.subject, old.reason): (old, at) for old, at in self.conditions()}
        if coming == {key: old for key, (old, _) in present.items()}:
            return []
        changes: list[tuple[Condition, str]] = []
        with self.transaction():
            self._forget("conditions")
            for key in sorted(present.keys() - coming.keys()):
                row = "DELETE FROM conditions WHERE cluster = ?1 AND subject = ?2 AND reason = ?3"
                self._run(row, self.cluster, *key)
                changes.append((present[key][0], "gone"))
            for key, item in sorted(coming.items()):
                old, since = present.get(key, (None, at))
                if item == old:
                    continue
                if old is None or old.ok != item.ok:
                    since = at
                    changes.append((item, "appeared"))
                self._put("conditions", self.cluster, *key, item.message, item.ok, since)
            pipelines = self.pipelines() if changes else ()
            return [
                self.append(condition_event(item, at, change, pipelines=pipelines))
                for item, change in changes
            ]

    def sending(self, yaml_text: str, digest: str, cause: str, at: float) -> int:
        """A Serve config is about to be sent; returns its number, for `sent`. Texts are kept once a
        digest, those of the last digests.
        """
        with self.transaction():
            ((newest,),) = self._run(
                "INSERT INTO configs (at, digest, cause, outcome, cluster) "
                "VALUES (?1, ?2, ?3, 'Sending', ?4) RETURNING id",
                *(at, digest, cause, self.cluster),
            )
            self._run("INSERT OR IGNORE INTO config_texts VALUES (?1, ?2)", digest, yaml_text)
            self._run(
                "DELETE FROM config_texts WHERE digest NOT IN "
                "(SELECT digest FROM configs GROUP BY digest ORDER BY max(id) DESC LIMIT ?1)",
                CONFIGS_KEPT,
            )
        return int(newest)

    def sent(self, number: int, outcome: str = "Applied") -> None:
        """What became of a config: applied, or a reason."""
        self._run("UPDATE configs SET outcome = ?2 WHERE id = ?1", number, outcome)


def _kind(order: Pin | Suspension) -> str:
    if isinstance(order, Pin):
        return "weights" if order.of_weights else "pin"
    return "suspension"


def _beside(kind: type[_R], folder: Path, cluster: str, *, write: bool) -> _R:
    path = folder / schema.FILE
    opening = partial(schema.open_beside, path, MIGRATIONS, write=write)
    return kind(opening(), path, cluster=cluster, reopen=opening)
