"""What the pages of a simple index say: PEP 503 (HTML), 691 (JSON), 592 (yanked), 700 (size), 792.

pypi-simple reads them. Here its values are narrowed to what a source needs, and whatever it cannot
read becomes one error. What may be another page, a sign-in page above all, is refused: what it does
not list would count as gone.
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag

from bs4 import MarkupResemblesLocatorWarning, XMLParsedAsHTMLWarning
from bs4.exceptions import ParserRejectedMarkup
from packaging.utils import canonicalize_name, is_normalized_name
from pypi_simple import IndexPage, ProjectPage
from pypi_simple.errors import UnexpectedRepoVersionWarning, UnsupportedRepoVersionError

from controller.errors import Stalled, Transient

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage

    from controller.sources.simple_index.web import Reply

ACCEPT = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, "
    "text/html;q=0.01"
)
"""JSON where the index has it (PEP 691)."""

# A newer minor version only adds (PEP 629); a page of another kind has its own error.
for _category in (
    UnexpectedRepoVersionWarning,
    MarkupResemblesLocatorWarning,
    XMLParsedAsHTMLWarning,
):
    warnings.filterwarnings("ignore", category=_category)

_JSON = frozenset({"application/vnd.pypi.simple.v1+json", "application/json"})
_HTML = frozenset({"application/vnd.pypi.simple.v1+html", "text/html", "application/xhtml+xml"})
_USED = ("filename", "url", "hashes", "requires-python", "yanked", "size")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a project's page."""

    filename: str
    url: str
    """Absolute, without fragment."""
    sha256: str | None
    size: int | None
    """Bytes."""
    requires_python: str | None
    """PEP 440 specifiers as written."""
    yanked: str | None
    """Why it must not be newly selected, perhaps empty; None when it may be."""
    hashes: tuple[str, ...] = ()
    """Names of the algorithms for which the index gives a hash."""
    uploaded_at: float | None = None
    """Seconds since the epoch (PEP 700)."""


def project(reply: Reply, name: str) -> tuple[File, ...]:
    """The files of a project's page.

    Raises:
        Transient: `BodyIncomplete`; `PageInvalid`, it is no such page or a broken one.
        Stalled: `PageUnsupported`, of a newer major version.
    """
    page = _parsed(reply, name)
    if canonicalize_name(page.project) != name:
        raise _invalid(reply, f"it is the page of {page.project[:80]!r}, not of {name}")
    named = (package.project for package in page.packages if package.project is not None)
    names_it = any(canonicalize_name(project) == name for project in named)
    if not names_it and page.repository_version is None:
        raise _invalid(
            reply, f"it lists no file of {name}, nor does it say that it is an index's page"
        )
    everything = "the whole project is quarantined" if page.status == "quarantined" else None
    return tuple(_file(package, everything) for package in page.packages)


def projects(reply: Reply) -> tuple[str, ...]:
    """The names on an index's root page, normalised; what is no name is left out.

    Raises:
        Transient, Stalled: as `project`.
    """
    try:
        if _is_json(reply):
            page = IndexPage.from_json_data(json.loads(reply.body))
        else:
            page = IndexPage.from_html(_whole(reply), _charset(reply))
    except _BROKEN as error:
        raise _unreadable(reply, error) from error
    names = {canonicalize_name(name) for name in page.projects}
    names = {name for name in names if is_normalized_name(name)}
    if not names and page.repository_version is None:
        raise _invalid(reply, "it lists nothing, nor does it say that it is an index's page")
    return tuple(sorted(names))


_BROKEN = (
    UnsupportedRepoVersionError,
    ValueError,  # not JSON, not UTF-8, a field missing or of another type
    RecursionError,  # JSON or tags nested beyond reason
    ParserRejectedMarkup,
    AssertionError,  # how pypi-simple and html.parser meet attributes they did not expect
)


def _parsed(reply: Reply, name: str) -> ProjectPage:
    try:
        if _is_json(reply):
            return ProjectPage.from_json_data(_narrowed(json.loads(reply.body)), reply.url)
        return ProjectPage.from_html(name, _whole(reply), reply.url, _charset(reply))
    except _BROKEN as error:
        raise _unreadable(reply, error) from error


def _narrowed(page: Any) -> Any:
    """A JSON page with the keys that are used here: an index's slip in another costs nothing."""
    if not isinstance(page, dict) or not isinstance(page.get("files"), list):
        return page
    files = [
        {"hashes": {}} | {key: file[key] for key in _USED if file.get(key, "") not in (None, "")}
        for file in page["files"]
        if isinstance(file, dict)
    ]
    return {**page, "files": files}


def _file(package: DistributionPackage, everything: str | None) -> File:
    digest = package.digests.get("sha256", "").lower()
    yanked = (package.yanked_reason or "") if package.is_yanked else everything
    return File(
        filename=package.filename,
        url=urldefrag(package.url).url,
        sha256=digest if _SHA256.fullmatch(digest) else None,
        size=package.size if package.size is not None and package.size >= 0 else None,
        requires_python=package.requires_python,
        yanked=yanked,
        hashes=tuple(sorted(package.digests)),
        uploaded_at=package.upload_time.timestamp() if package.upload_time else None,
    )


def _is_json(reply: Reply) -> bool:
    """By the media type alone, as PEP 691 wants it."""
    kind = _content_type(reply).get_content_type()
    if kind in _JSON:
        return True
    if kind in _HTML:
        return False
    raise _invalid(reply, f"it is {kind}, neither JSON nor HTML")


def _charset(reply: Reply) -> str | None:
    return _content_type(reply).get_content_charset()


def _content_type(reply: Reply) -> Message:
    message = Message()
    message["content-type"] = reply.headers.get("content-type", "application/octet-stream")
    return message


def _whole(reply: Reply) -> bytes:
    """An HTML page, which must hold its own end where HTTP does not tell where it ends."""
    if not reply.framed and b"</html" not in reply.body[-4096:].lower():
        raise Transient(
            "BodyIncomplete",
            f"{_where(reply)} has no length and no `</html>`: it may have been cut, so it is not "
            "believed",
        )
    return reply.body


def _unreadable(reply: Reply, error: BaseException) -> Transient | Stalled:
    if isinstance(error, UnsupportedRepoVersionError):
        return Stalled(
            "PageUnsupported",
            f"{_where(reply)} is of version {error.declared_version} of the simple API; a newer "
            "wheelway may read it",
        )
    return _invalid(reply, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _invalid(reply: Reply, why: str) -> Transient:
    return Transient(
        "PageInvalid", f"{_where(reply)} cannot be read as a page of a simple index: {why}"
    )


def _where(reply: Reply) -> str:
    return reply.url.partition("?")[0]
