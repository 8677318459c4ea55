"""What a wheel's file name says, judged before a byte is fetched.

A refusal concerns this name alone: the same bytes may have a good one elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename

from controller.errors import NoRelease
from controller.planning import wheel_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.tags import Tag

    from controller.model import Revision


def check_name(revision: Revision, supported: frozenset[Tag]) -> None:
    """Judge by the name whether it is a wheel that can be used here.

    Raises:
        NoRelease: FilenameInvalid, MetadataMismatch, TagsIncompatible.
    """
    name = revision.filename
    try:
        parsed = wheel_names.parse(name)
    except InvalidWheelFilename as error:
        raise NoRelease(
            "FilenameInvalid",
            f"{error}; publish the wheel as the build backend named it (PEP 427)",
            by_name=True,
        ) from error
    if (parsed.project, parsed.version) != (revision.project, revision.version):
        raise NoRelease(
            "MetadataMismatch",
            f"{name} is listed as {revision.project} {revision.version}; publish it as the build "
            "backend named it, under its own project",
            by_name=True,
        )
    if not parsed.tags & supported:
        raise NoRelease(
            "TagsIncompatible", incompatible(name, "name", parsed.tags, supported), by_name=True
        )


def incompatible(name: str, where: str, tags: Iterable[Tag], supported: Iterable[Tag]) -> str:
    """The error for a wheel that does not fit; `where` says so."""
    return (
        f"{name} is for {_some(tags)} by its {where}; pipelines run where {_some(supported, 'cp')} "
        "fit; build it for that Python and platform, or as py3-none-any if it is pure Python"
    )


def _some(tags: Iterable[Tag], first: str = "") -> str:
    """A few tags for a person, those that begin with `first` before others."""
    texts = sorted((str(tag) for tag in tags), key=lambda tag: (not tag.startswith(first), tag))
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
