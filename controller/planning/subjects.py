"""What the subject of a refusal or a condition is about, when it is about a version of a project.

Sources call what has a file by the file's name, and what has none (yet) `project==version`.
"""

from __future__ import annotations

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version


def version_named(subject: str) -> tuple[str, Version] | None:
    """The normalised project and the version that a subject names; None when it names none."""
    project, pinned, version = subject.partition("==")
    try:
        if pinned:
            return canonicalize_name(project), Version(version)
        name, found, _, _ = parse_wheel_filename(subject)
    except (InvalidWheelFilename, InvalidVersion):
        return None
    return str(name), found
