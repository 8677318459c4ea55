"""Decides whether a file is a wheel that is served. It reads, and never imports, builds or runs
anything.

The bytes are anybody's who may publish, so `archive` judges the zip before anything is read from
it. Every rejection has one reason and says what is wrong where, and what to do. Wheels are those of
PEP 427, RECORD of PEP 376 and 627, METADATA of PEP 566, entry points of the PyPA specification;
`installer` and `packaging` read them wherever they can.

A wheel is judged by its own bytes and the limits alone, so that the same wheel always gets the same
answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import zipfile
import zlib
from typing import TYPE_CHECKING

from installer.sources import WheelFile
from installer.utils import parse_metadata_file
from packaging.metadata import RawMetadata, parse_email
from packaging.utils import canonicalize_name
from packaging.version import Version

from controller.cache import author_options
from controller.cache.wheels import archive, entry_points, filenames, parts, record, weights
from controller.cache.wheels.entry_points import GROUP, GROUPS, WEIGHTS, EntryPointError
from controller.config.requirements import parse_requirement, parse_specifiers
from controller.errors import NoRelease, Rejected
from controller.model import Artifact
from controller.planning import wheel_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from packaging.tags import Tag

    from controller.cache.wheels import trees
    from controller.config.settings import InspectionLimits
    from controller.model import Revision, WeightsEntry

_REBUILD = archive.REBUILD
_RUNTIME = frozenset({"ray", "wheelway"})
_IMPORTABLE = (".py", ".pyc", ".so", ".pyd")
_MAX_METADATA = 2 << 20  # bytes of one file that is read into memory and parsed
_MAX_RECORD = 64 << 20
_MAX_REQUIREMENTS = 1000
_ENTRY_POINTS = re.compile(r"[^/]+\.dist-info/entry_points\.txt")
_OURS = re.compile(b"|".join(re.escape(group.encode()) for group in GROUPS))
_NAMED = 3  # files that a message names


def inspect(
    wheel: Path,
    revision: Revision,
    limits: InspectionLimits,
    tags: Sequence[Tag],
    python_version: str,
    tree: Path,
    into: trees.Unpacking | None = None,
) -> Artifact:
    """Check a fetched wheel: whether it is meant for us, and then the cheapest gates first.

    Args:
        wheel: the file, its bytes already verified against `revision`.
        revision: what was listed; its file name counts, not the path's.
        limits: what a wheel may be at most.
        tags: what the serving interpreter takes, best first (`packaging.tags.sys_tags`).
        python_version: of the serving interpreter, such as "3.11.7".
        tree: where it is to be unpacked.
        into: where to unpack it while it is compared with its RECORD, so that it is read once.

    Raises:
        NoRelease: those of `filenames.check_name`; NotAPipelineWheel; MetadataMismatch, when the
            wheel is in itself what another name would say.
        Rejected: those of `archive`, and ShadowsRuntime, DataFolder, MetadataMismatch,
            MetadataInvalid, WheelVersionUnsupported, TagsIncompatible, RequiresPython,
            TooManyPipelines, EntryPointInvalid, RecordInvalid, PartWithoutPipeline; of weights
            also NotOnlyData, WeightsMissing, WishesInvalid.
        Transient: `CacheUnusable`, when the file system fails.
        OSError: there is no space left to unpack it.
    """
    name, supported = revision.filename, frozenset(tags)
    filenames.check_name(revision, supported)
    with archive.opened(wheel, name, limits) as opened:
        if not archive.holds(opened, _ENTRY_POINTS, _OURS, _MAX_METADATA):
            raise _not_a_pipeline_wheel(name)
        archive.check(name, opened, wheel.stat().st_size, limits)
        ignored = _check_layout(name, opened.namelist())
        source = _Source(name, opened, revision)
        metadata = source.metadata(python_version.rstrip("+"))  # a "+" marks an untagged build
        source.check_wheel(supported)
        groups = source.read_entry_points(limits.max_pipelines)
        targets = source.pipelines(groups)
        of_them = parts.read(groups, targets, name, revision.version, limits.max_parts)
        requires = tuple(metadata.get("requires_dist", ()))
        given = source.weights(groups, requires)
        if not targets and not given:
            raise _not_a_pipeline_wheel(name)
        record_digest = source.check_record(into)
        return Artifact(
            digest=revision.sha256,
            project=revision.project,
            # As METADATA spells it: one for the same bytes, whatever their file is called.
            version=Version(metadata["version"]),
            filename=name,
            size=wheel.stat().st_size,
            wheel=wheel,
            tree=tree,
            record_digest=record_digest,
            requires=requires,
            pipelines=author_options.entries(
                targets, revision.version, frozenset(opened.namelist()), source.read, of_them
            ),
            notes=(*ignored, *_faults(groups)),
            weights=given,
        )


def _not_a_pipeline_wheel(name: str) -> NoRelease:
    return NoRelease(
        "NotAPipelineWheel",
        f"{name} has no entry point in the group `{GROUP}`, so it is left alone; if it is to be "
        f'served, add [project.entry-points."{GROUP}"] with `name = "module:Class"` to its '
        "pyproject.toml and rebuild it",
        by_name=False,
    )


def _check_layout(name: str, paths: Iterable[str]) -> tuple[str, ...]:
    """Raise where it cannot be served unpacked; returns what only an installer gives effect to."""
    ignored: list[str] = []
    for path in paths:
        top, *rest = path.split("/")
        package, _, suffix = top.partition(".")
        if package in _RUNTIME and (not suffix or (not rest and top.endswith(_IMPORTABLE))):
            raise Rejected(
                "ShadowsRuntime",
                f"{name} holds {path!r}, which would take the place of the `{package}` that serves "
                "it; list it under the project's dependencies instead of packing it",
            )
        if top.endswith(".data") and rest and rest[0] in {"purelib", "platlib"}:
            raise Rejected(
                "DataFolder",
                f"{name} holds {path!r}, which only an installer puts where it can be imported; a "
                "pipeline is served unpacked as it is: build the wheel with its packages on top",
            )
        if (top.endswith(".data") and rest and rest[-1]) or (not rest and top.endswith(".pth")):
            ignored.append(path)
    if not ignored:
        return ()
    more = f" and {len(ignored) - _NAMED} more" if len(ignored) > _NAMED else ""
    why = "only an installer gives effect to `.pth` files and to what lies in `.data`"
    return (f"{', '.join(ignored[:_NAMED])}{more}: {why}; a pipeline is served unpacked as it is",)


def _faults(groups: entry_points.Groups) -> tuple[str, ...]:
    """What is wrong in groups of others."""
    faults = list(itertools.islice(entry_points.faults(groups), _NAMED + 1))
    more = ["and more of that kind"] if len(faults) > _NAMED else []
    return (*faults[:_NAMED], *more)


# -- what the wheel says about itself ------------------------------------------------------------


class _Source:
    """The dist-info folder of an open wheel, whose entries passed."""

    def __init__(self, name: str, archive: zipfile.ZipFile, revision: Revision) -> None:
        self._name = name
        self._archive = archive
        self._revision = revision
        self._files = {info.filename: info for info in archive.infolist() if not info.is_dir()}
        tops = {path.partition("/")[0] for path in archive.namelist()}
        folders = sorted(top for top in tops if top.endswith(".dist-info"))
        if len(folders) != 1:
            raise Rejected(
                "MetadataMismatch",
                f"{name} holds {len(folders)} .dist-info folders, {', '.join(folders[:3])}; a "
                f"wheel has one; {_REBUILD}",
            )
        (self._folder,) = folders

    def read(self, path: str, at_most: int = _MAX_METADATA) -> bytes | None:
        """A file of the wheel; None when there is none."""
        info = self._files.get(path)
        if info is None:
            return None
        if info.file_size > at_most:
            raise Rejected(
                "TooLarge",
                f"{self._name}: {path!r} has {info.file_size} bytes, at most {at_most} are read; "
                "make it smaller and rebuild the wheel",
            )
        return self._archive.read(info)

    def text(self, filename: str) -> str | None:
        """A file of the dist-info folder; None when there is none."""
        body = self.read(f"{self._folder}/{filename}")
        try:
            return None if body is None else body.decode()
        except UnicodeDecodeError as error:
            raise self._invalid(filename, f"is not UTF-8 ({error})") from error

    def metadata(self, python_version: str) -> RawMetadata:
        """METADATA, as far as we use it."""
        text = self.text("METADATA")
        if text is None:
            raise self._invalid("METADATA", "is missing")
        metadata, unparsed = parse_email(text)
        for field in ("name", "version", "requires-python", "requires-dist"):
            if field in unparsed:
                raise self._invalid("METADATA", f"has {field!r} twice or unreadable")
        self._check_identity(metadata.get("name", ""), metadata.get("version", ""))
        required = metadata.get("requires_dist", ())
        if len(required) > _MAX_REQUIREMENTS:
            many = f"has {len(required)} Requires-Dist, at most {_MAX_REQUIREMENTS} are read"
            raise self._invalid("METADATA", many)
        for requirement in required:
            if not requirement.isprintable() or "\\" in requirement:
                what = f"has an unreadable Requires-Dist: {requirement[:200]!r}"
                raise self._invalid("METADATA", what)
            try:
                parse_requirement(requirement)
            except ValueError as error:
                raise self._invalid("METADATA", f"has Requires-Dist: {error}") from error
        wanted = metadata.get("requires_python", "")
        try:
            takes = parse_specifiers(wanted).contains(python_version, prereleases=True)
        except ValueError as error:
            raise self._invalid("METADATA", f"has Requires-Python: {error}") from error
        if not takes:
            raise Rejected(
                "RequiresPython",
                f"{self._name} wants Python {wanted}, pipelines run on {python_version}; widen "
                "`requires-python` of the project or run Ray on another Python",
            )
        return metadata

    def check_wheel(self, supported: frozenset[Tag]) -> None:
        """WHEEL: the format's version and the tags, which the file name must have as well."""
        text = self.text("WHEEL")
        if text is None:
            raise self._invalid("WHEEL", "is missing")
        fields = parse_metadata_file(text)
        version = str(fields.get("Wheel-Version", "")).strip()
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})*", version):
            raise self._invalid("WHEEL", f"has Wheel-Version {version[:20]!r}")
        if int(version.split(".")[0]) > 1:
            raise Rejected(
                "WheelVersionUnsupported",
                f"{self._name} has wheel format {version}, this wheelway reads 1.x; build it with "
                "an older backend or upgrade wheelway",
            )
        written = [str(tag).strip() for tag in fields.get_all("Tag", [])]
        try:
            inside = wheel_names.expand(written)
        except ValueError as error:
            raise self._invalid("WHEEL", f"has Tag lines that cannot be read: {error}") from error
        if inside and not inside & supported:
            why = filenames.incompatible(self._name, "WHEEL file", inside, supported)
            raise Rejected("TagsIncompatible", why)

    def read_entry_points(self, most: int) -> entry_points.Groups:
        """All of them, of which at most so many are pipelines, and as many weights."""
        with self._translated():
            groups = entry_points.read(self.text("entry_points.txt") or "")
        for group in (GROUP, WEIGHTS):
            if (count := len(groups.get(group, ()))) > most:
                why = "; each is an application of its own" if group == GROUP else ""
                raise Rejected(
                    "TooManyPipelines",
                    f"{self._name} has {count} entry points in the group `{group}`, the limit is "
                    f"{most}{why}. Publish fewer, or raise `inspection.max_pipelines`",
                )
        return groups

    def pipelines(self, groups: entry_points.Groups) -> dict[str, str]:
        """Normalised pipeline name to `module:attribute`."""
        with self._translated():
            return entry_points.pipelines(groups)

    def weights(
        self, groups: entry_points.Groups, requires: Iterable[str]
    ) -> tuple[WeightsEntry, ...]:
        """What it holds for pipelines of other wheels."""
        with self._translated():
            return weights.read(groups, self._name, self._files, requires, self.read)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except EntryPointError as error:
            raise Rejected(
                "EntryPointInvalid",
                f"{self._name}: entry_points.txt, {error}; mend the project's entry points and "
                "rebuild it",
            ) from error

    def check_record(self, into: trees.Unpacking | None) -> str:
        """RECORD lists every file with its right hash and nothing else; returns its SHA-256."""
        body = self.read(f"{self._folder}/RECORD", at_most=_MAX_RECORD)
        if body is None:
            raise self._record_invalid(["it is missing"])
        issues = list(record.faults(body, self._files))
        if not issues:
            try:
                WheelFile(self._archive).validate_record(validate_contents=False)
                issues = list(record.differing(body, self._archive, into))
            except WheelFile.validation_error as error:
                issues = getattr(error, "issues", [str(error)])
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                issues = [f"contents are damaged: {error}"]
        if issues:
            raise self._record_invalid(issues)
        return hashlib.sha256(body).hexdigest()

    def _record_invalid(self, issues: Sequence[str]) -> Rejected:
        first = issues[0].removeprefix(f"In {self._name}, ")
        more = f" (and {len(issues) - 1} more)" if len(issues) > 1 else ""
        return Rejected(
            "RecordInvalid",
            f"{self._name}: {self._folder}/RECORD does not match the wheel: {first}{more}; "
            f"{_REBUILD}, a wheel must not be edited after that",
        )

    def _invalid(self, filename: str, what: str) -> Rejected:
        return Rejected(
            "MetadataInvalid", f"{self._name}: {self._folder}/{filename} {what}; {_REBUILD}"
        )

    def _check_identity(self, project: str, version: str) -> None:
        """METADATA against its own folder, which is the wheel's fault, and then against what was
        listed, which may be the fault of the file's name.
        """
        folder, _, of = self._folder.removesuffix(".dist-info").rpartition("-")
        says = f"METADATA says {project[:80]!r} {version[:40]!r}"
        if not _same(folder, of, project, version):
            raise Rejected(
                "MetadataMismatch",
                f"{self._name}: the folder is called {self._folder!r} and {says}; {_REBUILD}",
            )
        listed = self._revision
        if not _same(listed.project, str(listed.version), project, version):
            raise NoRelease(
                "MetadataMismatch",
                f"{self._name} is listed as {listed.project} {listed.version}, and {says}; publish "
                "it as the build backend named it, and do not rename it",
                by_name=True,
            )


def _same(project: str, version: str, other_project: str, other_version: str) -> bool:
    try:
        return canonicalize_name(project) == canonicalize_name(other_project) and Version(
            version
        ) == Version(other_version)
    except ValueError:  # InvalidVersion, and numbers of thousands of digits
        return False
