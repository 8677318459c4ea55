"""A tree (an unpacked wheel) becomes a class: verified byte by byte, then imported from there.

What runs must be what was published. The tree is shared by all replicas on the node, so it is
checked in full before the first import, nothing is ever written into it, and no compiled file that
the wheel did not ship is read from it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib
import inspect
import os
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
    all_suffixes,
)
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from wheelway import readonly
from wheelway.contract import Pipeline
from wheelway.failure import (
    ABSTRACT_PIPELINE,
    DIGEST_MISMATCH,
    IMPORT_FAILED,
    NOT_A_PIPELINE,
    StartFailure,
    blame,
)
from wheelway.stages import check_inference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

_UNHASHED = {"RECORD", "RECORD.jws", "RECORD.p7s"}
"""Files of a dist-info folder that RECORD lists without a hash (PEP 427)."""


# -- verification --------------------------------------------------------------------------------


def verify(
    tree: Path, record_digest: str, known: Mapping[Path, str] = MappingProxyType({})
) -> None:
    """Compare a tree with what its wheel said of itself when it was fetched.

    Args:
        tree: the unpacked wheel.
        record_digest: SHA-256 of its RECORD file, lower-case hex.
        known: hashes, in RECORD's form, of files whose bytes the caller vouches for.

    Raises:
        StartFailure: DigestMismatch; RECORD itself or a file it lists has other bytes or is not
            there (PEP 376, PEP 427), or a module lies there that it does not list.
    """
    record = _record(tree)
    if hashlib.sha256(record.read_bytes()).hexdigest() != record_digest:
        raise _mismatch(f"{record.relative_to(tree)} of {tree} is not the one that was published")
    listed = {record}
    for path, expected in _entries(tree, record):
        listed.add(path)
        name = path.relative_to(tree)
        if not path.is_file():
            raise _mismatch(f"{name} is missing from {tree}")
        if not expected:
            if name.name not in _UNHASHED or path.parent != record.parent:
                raise _mismatch(f"{name} has no hash in RECORD, so its bytes cannot be trusted")
        elif known.get(path) != expected and _hash(path, expected) != expected:
            raise _mismatch(f"{name} of {tree} has other bytes than were published")
    _refuse_strangers(tree, listed)


def _mismatch(what: str) -> StartFailure:
    return StartFailure(
        DIGEST_MISMATCH,
        f"{what}; the daemon unpacks it again from the verified wheel, and replicas then start by "
        "themselves. If it happens again, find out who writes to the cache",
    )


def _record(tree: Path) -> Path:
    records = sorted(tree.glob("*.dist-info/RECORD"))
    if len(records) != 1:
        raise _mismatch(f"{tree} holds {len(records)} RECORD files instead of one")
    return records[0]


def _entries(tree: Path, record: Path) -> Iterator[tuple[Path, str]]:
    """The files that RECORD lists, with their hash as it is written there (`sha256=...`)."""
    try:
        rows = list(csv.reader(record.read_text(encoding="utf-8").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _mismatch(f"RECORD of {tree} cannot be read ({error})") from error
    for row in rows:
        if not row:
            continue
        inside = PurePosixPath(row[0])
        if inside.is_absolute() or ".." in inside.parts:
            raise _mismatch(f"RECORD lists {row[0]!r}, which lies outside the tree")
        yield tree / inside, row[1] if len(row) > 1 else ""


def _hash(path: Path, like: str) -> str:
    """A file's hash in RECORD's form: algorithm, "=", urlsafe base64 without padding."""
    algorithm = like.partition("=")[0]
    if algorithm not in {"sha256", "sha384", "sha512"}:
        raise _mismatch(f"RECORD hashes {path.name} with {algorithm!r}, PEP 427 asks for sha256")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, algorithm).digest()
    return f"{algorithm}={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _refuse_strangers(tree: Path, listed: set[Path]) -> None:
    """No importable file may lie in a tree that the wheel did not bring; compiled files in
    `__pycache__` may, since nothing reads them (`_Uncached`).
    """
    for folder, folders, names in os.walk(tree):  # Path.walk needs Python 3.12
        if "__pycache__" in folders:
            folders.remove("__pycache__")
        for name in names:
            path = Path(folder, name)
            if path not in listed and name.endswith(tuple(all_suffixes())):
                raise _mismatch(f"{path.relative_to(tree)} lies in {tree} but was not published")


# -- import --------------------------------------------------------------------------------------


def load_class(target: str, tree: Path | None = None) -> type[Pipeline]:
    """Import what an entry point names and make sure that it is a pipeline.

    Args:
        target: `module:attribute` (the attribute may be dotted).
        tree: put first on `sys.path`, for good; None: imported from wherever it is found.

    Raises:
        StartFailure: ImportFailed, NotAPipeline, AbstractPipeline, or as `check_inference`.
    """
    module_name, _, attribute = target.partition(":")
    if tree is not None:
        _put_first(tree)
        readonly.protect(tree)
    module = _import(module_name, tree)
    if tree is not None:
        _ensure_inside(module, tree)
    found: Any = module
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise StartFailure(
            IMPORT_FAILED,
            f"module {module_name!r} has no attribute {attribute!r}; "
            f"correct the entry point {target!r} of the wheel",
        ) from error
    return _pipeline_class(found, target)


def files_of(pipeline: type[Pipeline]) -> Path:
    """The folder of the files that were shipped with a pipeline; see `Context.files`."""
    module = sys.modules[pipeline.__module__]
    file = getattr(module, "__file__", None)
    if file is None:  # defined at a prompt
        return Path.cwd()
    parts = module.__name__.split(".")
    for depth in range(1, len(parts) + 1):
        package = sys.modules.get(".".join(parts[:depth]))
        origin = getattr(package, "__file__", None)
        if origin is not None and Path(origin).stem == "__init__":
            return Path(origin).parent
    return Path(file).parent


def _pipeline_class(found: Any, target: str) -> type[Pipeline]:
    if not (inspect.isclass(found) and issubclass(found, Pipeline)):
        what = f"class {found.__qualname__}" if inspect.isclass(found) else type(found).__qualname__
        raise StartFailure(
            NOT_A_PIPELINE,
            f"{target} is no pipeline (it is a {what}); name a subclass of wheelway.Pipeline",
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise StartFailure(ABSTRACT_PIPELINE, f"{target} does not define {missing}; define it")
    check_inference(found)
    return found


def _import(module_name: str, tree: Path | None) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    # Importing runs the author's module: it may raise anything, also leave by sys.exit().
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise blame(IMPORT_FAILED, f"importing {module_name!r} failed", error, tree) from error


def _ensure_inside(module: ModuleType, tree: Path) -> None:
    """What was imported must be what was verified, not a namesake found earlier."""
    origin = getattr(module, "__file__", None)
    paths = [origin] if origin else list(getattr(module, "__path__", []))
    if not any(Path(path).is_relative_to(tree) for path in paths):
        raise StartFailure(
            IMPORT_FAILED,
            f"module {module.__name__!r} came from {paths[0] if paths else 'the interpreter'} "
            f"instead of the wheel: something already imported has the same name; rename the "
            "wheel's top-level package",
        )


def _put_first(tree: Path) -> None:
    if sys.path[:1] == [str(tree)]:
        return
    sys.path_hooks.insert(0, _hook(tree))
    sys.path_importer_cache.clear()
    sys.path.insert(0, str(tree))


def _hook(tree: Path) -> Any:
    def finder(path: str) -> FileFinder:
        if not Path(path).is_relative_to(tree):
            raise ImportError(path)
        return FileFinder(
            path,
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
            (_Uncached, SOURCE_SUFFIXES),
            (SourcelessFileLoader, BYTECODE_SUFFIXES),
        )

    return finder


class _Uncached(SourceFileLoader):
    """Compiles from source always: a `__pycache__` in the tree was not published, hence is not
    verified, and to leave one there would be to change the tree.
    """

    def path_stats(self, path: str) -> Any:
        """Without a modification time `SourceLoader` neither reads nor writes bytecode."""
        raise OSError(path)
