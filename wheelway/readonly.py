"""Keeps a pipeline from writing into the tree that it runs from.

Other replicas start from the same tree, and refuse one that is not as it was published: whoever
writes there would take down its siblings, not itself. Where the daemon and Ray are two users, the
kernel refuses it. Where they are one, as on a laptop or in a container, Python's own audit events
do (PEP 578): the writer gets an OSError that says what to do instead. What native code or a child
process of such a user writes is found by the daemon, which makes the tree again.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FIRST, _SECOND, _BOTH = slice(0, 1), slice(1, 2), slice(0, 2)
_PATHS = {
    "open": _FIRST,
    **dict.fromkeys(("os.chmod", "os.chown", "os.setxattr", "os.truncate", "os.utime"), _FIRST),
    **dict.fromkeys(("os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"), _FIRST),
    **dict.fromkeys(("os.link", "os.rename"), _BOTH),
    "os.symlink": _SECOND,
}
"""Audit events that may change a file, and which of their arguments are its paths
(https://docs.python.org/3/library/audit_events.html)."""
_OF_LINKS = {"os.link", "os.remove", "os.rename", "os.symlink"}
"""Those that mean a symbolic link itself, not what it leads to."""
_WITHOUT_FOLDER = {"open", "os.setxattr", "os.truncate"}
"""Those whose last argument is not a folder's descriptor."""

_trees: tuple[str, ...] = ()


def protect(tree: Path) -> None:
    """From now on nothing that Python does in this process may change the tree."""
    global _trees  # noqa: PLW0603 - a hook can neither be removed nor be given anything
    if not _trees:
        sys.addaudithook(_refuse)
    _trees = (*_trees, f"{os.path.realpath(tree)}/")
    # Children import without `loading`'s hook, and have none of this one's.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    if event not in _PATHS or (event == "open" and not (args[2] or 0) & _WRITING):
        return
    for path in args[_PATHS[event]]:
        if isinstance(path, int):  # a descriptor: opening it was asked about
            continue
        given = os.fsdecode(path)
        folder, name = os.path.split(given)
        if not given.startswith("/") and event not in _WITHOUT_FOLDER and _is_open(args[-1]):
            continue  # relative to an open folder, which nobody can name here
        place = f"{os.path.realpath(folder)}/{name}"
        if event not in _OF_LINKS:
            place = os.path.realpath(place)
        if place.startswith(_trees):
            raise OSError(
                errno.EROFS,
                "the files of a wheel are shared by all its replicas and read-only; write to "
                "tempfile.gettempdir(), or to a folder that the settings name",
                place,
            )


def _is_open(descriptor: object) -> bool:
    return isinstance(descriptor, int) and descriptor >= 0
