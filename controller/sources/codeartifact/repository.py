"""The calls that a poller makes of one repository, each with its pages put together.

A package, version or file that is not there is no error; a missing domain or repository is one.
Pages are no snapshot: while a listing changes, a page may repeat a part of the one before.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError
from urllib3.exceptions import HTTPError

from controller.errors import Stalled, Transient
from controller.sources.codeartifact.address import named
from controller.sources.codeartifact.failures import MissingThere
from controller.sources.codeartifact.versions import PUBLISHED, Asset, Files, Listed

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from controller.config.sources import CodeArtifactSource
    from controller.sources.codeartifact.connection import Connection
    from controller.sources.codeartifact.versions import Locator

PAGES: Any = {"PageSize": 1000}
"""Items of a page, the most there is."""
CHUNK = 1024 * 1024
"""Bytes of a download at a time."""


class Repository:
    """One repository; every method raises what `Connection.translated` does, but MissingThere.

    `ending` is set when the source ends, and its downloads with it.
    """

    def __init__(
        self, options: CodeArtifactSource, connection: Connection, ending: threading.Event
    ) -> None:
        self._source = options.name
        self._connection = connection
        self._ending = ending
        self._address = {**named(options), "repository": options.repository, "format": "pypi"}

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
        with suppress(MissingThere), self._connection.translated(package):
            pages = self._connection.codeartifact().get_paginator("list_package_versions")
            for page in pages.paginate(**self._address, package=package, PaginationConfig=PAGES):
                count += 1
                found = map(Listed.of, page["versions"])
                listed.update((one.version, one) for one in found)
            return listed, count
        return {}, count

    def files(self, package: str, listed: Listed) -> Files | None:
        """The files of a version; None when it is gone, or its state does not tell."""
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
        with suppress(MissingThere), self._connection.translated(package):
            client = self._connection.codeartifact()
            answer = client.describe_package(**self._address, package=package)
            return _upstream(answer["package"])
        return ""

    def read(self, where: Locator, size: int | None) -> Iterator[bytes]:
        """A file of the package version revision that was listed, in chunks; there are no ranges
        in this API, so nothing is resumed. `wire` sees to the time that it may take.

        Where the answer does not say how many bytes there will be, there must be `size`.

        Raises:
            Transient: `AssetMissing`, `DownloadBroken`, `SourceClosed`; and as the class says.
        """
        try:
            with self._connection.translated(where.package):
                answer = self._connection.codeartifact().get_package_version_asset(
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
        announced = "content-length" in answer["ResponseMetadata"]["HTTPHeaders"]
        got = 0
        with closing(answer["asset"]) as body:
            try:
                for chunk in body.iter_chunks(CHUNK):
                    got += len(chunk)
                    yield chunk
            except (BotoCoreError, HTTPError) as error:
                raise self._broken(where, _why(error)) from error
        if self._ending.is_set() or (size is not None and got < size and not announced):
            raise self._broken(where, f"it ended after {got} of {size} bytes")

    def _broken(self, where: Locator, why: str) -> Transient:
        if self._ending.is_set():
            what = f"the download of {where.asset} was ended with its source"
            return Transient("SourceClosed", what)
        return Transient(
            "DownloadBroken",
            f"{where.asset} did not come whole from CodeArtifact: {why}; it is fetched again from "
            "its start",
        )


def _why(error: BaseException) -> str:
    """What was behind it, which botocore and urllib3 wrap into other errors."""
    while inner := error.__cause__ or (not error.__suppress_context__ and error.__context__):
        error = inner
    return " ".join(str(error).split())


def _upstream(package: Any) -> str:
    restrictions = (package.get("originConfiguration") or {}).get("restrictions") or {}
    return str(restrictions.get("upstream", ""))
