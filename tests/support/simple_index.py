"""A simple index on loopback whose every answer can be scripted, faults included.

`publish` makes it a well-behaved one; `answer` and `once` put any reply at any path. Requests are
kept in `asked`. Real indexes are in `indexes`.
"""

from __future__ import annotations

import hashlib
import html
import json
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, unquote

import pytest

from controller.errors import WheelwayError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from pathlib import Path

    from controller.model import Listing
    from controller.sources import Source

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"


@dataclass
class Canned:
    """One reply."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: bool = True
    """Send Content-Length; without it only the closed connection ends the body."""
    cut: int | None = None
    """Close the connection after so many bytes."""


@dataclass
class Asked:
    path: str
    headers: Mapping[str, str]


class SimpleIndex:
    """A running server; use it as a context."""

    def __init__(self, *, form: str = JSON, etags: bool = True, tls: ssl.SSLContext | None = None):
        self.form = form
        self.etags = etags
        self.asked: list[Asked] = []
        self.files: dict[str, dict[str, dict[str, object]]] = defaultdict(dict)
        self._bytes: dict[str, bytes] = {}
        self._always: dict[str, Canned] = {}
        self._next: dict[str, deque[Canned]] = defaultdict(deque)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if tls else "http"
        self.origin = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.origin}/simple"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    # -- what it has -----------------------------------------------------------------------------

    def publish(self, wheel: Path, *, project: str = "", **entry: object) -> None:
        """List a file; `entry` replaces keys of its PEP 691 entry, None removes one."""
        body = wheel.read_bytes()
        path = f"/files/{quote(wheel.name)}"
        whole = {
            "filename": wheel.name,
            "url": f"..{path}" if self.form == HTML else path,
            "hashes": {"sha256": hashlib.sha256(body).hexdigest()},
            "size": len(body),
        } | entry
        if self.form == HTML:
            whole["url"] = entry.get("url", f"../..{path}")
        project = project or wheel.name.split("-")[0].replace("_", "-").lower()
        self._bytes[unquote(path)] = body
        self.files[project][wheel.name] = {k: v for k, v in whole.items() if v is not None}

    def withdraw(self, project: str, filename: str) -> None:
        del self.files[project][filename]

    def answer(self, path: str, canned: Canned | None) -> None:
        """What a path answers from now on; None: what it would by itself."""
        if canned is None:
            del self._always[path]
        else:
            self._always[path] = canned

    def once(self, path: str, *canned: Canned) -> None:
        """What a path answers next, before anything else."""
        self._next[path].extend(canned)

    def paths(self) -> list[str]:
        """The paths asked for so far, in order; then forgets them."""
        asked, self.asked[:] = [item.path for item in self.asked], []
        return asked

    # -- how it answers --------------------------------------------------------------------------

    def page(self, project: str) -> Canned:
        """A project's page in the index's form."""
        files = list(self.files[project].values())
        if self.form == JSON:
            page = {"meta": {"api-version": "1.1"}, "name": project, "files": files}
            return self._tagged(json.dumps(page).encode(), JSON)
        return self._tagged(html_page(files).encode(), HTML)

    def _root(self) -> Canned:
        names = sorted(self.files)
        if self.form == JSON:
            page = {"meta": {"api-version": "1.1"}, "projects": [{"name": name} for name in names]}
            return self._tagged(json.dumps(page).encode(), JSON)
        links = "".join(f'<a href="{name}/">{name}</a>' for name in names)
        return self._tagged(f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), HTML)

    def _tagged(self, body: bytes, kind: str) -> Canned:
        tag = {"ETag": f'"{hashlib.md5(body).hexdigest()}"'} if self.etags else {}
        return Canned(body, headers={"Content-Type": kind, **tag})

    def _reply(self, request: Asked) -> Canned:
        path = request.path.partition("?")[0]
        if self._next[path]:
            return self._next[path].popleft()
        if path in self._always:
            return self._always[path]
        if unquote(path) in self._bytes:
            return Canned(self._bytes[unquote(path)])
        if path == "/simple/":
            canned = self._root()
        elif (project := path.removeprefix("/simple/").strip("/")) in self.files:
            canned = self.page(project)
        else:
            return Canned(b"no such page", 404)
        if canned.headers.get("ETag", "") == request.headers.get("if-none-match", "none"):
            return Canned(status=304, headers={"ETag": canned.headers["ETag"]})
        return canned

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                headers = {key.lower(): value for key, value in self.headers.items()}
                asked = Asked(self.path, headers)
                index.asked.append(asked)
                canned = index._reply(asked)
                self.send_response_only(canned.status)
                for key, value in canned.headers.items():
                    self.send_header(key, value)
                if canned.length and canned.status != 304:
                    self.send_header("Content-Length", str(len(canned.body)))
                if not canned.length or canned.cut is not None:
                    self.send_header("Connection", "close")
                    self.close_connection = True
                self.end_headers()
                self.wfile.write(canned.body[: canned.cut])

            def log_message(self, *_: object) -> None:
                """Tests look at `asked`."""

        return Handler


def html_page(files: list[dict[str, object]], head: str = "") -> str:
    """PEP 503, with the attributes of PEP 592 and 503's `data-requires-python`."""
    links = []
    for file in files:
        hashes = dict(file.get("hashes") or {})
        fragment = next((f"#{name}={value}" for name, value in hashes.items()), "")
        attributes = f'href="{html.escape(str(file["url"]) + fragment)}"'
        if "requires-python" in file:
            attributes += f' data-requires-python="{html.escape(str(file["requires-python"]))}"'
        if "yanked" in file:
            attributes += f' data-yanked="{html.escape(str(file["yanked"]))}"'
        links.append(f"<a {attributes}>{html.escape(str(file['filename']))}</a><br/>")
    body = "\n".join(links)
    return f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>"


def page_of(document: object, kind: str = JSON) -> Canned:
    """A page that holds this."""
    return Canned(json.dumps(document).encode(), headers={"Content-Type": kind})


def names(listing: Listing) -> list[str]:
    """The files that are offered, in its order."""
    return [revision.filename for revision in listing.revisions]


def by_name(url: str) -> str:
    """The same address by another host's name."""
    return url.replace("127.0.0.1", "localhost")


def leads_to(url: str, status: int = 302) -> Canned:
    """A redirect."""
    return Canned(status=status, headers={"Location": url})


def failure(source: Source) -> WheelwayError:
    """Why a source cannot be listed."""
    with pytest.raises(WheelwayError) as caught:
        source.list()
    return caught.value
