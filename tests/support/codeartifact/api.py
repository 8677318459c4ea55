"""The API: one method an operation, its parameters in, the members of its answer out.

Reference: https://docs.aws.amazon.com/codeartifact/latest/APIReference/API_Operations.html. What
that leaves open is decided here: listings are in the order of names and of publication, tokens
are positions in a listing that may change meanwhile, and an archived asset is not found.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from botocore import xform_name
from packaging.utils import canonicalize_name

from tests.support.codeartifact import wire
from tests.support.codeartifact.access import LONGEST
from tests.support.codeartifact.shelf import missing
from tests.support.codeartifact.wire import Asked, Refused, invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.codeartifact.access import Access
    from tests.support.codeartifact.faults import Fault
    from tests.support.codeartifact.shelf import Asset, Package, Shelf, Version
    from tests.support.codeartifact.wire import Answer, Request

T = TypeVar("T")
Params = dict[str, Any]
DEFAULT_PAGE = 50


class Api:
    """What boto3 speaks to.

    Args:
        shelf: what the repository holds.
        access: who may ask.
        index_url: of the package endpoint, up to the repository's name.
        page_size: the most items on a page, whatever is asked for.
    """

    def __init__(self, shelf: Shelf, access: Access, index_url: str, page_size: int) -> None:
        self.page_size = page_size
        self._shelf = shelf
        self._access = access
        self._index_url = index_url
        self._page_numbers = count()

    def read(self, request: Request) -> Asked:
        """What is asked for.

        Raises:
            Refused: no such operation, or not with these parameters.
        """
        operation = wire.operation_of(request)
        return Asked(operation.name, wire.read(operation, request))

    def authorize(self, request: Request) -> None:
        """Let signed requests in.

        Raises:
            Refused: it is not signed as it must be.
        """
        self._access.verify(request)

    def answer(self, asked: Asked, request: Request, fault: Fault) -> Answer:
        """Do it.

        Raises:
            Refused: what is asked for is not here, or not to be had.
        """
        del request
        perform = getattr(self, f"_{xform_name(asked.operation)}", None)
        if perform is None:
            raise NotImplementedError(f"the stand-in has no {asked.operation}")
        params = dict(asked.params)
        self._here(params)
        return wire.write(wire.SERVICE.operation_model(asked.operation), perform(params, fault))

    def _here(self, params: Params) -> None:
        """Refuse what is asked of another domain, owner or repository."""
        here = self._shelf.address
        owner = params.get("domainOwner", here.owner)
        if (params["domain"], owner) != (here.domain, here.owner):
            raise Refused(
                "ResourceNotFoundException",
                f"Domain not found. Domain '{params['domain']}' owned by account '{owner}' does "
                "not exist",
                resourceId=params["domain"],
                resourceType="domain",
            )
        if params.get("repository", here.repository) != here.repository:
            raise Refused(
                "ResourceNotFoundException",
                f"Repository not found. Repository '{params['repository']}' in domain "
                f"'{here.domain}' owned by account '{here.owner}' does not exist",
                resourceId=params["repository"],
                resourceType="repository",
            )

    # -- the operations --------------------------------------------------------------------------

    def _list_packages(self, params: Params, fault: Fault) -> Params:
        packages = [
            package
            for package in self._shelf.packages()
            if params.get("format", "pypi") == "pypi"
            and "namespace" not in params
            and package.name.startswith(params.get("packagePrefix", ""))
            and params.get("publish", package.publish) == package.publish
            and params.get("upstream", package.upstream) == package.upstream
        ]
        page, more = self._page(packages, params, fault)
        return {"packages": [_summary(package) for package in page]} | more

    def _describe_package(self, params: Params, _: Fault) -> Params:
        package = self._package(params)
        return {"package": _summary(package, name="name")}

    def _list_package_versions(self, params: Params, fault: Fault) -> Params:
        package = self._package(params)
        versions = [
            version
            for version in package.versions.values()
            if params.get("status", version.status) == version.status
            and params.get("originType", version.origin) == version.origin
        ]
        if params.get("sortBy") == "PUBLISHED_TIME":
            versions.sort(key=lambda version: version.published, reverse=True)
        page, more = self._page(versions, params, fault)
        listed = [
            {
                "version": version.version,
                "revision": version.revision,
                "status": version.status,
                "origin": _origin(version),
            }
            for version in page
        ]
        shown = [one for one in package.versions.values() if one.status == "Published"]
        newest = max(shown, key=lambda version: version.published, default=None)
        default = {"defaultDisplayVersion": newest.version} if newest else {}
        return {"format": "pypi", "package": package.name, "versions": listed} | default | more

    def _list_package_version_assets(self, params: Params, fault: Fault) -> Params:
        version = self._version(params)
        page, more = self._page(version.assets, params, fault)
        return {
            "format": "pypi",
            "package": version.package,
            "version": version.version,
            "versionRevision": version.revision,
            "assets": [_described(asset) for asset in page],
        } | more

    def _get_package_version_asset(self, params: Params, _: Fault) -> Params:
        version = self._version(params)
        asset = version.asset(params["asset"])
        pinned = params.get("packageVersionRevision", version.revision)
        if asset is None or not version.downloadable or pinned != version.revision:
            raise missing("asset", params["asset"])
        return {
            "asset": asset.content,
            "assetName": asset.name,
            "packageVersion": version.version,
            "packageVersionRevision": version.revision,
        }

    def _describe_package_version(self, params: Params, _: Fault) -> Params:
        version = self._version(params)
        described = {
            "format": "pypi",
            "packageName": version.package,
            "displayName": version.package,
            "version": version.version,
            "publishedTime": version.published,
            "revision": version.revision,
            "status": version.status,
            "origin": _origin(version),
        }
        return {"packageVersion": described}

    def _get_repository_endpoint(self, params: Params, _: Fault) -> Params:
        _pypi(params)
        return {"repositoryEndpoint": self._index_url}

    def _get_authorization_token(self, params: Params, _: Fault) -> Params:
        token, ends = self._access.issue(params.get("durationSeconds", LONGEST))
        return {"authorizationToken": token, "expiration": datetime.fromtimestamp(ends, UTC)}

    # -- what they share -------------------------------------------------------------------------

    def _package(self, params: Params) -> Package:
        _pypi(params)
        if params["package"] != canonicalize_name(params["package"]):
            raise missing("package", params["package"])
        return self._shelf.package(params["package"])

    def _version(self, params: Params) -> Version:
        self._package(params)
        return self._shelf.version(params["package"], params["packageVersion"])

    def _page(
        self, items: Sequence[T], params: Params, fault: Fault
    ) -> tuple[Sequence[T], dict[str, str]]:
        """The items of one page, and where the next one begins, if there is one."""
        size = min(params.get("maxResults", DEFAULT_PAGE), self.page_size)
        start = _position(params["nextToken"]) if "nextToken" in params else 0
        if fault.pages == "reversed":
            items = items[::-1]
        following = start if fault.pages == "repeated" else start + size
        if following >= len(items):
            return items[start : start + size], {}
        # No token is like another: boto takes the same one twice for an endless listing.
        token = f"{next(self._page_numbers)}:{following}"
        return items[start : start + size], {
            "nextToken": base64.urlsafe_b64encode(token.encode()).decode()
        }


def _position(token: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(token).decode().partition(":")[2])
    except (ValueError, binascii.Error) as error:
        raise invalid(f"nextToken: {token!r} was not given out here") from error


def _pypi(params: Params) -> None:
    if params["format"] != "pypi" or "namespace" in params:
        raise missing("package", f"{params.get('package')} of format {params['format']}")


def _summary(package: Package, name: str = "package") -> Params:
    restrictions = {"publish": package.publish, "upstream": package.upstream}
    return {
        "format": "pypi",
        name: package.name,
        "originConfiguration": {"restrictions": restrictions},
    }


def _origin(version: Version) -> Params:
    entry = "externalConnectionName" if ":" in version.entry else "repositoryName"
    return {"originType": version.origin, "domainEntryPoint": {entry: version.entry}}


def _described(asset: Asset) -> Params:
    return {"name": asset.name, "size": len(asset.content), "hashes": dict(asset.hashes)}
