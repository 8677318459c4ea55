"""What CodeArtifact says of a version, and what that makes of it: a revision, or why there is none.

Pure: answers of the API in, values out. States and origins are those of
https://docs.aws.amazon.com/codeartifact/latest/ug/packages-overview.html#package-version-status
https://docs.aws.amazon.com/codeartifact/latest/ug/package-origin-controls.html
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.utils import InvalidWheelFilename, parse_sdist_filename
from packaging.version import Version

from controller.model import Availability, Condition, Refusal, Revision
from controller.planning import wheel_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packaging.tags import Tag

    from controller.config.sources import CodeArtifactSource
    from controller.model import Listing

PUBLISHED = "Published"
AVAILABILITY = {
    PUBLISHED: Availability.SELECTABLE,
    "Unlisted": Availability.RETAINED,
    "Archived": Availability.RETAINED,
    "Disposed": Availability.GONE,
    "Deleted": Availability.GONE,
}
"""The availability of a version by its state; one that is Unfinished or unknown has none."""
NOTES = {
    "Unlisted": "unlisted in CodeArtifact: it goes on where it runs and is not newly selected; "
    "set its status to Published for that",
    "Archived": "archived in CodeArtifact: it runs from the cache where it runs, and there is no "
    "new rollout, for it cannot be downloaded; set its status to Published for that",
    "Disposed": "disposed in CodeArtifact: its files are gone for good; publish another version",
    "Deleted": "deleted in CodeArtifact; publish it again, or another version",
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
NAMED = 3
"""Versions that a message names when it is about many."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A version as ListPackageVersions has it."""

    version: str
    revision: str
    status: str
    origin: str
    entry: str
    """The repository or external connection by which it entered the domain."""

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> Listed:
        """From a PackageVersionSummary."""
        origin = summary.get("origin") or {}
        point = origin.get("domainEntryPoint") or {}
        return cls(
            version=summary["version"],
            revision=summary.get("revision", ""),
            status=summary["status"],
            origin=origin.get("originType", "UNKNOWN"),
            entry=point.get("repositoryName") or point.get("externalConnectionName") or "",
        )


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of a version as ListPackageVersionAssets has it."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> Asset:
        """From an AssetSummary."""
        return cls(
            name=summary["name"],
            size=summary.get("size", 0),
            sha256=str((summary.get("hashes") or {}).get("SHA-256", "")).lower(),
        )


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a version at one revision of it."""

    revision: str
    """The package version revision under which they can be fetched."""
    assets: tuple[Asset, ...]


@dataclass(frozen=True, slots=True)
class Locator:
    """Where the bytes of a wheel are; the text form is what a `Revision` carries."""

    package: str
    version: str
    revision: str
    asset: str
    choice: str = ""
    """Of which repository and for which interpreter it was chosen, see `Ranking.choice`."""

    def __str__(self) -> str:
        where = [self.package, self.version, self.revision, self.asset, self.choice]
        return json.dumps(where, separators=(",", ":"))

    @classmethod
    def of(cls, text: str) -> Locator:
        """The inverse of `str`."""
        return cls(*json.loads(text))


class Ranking:
    """How well wheels fit the interpreter that replicas run on, which takes `tags`, best first.

    `repository` only tells choices made of one from those made of another.
    """

    def __init__(self, tags: Sequence[Tag], repository: str = "") -> None:
        self._ranks = {tag: rank for rank, tag in reversed(list(enumerate(tags)))}
        text = "\n".join([repository, *map(str, tags)])
        self.choice = hashlib.sha256(text.encode()).hexdigest()[:8]
        """Equal for rankings that choose alike."""

    def best(self, wheels: Iterable[Asset]) -> Asset | None:
        """The wheel with the best tag; of several the highest build number; None if none fits."""
        found = []
        for asset in wheels:
            _, _, build, tags = wheel_names.parse(asset.name)
            ranks = [self._ranks[tag] for tag in tags if tag in self._ranks]
            if ranks:
                found.append((min(ranks), tuple(-part for part in build[:1]), asset.name, asset))
        return min(found)[-1] if found else None


def trusted(listed: Listed, options: CodeArtifactSource) -> str:
    """Why a version's origin is not taken, as a PascalCase reason; empty when it is."""
    if options.origin == "any":
        return ""
    if listed.origin != "INTERNAL":
        return "OriginExternal"
    allowed = {options.repository, *options.entry_repositories}
    return "" if listed.entry in allowed or "*" in allowed else "EntryRepositoryForeign"


def judged(
    package: str, listed: Listed, files: Files | None, source: str, ranking: Ranking
) -> Revision | Refusal | Condition:
    """What a version of a trusted origin is good for; `files` is None when they are not known.

    A refusal is pending when its reason is in `PENDING`; a condition is told of a version without a
    file that could be refused.
    """
    subject = f"{package}=={listed.version}"
    if listed.status == "Unfinished":
        said = "is being uploaded to CodeArtifact, or its upload was given up"
        return Condition(subject, "Unfinished", f"{subject} {said}", ok=True)
    if (availability := AVAILABILITY.get(listed.status)) is None:
        said = (
            f"{subject} is {listed.status!r} in CodeArtifact, a state that is not known here, so it"
            " is not deployed; set its status to Published, or upgrade wheelway"
        )
        return Refusal(subject, "StateUnknown", said)
    try:
        version = Version(listed.version)
    except ValueError:  # InvalidVersion, and numbers of thousands of digits
        said = f"{subject} has no version as PEP 440 defines it; publish it under another"
        return Refusal(subject, "VersionInvalid", said)
    selectable = availability is Availability.SELECTABLE
    if not selectable and (files is None or not _wheels(package, files)):
        return Condition(subject, listed.status, f"{subject} is {NOTES[listed.status]}", ok=True)
    choice = _choice(subject, package, version, files, ranking)
    if isinstance(choice, Refusal):
        return choice
    held = files.revision if files else ""
    where = Locator(package, listed.version, held, choice.name, ranking.choice)
    return Revision(
        source=source,
        project=package,
        version=version,
        filename=choice.name,
        locator=str(where),
        sha256=choice.sha256,
        size=choice.size,
        availability=availability,
        note=NOTES.get(listed.status, ""),
    )


PENDING = frozenset({"SdistOnly", "WheelNotArrived"})
"""Reasons of refusals that another file may lift."""


def _choice(
    subject: str, package: str, version: Version, files: Files | None, ranking: Ranking
) -> Asset | Refusal:
    """The wheel to take, or why there is none."""
    wheels = _wheels(package, files) if files else {}
    own = [asset for asset, found in wheels.items() if found == version]
    assets = files.assets if files else ()
    meant = [asset.name for asset in assets if wheel_names.claims_to_be_one(asset.name)]
    if not own and meant:
        names = ", ".join(meant)
        said = f"{subject} has no wheel of that name and version, only {names}; build it again"
        return Refusal(subject, "FilenameInvalid", said)
    if not own and any(_is_sdist(asset.name) for asset in (files.assets if files else ())):
        said = (
            f"{subject} has an sdist and no wheel (yet), and sdists are not built here; publish a "
            "wheel of it. It is looked at again"
        )
        return Refusal(subject, "SdistOnly", said)
    if not own:
        said = f"{subject} is in CodeArtifact, its wheel is not (yet); it is looked at again"
        return Refusal(subject, "WheelNotArrived", said)
    best = ranking.best(own)
    if best is None:
        names = ", ".join(sorted(asset.name for asset in own))
        said = (
            f"{subject} has no wheel for the interpreter that Ray runs on, only {names}; publish "
            "one for it, or a pure one (py3-none-any)"
        )
        return Refusal(subject, "TagsIncompatible", said)
    if not _SHA256.fullmatch(best.sha256):
        said = f"{best.name} is listed without a SHA-256, so its bytes could not be verified"
        return Refusal(best.name, "DigestInvalid", said)
    return best


def _wheels(package: str, files: Files) -> dict[Asset, Version]:
    """The wheels of a package with the version that their names say."""
    found = {}
    for asset in files.assets:
        try:
            name, version, _, _ = wheel_names.parse(asset.name)
        except InvalidWheelFilename:
            continue
        if name == package:
            found[asset] = version
    return found


def _is_sdist(name: str) -> bool:
    try:
        parse_sdist_filename(name)
    except ValueError:  # InvalidSdistFilename, and versions of thousands of digits
        return name.endswith((".tar.gz", ".zip"))
    return True


def remembered(listing: Listing | None, ranking: Ranking) -> dict[str, dict[str, Files]]:
    """The files of versions as an earlier run knew them, by package and version.

    Of each only the chosen wheel is known, so it counts only where the choice is the same.
    """
    found: dict[str, dict[str, Files]] = {}
    for revision in listing.revisions if listing else ():
        try:
            where = Locator.of(revision.locator)
        except (ValueError, TypeError):  # of another kind of source that had this name
            continue
        if where.choice == ranking.choice and revision.size is not None:
            asset = Asset(where.asset, revision.size, revision.sha256)
            files = Files(where.revision, (asset,))
            found.setdefault(where.package, {})[where.version] = files
    return found


# -- what is told of a whole package -------------------------------------------------------------


def untrusted_note(
    package: str, reason: str, listed: Sequence[Listed], options: CodeArtifactSource, *, named: bool
) -> Condition:
    """That versions of a package are not taken for where they came from; `reason` is that of
    `trusted`.

    A person must know when it is `named`: in the configuration, or by versions that are taken.
    """
    versions = ", ".join(one.version for one in listed[:NAMED])
    if len(listed) > NAMED:
        versions += f" and {len(listed) - NAMED} more"
    through = ", ".join(sorted({one.entry or "an unknown way" for one in listed}))
    if reason == "OriginExternal":
        said = (
            f"{package} {versions} came into domain {options.domain} through {through} and was not "
            "published there, so it is not taken (dependency confusion). Delete it and block "
            'upstreams for this package; only if it is meant, set `origin = "any"`'
        )
    else:
        said = (
            f"{package} {versions} was published to {through}, not to {options.repository}, so it "
            "is not taken; publish it there (a copy still counts as published to where it came "
            "from), or name that repository in `entry_repositories`"
        )
    return Condition(package, reason, said, ok=not named)


def upstream_note(package: str, options: CodeArtifactSource) -> Condition:
    """The condition that versions of a pipeline's package may come from upstreams."""
    owner = f" --domain-owner {options.domain_owner}" if options.domain_owner else ""
    return Condition(
        package,
        "UpstreamAllowed",
        f"{package} may be completed from upstream repositories: whoever registers that name on a "
        "public index could add versions of it (dependency confusion). Block that: aws "
        f"codeartifact put-package-origin-configuration --domain {options.domain}{owner} "
        f"--repository {options.repository} --format pypi --package {package} "
        "--restrictions publish=ALLOW,upstream=BLOCK",
    )


def absent_note(package: str, options: CodeArtifactSource) -> Condition:
    """The condition that there is nothing of a package that the configuration names."""
    return Condition(
        package,
        "PackageMissing",
        f"{options.domain}/{options.repository} has no package {package}: nothing was published "
        "under this name yet, or `packages` has another than the wheel",
    )
