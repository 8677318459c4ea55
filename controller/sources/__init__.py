"""Where wheels are listed and fetched, one module a source behind one small Protocol.

A source lists and hands over bytes. It decides nothing about releases, keeps no durable state, and
reads no more of a wheel than it takes to know that the file is whole. A new source is a module or
package here, a section in `controller.config.sources` and a line in `open_source`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from controller.config.sources import index_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from packaging.tags import Tag

    from controller.config.settings import Config
    from controller.config.sources import AnySource, CodeArtifactSource
    from controller.model import Listing, Revision
    from controller.sources.codeartifact import CodeArtifactIndex

__all__ = ["Source", "index_access", "open_index", "open_source"]


class Source(Protocol):
    """What the daemon asks of a source. Any method may be called from any thread."""

    @property
    def name(self) -> str:
        """Unique in the configuration."""

    @property
    def poll_interval(self) -> float:
        """Seconds between two listings when nothing wakes the daemon."""

    @property
    def watch_note(self) -> str:
        """Why it cannot wake the daemon, and what to do; empty when all is well."""

    @property
    def calls(self) -> Mapping[str, int]:
        """Calls over a network so far, for metrics: by outcome, or by operation where there are
        several.
        """

    def list(self) -> Listing:
        """Everything the source has now, in an order that depends on its content alone.

        Raises:
            Transient: it could not be listed this time.
            Waiting: a shortage.
            Stalled: it cannot be listed until somebody changes something.
        """

    def fetch(self, revision: Revision) -> Iterator[bytes]:
        """The bytes of a revision, in chunks; the caller checks them against digest and size.

        Raises:
            Transient: they cannot be had now, or are no longer those that were listed.
            Waiting, Stalled: as `list`.
        """

    def watch(self, wake: Callable[[], None]) -> None:
        """Start to call `wake`, from a thread of its own, when a listing may have changed.

        It is only a hint, for sources are polled all the same. A source without events does nothing
        here. Never raises; see `watch_note`.
        """

    def close(self) -> None:
        """End every thread and connection; a second call does nothing."""


def open_source(
    options: AnySource,
    *,
    tags: Sequence[Tag] = (),
    python_version: str = "",
    before: Listing | None = None,
) -> Source:
    """The source that a `[[sources]]` section describes; nothing is asked of it yet.

    Args:
        options: the section.
        tags: what the serving interpreter takes, best first; empty: wheels are not judged by it.
        python_version: the serving interpreter's, such as "3.11.7"; empty likewise.
        before: what an earlier run listed last, for sources that save work by it.
    """
    # Each kind is imported by those alone who use it: some bring large libraries.
    match options.type:
        case "directory":
            from controller.sources.directory.source import DirectorySource  # noqa: PLC0415

            return DirectorySource(options)
        case "index":
            from controller.sources.simple_index.selection import Fit  # noqa: PLC0415
            from controller.sources.simple_index.source import IndexSource  # noqa: PLC0415

            return IndexSource(options, fit=Fit(frozenset(tags), python_version))
        case "codeartifact":
            from controller.sources.codeartifact import CodeArtifactSource  # noqa: PLC0415

            return CodeArtifactSource(options, tags, before=before)


def index_access(config: Config) -> CodeArtifactSource | None:
    """The source that `environments.index` names, as far as its repository is a package index; None
    when it names nothing.
    """
    name = config.environments.index
    return None if name is None else index_source(name, config.sources).as_index()


def open_index(access: CodeArtifactSource, use: float) -> CodeArtifactIndex:
    """The index of that source; its credentials are good for `use` seconds."""
    from controller.sources.codeartifact import CodeArtifactIndex  # noqa: PLC0415 - as above

    return CodeArtifactIndex(access, use=use)
