"""Resolution: from what a wheel requires to a lock of what must be installed on top of the base.

uv resolves; what it may choose from is arranged here. *Stand-ins*, wheels of metadata only,
describe to it what the base has, so that the base counts offline too, and for packages that no
index has (an editable install, a vendor's local version). First every version of the base is a
constraint: what is missing is added and nothing changes. If that has no solution, the versions
become preferences: what must change shadows the base, and Ray's own requirements still hold (they
are checked, and resolved together where they would not).
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.markers import UndefinedComparison
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from controller.cache.environments.base import HOSTS
from controller.cache.environments.uv import NoSolution
from controller.config.requirements import parse_requirement
from controller.errors import Rejected, Stalled, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from packaging.requirements import Requirement

    from controller.cache.environments.base import Base, Distribution
    from controller.cache.environments.uv import Uv
    from controller.model import Artifact

LAYOUT = 1
"""Part of every lock's digest: raise it when overlays that were built before must not be used."""
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>\S+)(?: \\)?$")
_HASH = re.compile(r"^ {4}--hash=sha256:[0-9a-f]{64}(?: \\)?$")
_WHEEL = "Wheel-Version: 1.0\nGenerator: wheelway\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True, slots=True)
class Lock:
    """What is installed on top of the base, to the byte."""

    text: str
    """As pip's requirements format has it, with hashes; empty when the base satisfies all."""
    versions: Mapping[NormalizedName, Version]
    digest: str
    """SHA-256 over the text and the interpreter it is for; equal digests share an environment."""


def read_lock(text: str, base: Base) -> Lock:
    """The lock that a text describes; comments do not count.

    Raises:
        ValueError: it is no lock.
    """
    pins = [(name, version, block) for name, version, block in _pins(text)]
    body = "".join(block for _, _, block in pins)
    where = [LAYOUT, base.version, str(base.python), *map(str, base.site_packages), body]
    return Lock(
        text=body,
        versions={name: version for name, version, _ in pins},
        digest=hashlib.sha256(json.dumps(where).encode()).hexdigest(),
    )


def requirements_of(artifact: Artifact, base: Base) -> tuple[Requirement, ...]:
    """The requirements that apply on this base.

    Raises:
        Rejected: `RequirementInvalid`, `RequirementNotFromIndex`; `RequirementsUnsatisfiable` when
            it wants another Ray or wheelway than the one that runs here.
        Stalled: `RayMissing`, `WheelwayMissing`: it wants what the base ought to have.
    """
    found = []
    for text in artifact.requires:
        try:
            requirement = parse_requirement(text)
        except ValueError as error:
            raise Rejected(
                "RequirementInvalid",
                f"{artifact.filename} requires {text[:200]!r}, which is not a requirement (PEP "
                f"508): {' '.join(str(error).split())}",
            ) from error
        if not _applies(base, requirement, artifact):
            continue
        if requirement.url:
            raise Rejected(
                "RequirementNotFromIndex",
                f"{artifact.filename} requires {requirement.name} from {requirement.url}; only "
                "wheels from the package index are installed: publish it there and require it by "
                "version",
            )
        if canonicalize_name(requirement.name) in HOSTS:
            _check_host(artifact, requirement, base)
        found.append(requirement)
    return tuple(found)


def _applies(base: Base, requirement: Requirement, artifact: Artifact) -> bool:
    try:
        return base.applies(requirement)
    except UndefinedComparison as error:
        raise Rejected(
            "RequirementInvalid",
            f"{artifact.filename} requires {requirement.name} under a marker that cannot be "
            f"evaluated (PEP 508): {error}",
        ) from error


def _bare(requirement: Requirement) -> str:
    """Name, extras and specifier as packaging has parsed them. Nothing else of a wheel's text may
    reach uv, whose input has a syntax of its own; markers were judged before, by `applies`.
    """
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def resolve(
    artifact: Artifact,
    requirements: Sequence[Requirement],
    *,
    base: Base,
    uv: Uv,
    stand_ins: Path,
    scratch: Path,
    until: float,
) -> Lock:
    """Ask uv for versions that fit.

    Args:
        artifact: whose requirements these are, for messages.
        requirements: those that apply here.
        base: what they go on top of.
        uv: to be asked.
        stand_ins: the folder that `write_stand_ins` filled for this base.
        scratch: a folder for files of its own.
        until: when it must be done, by uv's clock.

    Raises:
        Rejected: `RequirementsUnsatisfiable`.
        Waiting: `RequirementMissingOffline`, and what `Uv.run` raises.
    """

    def compiled(roots: Iterable[Requirement], *, strict: bool) -> Lock:
        constraints = scratch / "constraints.txt"
        output = scratch / "output.txt"
        versions = base.distributions.values()
        hosts = [one for one in versions if one.name in HOSTS]
        constraints.write_text(_pinned(versions if strict else hosts), encoding="utf-8")
        output.write_text(_pinned(versions), encoding="utf-8")  # uv prefers what it finds there
        uv.run(
            *("pip", "compile", "-", "--python", base.python, "--generate-hashes"),
            *("--no-header", "--no-annotate", "--constraints", constraints, "-o", output),
            *uv.candidates(stand_ins),
            stdin="".join(f"{_bare(root)}\n" for root in roots),
            until=until,
        )
        return _missing_from(base, output.read_text(encoding="utf-8"))

    try:
        if not any(_contradicts(base, requirement) for requirement in requirements):
            try:
                return compiled(requirements, strict=True)
            except NoSolution:
                pass
        lock = compiled(requirements, strict=False)
        hosts = base.hosts()
        if base.first_unmet(hosts, lock.versions) is not None:
            lock = compiled([*requirements, *hosts], strict=False)
    except NoSolution as error:
        raise unsolved(artifact, base, uv, error) from error
    return lock


def unsolved(artifact: Artifact, base: Base, uv: Uv, error: NoSolution) -> Waiting | Rejected:
    """The error for an artifact of which uv found no solution."""
    if error.unseen and uv.options.offline:
        return Waiting(
            "RequirementMissingOffline",
            f"{artifact.filename} requires something that is neither in `environments.find_links` "
            "nor in uv's cache, and `environments.offline` forbids to ask an index; put its wheel "
            f"into a folder of `find_links`: {error.explanation}",
        )
    advice = ""
    if "no usable wheels" in error.explanation:
        advice = "\nOnly wheels are installed: publish one of what has none, or require another."
    return Rejected(
        "RequirementsUnsatisfiable",
        f"what {artifact.filename} requires cannot be installed beside Ray {base.ray_version} on "
        f"Python {base.version}: {error.explanation}{advice}",
        log_tail=error.rest,
    )


def write_stand_ins(base: Base, folder: Path) -> None:
    """Describe every distribution of the base by a wheel of metadata only (PEP 427, PEP 566)."""
    for one in base.distributions.values():
        stem = f"{one.name.replace('-', '_')}-{one.version}"
        headers = ["Metadata-Version: 2.1", f"Name: {one.name}", f"Version: {one.version}"]
        headers += [f"Requires-Dist: {text}" for text in one.requires]
        headers += [f"Provides-Extra: {extra}" for extra in one.extras]
        files = {"METADATA": "\n".join(headers) + "\n", "WHEEL": _WHEEL, "RECORD": ""}
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            for name, text in files.items():
                # ZipInfo's fixed date: the same base gives the same bytes
                wheel.writestr(zipfile.ZipInfo(f"{stem}.dist-info/{name}"), text)


def _check_host(artifact: Artifact, requirement: Requirement, base: Base) -> None:
    name = canonicalize_name(requirement.name)
    version = base.version_of(name)
    if version is None:
        raise Stalled(
            f"{name.capitalize()}Missing",
            f"{artifact.filename} requires {name}, which Ray's interpreter {base.python} does not "
            f"have; install it there, or set `ray.python` to the interpreter that Ray runs on",
        )
    if not requirement.specifier.contains(version, prereleases=True):
        raise Rejected(
            "RequirementsUnsatisfiable",
            f"{artifact.filename} requires {name}{requirement.specifier}, but {name} {version} runs"
            f" here and a pipeline cannot bring its own; allow {version} in what the wheel "
            f"requires, or upgrade {name} here",
        )


def _contradicts(base: Base, requirement: Requirement) -> bool:
    """Whether the base has another version, so that constraining to the base is hopeless."""
    version = base.version_of(requirement.name)
    return version is not None and not requirement.specifier.contains(version, prereleases=True)


def _pinned(distributions: Iterable[Distribution]) -> str:
    return "".join(sorted(f"{one.name}=={one.version}\n" for one in distributions))


def _missing_from(base: Base, text: str) -> Lock:
    """The part of a resolution that the base does not have in the same version."""
    kept = [
        block
        for name, version, block in _pins(text)
        if name not in base.distributions or base.distributions[name].version != version
    ]
    return read_lock("".join(kept), base)


def _pins(text: str) -> list[tuple[NormalizedName, Version, str]]:
    """Name, version and lines of each pin, in their order."""
    pins: list[tuple[NormalizedName, Version, str]] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if pins and _HASH.match(line):
            name, version, block = pins[-1]
            pins[-1] = (name, version, f"{block}{line}\n")
        elif match := _PIN.match(line):
            try:
                version = Version(match["version"])
            except InvalidVersion as error:
                raise ValueError(f"not a pinned version: {line!r}") from error
            pins.append((canonicalize_name(match["name"]), version, f"{line}\n"))
        else:
            raise ValueError(f"not a pinned requirement with hashes: {line!r}")
    return pins
