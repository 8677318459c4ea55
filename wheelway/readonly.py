"""Keeps a pipeline from writing into the tree that it runs from.

Other replicas start from the same tree, and refuse one that is not as it was published: whoever
writes there would take down its siblings, not itself. Where the daemon and Ray are two users, the
kernel refuses it. Where they are one, as on a laptop or in a container, Python's own audit events
do (PEP 578): the writer gets an OSError that says what to do instead. They are no sandbox, and some
writers have none: native code (SQLite), child processes, `os.mkfifo`, `os.mknod`, and `os.open`
relative to an open folder. What these leave is found by the daemon, which makes the tree again.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATHS: Final[Mapping[str, tuple[tuple[int, int | None], ...]]] = {
    **dict.fromkeys(("open", "os.removexattr", "os.setxattr", "os.truncate"), ((0, None),)),
    **dict.fromkeys(("os.remove", "os.rmdir", "shutil.rmtree"), ((0, 1),)),
    **dict.fromkeys(("os.chmod", "os.mkdir"), ((0, 2),)),
    **dict.fromkeys(("os.chown", "os.utime"), ((0, 3),)),
    **dict.fromkeys(("os.link", "os.rename"), ((0, 2), (1, 3))),
    "os.symlink": ((1, 2),),
}
"""Audit events that may change a file; for each path which of their arguments it is, and which one
is the open folder that it is relative to (https://docs.python.org/3/library/audit_events.html)."""
_OF_LINKS: Final = {"os.link", "os.remove", "os.rename", "os.symlink"}
"""Those that mean a symbolic link itself, not what it leads to."""

_trees: tuple[str, ...] = ()


def protect(tree: Path) -> None:
    """From now on what Python's own functions would change in the tree is refused; see above."""
    global _trees  # noqa: PLW0603 - a hook can neither be removed nor be given anything
    if not _trees:
        sys.addaudithook(_refuse)
    if (prefix := f"{os.path.realpath(tree)}/") not in _trees:
        _trees = (*_trees, prefix)
    # Children import without `loading`'s hook, and have none of this one's.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    if event not in _PATHS or (event == "open" and not (args[2] or 0) & _WRITING):
        return
    for at, folder_at in _PATHS[event]:
        if event == "open" and isinstance(args[at], int):
            continue  # opening it was asked about
        path = _absolute(args[at], None if folder_at is None else args[folder_at])
        is_link = event in _OF_LINKS
        # What was remembered may be outdated, and nobody is refused for that.
        if _is_inside(_resolved(path, _remembered, is_link=is_link)) and _is_inside(
            target := _resolved(path, os.path.realpath, is_link=is_link)
        ):
            raise OSError(
                errno.EROFS,
                "the files of a wheel are shared by all its replicas and read-only; write to "
                "tempfile.gettempdir(), or to a folder that the settings name",
                target,
            )


def _absolute(path: Any, folder: Any) -> str:
    """Where a path begins at the root; "" when it leads nowhere, as the caller will be told."""
    given = "" if isinstance(path, int) else os.fsdecode(path)
    if given.startswith("/"):
        return given
    descriptor = path if isinstance(path, int) else folder
    try:
        if descriptor is None or descriptor < 0:
            return f"{Path.cwd()}/{given}"
        return f"{Path(f'/proc/self/fd/{descriptor}').readlink()}/{given}".rstrip("/")
    except OSError:
        return ""


def _resolved(path: str, real: Callable[[str], str], *, is_link: bool) -> str:
    """The path without symbolic links, but for its own last part if that `is_link`."""
    folder, name = os.path.split(path)
    found = f"{real(folder)}/{name}"
    if name != ".." and (is_link or not os.path.islink(found)):  # noqa: PTH114 - Path is slow
        return found
    return os.path.realpath(found)


_remembered = functools.lru_cache(1024)(os.path.realpath)
"""A process opens many files in few folders; to follow all links each time would cost more than to
open them."""


def _is_inside(path: str) -> bool:
    return f"{path}/".startswith(_trees)
