"""The base: what Ray's own interpreter has, by running it once.

Releases run on top of it: what it has need not be installed again, and wheels must fit its tags.
Everything here is a snapshot. After a package was installed into the base, or Ray was upgraded,
`detect` again and compare fingerprints.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import packaging
from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, parse_tag
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from controller.errors import Stalled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_FACTS = Path(__file__).with_name("facts.py")
HOSTS = (canonicalize_name("ray"), canonicalize_name("wheelway"))
"""Distributions that every replica needs: the base provides them and nothing may replace them."""

_KERNEL = ("platform_release", "platform_version")


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed distribution."""

    name: NormalizedName
    version: Version
    requires: tuple[str, ...]
    """Requires-Dist as written (PEP 508)."""
    extras: tuple[str, ...]
    """Provides-Extra as written."""


@dataclass(frozen=True, slots=True)
class Base:
    """Ray's own interpreter and everything installed for it."""

    python: Path
    """The interpreter, absolute; in a virtual environment its link there, not the link's target."""
    version: str
    """Of Python, such as 3.11.7."""
    site_packages: tuple[Path, ...]
    tags: tuple[Tag, ...]
    """The wheels it can use (PEP 425), best first."""
    markers: Mapping[str, str]
    """The values of PEP 508's environment markers."""
    distributions: Mapping[NormalizedName, Distribution]
    importable: frozenset[str]
    """Which of `ray` and `wheelway` it would find on import."""
    fingerprint: str
    """SHA-256 over all of this but the kernel; it is another one when the base changed."""
    _parsed: dict[str, Requirement | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ray_version(self) -> str | None:
        """None when Ray is not installed there."""
        return self.version_of("ray")

    @property
    def wheelway_version(self) -> str | None:
        """None when wheelway is not installed there."""
        return self.version_of("wheelway")

    def version_of(self, name: str) -> str | None:
        """The installed version of a distribution; None when it is not installed."""
        distribution = self.distributions.get(canonicalize_name(name))
        return str(distribution.version) if distribution else None

    def hosts(self) -> tuple[Requirement, ...]:
        """What every replica needs whatever its pipeline requires: Ray Serve and wheelway.

        Of Ray's extras only those that the base fulfils are asked for.
        """
        found = []
        for name, extras in (("ray", ("default", "serve")), ("wheelway", ())):
            if (version := self.version_of(name)) is None:
                continue
            wanted = [Requirement(f"{name}[{extra}]=={version}") for extra in extras]
            fulfilled = [one for one in wanted if self.first_unmet([one]) is None]
            found += fulfilled or [Requirement(f"{name}=={version}")]
        return tuple(found)

    def applies(self, requirement: Requirement, extra: str = "") -> bool:
        """Whether the requirement's marker holds here, with this extra asked for."""
        if requirement.marker is None:
            return True
        return requirement.marker.evaluate({**self.markers, "extra": extra})

    def first_unmet(
        self,
        requirements: Iterable[Requirement],
        replaced: Mapping[NormalizedName, Version] | None = None,
    ) -> Requirement | None:
        """The first requirement, directly or through others, that what is installed does not meet.

        Args:
            requirements: their own markers are not evaluated, those of what they lead to are.
            replaced: versions that take the place of installed ones. What these require themselves
                is not followed: whoever chose them saw to that.
        """
        replaced = replaced or {}
        pending = list(requirements)
        seen: set[tuple[NormalizedName, str]] = set()
        while pending:
            requirement = pending.pop()
            name = canonicalize_name(requirement.name)
            installed = self.distributions.get(name)
            version = replaced.get(name) or (installed.version if installed else None)
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                return requirement
            if installed is None or name in replaced:
                continue
            for extra in ("", *sorted(requirement.extras)):
                if (name, extra) not in seen:
                    seen.add((name, extra))
                    pending.extend(self._required_by(installed, extra))
        return None

    def _required_by(self, distribution: Distribution, extra: str) -> Iterator[Requirement]:
        for text in distribution.requires:
            if text not in self._parsed:
                self._parsed[text] = _parse(text)
            requirement = self._parsed[text]
            if requirement is not None and self.applies(requirement, extra):
                yield requirement


def detect(python: Path | None = None, *, timeout: float = 60.0) -> Base:
    """Run an interpreter once and take down what it has.

    Args:
        python: the interpreter Ray runs on; None for the daemon's own.
        timeout: seconds.

    Raises:
        Stalled: `PythonUnusable`: it is not there, does not run or does not say what it has.
    """
    executable = Path(os.path.abspath(python or sys.executable))  # noqa: PTH100 - keeps links
    answer = _run(executable, timeout)
    try:
        return _base(executable, json.loads(answer.strip().rpartition("\n")[2]))
    except (ValueError, KeyError, TypeError) as error:
        raise _unusable(executable, f"it did not say what it has: {answer[-300:]!r}") from error


def clean_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without variables that would make an interpreter import from elsewhere."""
    return {
        key: value
        for key, value in environ.items()
        if not key.startswith(("PYTHON", "CONDA_")) and key != "VIRTUAL_ENV"
    }


def _run(executable: Path, timeout: float) -> str:
    home = Path(packaging.__file__).parent.parent
    try:
        done = subprocess.run(
            [executable, "-I", _FACTS, home],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=clean_environ(os.environ),
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        tail = error.stderr.strip()[-300:]
        raise _unusable(executable, f"it ended with {error.returncode}: {tail}") from error
    except subprocess.TimeoutExpired as error:
        raise _unusable(executable, f"it did not answer within {timeout:g} s") from error
    except OSError as error:
        raise _unusable(executable, error.strerror or str(error)) from error
    return done.stdout


def _unusable(executable: Path, why: str) -> Stalled:
    return Stalled(
        "PythonUnusable",
        f"Ray's interpreter {executable} cannot be asked what it has: {why}; "
        "set `ray.python` to the interpreter that Ray runs on",
    )


def _base(executable: Path, facts: Mapping[str, Any]) -> Base:
    # A new kernel is no new base: releases keep the environment that was locked for them.
    markers = {key: facts["markers"][key] for key in facts["markers"] if key not in _KERNEL}
    canonical = json.dumps({**facts, "markers": markers, "python": str(executable)}, sort_keys=True)
    distributions: dict[NormalizedName, Distribution] = {}
    for found in facts["distributions"]:
        name = canonicalize_name(found["name"])
        try:
            version = Version(found["version"])
        except InvalidVersion:  # nothing can require it by version, and no wheel can describe it
            continue
        # The first on sys.path is the one that is imported.
        distributions.setdefault(
            name, Distribution(name, version, tuple(found["requires"]), tuple(found["extras"]))
        )
    return Base(
        python=executable,
        version=facts["version"],
        site_packages=tuple(Path(path) for path in facts["site_packages"]),
        tags=tuple(tag for text in facts["tags"] for tag in parse_tag(text)),
        markers=facts["markers"],
        distributions=distributions,
        importable=frozenset(facts["importable"]),
        fingerprint=hashlib.sha256(canonical.encode()).hexdigest(),
    )


def _parse(text: str) -> Requirement | None:
    """None for what older build backends wrote before PEP 508: pip and uv skip it likewise."""
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None
