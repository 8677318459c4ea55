"""What the subject of a refusal or a condition is about, when it is about a version of a project.

Sources call what has a file by the file's name, and what has none (yet) `project==version`. And the
reasons of conditions that are looked for by others than who finds them.
"""

from __future__ import annotations

from packaging.utils import canonicalize_name
from packaging.version import Version

from controller.planning import wheel_names

PIN_UNMET = "PinUnmet"
"""An operator's pin names versions none of which is fit to serve: what serves stays."""

NOT_ANSWERING = "RouteNotAnswering"
"""A release that was live does not answer at its route."""

RETIRE_LIMIT = "RetireLimit"
"""So much vanished from its source at once that a person is asked before it is retired."""

EVERYTHING = "serve config"
"""The subject of what concerns all that is applied."""

SUSPENDED = "Suspended"
"""The reason of everything that would go on if no operator had suspended it."""


def version_named(subject: str) -> tuple[str, Version] | None:
    """The normalised project and the version that a subject names; None when it names none."""
    project, pinned, version = subject.partition("==")
    try:
        if pinned:
            return canonicalize_name(project), Version(version)
        name = wheel_names.parse(subject)
    except ValueError:  # InvalidVersion, InvalidWheelFilename, and numbers of thousands of digits
        return None
    return name.project, name.version
