"""Watching one folder for wheels, through whatever the operating system offers (inotify on Linux).

Events are hints: a folder that cannot be watched is polled all the same, and says so in `note`.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from watchdog.events import (
    DirDeletedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from controller.planning import wheel_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from watchdog.observers.api import BaseObserver

_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileMovedEvent,
    FileClosedEvent,
    FileModifiedEvent,
    FileDeletedEvent,
    DirDeletedEvent,
]
"""Not opening and reading, for a listing does that and would wake itself for ever."""


class FolderWatch:
    """Calls back when a `*.whl` directly in a folder appears, changes or goes, or the folder goes.

    The folder may be missing, go, and come back as another: `follow` takes up the present one.
    """

    def __init__(self, folder: Path, observer: Callable[[], BaseObserver] = Observer) -> None:
        self._folder = folder
        self._new_observer = observer
        self._wake: Callable[[], None] | None = None
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int] | None = None
        self._mutex = threading.Lock()
        self.note = ""
        """Why the folder is not watched though it should be; empty when all is well."""

    def start(self, wake: Callable[[], None]) -> None:
        """Call `wake` from now on, from a thread of its own; it must return at once."""
        with self._mutex:
            self._wake = wake
        self.follow()

    def follow(self) -> None:
        """Watch the folder that is there now, if it is another; nothing before `start`."""
        with self._mutex:
            if self._wake is None:
                return
            present = _identity(self._folder)
            if present is not None and present == self._watched and _alive(self._observer):
                return
            self._end()
            if present is None:
                self.note = f"{self._folder} is not there to be watched; create it"
                return
            try:
                self._observer = self._begin(self._wake)
            except OSError as error:
                self.note = (
                    f"{self._folder} cannot be watched ({error.strerror or error}) and is only "
                    "polled; inotify's limits are fs.inotify.max_user_watches and "
                    "fs.inotify.max_user_instances (sysctl)"
                )
            else:
                self._watched, self.note = present, ""

    def close(self) -> None:
        """Stop calling back; returns when all threads ended."""
        with self._mutex:
            self._wake, self.note = None, ""
            self._end()

    def _begin(self, wake: Callable[[], None]) -> BaseObserver:
        folder = os.path.realpath(self._folder)  # a link itself would be watched, not what it names
        observer = self._new_observer()
        try:
            observer.schedule(_Waker(folder, wake), folder, event_filter=_EVENTS)
            observer.start()
        except BaseException:
            observer.stop()
            raise
        return observer

    def _end(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        self._observer = self._watched = None


class _Waker(FileSystemEventHandler):
    def __init__(self, folder: str, wake: Callable[[], None]) -> None:
        self._folder = folder
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        for path in map(os.fsdecode, (event.src_path, event.dest_path)):
            if wheel_names.claims_to_be_one(path) or path == self._folder:
                self._wake()
                return


def _alive(observer: BaseObserver | None) -> bool:
    """Whether it still watches: a watch ends with its folder, even if another takes its name."""
    return (
        observer is not None
        and observer.is_alive()
        and all(emitter.is_alive() for emitter in observer.emitters)
    )


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:  # missing, or closed to us: listing it says which
        return None
    return status.st_dev, status.st_ino
