"""Requirements for the packages that an author's code imports."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions
from typing import TYPE_CHECKING, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from controller.authoring.modules import installed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_DISTRIBUTIONS: Final = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "jose": "python-jose",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}
"""Of packages that are called otherwise than what they are imported as."""


def required(imported: Iterable[str], folders: Iterable[Path]) -> list[str]:
    """A requirement for each imported package, as PEP 508 writes it.

    Args:
        imported: names that are imported.
        folders: where `requirements.txt` or `pyproject.toml` may say which versions; the first that
            names a package decides.
    """
    installed = packages_distributions()
    stated: dict[str, Requirement] = {}
    for folder in folders:
        for requirement in _stated(folder):
            stated.setdefault(canonicalize_name(requirement.name), requirement)
    found = {}
    for name in imported:
        known = _DISTRIBUTIONS.get(name) or installed.get(name, [name])[0]
        candidates = [canonicalize_name(one) for one in (known, name)]
        distribution = next((one for one in candidates if one in stated), candidates[0])
        found[distribution] = str(stated.get(distribution, distribution))
    return [found[name] for name in sorted(found)]


def guessed(imported: Iterable[str], folders: Iterable[Path]) -> list[str]:
    """Those of the imported names of which nothing says that a package has them."""
    stated = {canonicalize_name(one.name) for folder in folders for one in _stated(folder)}
    return sorted(
        name
        for name in imported
        if name not in installed()
        and name not in _DISTRIBUTIONS
        and canonicalize_name(name) not in stated
    )


def _stated(folder: Path) -> Iterator[Requirement]:
    try:
        lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        lines += project["project"]["dependencies"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    for line in lines:
        try:
            requirement = Requirement(re.sub(r"(^|\s)#.*", "", str(line)).strip())
        except InvalidRequirement:  # options of pip, such as -r and --hash
            continue
        if requirement.url is None:
            yield requirement
