"""The routing table of the gateway, as a value; pure.

One table with prefixed keys, so that one rename of its file and one commit at run time change
everything at once. What `templates/haproxy.cfg.j2` looks up in it:

    R:iris/1.0      WHERE|PATH|FLAGS               where a release is: a cluster's name, or `*` for
                                                   all; its path there; `r` if it may be repeated
    A:iris/stable   BASE|OTHER|SHARE|STICKY        an alias, by name, or `A:iris/` for the pipeline
                                                   itself: two versions, how many of ten thousand go
                                                   to the other, who stays with one (h, c, a)
    S:*             BASE|OTHER|SHARE               which cluster, for all; `S:iris/1.0` for one
    K:iris          "known":[...]                  members of the problem document for what is not
                                                   known; `K:` when not even the pipeline is
    L:iris          REQUESTS|BYTES                 requests in `RATE_PERIOD` of one client, bytes of
                                                   a body; empty for any
    P:<sha256>      NAME                           an API key, by the digest of its bytes
    P:<sha256>/iris 1                              what it may ask; `/*` for everything
    G:              the digest of all other entries, by which a table is recognised
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from packaging.version import InvalidVersion, Version

from controller.errors import Stalled

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from controller.model import Binding

WHOLE: Final = 10_000
"""Shares are in ten-thousandths."""
RATE_PERIOD: Final = 10
"""Seconds over which requests are counted for a limit."""
EVERYWHERE: Final = "*"
"""Of a release: on all clusters. Of an API key: for all pipelines. Of a shift: for all releases."""
DIGEST: Final = "G:"
"""The key of the table's digest."""
RESERVED: Final = frozenset({"", "docs", "openapi.json", "healthz", "-"})
"""Words after a pipeline's name that are no alias: pages of what the pipeline itself leads to."""
MOST_OF_ENTRY: Final = 4096
"""Bytes of a key and its value; HAProxy takes what fits its buffer, and answers with it."""
_MOST_KNOWN: Final = 2048
"""Bytes of the names in a problem document; what is beyond is counted."""
_KEY: Final = re.compile(r"[!-~]+")
_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
"""HAProxy's files separate the two by a blank, and entries by a newline."""


class Sticky(StrEnum):
    """By what a client stays with one of an alias's two versions."""

    NOT = ""
    HEADER = "h"
    COOKIE = "c"
    ADDRESS = "a"


@dataclass(frozen=True, slots=True)
class Route:
    """Where the requests for a release go."""

    pipeline: str
    version: str
    path: str
    """At the ingress, such as `/predict/iris/1.0`."""
    clusters: tuple[str, ...]
    """Those that serve it."""
    repeatable: bool = False
    """Whether a request may be sent again when its connection ended without an answer."""

    @property
    def key(self) -> str:
        """`iris/1.0`: what clients write, and counters are kept by."""
        return f"{self.pipeline}/{self.version}"


@dataclass(frozen=True, slots=True)
class Alias:
    """A public path that names a version by choice."""

    pipeline: str
    name: str
    """Empty for the pipeline itself."""
    base: str
    """A version."""
    other: str = ""
    """The version that gets `share`; empty when there is none."""
    share: int = 0
    """Of `WHOLE`."""
    sticky: Sticky = Sticky.NOT


@dataclass(frozen=True, slots=True)
class Shift:
    """How requests are shared by two clusters."""

    base: str
    other: str = ""
    share: int = 0
    """Of `WHOLE`, to the other."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What one client may ask of a pipeline; None for any."""

    requests: int | None = None
    """In `RATE_PERIOD` seconds."""
    body: int | None = None
    """Bytes."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Who may ask, and for what."""

    name: str
    sha256: str
    """Of the key's bytes, in lower-case hex."""
    pipelines: tuple[str, ...] = (EVERYWHERE,)


@dataclass(frozen=True, slots=True)
class Routes:
    """All that a table is made of; the order of things in it does not matter."""

    clusters: tuple[str, ...]
    """All that there are; the first is where requests go without a shift."""
    routes: tuple[Route, ...] = ()
    aliases: tuple[Alias, ...] = ()
    shifts: Mapping[str, Shift] = field(default_factory=dict)
    """By a release's key, or `EVERYWHERE`."""
    limits: Mapping[str, Limit] = field(default_factory=dict)
    """By pipeline."""
    keys: tuple[ApiKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """What HAProxy looks up: keys and values in order, the digest last."""

    entries: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """That of all entries."""
        return self.entries[-1][1]

    @property
    def text(self) -> str:
        """As HAProxy reads it from a file."""
        return "".join(f"{key} {value}\n" for key, value in self.entries)


@dataclass(frozen=True, slots=True)
class Bound:
    """What bindings of versions say of a table."""

    routes: tuple[Route, ...]
    shifts: Mapping[str, Shift]
    """Of paths whose targets are on two clusters, by the release's key."""


class TableInvalid(Stalled):
    """The bindings cannot be said in a table; the one in force stays."""

    def __init__(self, message: str) -> None:
        super().__init__("GatewayTableInvalid", f"the gateway's table stays as it is: {message}")


def table(of: Routes) -> Table:
    """The table for these routes, byte for byte the same for the same ones.

    Raises:
        TableInvalid: a name that no path can have, an alias of what is not there, a share of more
            than all, an entry that HAProxy cannot take; the message names it.
    """
    found: dict[str, str] = {}
    for key, value in _entries(of):
        if key in found:
            raise TableInvalid(f"{key[2:]!r} is there twice, as {found[key]!r} and {value!r}")
        if not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise TableInvalid(f"{key!r} or its value {value!r} has characters that no path has")
        if len(key) + len(value) > MOST_OF_ENTRY:
            raise TableInvalid(f"{key[:80]!r} and its value have more than {MOST_OF_ENTRY} bytes")
        found[key] = value
    entries = tuple(sorted(found.items()))
    digest = hashlib.sha256(json.dumps(entries).encode()).hexdigest()
    return Table((*entries, (DIGEST, digest)))


def bound(bindings: Iterable[Binding], repeatable: Collection[str] = ()) -> Bound:
    """What bindings of `/predict/<pipeline>/<version>` say of a table: a release of its own is
    served there by Serve as well. `repeatable` are the keys of those whose requests may be sent
    again.

    Raises:
        TableInvalid: a binding has another path, or targets that one path of Serve cannot have: a
            member of a pool, two on one cluster, more than two.
    """
    routes: list[Route] = []
    shifts: dict[str, Shift] = {}
    for binding in bindings:
        match = re.fullmatch(r"/predict/([^/]+)/([^/]+)", binding.path)
        if match is None:
            raise TableInvalid(f"{binding.path!r} is no path of a version")
        targets = [target for target in binding.targets if target.weight > 0]
        clusters = tuple(target.slot.cluster for target in targets)
        if not 0 < len(targets) == len(set(clusters)) <= 2 or any(t.slot.member for t in targets):
            raise TableInvalid(f"{binding.path} has targets that Serve does not serve at one path")
        key = f"{match[1]}/{match[2]}"
        routes.append(Route(match[1], match[2], binding.path, clusters, key in repeatable))
        if len(targets) == 2:
            share = WHOLE * targets[1].weight // sum(target.weight for target in targets)
            shifts[key] = Shift(clusters[0], clusters[1], share)
    return Bound(tuple(routes), shifts)


def _entries(of: Routes) -> Iterator[tuple[str, str]]:
    versions: dict[str, set[str]] = {}
    for route in of.routes:
        versions.setdefault(_name(route.pipeline), set()).add(_name(route.version))
        flags = "r" if route.repeatable else ""
        yield f"R:{route.key}", f"{_where(route, of.clusters)}|{_name(route.path, '/')}|{flags}"
    names = {pipeline: set(known) for pipeline, known in versions.items()}
    for alias in of.aliases:
        yield _alias(alias, versions.get(alias.pipeline, set()))
        names.setdefault(alias.pipeline, set()).update({alias.name} - {""})
    yield from ((f"K:{pipeline}", _known(known)) for pipeline, known in names.items())
    yield "K:", _known(names)
    shifts = {EVERYWHERE: Shift(of.clusters[0]), **of.shifts}
    yield from ((f"S:{key}", _shift(key, shift, of.clusters)) for key, shift in shifts.items())
    for pipeline, limit in of.limits.items():
        bounds = ("" if bound is None else str(bound) for bound in (limit.requests, limit.body))
        yield f"L:{_name(pipeline)}", "|".join(bounds)
    for key in of.keys:
        yield f"P:{key.sha256}", key.name
        yield from ((f"P:{key.sha256}/{pipeline}", "1") for pipeline in key.pipelines)


def _where(route: Route, clusters: tuple[str, ...]) -> str:
    there = [cluster for cluster in clusters if cluster in route.clusters]
    if not there:
        raise TableInvalid(f"{route.key} is on none of the clusters {', '.join(clusters)}")
    return EVERYWHERE if len(there) == len(clusters) else there[0]


def _alias(alias: Alias, versions: set[str]) -> tuple[str, str]:
    key = f"{_name(alias.pipeline)}/{_name(alias.name) if alias.name else ''}"
    if alias.name and (alias.name in RESERVED or alias.name in versions):
        what = "a page" if alias.name in RESERVED else "a version"
        raise TableInvalid(f"the alias {key} has the name of {what}")
    for version in {alias.base, alias.other or alias.base}:
        if version not in versions:
            raise TableInvalid(f"the alias {key} leads to {version!r}, which is not served")
    share = _share(alias.share, alias.other, f"the alias {key}")
    return f"A:{key}", f"{alias.base}|{alias.other or alias.base}|{share}|{alias.sticky}"


def _shift(key: str, shift: Shift, clusters: tuple[str, ...]) -> str:
    for cluster in {shift.base, shift.other or shift.base}:
        if cluster not in clusters:
            raise TableInvalid(f"the shift of {key} leads to {cluster!r}, which is no cluster")
    share = _share(shift.share, shift.other, f"the shift of {key}")
    return f"{shift.base}|{shift.other or shift.base}|{share}"


def _share(share: int, other: str, whose: str) -> int:
    if not 0 <= share <= (WHOLE if other else 0):
        raise TableInvalid(f"{whose} gives {share} of {WHOLE} to {other or 'nobody'}")
    return share


def _name(text: str, more: str = "") -> str:
    """What may stand in a value and in a path: without the separators of either."""
    if not re.fullmatch(rf"[A-Za-z0-9._!+*~@:{re.escape(more)}-]+", text):
        raise TableInvalid(f"{text[:80]!r} cannot be part of a path")
    return text


def _known(names: Iterable[str]) -> str:
    """Members of a problem document: the names in order; without room for all, the newest."""
    left = sorted(names, key=_age)
    told: list[str] = []
    room = _MOST_KNOWN
    while left and (room := room - len(left[-1]) - 3) > 0:
        told.insert(0, left.pop())
    more = f',"more":{len(left)}' if left else ""
    return f'"known":{json.dumps(told, separators=(",", ":"))}{more}'


def _age(name: str) -> tuple[bool, Version, str]:
    """Versions in their order, then aliases by name."""
    try:
        return False, Version(name), name
    except InvalidVersion:
        return True, Version("0"), name
