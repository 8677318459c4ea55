"""What is remembered of a package between two polls, and its part of a listing.

Pure. What CodeArtifact lists is compared with what is remembered; only versions that differ, or
that wait for a wheel and are due, have their files asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller import retry
from controller.model import Availability, Condition, Listing, Refusal, Revision
from controller.sources.codeartifact.versions import (
    PENDING,
    absent_note,
    judged,
    trusted,
    untrusted_note,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from controller.config.sources import CodeArtifactSource
    from controller.sources.codeartifact.versions import Files, Listed, Ranking

NEVER = float("inf")
LONGEST_WAIT = 3600.0
"""Seconds between two polls of a version without a wheel. That a file was added shows in its
revision at once; these polls are for what does not."""


@dataclass(frozen=True, slots=True)
class Known:
    """A version, its files and what came of them."""

    listed: Listed
    files: Files | None = None
    verdict: Revision | Refusal | Condition | None = None
    untrusted: str = ""
    """Why its origin is not taken, as a PascalCase reason."""
    tries: int = 0
    """Polls of its files in a row that found no wheel."""
    retry_at: float = NEVER
    """On the source's monotonic clock."""

    def stands(self, listed: Listed, now: float) -> bool:
        """Whether it is listed as before, and nothing is due."""
        return self.listed == listed and now < self.retry_at


def known(
    package: str,
    listed: Listed,
    files: Files | None,
    before: Known | None,
    *,
    options: CodeArtifactSource,
    ranking: Ranking,
    now: float,
    jitter: float,
) -> Known:
    """A version as it is now."""
    if reason := trusted(listed, options):
        return Known(listed, untrusted=reason)
    verdict = judged(package, listed, files, options.name, ranking)
    if not (isinstance(verdict, Refusal) and verdict.reason in PENDING):
        return Known(listed, files, verdict)
    same = before is not None and before.listed == listed
    tries = (before.tries if before and same else 0) + 1
    wait = retry.delay(tries, jitter=jitter, cap=LONGEST_WAIT)
    return Known(listed, files, verdict, tries=tries, retry_at=now + wait)


@dataclass(frozen=True, slots=True)
class Package:
    """A package with its part of the listing."""

    versions: Mapping[str, Known]
    revisions: tuple[Revision, ...] = ()
    refused: tuple[Refusal, ...] = ()
    pending: tuple[Refusal, ...] = ()
    notes: tuple[Condition, ...] = ()
    retry_at: float = field(default=NEVER)
    """When the first version that waits for a wheel is due."""

    def stands(self, listed: Mapping[str, Listed], now: float) -> bool:
        """Whether the same is listed as before, and nothing is due."""
        return (
            now < self.retry_at
            and listed.keys() == self.versions.keys()
            and all(self.versions[key].listed == value for key, value in listed.items())
        )

    @property
    def selectable(self) -> bool:
        """Whether anything of it may be elected."""
        return any(one.availability is Availability.SELECTABLE for one in self.revisions)


def package_of(
    name: str, versions: Mapping[str, Known], options: CodeArtifactSource, *, named: bool
) -> Package:
    """A package of these versions; `named`: the configuration names it, not a glob."""
    verdicts = [one.verdict for one in versions.values()]
    revisions = [one for one in verdicts if isinstance(one, Revision)]
    refusals = sorted((o for o in verdicts if isinstance(o, Refusal)), key=lambda o: o.subject)
    notes = sorted((o for o in verdicts if isinstance(o, Condition)), key=lambda o: o.subject)
    for reason in sorted({one.untrusted for one in versions.values()} - {""}):
        those = [one.listed for one in versions.values() if one.untrusted == reason]
        those.sort(key=lambda one: one.version)
        worth_knowing = named or bool(revisions)
        notes.append(untrusted_note(name, reason, those, options, named=worth_knowing))
    if named and not versions:
        notes.append(absent_note(name, options))
    return Package(
        versions=versions,
        revisions=tuple(sorted(revisions, key=lambda one: (one.version, one.filename))),
        refused=tuple(one for one in refusals if one.reason not in PENDING),
        pending=tuple(one for one in refusals if one.reason in PENDING),
        notes=tuple(notes),
        retry_at=min((one.retry_at for one in versions.values()), default=NEVER),
    )


def listing_of(
    source: str,
    packages: Mapping[str, Package],
    notes: Iterable[Condition],
    unobserved: Iterable[str],
) -> Listing:
    """The whole listing, in the order of the packages' names and versions; `unobserved` ones could
    not be polled.
    """
    those = [packages[name] for name in sorted(packages)]
    return Listing(
        source,
        tuple(one for package in those for one in package.revisions),
        tuple(one for package in those for one in package.refused),
        tuple(one for package in those for one in package.pending),
        unobserved=tuple(sorted(unobserved)),
        notes=(*(one for package in those for one in package.notes), *notes),
    )
