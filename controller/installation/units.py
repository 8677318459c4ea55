"""The service's files on a machine: units, users, folders, a first configuration.

They lie in `systemd/`, in a checkout and in the package, and name /opt/wheelway; for another prefix
the paths in them are replaced. Each installed file is recorded with its SHA-256 beside the
configuration, so that one that somebody edited is neither overwritten nor removed. Nothing is
started, stopped or reloaded here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from controller.errors import Stalled
from controller.shipped import folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

UNITS: Final = ("wheelway.service", "wheelway-ray-head.service")
CONFIGURATION: Final = Path("/etc/wheelway/controller.toml")
RECORD: Final = Path("/etc/wheelway/installed.json")
"""What was installed. Not in the state folder: the daemon must not decide what root removes."""

_PREFIX: Final = "/opt/wheelway"
"""Where the shipped units expect the command."""
_STEPS_SINCE: Final = 254
"""The systemd that knows all shipped drop-ins (RestartSteps; notify-reload came with 253)."""
_BASE: Final = {
    "controller.toml": CONFIGURATION,
    "wheelway.service": Path("/etc/systemd/system/wheelway.service"),
    "wheelway-ray-head.service": Path("/etc/systemd/system/wheelway-ray-head.service"),
    "sysusers.d/wheelway.conf": Path("/etc/sysusers.d/wheelway.conf"),
    "tmpfiles.d/wheelway.conf": Path("/etc/tmpfiles.d/wheelway.conf"),
}
_NEWER: Final = {
    f"since-{_STEPS_SINCE}/{unit}.d/10-systemd-{_STEPS_SINCE}.conf": Path(
        f"/etc/systemd/system/{unit}.d/10-systemd-{_STEPS_SINCE}.conf"
    )
    for unit in UNITS
}
_HIDDEN: Final = ("/home", "/root", "/run", "/tmp", "/var/tmp")  # noqa: S108 - not used, refused
"""Folders that ProtectHome and PrivateTmp hide from the units, or that a boot empties."""


class Verb(StrEnum):
    """What became of a file."""

    WROTE = "wrote"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file, and what was done with it."""

    verb: Verb
    path: Path
    why: str = ""
    """Why, where that is not obvious."""


@dataclass(frozen=True, slots=True)
class Target:
    """The machine to install on."""

    root: Path = Path("/")
    """Its root folder: another one than `/` when an image is being built."""
    prefix: Path = Path(sys.prefix)
    """Where wheelway is installed there: `bin/wheelway` is below it."""
    systemd: int = 0
    """The major version of systemd there; 0 when unknown."""

    def at(self, path: Path) -> Path:
        """A path of that machine as seen from here."""
        return self.root / path.relative_to("/")


def systemd_version() -> int:
    """The major version of the systemd that is installed here; 0 when there is none."""
    try:
        done = subprocess.run(
            ["systemctl", "--version"],  # noqa: S607 - whichever is the machine's
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.match(r"systemd (\d+)", done.stdout)
    return int(found[1]) if found else 0


def install(target: Target, *, dry_run: bool = False) -> list[FileChange]:
    """Lay the files down, or bring those of an earlier installation up to date.

    Args:
        target: where.
        dry_run: only say what would be done.

    Raises:
        Stalled: `PrefixHidden`, `PrefixUnusable`: the units could not start what is there;
            `FileUnwritable`: not permitted.
    """
    _check(target)
    with _Record(target, dry_run=dry_run) as record:
        changes = [_install(record, path, text) for path, text in _files(target).items()]
        # Those of an earlier version, or for a newer systemd than there is now.
        gone = [path for path in record.known if path not in _files(target)]
        changes += [change for path in gone if (change := _remove(record, path))]
    return changes


def uninstall(target: Target, *, dry_run: bool = False) -> list[FileChange]:
    """Remove what `install` laid down, and the folders that it made for it if they are empty.

    Raises:
        Stalled: `NotInstalled`; `StillEnabled`: systemd would still want the units;
            `FileUnwritable`.
    """
    if not target.at(RECORD).is_file():
        raise Stalled(
            "NotInstalled",
            f"there is nothing to remove: {target.at(RECORD)}, where an installation is recorded, "
            "does not exist",
        )
    if enabled := sorted(_enabled(target)):
        raise Stalled(
            "StillEnabled",
            f"{' and '.join(enabled)} would be left without a file, still enabled or running; "
            f"first: {disabling(target)}",
        )
    with _Record(target, dry_run=dry_run) as record:
        return [change for path in list(record.known) if (change := _remove(record, path))]


def drop_ins(target: Target) -> list[Path]:
    """Drop-ins that operators added to our units (`systemctl edit`), which are never removed."""
    folders = (target.at(Path("/etc/systemd/system") / f"{unit}.d") for unit in UNITS)
    return [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]


def disabling(target: Target) -> str:
    """The command that ends the service for good."""
    where = "--now" if target.root == Path("/") else f"--root={target.root}"
    return f"systemctl disable {where} {' '.join(unit.removesuffix('.service') for unit in UNITS)}"


# -- what is to be laid down ---------------------------------------------------------------------


def _files(target: Target) -> Mapping[Path, bytes]:
    shipped = folder("systemd")
    wanted = _BASE | (_NEWER if target.systemd >= _STEPS_SINCE else {})
    return {
        path: (shipped / name)
        .read_text(encoding="utf-8")
        .replace(f"{_PREFIX}/bin/", f"{target.prefix}/bin/")
        .encode()
        for name, path in wanted.items()
    }


def _check(target: Target) -> None:
    """Check that systemd could start the command that the units name.

    Raises:
        Stalled: it could not.
    """
    if not re.fullmatch(r"/[\w./+@-]*", str(target.prefix)):
        raise Stalled(
            "PrefixUnusable",
            f"{target.prefix} cannot stand in a unit: install wheelway in a folder with a plain "
            f"absolute name, such as {_PREFIX}",
        )
    if target.root != Path("/"):
        return  # an image is looked at by whoever builds it
    for what in (target.prefix, Path(os.path.realpath(target.prefix / "bin/python"))):
        hidden = next((one for one in _HIDDEN if what.is_relative_to(one)), None)
        if hidden is not None:
            raise Stalled(
                "PrefixHidden",
                f"{what} lies in {hidden}, which the service does not see: install wheelway with "
                f"an interpreter of the system, for instance: python3 -m venv {_PREFIX} && "
                f"{_PREFIX}/bin/pip install 'wheelway[controller]'",
            )


def _enabled(target: Target) -> Iterator[str]:
    wants = list(target.at(Path("/etc/systemd/system")).glob("*.wants"))
    # systemd keeps such a link for each unit that runs.
    running = target.at(Path("/run/systemd/units"))
    for unit in UNITS:
        # In an image they lead nowhere yet, so they are looked at, not followed.
        links = [*(one / unit for one in wants), running / f"invocation:{unit}"]
        if any(link.is_symlink() for link in links):
            yield unit


# -- one file ------------------------------------------------------------------------------------


def _install(record: _Record, path: Path, content: bytes) -> FileChange:
    here = record.target.at(path)
    present = _content(here)
    if present is None:
        record.write(path, content)
        return FileChange(Verb.WROTE, here)
    if present == content:
        record.known[path] = _digest(content)
        return FileChange(Verb.UNCHANGED, here)
    if path == CONFIGURATION:
        return FileChange(Verb.KEPT, here, "it is yours")
    if record.known.get(path) == _digest(present):
        record.write(path, content)
        return FileChange(Verb.UPDATED, here)
    why = "edited since; remove it and install again to get this version's"
    return FileChange(Verb.KEPT, here, why)


def _remove(record: _Record, path: Path) -> FileChange | None:
    here = record.target.at(path)
    present = _content(here)
    if present is not None and record.known[path] != _digest(present):
        del record.known[path]
        return FileChange(
            Verb.KEPT, here, "it is yours" if path == CONFIGURATION else "edited since"
        )
    record.remove(path)
    return None if present is None else FileChange(Verb.REMOVED, here)


def _content(path: Path) -> bytes | None:
    with _translated(path), contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Stalled(
            "FileUnwritable",
            f"{path}: {error.strerror or error}; run this as root, or with --root for a folder of "
            "your own",
        ) from error


class _Record:
    """The record of installed files with their SHA-256, and of folders made for them.

    As a context manager it is read at the start and written at the end, also after an error.
    """

    def __init__(self, target: Target, *, dry_run: bool) -> None:
        self.target = target
        self._dry_run = dry_run
        self.known: dict[Path, str] = {}
        self._folders: set[Path] = set()

    def __enter__(self) -> Self:
        path = self.target.at(RECORD)
        if (content := _content(path)) is None:
            return self
        try:
            document = json.loads(content)
            self.known = {Path(key): str(value) for key, value in document["files"].items()}
            self._folders = {Path(name) for name in document["folders"]}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Stalled(
                "RecordUnreadable",
                f"{path} does not say what was installed ({error}); remove it to install anew",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self.known:
            document = {
                "files": {str(path): digest for path, digest in sorted(self.known.items())},
                "folders": sorted(str(path) for path in self._folders),
            }
            self._put(RECORD, (json.dumps(document, indent=2) + "\n").encode())
        else:
            self._delete(RECORD)
            self._leave_folders()

    def write(self, path: Path, content: bytes) -> None:
        """Lay a file down."""
        self._put(path, content)
        self.known[path] = _digest(content)

    def remove(self, path: Path) -> None:
        """Take a file away, and forget it once it is gone."""
        self._delete(path)
        del self.known[path]

    def _put(self, path: Path, content: bytes) -> None:
        if self._dry_run:
            return
        here = self.target.at(path)
        staging = here.with_name(f".{here.name}.new")
        with _translated(here):
            self._make(path.parent)
            with staging.open("wb") as stream:
                os.fchmod(stream.fileno(), 0o644)
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            staging.replace(here)

    def _make(self, path: Path) -> None:
        here = self.target.at(path)
        if here.is_dir():
            return
        if path == path.parent:
            here.mkdir(parents=True)  # a root that is yet to be filled
            return
        self._make(path.parent)
        here.mkdir()
        self._folders.add(path)
        here.chmod(0o755)  # whatever the umask: the daemon's user reads its configuration there

    def _delete(self, path: Path) -> None:
        if self._dry_run:
            return
        here = self.target.at(path)
        with _translated(here):
            here.unlink(missing_ok=True)

    def _leave_folders(self) -> None:
        for made in sorted(self._folders, key=lambda path: -len(path.parts)):
            here = self.target.at(made)
            if not self._dry_run and here.is_dir() and not any(here.iterdir()):
                here.rmdir()
