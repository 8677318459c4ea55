"""The `directory` source: wheels in one folder of a file system.

Its job is to tell when a file is whole. A new file is whole once it ends as a zip archive does,
which no part of one can; a wheel that was moved in is whole at once. A file that ends otherwise is
taken once it has not changed for a while, so that a broken one gets a verdict too. The same holds
for a file that is written over, whose end may be the old one. Files are hashed once, large ones
that come beside the listings; later only their times and sizes are checked.
"""

from __future__ import annotations

import os
import stat
import threading
import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename
from watchdog.observers import Observer

from controller.errors import Stalled, Transient
from controller.model import Listing, Refusal, Revision
from controller.planning import wheel_names
from controller.sources.directory.digests import (
    CHUNK,
    LARGE,
    Digest,
    LargeFiles,
    NotWholeError,
    Stamp,
    digest_of,
    opened,
)
from controller.sources.directory.watching import FolderWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from io import FileIO

    from watchdog.observers.api import BaseObserver

    from controller.config.sources import DirectorySource as Options

_PENDING = "StillCopying"
"""The reason of what may be whole at the next listing."""

_END_RECORD, _ZIP64_RECORDS = 22, 56 + 20
"""Bytes: of the end record without its comment; of what ZIP64 has between it and the directory."""


@dataclass(frozen=True, slots=True)
class _Sight:
    """What is known of a file since its last change."""

    stamp: Stamp
    since: float
    """When it was first seen like this, on the source's monotonic clock."""
    digest: str | None = None
    final: bool = False
    """The digest was computed late enough that no change can hide behind the same stamp."""
    rewritten: bool = False
    """A file that was whole is being written over: its end may still be the old one."""


class DirectorySource:
    """A folder of wheels, its sub-folders not included."""

    def __init__(
        self,
        options: Options,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        observer: Callable[[], BaseObserver] = Observer,
    ) -> None:
        self.name = options.name
        self.poll_interval = options.poll_interval
        self._path = options.path
        self._settle = options.settle
        self._clock = clock
        self._wall_clock = wall_clock
        self._sights: dict[str, _Sight] = {}
        self._mutex = threading.Lock()
        self._folder_watch = FolderWatch(options.path, observer)
        self._large: LargeFiles | None = None
        self._was_listed = False

    @property
    def calls(self) -> Mapping[str, int]:
        """Always empty: a folder is no network."""
        return {}

    @property
    def watch_note(self) -> str:
        """Why the folder is only polled; empty while it is watched, or before `watch`."""
        return self._folder_watch.note

    def watch(self, wake: Callable[[], None]) -> None:
        """Call `wake` when a wheel appears, changes or goes. A folder that is missing, or comes
        back as another, is watched from the next listing on.
        """
        self._large = self._large or LargeFiles(wake, self._age_of)
        self._folder_watch.start(wake)

    def close(self) -> None:
        """End watching; returns when its threads ended."""
        self._folder_watch.close()
        if self._large is not None:
            self._large.close()

    def list(self) -> Listing:
        """Every wheel directly in the folder, by file name.

        Hidden files, folders and whatever is not called `*.whl` are ignored; `*.WHL` is refused.

        Raises:
            Stalled: the folder is missing or may not be read.
            Transient: the file system failed.
        """
        self._folder_watch.follow()  # before listing: what comes after that must wake
        with self._mutex:
            names = self._names()
            found = [self._examine(name) for name in names]
            self._sights = {name: self._sights[name] for name in names if name in self._sights}
            if self._large is not None:
                self._large.keep_only(names)
            self._was_listed = True
        refusals = [one for one in found if isinstance(one, Refusal)]
        return Listing(
            self.name,
            tuple(one for one in found if isinstance(one, Revision)),
            refused=tuple(one for one in refusals if one.reason != _PENDING),
            pending=tuple(one for one in refusals if one.reason == _PENDING),
        )

    def fetch(self, revision: Revision) -> Iterator[bytes]:
        """The file's bytes in chunks of one mebibyte.

        Raises:
            Transient: "FileChanged", it is gone, or no longer or not until the end the file that
                was listed.
        """
        changed = Transient(
            "FileChanged",
            f"{revision.filename} in {self._path} changed or went since it was listed; it will be "
            "fetched as it is listed next",
        )
        sight = self._sights.get(revision.locator)
        path = _resolved(self._path / revision.locator)
        if path is None:
            raise changed
        try:
            with opened(path) as file:
                before = Stamp.of(os.fstat(file.fileno()))
                listed = before
                if sight is not None and sight.digest == revision.sha256:
                    listed = sight.stamp
                if before != listed or before.size != revision.size:
                    raise changed
                while chunk := file.read(CHUNK):
                    yield chunk
                if Stamp.of(os.fstat(file.fileno())) != before:
                    raise changed
        except FileNotFoundError as error:
            raise changed from error
        except OSError as error:
            raise Transient(
                "FileUnreadable", f"{revision.filename} in {self._path}: {error.strerror}"
            ) from error

    def _names(self) -> Sequence[str]:
        try:
            with os.scandir(self._path) as entries:
                return sorted(
                    entry.name
                    for entry in entries
                    if wheel_names.claims_to_be_one(entry.name) and not entry.name.startswith(".")
                )
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Stalled(
                "DirectoryMissing",
                f"{self._path}, the folder of source {self.name}, does not exist; create it or "
                "correct `path` in [[sources]]",
            ) from error
        except PermissionError as error:
            raise Stalled(
                "DirectoryUnreadable",
                f"{self._path}, the folder of source {self.name}, may not be read by the daemon's "
                "user; grant it read and search permission",
            ) from error
        except OSError as error:
            raise Transient(
                "DirectoryUnlisted", f"{self._path}, source {self.name}: {error.strerror}"
            ) from error

    def _examine(self, name: str) -> Revision | Refusal | None:
        """What one name in the folder is; None for nothing of ours (a folder, or gone by now)."""
        try:
            return self._revision(name)
        except NotWholeError as what:
            return _refuse(name, _PENDING, str(what))
        except InvalidWheelFilename as error:
            return _refuse(
                name,
                "FilenameInvalid",
                f"is no wheel's file name ({error}); publish it under the name its build gave it",
            )
        except FileNotFoundError:
            if not (self._path / name).is_symlink():
                return None
            return _refuse(name, "Unreadable", "is a symlink to nothing; remove or correct it")
        except OSError as error:
            return _refuse(
                name, "Unreadable", f"cannot be read ({error.strerror}); correct its owner or mode"
            )

    def _revision(self, name: str) -> Revision | Refusal | None:
        path = _resolved(self._path / name)
        if path is None:
            return _refuse(
                name,
                "SymlinkOutside",
                f"is a symlink that leads out of {self._path}; put the wheel itself there",
            )
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        if not name.isprintable():
            raise InvalidWheelFilename("it has unprintable characters")
        parsed = wheel_names.parse(name)
        stamp = Stamp.of(status)
        return Revision(
            source=self.name,
            project=parsed.project,
            version=parsed.version,
            filename=name,
            locator=name,
            sha256=self._digest(name, path, stamp),
            size=stamp.size,
            # Of the rename into the folder too, which leaves the time of the content as it was.
            published_at=stamp.ctime / 1e9,
        )

    def _digest(self, name: str, path: Path, stamp: Stamp) -> str:
        """SHA-256 of a file that is whole; `NotWholeError` while it is not."""
        now = self._clock()
        sight = self._sights.get(name)
        if sight is None or sight.stamp != stamp:
            same_file = sight is not None and sight.stamp.inode == stamp.inode
            rewritten = same_file and sight is not None and (bool(sight.digest) or sight.rewritten)
            sight = self._sights[name] = _Sight(stamp, now, rewritten=rewritten)
        if sight.digest is not None and sight.final:
            return sight.digest
        if self._large is not None and self._large.has(name, stamp):  # its end was looked at
            found = self._large.digest(name, path, stamp, sight.since)
        else:
            found = self._read(name, path, sight, settled=now - sight.since >= self._settle)
        if found is None:
            if sight.digest is None:
                raise NotWholeError("is being read, which takes a moment; it is listed after that")
            return sight.digest
        self._sights[name] = replace(sight, digest=found.sha256, final=found.final)
        return found.sha256

    def _age_of(self, stamp: Stamp, since: float) -> float:
        """Seconds for which it is unchanged, by whichever clock knows more: its own time may lie
        ahead, and what was there before this process was seen late.
        """
        return max(self._clock() - since, self._wall_clock() - stamp.changed_at)

    def _read(self, name: str, path: Path, sight: _Sight, *, settled: bool) -> Digest | None:
        """The digest of a file that is whole; None while it is made beside the listings."""
        stamp, age = sight.stamp, self._age_of(sight.stamp, sight.since)
        with opened(path) as file:
            whole = not sight.rewritten and ends_like_a_zip(file, stamp.size)
            if not settled and not whole:
                raise NotWholeError(
                    "is being written over; it is read once it was unchanged for "
                    f"{self._settle:g} s"
                    if sight.rewritten
                    else "is still being copied, or is no wheel: it does not end like one; it is "
                    f"read once it was unchanged for {self._settle:g} s"
                )
            # What was there before, at the first listing, must not seem to be missing.
            if self._large is None or stamp.size < LARGE or not self._was_listed:
                return Digest(digest_of(file, stamp), age >= stamp.granularity)
        return self._large.digest(name, path, stamp, sight.since)


def ends_like_a_zip(file: FileIO, size: int) -> bool:
    """Whether the file ends as a finished zip archive does: the end record as zipfile finds it is
    the very last thing, and the central directory lies right before it (PKWARE APPNOTE 4.3.12 to
    4.3.16). It says nothing about what the entries hold.
    """
    try:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # noqa: SLF001 - the one way to ask it
    except zipfile.BadZipFile:  # in several parts
        return False
    if end is None:
        return False
    signature, length, offset, comment, at = end[0], end[5], end[6], end[7], end[9]
    begin = at - (_ZIP64_RECORDS if signature == b"PK\x06\x06" else 0)
    if at + _END_RECORD + comment != size or offset + length != begin:
        return False
    return length == 0 or os.pread(file.fileno(), 4, offset) == b"PK\x01\x02"


def _refuse(name: str, reason: str, message: str) -> Refusal:
    readable = name if name.isprintable() else ascii(name)[1:-1]
    return Refusal(readable, reason, f"{readable} {message}")


def _resolved(path: Path) -> Path | None:
    """The file that a name in the folder is; None when a link leads out of the folder."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    return target if target.is_relative_to(os.path.realpath(path.parent)) else None
