"""The names of wheel files, read within bounds.

A compressed tag set stands for the product of its parts (PEP 425): a name of 255 characters for
some 60,000 tags, a WHEEL file of 3 kB for as many millions. So tags are counted before `packaging`
expands them.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from packaging.tags import Tag, parse_tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.utils import BuildTag

_PLAIN = re.compile(r"[^\W_][\w.+!-]*")

LONGEST = 255
"""Bytes of a file's name: what file systems take."""
MOST_TAGS = 512
"""Tags that one wheel may stand for; those that list every platform they know have below 100."""


class WheelName(NamedTuple):
    """What a wheel's file name says (PEP 427)."""

    project: str
    """Normalised (PEP 503)."""
    version: Version
    build: BuildTag
    tags: frozenset[Tag]


def claims_to_be_one(filename: str) -> bool:
    """Whether a file is meant as a wheel, as `X.WHL` is: no build tool takes it, and its publisher
    waits for an answer.
    """
    return filename[-4:].lower() == ".whl"


def parse(filename: str) -> WheelName:
    """Read a wheel's file name.

    Raises:
        InvalidWheelFilename: it is none, too long, or stands for too many tags; for a person.
    """
    if len(filename.encode(errors="surrogatepass")) > LONGEST:
        raise InvalidWheelFilename(
            f"Invalid wheel filename (more than {LONGEST} bytes): {filename[:80]!r}..."
        )
    if not _PLAIN.fullmatch(filename):  # "x-1.0-py3-none-any (1).whl", as browsers write copies
        raise InvalidWheelFilename(
            f"Invalid wheel filename (letters, digits and _ . + ! - only): {filename!r}"
        )
    count = _expanded("-".join(filename.removesuffix(".whl").split("-")[-3:]))
    if count > MOST_TAGS:
        raise InvalidWheelFilename(
            f"Invalid wheel filename (it stands for {count} tags, at most {MOST_TAGS} are read): "
            f"{filename!r}"
        )
    return WheelName(*parse_wheel_filename(filename))


def version_named(subject: str) -> tuple[str, Version] | None:
    """The normalised project and the version that the subject of a refusal or condition names; None
    when it names none. Sources name a file, or `project==version` where there is none (yet).
    """
    project, pinned, version = subject.partition("==")
    try:
        if pinned:
            return canonicalize_name(project), Version(version)
        name = parse(subject)
    except ValueError:  # InvalidVersion, InvalidWheelFilename, and numbers of thousands of digits
        return None
    return name.project, name.version


def expand(compressed: Iterable[str]) -> frozenset[Tag]:
    """All tags that several compressed tag sets, such as `py2.py3-none-any`, stand for.

    Raises:
        ValueError: one is malformed, or they stand for too many; for a person.
    """
    sets = list(compressed)
    count = sum(map(_expanded, sets))
    if count > MOST_TAGS:
        raise ValueError(f"stands for {count} tags, at most {MOST_TAGS} are read")
    return frozenset(tag for one in sets for tag in parse_tag(one))


def _expanded(compressed: str) -> int:
    """How many tags a compressed tag set stands for."""
    return math.prod(part.count(".") + 1 for part in compressed.split("-"))
