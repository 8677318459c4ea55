"""The `index` source: packages of any simple index (PEP 503, 592, 691, 700).

Each package is one page. Every poll asks for every page with its ETag, so a quiet poll costs one
304 a package. An absence is reported only where it was observed: a page that cannot be read keeps
what it listed last, and its package is named in `Listing.unobserved`.

`web` asks, `pages` reads, `selection` judges files, `hashes` computes missing hashes; here they are
put together.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from packaging.utils import is_normalized_name

from controller.errors import Stalled, Transient, WheelwayError, without_frames
from controller.model import Condition, Listing
from controller.sources.circuit_breaker import CircuitBreaker
from controller.sources.simple_index import pages as simple
from controller.sources.simple_index.hashes import Hashes
from controller.sources.simple_index.selection import Fit, Selection, select
from controller.sources.simple_index.web import Web, validators

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from controller.config.sources import IndexSource as Options
    from controller.model import Revision
    from controller.sources.simple_index.pages import File
    from controller.sources.simple_index.web import Reply

AT_ONCE = 4
"""Pages asked for at the same time."""
_FINAL = frozenset(
    {
        *("IndexUnauthorized", "IndexThrottled", "IndexUntrusted", "SourceClosed"),
        *("CredentialsUnreadable", "CertificateUnreadable", "ConfigInvalid"),
    }
)
"""Reasons that every other page would meet as well."""
_SHARED = frozenset({"IndexUnreachable", "IndexFailed", "IndexSlow"})
"""Reasons that others are likely to meet. "Forbidden" as well, before any page came: some indexes
say it to a wrong password; to others it is a matter of each package."""
FEW = 3
"""Packages with the same failure that are told one by one."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """A page as it was read last."""

    url: str
    digest: bytes
    conditions: Mapping[str, str]
    """Headers for asking whether it changed."""

    def is_of(self, reply: Reply) -> bool:
        """Whether the page is the same still."""
        if reply.status == 304:
            return True
        return reply.url == self.url and hashlib.sha256(reply.body).digest() == self.digest


@dataclass(frozen=True, slots=True)
class _Page:
    """A package's page and what was selected from it."""

    copy: _Copy
    files: tuple[File, ...]
    selection: Selection


@dataclass(frozen=True, slots=True)
class _Root:
    """The index's list of names."""

    copy: _Copy
    names: tuple[str, ...]


_Outcome = _Page | WheelwayError | None
"""None: the index says that there is no such package."""


class IndexSource:
    """Packages of one index. Methods may be called from several threads."""

    watch_note = ""
    """Always empty: an index has no events and is only polled."""

    def __init__(
        self,
        options: Options,
        *,
        fit: Fit | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`fit` is what can be served; None judges neither tags nor Requires-Python."""
        self.name = options.name
        self.poll_interval = options.poll_interval
        self._options = options
        self._fit = fit or Fit()
        self._clock = clock
        self._web = Web(options, clock=clock, wall_clock=wall_clock)
        self._hashes = None if options.require_hashes else Hashes(self._web, clock)
        self._globs = tuple(name for name in options.packages if not is_normalized_name(name))
        self._mutex = threading.Lock()
        self._root: _Root | None = None
        self._pages: dict[str, _Page] = {}
        self._changed: set[str] = set()
        self._last_asked: dict[str, int] = {}
        self._round = 0
        self._pause: tuple[float, WheelwayError] | None = None

    @property
    def calls(self) -> Mapping[str, int]:
        """Requests so far by outcome; see `Web.calls`."""
        return self._web.calls

    def watch(self, wake: Callable[[], None]) -> None:
        """Does nothing: an index has no events."""

    def close(self) -> None:
        """Close the connections."""
        self._web.close()

    def list(self) -> Listing:
        """Every wheel of the packages that this interpreter can use; equal pages give the same
        listing.

        Raises:
            Transient, Stalled: nothing could be learnt this time; otherwise the trouble of single
                packages is in `pending`, and these are in `unobserved`.
        """
        with self._mutex:
            self._respect_pause()
            self._round += 1
            if self._hashes is not None:
                self._hashes.begin()
            troubles: dict[str, WheelwayError] = {}
            names, rooted = self._names(troubles)
            return self._listed(self._poll_packages(names), troubles, rooted=rooted)

    def fetch(self, revision: Revision) -> Iterator[bytes]:
        """The file's bytes in chunks as they come.

        Raises:
            Transient: `FileMissing`, the index does not have it (yet, or any more); `FileChanged`;
                and as `Web.opened` and `Web.body`.
            Stalled: as `Web.opened`.
        """
        digest = hashlib.sha256()
        with self._web.opened(revision.locator, {"Accept-Encoding": "identity"}) as response:
            if response.status_code != 200:
                raise Transient(
                    "FileMissing",
                    f"{revision.filename} is listed by {self.name}, but the index does not have it "
                    "(404); it is asked for again",
                )
            for chunk in self._web.body(response):
                if self._hashes is not None:
                    digest.update(chunk)
                yield chunk
        if self._hashes is not None:
            try:
                self._hashes.check(revision.locator, digest.hexdigest())
            except Transient:
                self._changed.add(revision.project)
                raise

    # -- asking ----------------------------------------------------------------------------------

    def _respect_pause(self) -> None:
        """Raise while the index asked to be left alone.

        Raises:
            Transient: what it said then, with the rest of the time.
        """
        if self._pause is None:
            return
        end, error = self._pause
        if (rest := end - self._clock()) > 0:
            raise Transient(error.reason, error.message, retry_after=rest)
        self._pause = None

    def _names(self, troubles: dict[str, WheelwayError]) -> tuple[Sequence[str], bool]:
        """The packages to poll, those first that were not asked about for longest; and whether
        the root page was read for it just now.

        Raises:
            Transient, Stalled: the root page is needed and was never read.
        """
        names = set(self._options.packages) - set(self._globs)
        rooted = False
        if self._globs:
            try:
                self._root, rooted = self._read_root(), True
            except WheelwayError as error:
                if self._root is None:
                    raise
                self._note_pause(error)
                troubles[self.name] = error
            for name in self._root.names:
                if any(fnmatchcase(name, glob) for glob in self._globs):
                    names.add(name)
        return sorted(names, key=lambda name: (self._last_asked.get(name, 0), name)), rooted

    def _read_root(self) -> _Root:
        known = self._root
        reply = self._ask(f"{self._options.url}/", known.copy if known else None)
        if reply.status == 404:
            raise Stalled(
                "IndexUnexpected",
                f"{self._options.url}/ does not exist: the index has no list of its packages, or "
                f"`url` is wrong; write names instead of globs into `packages` of {self.name}",
            )
        if known is not None and known.copy.is_of(reply):
            return replace(known, copy=_copy(reply, known.copy))
        return _Root(_copy(reply), simple.projects(reply))

    def _poll_packages(self, names: Sequence[str]) -> dict[str, _Outcome]:
        """What became of each package; answers are read one after another, as they come."""
        breaker, reading = CircuitBreaker(_FINAL), threading.Lock()

        def poll(name: str) -> _Outcome:
            if breaker.error is not None:
                return breaker.error
            page, self._last_asked[name] = self._pages.get(name), self._round
            try:
                reply = self._ask(f"{self._options.url}/{name}/", page.copy if page else None)
            except WheelwayError as error:
                forbidden = error.reason == "IndexForbidden" and not breaker.answered
                breaker.failed(error, counts=forbidden or error.reason in _SHARED)
                with reading:
                    self._note_pause(error)
                return error
            breaker.well()
            with reading:
                return self._understood(name, reply)

        with ThreadPoolExecutor(AT_ONCE, "wheelway-index") as pool:
            return dict(zip(names, pool.map(poll, names), strict=True))

    def _ask(self, url: str, copy: _Copy | None) -> Reply:
        headers = {"Accept": simple.ACCEPT}
        reply = self._web.page(url, {**headers, **(copy.conditions if copy else {})})
        if reply.status == 304 and (copy is None or reply.url != copy.url):
            # Unchanged, but compared to another page: the address leads elsewhere now.
            reply = self._web.page(url, headers)
            if reply.status == 304:
                raise Transient("PageInvalid", f"{url} is unchanged, says the index, unasked")
        return reply

    def _note_pause(self, error: WheelwayError) -> None:
        if error.retry_after:
            end = self._clock() + error.retry_after
            if self._pause is None or end > self._pause[0]:
                self._pause = end, without_frames(error)

    # -- believing -------------------------------------------------------------------------------

    def _understood(self, name: str, answer: Reply) -> _Outcome:
        """A package after an answer; what was known of it stays unless there is news."""
        if answer.status == 404:
            return None
        known = self._pages.get(name)
        try:
            if known is not None and known.copy.is_of(answer):
                page = replace(known, copy=_copy(answer, known.copy))
                if page.selection.unfinished or name in self._changed:
                    page = replace(page, selection=self._selected(name, page.files))
            else:
                files = simple.project(answer, name)
                if self._hashes is not None:
                    self._hashes.doubt(file.url for file in files)
                page = _Page(_copy(answer), files, self._selected(name, files))
        except WheelwayError as error:
            return error
        self._changed.discard(name)
        return page

    def _selected(self, name: str, files: Sequence[File]) -> Selection:
        hashed = self._hashes.of if self._hashes is not None else None
        return select(self.name, name, files, self._fit, hashed)

    def _listed(
        self, outcomes: Mapping[str, _Outcome], troubles: dict[str, WheelwayError], *, rooted: bool
    ) -> Listing:
        """One listing out of all outcomes.

        That a package is missing is believed only of an index that shows what it has: with globs,
        its root page, read in this poll (`rooted`); else another package. When nothing at all is
        there, the address or the permissions are wrong rather than everything deleted.

        Raises:
            Transient, Stalled: every package failed.
        """
        failed = {n: found for n, found in outcomes.items() if isinstance(found, WheelwayError)}
        missing = [name for name, found in outcomes.items() if found is None]
        pages = {name: found for name, found in outcomes.items() if isinstance(found, _Page)}
        if failed and len(failed) == len(outcomes):
            raise _worst(failed.values())
        believed = rooted if self._globs else bool(pages)
        doubtful = {*failed, *(() if believed else missing)}
        kept = {name: page for name, page in self._pages.items() if name in doubtful}
        self._pages = {**kept, **pages}
        self._last_asked = {name: self._last_asked.get(name, 0) for name in outcomes}
        if self._hashes is not None:
            self._hashes.keep(file.url for page in self._pages.values() for file in page.files)
        shown = [self._pages[name].selection for name in sorted(self._pages)]
        partial = {name for name, page in self._pages.items() if page.selection.partial}
        notes = [_absent(name, self._options.url) for name in sorted(missing)]
        notes += [
            Condition(name, error.reason, error.message)
            for name, error in sorted({**troubles, **failed}.items())
        ]
        return Listing(
            self.name,
            revisions=tuple(revision for found in shown for revision in found.revisions),
            refused=tuple(item for found in shown for item in found.refused),
            pending=tuple(item for found in shown for item in found.pending),
            unobserved=tuple(sorted(doubtful | partial)),
            notes=tuple(self._told(notes)),
        )

    def _told(self, notes: Iterable[Condition]) -> Iterator[Condition]:
        """Notes on packages; those of one kind as one when they are many."""
        kinds: defaultdict[str, list[Condition]] = defaultdict(list)
        for note in notes:
            kinds[note.reason].append(note)
        for reason, alike in kinds.items():
            if len(alike) <= FEW:
                yield from alike
                continue
            names = ", ".join(note.subject for note in alike[:FEW])
            why = f"{len(alike)} packages ({names}, ...), the first: {alike[0].message}"
            yield Condition(self.name, reason, why)


def _copy(reply: Reply, before: _Copy | None = None) -> _Copy:
    if reply.status == 304 and before is not None:
        return before
    digest = hashlib.sha256(reply.body).digest()
    return _Copy(reply.url, digest, validators(reply.headers))


def _absent(name: str, url: str) -> Condition:
    why = f"{url} has no package {name} (yet), or does not show it with these credentials"
    return Condition(name, "PackageMissing", why)


def _worst(errors: Iterable[WheelwayError]) -> WheelwayError:
    """The error for a poll that failed wholly: one that needs a person, else the longest wait."""
    return max(errors, key=lambda one: (isinstance(one, Stalled), one.retry_after or 0.0))
