"""Real wheel files in milliseconds, without a build backend: for every suite of this project.

The same arguments give the same bytes, `marker` gives other bytes under the same version, and the
knobs after it break the wheel in one way each. Only what is asked for is broken: everything else
(RECORD, METADATA, WHEEL) stays right.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import stat
import warnings
import zipfile
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

from controller.model import Revision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

Entry = tuple[zipfile.ZipInfo, bytes]

MULTIPLYING = "-".join(".".join(f"{part}{n}" for n in range(10)) for part in "pao")
"""A compressed tag set, short enough for a file's name, that stands for a thousand tags."""

DEFAULT_CODE = '''\
"""A pipeline that says who it is and what it was asked."""

from wheelway import Pipeline

MARKER = {marker!r}
'''

DEFAULT_CLASS = """

class {attribute}(Pipeline):
    def infer(self, request):
        return {{"pipeline": {pipeline!r}, "version": {version!r}, "echo": request}}
"""


def make_wheel(
    folder: Path,
    name: str = "demo",
    version: str = "1.0",
    *,
    pipelines: Mapping[str, str] | None = None,
    parts: Mapping[str, str] | None = None,
    weights: Mapping[str, str] | None = None,
    code: str | None = None,
    files: Mapping[str, str | bytes] | None = None,
    requires: Iterable[str] = (),
    wheelway_toml: str | None = None,
    tag: str = "py3-none-any",
    requires_python: str | None = None,
    marker: str = "",
    # -- knobs that break it --
    filename: str | None = None,
    dist_info: str | None = None,
    metadata: Mapping[str, str] | None = None,
    wheel: Mapping[str, str] | None = None,
    entry_points: str | bytes | None = None,
    without: Iterable[str] = (),
    wrong_hash: Iterable[str] = (),
    unlisted: Mapping[str, str | bytes] | None = None,
    listed_only: Iterable[str] = (),
    entries: Sequence[Entry] = (),
    record: str | bytes | None = None,
    edit_record: Callable[[str], str] = str,
    compression: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """Write a wheel into `folder` (moved in whole, as a careful publisher does); returns its path.

    Args:
        folder: created when missing.
        name: distribution name; its package is the same with `_` for `-` and `.`.
        version: as written into file name and METADATA.
        pipelines: entry point name to `module:Class`; default: `{name: "<package>.pipeline:Demo"}`.
            Every class in `<package>.pipeline` gets the default code.
        parts: `<pipeline>.<part>` to `module:Class`.
        weights: pipeline to package; see `make_weights`.
        code: source of `<package>/pipeline.py` instead of the default.
        files: more files, or others in place of the default ones, by path in the wheel.
        requires: Requires-Dist.
        wheelway_toml: text of `<package>/wheelway.toml`.
        tag: the compatibility tag.
        requires_python: Requires-Python.
        marker: a text that ends up in the code: other bytes, same version.
        filename: the file's name instead of the right one.
        dist_info: the dist-info folder's name instead of the right one.
        metadata: headers of METADATA to replace; the empty string removes one.
        wheel: headers of WHEEL to replace; the empty string removes one.
        entry_points: text of entry_points.txt instead of the right one; "" leaves the file out.
        without: paths left out, of the archive and of RECORD.
        wrong_hash: paths that get a wrong hash in RECORD.
        unlisted: files that RECORD does not know.
        listed_only: paths that only RECORD knows.
        entries: raw archive entries, correctly listed in RECORD; see `link` and `entry`.
        record: text of RECORD instead of the right one.
        edit_record: makes another of the right one.
        compression: zipfile's constant.
    """
    package = name.replace("-", "_").replace(".", "_")
    pipelines = {name: f"{package}.pipeline:Demo"} if pipelines is None else pipelines
    info = dist_info or f"{package}-{version}.dist-info"
    content: dict[str, bytes] = {f"{package}/__init__.py": b""}
    content[f"{package}/pipeline.py"] = _bytes(
        code
        if code is not None
        else _default_code(pipelines, f"{package}.pipeline", version, marker)
    )
    if wheelway_toml is not None:
        content[f"{package}/wheelway.toml"] = _bytes(wheelway_toml)
    if marker:
        content[f"{package}/marker.txt"] = _bytes(marker)
    content |= {path: _bytes(body) for path, body in (files or {}).items()}
    content[f"{info}/METADATA"] = _headers(
        {
            "Metadata-Version": "2.1",
            "Name": name,
            "Version": version,
            **({"Requires-Python": requires_python} if requires_python else {}),
            **(metadata or {}),
        },
        [("Requires-Dist", requirement) for requirement in requires],
    )
    content[f"{info}/WHEEL"] = _headers(
        {"Wheel-Version": "1.0", "Generator": "tests", "Root-Is-Purelib": "true", "Tag": tag}
        | dict(wheel or {})
    )
    if entry_points != "":
        content[f"{info}/entry_points.txt"] = _bytes(
            entry_points
            if entry_points is not None
            else _entry_points(
                {
                    "wheelway.pipelines": pipelines,
                    "wheelway.parts": parts or {},
                    "wheelway.weights": weights or {},
                }
            )
        )
    for path in without:
        content.pop(path, None)

    archive = [(_info(path, compression), body) for path, body in content.items()] + list(entries)
    listed = _record(archive, f"{info}/RECORD", frozenset(wrong_hash), listed_only)
    archive += [(_info(p, compression), _bytes(body)) for p, body in (unlisted or {}).items()]
    if f"{info}/RECORD" not in set(without):
        body = edit_record(listed.decode()).encode() if record is None else _bytes(record)
        archive.append((_info(f"{info}/RECORD", compression), body))
    return _write(folder / (filename or f"{package}-{version}-{tag}.whl"), archive)


def make_weights(
    folder: Path,
    name: str = "iris-weights",
    version: str = "2026.11.28",
    *,
    pipelines: Mapping[str, str] | None = None,
    files: Mapping[str, str | bytes] | None = None,
    **more: object,
) -> Path:
    """Write a wheel of weights; returns its path.

    Args:
        folder: as `make_wheel`, which takes all `more` as well.
        name: distribution name; its package is the same with `_` for `-` and `.`.
        version: its own, not that of a pipeline.
        pipelines: for whom, and in which package; default: `{"iris": "<package>"}`.
        files: by path in the wheel; default: `<package>/model.bin`, which holds the version.
    """
    package = name.replace("-", "_").replace(".", "_")
    weights = {"iris": package} if pipelines is None else pipelines
    named = {one.partition(".")[0] for one in weights.values()}
    without = [f"{package}/pipeline.py", *[f"{package}/__init__.py"][: package not in named]]
    return make_wheel(
        folder,
        name,
        version,
        pipelines={},
        weights=weights,
        files={f"{package}/model.bin": version} if files is None else files,
        **{"without": without, **more},
    )


def _entry_points(groups: Mapping[str, Mapping[str, str]]) -> str:
    """A file of the groups that have entries."""
    return "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in groups.items()
        if entries
    )


def entry(path: str, body: str | bytes = b"", *, mode: int = stat.S_IFREG | 0o644) -> Entry:
    """A raw archive entry with any path and Unix mode, for `make_wheel(entries=...)`."""
    info = _info(path, zipfile.ZIP_DEFLATED)
    info.external_attr = mode << 16
    return info, _bytes(body)


def link(path: str, target: str) -> Entry:
    """A symlink entry."""
    return entry(path, target, mode=stat.S_IFLNK | 0o777)


def sha256(path: Path) -> str:
    """Lower-case hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def revision_of(path: Path, source: str = "test") -> Revision:
    """What a source would list for this wheel file, whose name must be valid."""
    project, version, _, _ = parse_wheel_filename(path.name)
    return Revision(
        source=source,
        project=project,
        version=version,
        filename=path.name,
        locator=str(path),
        sha256=sha256(path),
        size=path.stat().st_size,
    )


def _default_code(pipelines: Mapping[str, str], module: str, version: str, marker: str) -> str:
    text = DEFAULT_CODE.format(marker=marker)
    for pipeline, target in pipelines.items():
        where, _, attribute = target.partition(":")
        if where == module and attribute.isidentifier():
            text += DEFAULT_CLASS.format(attribute=attribute, pipeline=pipeline, version=version)
    return text


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _headers(single: Mapping[str, str], repeated: Iterable[tuple[str, str]] = ()) -> bytes:
    lines = [(key, value) for key, value in single.items() if value != ""]
    return "".join(f"{key}: {value}\n" for key, value in [*lines, *repeated]).encode()


def _info(path: str, compression: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = compression
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info


def _record(
    archive: Sequence[Entry], path: str, wrong: frozenset[str], listed_only: Iterable[str]
) -> bytes:
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    for info, body in archive:
        if info.filename.endswith("/"):
            continue
        hashed = b"something else" if info.filename in wrong else body
        value = base64.urlsafe_b64encode(hashlib.sha256(hashed).digest()).decode().rstrip("=")
        rows.writerow((info.filename, f"sha256={value}", len(body)))
    empty = base64.urlsafe_b64encode(hashlib.sha256(b"").digest()).decode().rstrip("=")
    rows.writerows((missing, f"sha256={empty}", 0) for missing in listed_only)
    rows.writerow((path, "", ""))
    return stream.getvalue().encode()


def _write(path: Path, archive: Sequence[Entry]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with zipfile.ZipFile(aside, "w") as target, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicate names are one of the knobs
        for info, body in archive:
            target.writestr(info, body)
    return aside.rename(path)


def tree_of(wheel: Path) -> tuple[Path, str]:
    """A wheel unpacked beside it, and the SHA-256 of its RECORD."""
    tree = wheel.parent / wheel.stem
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tree)
    (record,) = tree.glob("*.dist-info/RECORD")
    return tree, hashlib.sha256(record.read_bytes()).hexdigest()
