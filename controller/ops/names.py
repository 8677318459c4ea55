"""What a name stands for: a pipeline, a project, or a wheel's file; and the error for one that
stands for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name, canonicalize_version

from controller.errors import WheelwayError
from controller.model import Release, UnsoundWheel, named
from controller.planning.wheel_names import version_named

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.version import Version

    from controller.journal import Reader
    from controller.model import Condition, Revision, Tracked

_SUGGESTED: Final = 5
_ALIKE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Subject:
    """What a name stands for."""

    name: str
    """Normalised (PEP 503), or a file's name as it is."""
    projects: frozenset[str]
    """Distributions under which its wheels are listed."""
    digests: frozenset[str]
    """Digests of the listed wheels of this name."""

    @classmethod
    def of(cls, name: str, records: Iterable[Tracked], revisions: Iterable[Revision]) -> Subject:
        """What a name stands for among these."""
        if name.endswith(".whl"):
            same = {r.sha256 for r in revisions if r.filename == name}
            return cls(name, frozenset(), frozenset(same))
        normalised = canonicalize_name(name)
        carried = {one.digest for one in records if one.name == normalised}
        projects = {r.project for r in revisions if r.sha256 in carried} | {normalised}
        same = {r.sha256 for r in revisions if r.project == normalised}
        return cls(normalised, frozenset(projects), frozenset(same))

    def has(self, tracked: Tracked) -> bool:
        """Whether a release is about this, or an unsound wheel of its projects."""
        return (
            tracked.name == self.name
            or tracked.digest in self.digests
            or (isinstance(tracked, UnsoundWheel) and tracked.project in self.projects)
        )

    def lists(self, revision: Revision) -> bool:
        """Whether a listed wheel is about this."""
        return revision.sha256 in self.digests or revision.project in self.projects

    def is_meant_by(self, subject: str) -> bool:
        """Whether a condition's subject, a release or a file, is about this."""
        if subject == self.name:
            return True
        if (release := named(subject)) is not None:
            return release[0] == self.name
        if subject.endswith(".whl"):
            return _project_of(subject) in self.projects
        wheel = version_named(subject)
        return subject in self.projects or (wheel is not None and wheel[0] in self.projects)


def _project_of(filename: str) -> str:
    """The project that a file's name claims, even when it is no valid wheel name."""
    return canonicalize_name(filename.removesuffix(".whl").split("-")[0])


def may_be_about(subject: str, version: Version) -> bool:
    """Whether a condition's subject may be about a version; one that names none may."""
    if (release := named(subject)) is not None:
        return canonicalize_version(release[1]) == canonicalize_version(version)
    wheel = version_named(subject)
    return wheel is None or wheel[1] == version


def unknown_name(
    name: str,
    tracked: Iterable[Tracked],
    revisions: Iterable[Revision],
    conditions: Iterable[Condition],
) -> WheelwayError:
    """The error for a name that stands for nothing, with names that come near."""
    names = {one.name for one in tracked}
    known = set(names)
    for revision in revisions:
        known |= {revision.project, revision.filename}
    known |= {c.subject for c in conditions if c.subject.endswith(".whl")}
    near = get_close_matches(name.lower(), sorted(known), _SUGGESTED, _ALIKE)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif names:
        hint = f"known are {', '.join(sorted(names)[:20])}"
    else:
        hint = "no source has listed any wheel yet; see `wheelway status`"
    return WheelwayError("NameUnknown", f"no pipeline, project or wheel is called {name!r}; {hint}")


def require_pipeline(reader: Reader, name: str, order: str) -> None:
    """Refuse the name of a project of weights where a pipeline is asked for.

    Args:
        reader: of the journal.
        name: as it was given.
        order: what to type instead, with `NAME` for the pipeline.

    Raises:
        WheelwayError: it is one ("NameUnknown").
    """
    project = canonicalize_name(name)
    if takers := weights_takers(reader, project):
        advice = " or ".join(f"`{order.replace('NAME', taker)}`" for taker in takers)
        raise WheelwayError(
            "NameUnknown",
            f"no pipeline is called {name!r}, that is the project of the weights of "
            f"{', '.join(takers)}: {advice}",
        )


def weights_takers(reader: Reader, project: str) -> list[str]:
    """The pipelines whose weights a project has; none if it is a pipeline's own name as well."""
    takers = {name for name, owner in reader.weights_owners().items() if owner == project}
    takers |= {one.pipeline for one in reader.judged_weights() if one.project == project}
    subjects = [record.subject for record in reader.releases(project)] if takers else ()
    is_pipeline = project in takers or any(isinstance(one, Release) for one in subjects)
    return [] if is_pipeline else sorted(takers)


def unknown_version(name: str, version: Version, known: Iterable[Tracked]) -> WheelwayError:
    """The error for a version that a known name does not have, with those it has."""
    versions = ", ".join(str(v) for v in sorted({r.version for r in known}, reverse=True))
    hint = f"there is {versions}" if versions else "no version of it is known"
    return WheelwayError("VersionUnknown", f"{name} has no version {version}; {hint}")
