"""What one repository holds, and how it changes: plain values, real bytes.

Every change is told to whoever listens, as CodeArtifact tells EventBridge. The rules:
https://docs.aws.amazon.com/codeartifact/latest/ug/packages-overview.html
"""

from __future__ import annotations

import base64
import hashlib
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeVar

from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from tests.support.codeartifact.wire import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

T = TypeVar("T")
Restriction = Literal["ALLOW", "BLOCK"]

_ALGORITHMS = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-512": "sha512"}
DOWNLOADABLE = {"Published", "Unfinished", "Unlisted"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the repository is said to be."""

    domain: str = "acme"
    owner: str = "111122223333"
    repository: str = "pipelines"
    region: str = "eu-central-1"

    def arn(self, params: Mapping[str, object]) -> str:
        """Of what a request with these parameters is about: a package, the repository, or all."""
        what = f"domain/{self.domain}"
        if "repository" in params:
            what = f"repository/{self.domain}/{self.repository}"
        if "package" in params:
            what = f"package/{self.domain}/{self.repository}/pypi//{params['package']}"
        return f"arn:aws:codeartifact:{self.region}:{self.owner}:{what}"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    name: str
    content: bytes = field(repr=False)
    hashes: Mapping[str, str] = field(repr=False)
    """Lower-case hex, by the service's names of the algorithms."""

    @classmethod
    def of(cls, name: str, content: bytes) -> Asset:
        return cls(
            name,
            content,
            {key: hashlib.new(code, content).hexdigest() for key, code in _ALGORITHMS.items()},
        )


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a package."""

    package: str
    version: str
    published: datetime
    entry: str
    """The repository it was published to, or the external connection it came through."""
    origin: str = "INTERNAL"
    status: str = "Published"
    assets: tuple[Asset, ...] = ()

    @property
    def revision(self) -> str:
        """Changes with the assets and with nothing else."""
        told = "".join(f"{asset.name}\n{asset.hashes['SHA-256']}\n" for asset in self.assets)
        return base64.b64encode(hashlib.sha256(told.encode()).digest()).decode()

    @property
    def downloadable(self) -> bool:
        return self.status in DOWNLOADABLE

    def asset(self, name: str) -> Asset | None:
        return next((asset for asset in self.assets if asset.name == name), None)


@dataclass(frozen=True, slots=True)
class Package:
    """One package; it may have lost its last version."""

    name: str
    versions: Mapping[str, Version] = field(default_factory=dict)
    publish: Restriction = "ALLOW"
    upstream: Restriction = "BLOCK"


@dataclass(frozen=True, slots=True)
class Change:
    """From one state of a version to another; None for not being there."""

    before: Version | None
    after: Version | None


class Shelf:
    """The packages of one repository. Any method may be called from any thread."""

    def __init__(self, address: Address, clock: Callable[[], float]) -> None:
        self.address = address
        self.listeners: list[Callable[[Change], None]] = []
        self._clock = clock
        self._mutex = threading.Lock()
        self._packages: dict[str, Package] = {}

    # -- looking ---------------------------------------------------------------------------------

    def packages(self) -> list[Package]:
        """By name."""
        with self._mutex:
            return [package for _, package in sorted(self._packages.items())]

    def package(self, name: str) -> Package:
        """The package of that name.

        Raises:
            Refused: there is none.
        """
        with self._mutex:
            found = self._packages.get(canonicalize_name(name))
        return _found(found, "package", name)

    def version(self, name: str, version: str) -> Version:
        """The version of that package.

        Raises:
            Refused: there is none.
        """
        package = self.package(name)
        return _found(package.versions.get(version), "package-version", f"{name} {version}")

    # -- changing --------------------------------------------------------------------------------

    def publish(
        self, path: Path, *, origin: str = "INTERNAL", entry: str = "", status: str = "Published"
    ) -> Version:
        """Put a wheel or an sdist there, as `store` does."""
        return self.store(path.name, path.read_bytes(), origin=origin, entry=entry, status=status)

    def store(
        self,
        filename: str,
        content: bytes,
        *,
        origin: str = "INTERNAL",
        entry: str = "",
        status: str = "Published",
    ) -> Version:
        """Put a file there; its name says of which package and version it is.

        A version that is there already gets one asset more, and keeps its origin and status. The
        same file again changes nothing.

        Args:
            filename: of a wheel or an sdist; see `packaging.utils` for what is raised otherwise.
            content: its bytes.
            origin: INTERNAL, EXTERNAL or UNKNOWN.
            entry: where it came in; default: this repository.
            status: of a version that is new.

        Raises:
            Refused: that version has other bytes by that name, or takes none any more.
        """
        name, version = named(filename)
        asset = Asset.of(filename, content)
        moment = datetime.fromtimestamp(self._clock(), UTC)
        new = Version(
            name, version, moment, entry or self.address.repository, origin, status, (asset,)
        )

        def grow(before: Version | None) -> Version:
            if before is None:
                return new
            if (same := before.asset(filename)) and same.content == content:
                return before
            if same or not before.downloadable:
                raise Refused(
                    "ConflictException",
                    f"{filename} cannot be published: version {version} of {name} is there, "
                    f"{before.status}, and would become another",
                    resourceId=filename,
                    resourceType="asset",
                )
            return replace(before, assets=(*before.assets, asset))

        return _found(self._change(name, version, grow), "asset", filename)

    def republish(self, path: Path) -> Version:
        """Delete what is there, and publish other bytes under the same version."""
        name, version = named(path.name)
        self._change(name, version, lambda _: None)
        return self.publish(path)

    def set_status(self, name: str, version: str, status: str) -> Version:
        """Any text, so that one can be set that no client knows."""
        return self._altered(name, version, status=status)

    def unlist(self, name: str, version: str) -> Version:
        return self.set_status(name, version, "Unlisted")

    def archive(self, name: str, version: str) -> Version:
        return self.set_status(name, version, "Archived")

    def dispose(self, name: str, version: str) -> Version:
        return self._altered(name, version, status="Disposed", assets=())

    def delete(self, name: str, version: str | None = None) -> None:
        """A version; or the package with all of them."""
        going = [self.version(name, version).version] if version else self.package(name).versions
        for each in going:
            self._change(canonicalize_name(name), each, lambda _: None)
        if version is None:
            with self._mutex:
                del self._packages[canonicalize_name(name)]

    def restrict(
        self, name: str, *, upstream: Restriction = "BLOCK", publish: Restriction = "ALLOW"
    ) -> None:
        """Set a package's origin controls; the package need not have a version."""
        key = canonicalize_name(name)
        with self._mutex:
            before = self._packages.get(key, Package(key))
            self._packages[key] = replace(before, upstream=upstream, publish=publish)

    def _altered(self, name: str, version: str, **changes: object) -> Version:
        def alter(before: Version | None) -> Version:
            there = _found(before, "package-version", f"{name} {version}")
            return replace(there, **changes)  # type: ignore[arg-type]  # fields of Version

        after = self._change(canonicalize_name(name), version, alter)
        return _found(after, "package-version", version)

    def _change(
        self, name: str, version: str, step: Callable[[Version | None], Version | None]
    ) -> Version | None:
        """Take a version to its next state, and tell."""
        with self._mutex:
            package = self._packages.get(name, Package(name))
            before = package.versions.get(version)
            after = step(before)
            others = {key: one for key, one in package.versions.items() if key != version}
            versions = others | ({version: after} if after else {})
            self._packages[name] = replace(package, versions=versions)
        if after != before:
            for listener in self.listeners:
                listener(Change(before, after))
        return after


def named(filename: str) -> tuple[str, str]:
    """The normalised name and the version that a wheel's or an sdist's file name has."""
    if filename.endswith(".whl"):
        name, version, *_ = parse_wheel_filename(filename)
    else:
        name, version = parse_sdist_filename(filename)
    return name, str(version)


def _found(what: T | None, kind: str, name: str) -> T:
    if what is None:
        raise missing(kind, name)
    return what


def missing(kind: str, name: str) -> Refused:
    """The error for what is not there."""
    return Refused(
        "ResourceNotFoundException",
        f"{kind.replace('-', ' ').capitalize()} not found: {name}",
        resourceId=name,
        resourceType=kind,
    )
