"""The calls that a poller makes of one repository, each with its pages put together.

What is not there is an answer here and no error, except for what the whole source stands on. Pages
are no snapshot: while a listing changes, one may hold what the one before held as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from controller.errors import Stalled, Transient
from controller.sources.codeartifact.failures import MissingThere
from controller.sources.codeartifact.versions import PUBLISHED, Asset, Files, Listed

if TYPE_CHECKING:
    from mypy_boto3_codeartifact.type_defs import GetPackageVersionAssetResultTypeDef

    from controller.config.sources import CodeArtifactSource
    from controller.sources.codeartifact.connection import Connection
    from controller.sources.codeartifact.versions import Locator

PAGES: Any = {"PageSize": 1000}
"""Items of a page, the most there is."""


class Repository:
    """One repository; every method raises what `Connection.translated` does, but MissingThere."""

    def __init__(self, options: CodeArtifactSource, connection: Connection) -> None:
        self._source = options.name
        self._connection = connection
        self._address: dict[str, Any] = {
            "domain": options.domain,
            "repository": options.repository,
            "format": "pypi",
        }
        if options.domain_owner:
            self._address["domainOwner"] = options.domain_owner

    def packages(self, prefix: str) -> dict[str, str]:
        """The packages whose names begin so, each with its restriction of upstreams: ALLOW, BLOCK
        or empty.

        Raises:
            Transient: `AwsUnexpected`, when no repository answers so; and as the class says.
        """
        begun: dict[str, Any] = {"packagePrefix": prefix} if prefix else {}
        found = {}
        try:
            with self._connection.translated():
                pages = self._connection.codeartifact().get_paginator("list_packages")
                for page in pages.paginate(**self._address, **begun, PaginationConfig=PAGES):
                    for package in page["packages"]:
                        found[package["package"]] = _upstream(package)
        except MissingThere as error:
            raise Transient(
                "AwsUnexpected", f"source {self._source} cannot list packages: {error}"
            ) from error
        return found

    def versions(self, package: str) -> tuple[dict[str, Listed], int]:
        """The versions of a package, none when there is no such package; and on how many pages."""
        listed: dict[str, Listed] = {}
        count = 0
        try:
            with self._connection.translated(package):
                pages = self._connection.codeartifact().get_paginator("list_package_versions")
                for page in pages.paginate(
                    **self._address, package=package, PaginationConfig=PAGES
                ):
                    count += 1
                    found = map(Listed.of, page["versions"])
                    listed.update((one.version, one) for one in found)
        except MissingThere:
            return {}, count
        return listed, count

    def files(self, package: str, listed: Listed) -> Files | None:
        """The files of a version; None when they are not told, for it went, or for its state."""
        assets: dict[str, Asset] = {}
        revision = ""
        try:
            with self._connection.translated(package):
                pages = self._connection.codeartifact().get_paginator("list_package_version_assets")
                for page in pages.paginate(
                    **self._address,
                    package=package,
                    packageVersion=listed.version,
                    PaginationConfig=PAGES,
                ):
                    revision = revision or page["versionRevision"]
                    assets.update((one["name"], Asset.of(one)) for one in page["assets"])
        except MissingThere:
            return None
        except Stalled as error:
            if error.reason != "RequestRefused" or listed.status == PUBLISHED:
                raise
            return None
        return Files(revision, tuple(assets[key] for key in sorted(assets)))

    def upstream(self, package: str) -> str:
        """Whether a package may be completed from upstreams: ALLOW, BLOCK, or empty."""
        try:
            with self._connection.translated(package):
                answer = self._connection.codeartifact().describe_package(
                    **self._address, package=package
                )
                return _upstream(answer["package"])
        except MissingThere:
            return ""

    def asset(self, where: Locator) -> GetPackageVersionAssetResultTypeDef:
        """A file, its body not read yet, of the package version revision that was listed.

        Raises:
            Transient: `AssetMissing`; and as the class says.
        """
        try:
            with self._connection.translated(where.package):
                return self._connection.codeartifact().get_package_version_asset(
                    **self._address,
                    package=where.package,
                    packageVersion=where.version,
                    packageVersionRevision=where.revision,
                    asset=where.asset,
                )
        except MissingThere as error:
            raise Transient(
                "AssetMissing",
                f"{where.asset} is listed by {self._source} and cannot be downloaded ({error}): it "
                "was listed a moment ago, or has changed since; it is tried again",
            ) from error


def _upstream(package: Any) -> str:
    restrictions = (package.get("originConfiguration") or {}).get("restrictions") or {}
    return str(restrictions.get("upstream", ""))
