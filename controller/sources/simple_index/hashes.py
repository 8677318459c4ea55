"""SHA-256 of files whose index gives none: computed once, remembered, checked when in doubt.

What is remembered lives as long as the source. A file is read again when the index's page changed
and the file's own ETag or date did too, or when its bytes turned out to be others at a fetch.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.errors import Stalled, Transient
from controller.sources.simple_index.web import validators

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import httpx

    from controller.sources.simple_index.selection import Hashed
    from controller.sources.simple_index.web import Web

BUDGET = 60.0
"""Seconds for reading files within one listing; the file under way is finished."""
MAX_SIZE = 8 * 1024**3
"""Bytes: more than any wheel has."""


@dataclass(frozen=True, slots=True)
class _Learnt:
    hashed: Hashed
    conditions: Mapping[str, str]
    """Headers for asking whether it changed."""
    marks: tuple[str, ...]
    """Headers by which the same file is known if the server ignores the conditions."""


class Hashes:
    """Reads files for their hashes. Methods may be called from several threads."""

    def __init__(self, web: Web, clock: Callable[[], float]) -> None:
        self._web = web
        self._clock = clock
        self._until = 0.0
        self._learnt: dict[str, _Learnt] = {}
        self._doubted: set[str] = set()
        self._mutex = threading.Lock()

    def begin(self) -> None:
        """Begin a listing, which may spend `BUDGET` seconds here."""
        self._until = self._clock() + BUDGET

    def doubt(self, urls: Iterable[str]) -> None:
        """Ask once more about these files before they are believed: they may have changed."""
        with self._mutex:
            self._doubted.update(url for url in urls if url in self._learnt)

    def keep(self, urls: Iterable[str]) -> None:
        """Forget all others."""
        kept = set(urls)
        with self._mutex:
            self._learnt = {url: found for url, found in self._learnt.items() if url in kept}
            self._doubted &= kept

    def of(self, url: str) -> Hashed | None:
        """SHA-256 and size of a file; None when there is no time for it in this listing.

        Raises:
            Transient: `FileMissing`; and as `Web.opened`.
            Stalled: `FileTooLarge`; and as `Web.opened`.
        """
        with self._mutex:
            known = self._learnt.get(url)
            sure = known is not None and url not in self._doubted
        if known is not None and sure:
            return known.hashed
        if self._clock() >= self._until:
            return None
        found = self._ask(url, known)
        with self._mutex:
            self._learnt[url] = found
            self._doubted.discard(url)
        return found.hashed

    def check(self, url: str, digest: str) -> None:
        """Compare a fetched file with what was computed; if it differs, compute anew.

        Raises:
            Transient: `FileChanged`.
        """
        with self._mutex:
            known = self._learnt.get(url)
            if known is None or known.hashed[0] == digest:
                return
            del self._learnt[url]
        raise Transient(
            "FileChanged",
            f"{url.partition('?')[0]} changed since its hash was computed; it is read again with "
            "the next listing",
        )

    def _ask(self, url: str, known: _Learnt | None) -> _Learnt:
        conditions = known.conditions if known else {}
        with self._web.opened(url, {"Accept-Encoding": "identity", **conditions}) as response:
            if known is not None and response.status_code == 304:
                return known
            if response.status_code != 200:
                raise Transient("FileMissing", "it is listed, but the index does not have it")
            marks = _marks(response)
            if known is not None and marks and marks == known.marks:
                return known
            digest, size = hashlib.sha256(), 0
            for chunk in self._web.body(response):
                digest.update(chunk)
                size += len(chunk)
                if size > MAX_SIZE:
                    raise Stalled("FileTooLarge", f"it has more than {MAX_SIZE} bytes")
            return _Learnt((digest.hexdigest(), size), validators(response.headers), marks)


def _marks(response: httpx.Response) -> tuple[str, ...]:
    headers = response.headers
    if etag := headers.get("etag"):
        return (etag,)
    modified, length = headers.get("last-modified"), headers.get("content-length")
    return (modified, length) if modified and length else ()
