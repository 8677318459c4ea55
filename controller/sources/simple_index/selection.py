"""Which files of a project's page are wheels that can be served, and what to say of the others.

Pure but for the function that reads missing hashes. An index holds far more than one interpreter
can use (other platforms, other Pythons, sdists), so what does not fit is mentioned only when it is
newer than everything that fits.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_sdist_filename

from controller.config.requirements import parse_specifiers
from controller.errors import WheelwayError
from controller.model import Availability, Refusal, Revision
from controller.planning import wheel_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from packaging.tags import Tag
    from packaging.version import Version

    from controller.sources.simple_index.pages import File

Hashed = tuple[str, int]
"""SHA-256 and size of a file, from its bytes."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What the serving interpreter takes; an empty value is not judged by."""

    tags: frozenset[Tag] = frozenset()
    python: str = ""
    """Its version, such as 3.11.7."""

    def refusal(self, file: File, tags: frozenset[Tag]) -> Refusal | None:
        """Why a wheel does not fit, if it does not."""
        name = file.filename
        if self.tags and self.tags.isdisjoint(tags):
            why = "is for another Python or platform; publish one for this, or a pure one"
            return Refusal(name, "TagsIncompatible", f"{name} {why} (py3-none-any)")
        if self.python and file.requires_python:
            with suppress(ValueError):  # as pip does: what cannot be read asks for nothing
                wanted = parse_specifiers(file.requires_python)
                if not wanted.contains(self.python.rstrip("+"), prereleases=True):
                    why = f"requires Python {wanted}, Ray runs on {self.python}"
                    return Refusal(name, "RequiresPython", f"{name} {why}")
        return None


@dataclass(frozen=True, slots=True)
class Selection:
    """What a project's page comes to."""

    revisions: tuple[Revision, ...] = ()
    refused: tuple[Refusal, ...] = ()
    pending: tuple[Refusal, ...] = ()
    partial: bool = False
    """Some wheels could not be listed, so what is missing is not known to be absent."""
    unfinished: bool = False
    """The same page may bring more next time."""


@dataclass(frozen=True, slots=True)
class _Wheel:
    file: File
    version: Version
    tags: frozenset[Tag]


def select(
    source: str,
    project: str,
    files: Sequence[File],
    fit: Fit,
    hashed: Callable[[str], Hashed | None] | None,
) -> Selection:
    """Sort the files of a page.

    Args:
        source: the source's name.
        project: whose page it is, normalised.
        files: as the page has them.
        fit: what can be served.
        hashed: reads the file at a URL, whose hash the index does not give; None from it means
            not now, any WheelwayError concerns that file alone. None: such files are refused.
    """
    if not files:
        message = f"{project} has no files in {source} yet; it is looked at again"
        return Selection(pending=(Refusal(project, "PackageMissing", message),))
    wheels, refused = _wheels(project, files)
    fitting: list[_Wheel] = []
    unfit: dict[Version, Refusal] = {}
    for wheel in wheels:
        if (refusal := fit.refusal(wheel.file, wheel.tags)) is None:
            fitting.append(wheel)
        elif wheel.file.yanked is None:
            unfit.setdefault(wheel.version, refusal)
    for version, name in _sdists(project, files).items():
        if all(wheel.version != version for wheel in wheels):
            why = f"{project} {version} has no wheel yet, only {name}; publish a wheel of it"
            unfit[version] = Refusal(f"{project}=={version}", "WheelNotArrived", why)
    pending = _newest(unfit, fitting)
    bare = [wheel for wheel in fitting if wheel.file.sha256 is None]
    revisions = [_revision(source, project, wheel) for wheel in fitting if wheel.file.sha256]
    if not bare:
        return Selection(_ordered(revisions), (*refused,), pending)
    if hashed is None:
        return Selection(
            _ordered(revisions),
            (*refused, *_without_hash(project, bare, alone=not revisions)),
            pending,
            partial=not revisions,
        )
    learnt, waiting = _read(source, project, bare, hashed)
    return Selection(
        _ordered([*revisions, *learnt]),
        (*refused,),
        (*pending, *waiting),
        unfinished=bool(waiting),
    )


def _wheels(project: str, files: Iterable[File]) -> tuple[list[_Wheel], list[Refusal]]:
    """The wheels of the project, newest first, each once; and those whose names are not of it."""
    wheels: dict[tuple[str, str | None], _Wheel] = {}
    refused = []
    for file in files:
        if not wheel_names.claims_to_be_one(file.filename):
            continue
        why = "" if file.filename.isprintable() else "it has unprintable characters"
        try:
            named, version, _, tags = wheel_names.parse(file.filename)
            if named != project:
                why = f"it is listed under {project}, but belongs to {named}"
        except InvalidWheelFilename as error:
            why = str(error)
        if why:
            printable = file.filename if file.filename.isprintable() else ascii(file.filename)[1:-1]
            name = printable[: wheel_names.LONGEST]
            refused.append(Refusal(name, "FilenameInvalid", f"{name}: {why[:300]}"))
            continue
        wheels.setdefault((file.filename, file.sha256), _Wheel(file, version, tags))
    newest = sorted(wheels.values(), key=lambda w: (w.version, w.file.filename), reverse=True)
    return newest, refused


def _sdists(project: str, files: Iterable[File]) -> dict[Version, str]:
    """File names of the source distributions by version."""
    found = {}
    for file in files:
        if file.yanked is None:
            with suppress(ValueError):  # no sdist's name, or a version of thousands of digits
                named, version = parse_sdist_filename(file.filename)
                if named == project:
                    found[version] = file.filename
    return found


def _newest(unfit: dict[Version, Refusal], fitting: Sequence[_Wheel]) -> tuple[Refusal, ...]:
    """The refusal of the newest version, if it cannot be served."""
    newest = max(unfit, default=None)
    if newest is None or any(wheel.version >= newest for wheel in fitting):
        return ()
    return (unfit[newest],)


def _revision(source: str, project: str, wheel: _Wheel, hashed: Hashed | None = None) -> Revision:
    file = wheel.file
    digest, size = hashed or (file.sha256 or "", file.size)
    note = f"yanked: {file.yanked}".removesuffix(": ") if file.yanked is not None else ""
    return Revision(
        source=source,
        project=project,
        version=wheel.version,
        filename=file.filename,
        locator=file.url,
        sha256=digest,
        size=size,
        availability=Availability.SELECTABLE if file.yanked is None else Availability.RETAINED,
        note=note,
        published_at=file.uploaded_at,
    )


def _without_hash(project: str, bare: Sequence[_Wheel], *, alone: bool) -> list[Refusal]:
    """One refusal a file; or one for the project, where the index gives no SHA-256 at all."""
    cure = (
        "have the index give it (pypiserver: `--hash-algo sha256`), or set `require_hashes = false`"
        " to have the files read for it"
    )
    if alone:
        first = bare[0].file
        has = f", only {', '.join(first.hashes)}" if first.hashes else ""
        message = (
            f"no wheel of {project} has a SHA-256 in the index ({first.filename}{has}); {cure}"
        )
        return [Refusal(project, "HashMissing", message)]
    return [
        Refusal(name, "HashMissing", f"{name} has no SHA-256 in the index; {cure}")
        for name in (wheel.file.filename for wheel in bare)
    ]


def _read(
    source: str,
    project: str,
    bare: Sequence[_Wheel],
    hashed: Callable[[str], Hashed | None],
) -> tuple[list[Revision], list[Refusal]]:
    """Wheels whose hashes were computed from their bytes, and those that must wait for that."""
    learnt, waiting = [], []
    for wheel in bare:
        name = wheel.file.filename
        try:
            found = hashed(wheel.file.url)
        except WheelwayError as error:
            waiting.append(Refusal(name, error.reason, f"{name}: {error.message}"))
            continue
        if found is None:
            why = f"{name} comes without a SHA-256; it is read for it after the others"
            waiting.append(Refusal(name, "HashPending", why))
        else:
            learnt.append(_revision(source, project, wheel, found))
    return learnt, waiting


def _ordered(revisions: Iterable[Revision]) -> tuple[Revision, ...]:
    return tuple(sorted(revisions, key=lambda r: (r.version, r.filename, r.sha256)))
