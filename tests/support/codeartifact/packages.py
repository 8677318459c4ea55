"""The package endpoint: uploads as twine and uv send them, the simple index as pip and uv read it.

Sources: the forms that twine and uv send, PEP 503, PEP 691. As with CodeArtifact, there is no list
of all projects, and whoever asks is called `aws`, with a token for password.
"""

from __future__ import annotations

import hashlib
import html
import json
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    canonicalize_version,
)

from tests.support.codeartifact.shelf import missing, named
from tests.support.codeartifact.wire import Answer, Asked, invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.codeartifact.access import Access
    from tests.support.codeartifact.faults import Fault
    from tests.support.codeartifact.shelf import Package, Shelf
    from tests.support.codeartifact.wire import Request

JSON = "application/vnd.pypi.simple.v1+json"


class PackageEndpoint:
    """What twine, uv and pip speak to, below `/pypi/REPOSITORY/`."""

    def __init__(self, shelf: Shelf, access: Access) -> None:
        self._shelf = shelf
        self._access = access
        self._root = f"/pypi/{shelf.address.repository}/"

    def read(self, request: Request) -> Asked:
        """What is asked for.

        Raises:
            Refused: nothing there.
        """
        parts = unquote(request.path).removeprefix(self._root).strip("/").split("/")
        match (request.method, parts):
            case ("POST", [""]):
                return Asked("Upload", _form(request))
            case ("GET" | "HEAD", ["simple", name]):
                return Asked("Simple", {"package": name})
            case ("GET" | "HEAD", ["simple", name, version, file]):
                return Asked("Download", {"package": name, "version": version, "asset": file})
        raise missing("repository", request.path)

    def authorize(self, request: Request) -> None:
        """Let in whoever has a token.

        Raises:
            Refused: this request has none.
        """
        self._access.admit(request)

    def answer(self, asked: Asked, request: Request, fault: Fault) -> Answer:
        """Do it.

        Raises:
            Refused: it is not here, or cannot be taken.
        """
        del fault
        if asked.operation == "Upload":
            return self._upload(asked.params)
        package = self._shelf.package(asked.params["package"])
        if asked.operation == "Simple":
            return _index(package, accepted=request.headers.get("Accept", ""))
        return _file(package, asked.params["version"], asked.params["asset"])

    def _upload(self, form: Mapping[str, Any]) -> Answer:
        filename, content = form["filename"], form["content"]
        try:
            name, version = named(filename)
        except (InvalidWheelFilename, InvalidSdistFilename) as error:
            raise invalid(str(error)) from error
        told = canonicalize_name(form["name"]), canonicalize_version(form["version"])
        if told != (name, canonicalize_version(version)):
            raise invalid(f"{filename} is not of {form['name']} {form['version']}")
        if form.get("sha256_digest", "").lower() not in {"", hashlib.sha256(content).hexdigest()}:
            raise invalid(f"{filename} has another SHA-256 than it was sent with")
        self._shelf.store(filename, content)
        return Answer()


def _form(request: Request) -> dict[str, Any]:
    """The fields of an upload; the file's are `filename` and `content`.

    Raises:
        Refused: it is no upload, or a field is missing that every client sends.
    """
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    form: dict[str, Any] = {}
    for part in message_from_bytes(head + request.body, policy=policy.HTTP).iter_parts():
        key = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if filename := part.get_filename():
            form |= {"filename": filename, "content": content}
        else:
            form[str(key)] = content.decode()
    if lacking := {":action", "name", "version", "filename"} - form.keys():
        raise invalid(f"an upload needs {', '.join(sorted(lacking))}")
    return form


def _index(package: Package, *, accepted: str) -> Answer:
    """The files of the versions that package managers may see."""
    listed = [
        (f"{quote(version.version)}/{quote(asset.name)}", asset)
        for version in package.versions.values()
        if version.status == "Published"
        for asset in version.assets
    ]
    if JSON in accepted:
        files = [
            {"filename": asset.name, "url": url, "hashes": {"sha256": asset.hashes["SHA-256"]}}
            for url, asset in listed
        ]
        document = {"meta": {"api-version": "1.0"}, "name": package.name, "files": files}
        return Answer(json.dumps(document).encode(), headers={"Content-Type": JSON})
    links = "".join(
        f'<a href="{html.escape(url)}#sha256={asset.hashes["SHA-256"]}">'
        f"{html.escape(asset.name)}</a><br>\n"
        for url, asset in listed
    )
    page = f"<!DOCTYPE html>\n<html><body>\n{links}</body></html>\n"
    return Answer(page.encode(), headers={"Content-Type": "text/html; charset=utf-8"})


def _file(package: Package, version: str, name: str) -> Answer:
    found = package.versions.get(version)
    asset = found.asset(name) if found and found.downloadable else None
    if asset is None:
        raise missing("asset", name)
    return Answer(asset.content, headers={"Content-Type": "application/octet-stream"})
