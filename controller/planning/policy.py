"""Which releases should be served: the operator's policy applied to what the sources list.

Versions are compared and matched as PEP 440 says, never as text. A quarantined release is passed
over: a version whose newest bytes are quarantined keeps the bytes that serve it now, and a
quarantined version does not count for `keep`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING

from controller.model import Availability, Condition, Release
from controller.planning.ownership import LONGEST_WAIT, of_others

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from packaging.version import Version

    from controller.config.settings import Config, PipelinePolicy
    from controller.model import Artifact, Revision
    from controller.planning.overrides import Pin


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release that some source offers. Their order is their preference, best first."""

    release: Release
    project: str
    source: str
    availability: Availability = Availability.SELECTABLE


@dataclass(frozen=True, slots=True)
class Verdict:
    """What policy says of one release."""

    release: Release
    elected: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Case:
    """All that the verdicts on one pipeline depend on."""

    candidates: Sequence[Candidate]
    """What the sources offer for it, in order of preference."""
    rule: PipelinePolicy
    """The operator's rule for it."""
    pin: Pin | None = None
    """What an operator ordered by command; it beats the rule."""
    serving: AbstractSet[Release] = frozenset()
    """Its releases that serve now."""
    present: AbstractSet[Release] = frozenset()
    """Its releases that are on the cluster, serving or not."""
    quarantined: AbstractSet[Release] = frozenset()
    """Releases that failed with their present inputs."""
    missing: AbstractSet[Release] = frozenset()
    """Releases that are offered no more, perhaps only for a moment."""
    owner: str = ""
    """The project that owns the pipeline's name; empty: whoever offers it."""


WITHDRAWING = frozenset({"Inactive", "VersionExcluded", "PrereleaseExcluded", "NotPinned"})
"""Reasons by which the operator took a version out: it is retired at once."""

MAKING_ROOM = "NotKept"
"""Newer versions fill `keep`: it is retired once all of these are live."""

OTHER_PINNED = "OtherPinned"
"""An operator's pin names other versions: it is retired once these are live."""

ABSENT = "Absent"
"""No source lists the version any more: it is retired within the retire limit."""

MISSING = "Missing"
"""Absent since a moment ago: what serves keeps its place, and counts for the retire limit."""

STANDS_IN = "StandsIn"
"""Elected as no successor is fit: what serves the version now goes on as it is."""

CONFLICT = "Conflict"
"""The pipeline's name is another project's: refused, unless it serves already."""

UNDECIDED = "NameUndecided"
"""The pipeline's name has no owner until more is known, or the wait for that ends."""

MOVED = "ProjectMoved"
"""The operator's rule gives the name to another project: it is retired once that one is live."""

PIN_UNMET = "PinUnmet"
"""An operator's pin names versions none of which is fit to serve: what serves stays."""

PUSHED_OUT = frozenset({MAKING_ROOM, OTHER_PINNED, MOVED})
"""Reasons by which a version leaves once those that take its place are live."""

LEAVING = WITHDRAWING | PUSHED_OUT | {ABSENT}
"""Every reason by which a version that is served leaves."""


def rule_for(pipeline: str, config: Config) -> PipelinePolicy:
    """The first `[[pipelines]]` whose name or glob matches, else what `[policy]` says."""
    for rule in config.pipelines:
        if fnmatchcase(pipeline, rule.name):
            return rule
    from controller.config.settings import PipelinePolicy  # noqa: PLC0415 - slow; others need words

    return PipelinePolicy(name=pipeline, active=config.policy.unlisted == "active")


def elect(case: Case) -> tuple[Verdict, ...]:
    """Judge the candidates of one pipeline, and those of its releases that are on the cluster.

    Returns:
        A verdict for every candidate, every release whose version is offered no more, and every
        serving one that other bytes replace; newest version first.
    """
    pin = case.pin
    if pin is not None:
        rule = case.rule.model_copy(update={"active": True, "pins": pin.versions})
        case = replace(case, rule=rule)
    others = of_others(case.candidates, case.owner)
    own = [c for c in case.candidates if c.project == case.owner] if others else case.candidates
    offered = {candidate.release.version for candidate in own}
    theirs = {candidate.release for candidate in others}
    unlisted = {r for r in {*case.serving, *case.present} - theirs if r.version not in offered}
    verdicts = [*_among_offered(own, unlisted, case), *(_gone(r, case) for r in unlisted)]
    elected = [verdict.release for verdict in verdicts if verdict.elected]
    moved = case.rule.project is not None and not theirs.issuperset(elected)
    verdicts += _refused(others, case.owner, {v.release for v in verdicts}, moved=moved)
    if pin is not None:
        verdicts = [_under_pin(verdict, pin, met=bool(elected)) for verdict in verdicts]
    return tuple(sorted(verdicts, key=lambda v: (v.release, v.elected), reverse=True))


def _among_offered(
    offered: Iterable[Candidate], unlisted: AbstractSet[Release], case: Case
) -> list[Verdict]:
    """Verdicts on what the owner of the name offers. A serving version that went missing a moment
    ago still counts for `keep`.
    """
    awaited = {
        release.version
        for release in unlisted & case.missing & case.serving
        if excluded(release.version, case.rule) is None
    }
    verdicts: list[Verdict] = []
    elected: set[Version] = set()
    by_version = sorted(offered, key=lambda c: c.release.version, reverse=True)
    for version, group in groupby(by_version, key=lambda c: c.release.version):
        first, *rest = _claims(list(group), case.serving, case.quarantined)
        newer = elected.union(other for other in awaited if other > version)
        if first.elected and (why := _left_out(version, newer, case.rule)) is not None:
            first = Verdict(first.release, False, *why)
        if first.elected:
            elected.add(first.release.version)
        verdicts += [first, *rest]
    return verdicts


def _left_out(
    version: Version, newer: Collection[Version], rule: PipelinePolicy
) -> tuple[str, str] | None:
    """Why a fit version is not served: the rule excludes it, or newer ones fill `keep`."""
    why = excluded(version, rule)
    if why is not None or rule.pins or len(newer) < rule.keep:
        return why
    names = ", ".join(map(str, sorted(newer, reverse=True)))
    return MAKING_ROOM, f"keep = {rule.keep}, which newer versions fill: {names}"


def _gone(release: Release, case: Case) -> Verdict:
    """The verdict on a release whose version is offered no more."""
    gone = ABSENT, "no source lists this version any more"
    if release in case.missing:
        gone = MISSING, "no source lists it; it leaves once that lasts for rollout.absence_grace"
    return Verdict(release, False, *(excluded(release.version, case.rule) or gone))


def undecided(case: Case, unknown: str) -> tuple[Verdict, ...]:
    """Verdicts on the offers of a pipeline whose name has no owner yet: what each project would
    have served waits. `unknown` says for what.
    """
    offers: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in case.candidates:
        offers[candidate.project].append(candidate)
    verdicts: dict[Release, Verdict] = {}
    for project, own in offers.items():
        why = (
            f"whoever published it first has the name, and who did is not known yet ({unknown}); "
            f'it waits {LONGEST_WAIT:g} s at most. `project = "{project}"` in [[pipelines]] gives '
            "it the name at once"
        )
        for verdict in elect(replace(case, candidates=own, owner=project)):
            waits = Verdict(verdict.release, False, UNDECIDED, why)
            verdicts.setdefault(verdict.release, waits if verdict.elected else verdict)
    return tuple(sorted(verdicts.values(), key=lambda v: v.release, reverse=True))


def _refused(
    others: Iterable[Candidate],
    owner: str,
    judged: Collection[Release],
    *,
    moved: bool,
) -> Iterator[Verdict]:
    """Verdicts on the offers of projects that do not own the name. `moved`: the operator took it
    from them, and the owner has something to serve instead.
    """
    projects = {c.release: c.project for c in reversed(list(others)) if c.release not in judged}
    for release, project in projects.items():
        reason = MOVED if moved else CONFLICT
        why = f"the operator gave the name to {owner} (`project` in [[pipelines]])"
        if not moved:
            why = (
                f"the name {release.pipeline} belongs to {owner}: rename the pipeline of "
                f'{project}, or give it the name by `project = "{project}"` in [[pipelines]]'
            )
        yield Verdict(release, False, reason, why)


def _under_pin(verdict: Verdict, pin: Pin, *, met: bool) -> Verdict:
    """The verdict by an operator's pin. Unlike the rule's own pins, it retires nothing before what
    it names is live: a rollback must not leave nothing.
    """
    if verdict.reason == "Elected":
        return replace(verdict, reason="Pinned", message=str(pin))
    if verdict.reason != "NotPinned":
        return verdict
    if met:
        return replace(verdict, reason=OTHER_PINNED, message=str(pin))
    why = f"{pin}, of which none is fit to serve"
    return replace(verdict, reason=PIN_UNMET, message=why)


def _claims(
    group: list[Candidate], serving: Collection[Release], quarantined: Collection[Release]
) -> list[Verdict]:
    """Verdicts on all candidates for one version; the first may have it."""
    served = sorted(r for r in serving if r.version == group[0].release.version)
    incumbent = served[-1] if served else None
    verdicts: list[Verdict] = []
    claimant: Release | None = None
    seen: set[Release] = set()
    for candidate in group:
        release = candidate.release
        if incumbent is not None:  # 1.0.0 takes the route of 1.0, for they are one version
            release = replace(release, version=incumbent.version)
        if release in seen:
            continue
        seen.add(release)
        if release in quarantined:
            why = "failed with these bytes and options; `wheelway explain` has the cause"
            verdicts.append(Verdict(release, False, "Quarantined", why))
        elif candidate.availability is not Availability.SELECTABLE and release != incumbent:
            why = f"{candidate.source} lists it as {candidate.availability}: never newly selected"
            verdicts.append(Verdict(release, False, "NotSelectable", why))
        elif claimant is not None:
            why = f"{candidate.source} offers it too; other bytes of this version come first"
            verdicts.append(Verdict(release, False, "Shadowed", why))
        else:
            claimant = release
            verdicts.insert(0, Verdict(release, True, "Elected", "policy wants it served"))
    if claimant is None and incumbent is not None:
        why = "its successor on this route is not fit to serve; these bytes stay"
        verdicts = [v for v in verdicts if v.release != incumbent]
        verdicts.insert(0, Verdict(incumbent, True, STANDS_IN, why))
    elif incumbent is not None and incumbent not in seen:
        why = "other bytes were published under this version"
        verdicts.append(Verdict(incumbent, False, "Replaced", why))
    return verdicts


def excluded(version: Version, rule: PipelinePolicy) -> tuple[str, str] | None:
    """The reason for which the operator's rule takes a version out, if it does."""
    if not rule.active:
        return "Inactive", "the policy sets active = false"
    if rule.pins:
        if version in rule.pins:
            return None
        return "NotPinned", f"pinned to {', '.join(map(str, rule.pins))}"
    if version.is_prerelease and not rule.prereleases:
        return "PrereleaseExcluded", "the policy sets prereleases = false"
    if not rule.versions.contains(version, prereleases=True):
        return "VersionExcluded", f"the policy allows versions {rule.versions}"
    return None


def unfetched(
    revisions: Iterable[Revision],
    artifacts: Mapping[str, Artifact],
    config: Config,
    quarantined: AbstractSet[Release] = frozenset(),
    pins: Mapping[str, Pin] = MappingProxyType({}),
) -> tuple[Revision, ...]:
    """The revisions that must be fetched before policy can be applied, in listing order.

    A wheel's pipelines are known only from its inside. Until then a project is taken to carry the
    pipelines that its other wheels carry; the newest wheel of every project is always looked
    into, since it may bring a new one.
    """
    wanted: set[str] = set()
    ordered = sorted(revisions, key=lambda r: r.project)
    for _project, group in groupby(ordered, key=lambda r: r.project):
        selectable = [r for r in group if r.availability is Availability.SELECTABLE]
        if not selectable:
            continue
        finals = [r for r in selectable if not r.version.is_prerelease] or selectable
        wanted.add(max(finals, key=lambda r: r.version).sha256)
        carriers: dict[str, set[str]] = defaultdict(set)
        for revision in selectable:
            if (artifact := artifacts.get(revision.sha256)) is not None:
                for entry in artifact.pipelines:
                    carriers[entry.name].add(revision.sha256)
        for name in sorted(carriers):
            candidates = [
                Candidate(Release(name, r.version, r.sha256), r.project, r.source)
                for r in selectable
                if r.sha256 not in artifacts or r.sha256 in carriers[name]
            ]
            rule, pin = rule_for(name, config), pins.get(name)
            verdicts = elect(Case(candidates, rule, pin=pin, quarantined=quarantined))
            wanted.update(verdict.release.digest for verdict in verdicts if verdict.elected)
    return tuple(r for r in revisions if r.sha256 in wanted and r.sha256 not in artifacts)


def unmet(
    pins: Mapping[str, Pin],
    verdicts: Sequence[Verdict],
    claims: Iterable[Candidate],
    unread: Sequence[Revision],
) -> list[Condition]:
    """The pins of which no version can be served, unless one may be among the wheels that are not
    inspected yet, or waits for its name. Releases that failed are claims.
    """
    served = {v.release.pipeline for v in verdicts if v.elected or v.reason == UNDECIDED}
    claims = list(claims)
    judged = {claim.release.digest for claim in claims}
    found = []
    for name, pin in sorted(pins.items()):
        projects = {c.project for c in claims if c.release.pipeline == name} | {name}
        coming = any(
            r.project in projects and r.version in pin.versions and r.sha256 not in judged
            for r in unread
        )
        if name not in served and not coming:
            why = (
                f"{pin}, but no source lists such a version that is fit to serve; what serves "
                f"stays. Publish one, pin another, or `wheelway unpin {name}`"
            )
            found.append(Condition(name, PIN_UNMET, why))
    return found
