"""A wheel unpacked for `sys.path`: made from the wheel, verified by the RECORD inside it.

What may change here: how a tree is laid out and checked; where it lies is the store's business.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

from installer.records import InvalidRecordEntry, RecordEntry, parse_record_file

FOLDER = 0o755  # Ray's user reads here; nobody but the owner writes
FILE = 0o644
EXECUTABLE = 0o755


def matches(tree: Path, record_digest: str, *, contents: bool) -> bool:
    """Whether the tree has that RECORD and what it lists; `contents`: by hash, else by size."""
    try:
        (record,) = tree.glob("*.dist-info/RECORD")
        body = record.read_bytes()
        if hashlib.sha256(body).hexdigest() != record_digest:
            return False
        for row in parse_record_file(body.decode().splitlines()):
            entry, path = RecordEntry.from_elements(*row), tree / row[0]
            if not contents:
                if entry.size not in {None, path.stat().st_size}:
                    return False
                continue
            with path.open("rb") as stream:
                if not entry.validate_stream(stream):
                    return False
    except (OSError, ValueError, InvalidRecordEntry):
        return False
    return True


def unpack(wheel: Path, folder: Path) -> None:
    """Files are not synced one by one: a tree is derived, and hashed whole after every start."""
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            path = Path(archive.extract(info, folder))  # drops `..` and roots, were there any
            if not info.is_dir():
                executable = info.external_attr >> 16 & 0o100
                path.chmod(EXECUTABLE if executable else FILE)
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(FOLDER)
