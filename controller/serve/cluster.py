"""Facts about a running cluster, for the conditions of the subject `ray`.

Only what the dashboard's REST API tells: `/api/version`, `/api/cluster_status`, and the State API
(`/api/v0/...`, what `ray list` and `ray status` use).
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from controller.errors import Stalled, Transient, Waiting
from controller.rayhead.haproxy import LABEL, RAYS_HARD_STOP
from controller.serve.dashboard import rows, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.model import JSON
    from controller.serve.dashboard import Dashboard

    _Optional = Callable[..., dict[str, Any]]

VERSION: Final = "/api/version"
OPTIONAL_DEADLINE: Final = 3.0
"""Seconds for all optional facts together: a pass waits for them."""
_FALLBACK: Final = "-fallback-"
"""A part of the name of the proxy behind HAProxy: `SERVE_PROXY_ACTOR-fallback-<node>`."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Facts about a cluster; None where it does not say."""

    session: str
    """Changes when the head is restarted."""
    ray: str
    """Ray's version."""
    python: str | None
    """The version of the interpreter that Ray runs on."""
    cpus: float | None
    """Logical CPUs of all nodes."""
    free_cpus: float | None
    haproxy: bool | None
    """Whether HAProxy is the ingress; None before Serve has started."""
    hard_stop: float | None = None
    """Seconds that a former HAProxy lives on for its requests, as the head was started."""


def inspect(dashboard: Dashboard) -> Cluster:
    """Ask the head what it is.

    Raises:
        Waiting, Transient, Stalled: as the dashboard client does for `/api/version`; what else
            cannot be had is None.
    """
    version = dashboard.get(VERSION)
    if not isinstance(version.get("ray_version"), str):
        raise Stalled(
            "DashboardUnexpected",
            "what answers at ray.dashboard_url does not say a Ray version; set ray.dashboard_url",
        )
    until = time.monotonic() + OPTIONAL_DEADLINE

    def optional(path: str, **params: str) -> dict[str, Any]:
        """The `data` of an optional module of the dashboard; empty when it fails, or answers late
        or oddly.
        """
        remaining = until - time.monotonic()
        if remaining <= 0:
            return {}
        try:
            return table(dashboard.get(path, params or None, timeout=remaining).get("data"))
        except (Transient, Waiting, Stalled):
            return {}

    total, free = _cpus(optional("/api/cluster_status"))
    python = optional("/api/v0/cluster_metadata").get("pythonVersion")
    return Cluster(
        session=str(version.get("session_name") or ""),
        ray=version["ray_version"],
        python=python if isinstance(python, str) else None,
        cpus=total,
        free_cpus=free,
        haproxy=_haproxy(optional),
        hard_stop=_hard_stop(optional),
    )


def _cpus(data: dict[str, JSON]) -> tuple[float | None, float | None]:
    try:
        used, total = map(float, data["clusterStatus"]["loadMetricsReport"]["usage"]["CPU"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None, None
    if not math.isfinite(used) or not math.isfinite(total):
        return None, None
    return total, max(0.0, total - used)


def _hard_stop(optional: _Optional) -> float | None:
    """The label of the head's node, where HAProxy is; Ray's default on a head that was started by
    others.
    """
    for row in _listed(optional("/api/v0/nodes")):
        labels = row.get("labels")
        if row.get("is_head_node") is True and isinstance(labels, dict):
            said = str(labels.get(LABEL, RAYS_HARD_STOP))
            return float(said) if re.fullmatch(r"[0-9]{1,9}(\.0)?", said) else None
    return None


def _haproxy(optional: _Optional) -> bool | None:
    """Whether HAProxy is used, by the proxies' actors, whose class it decides.

    With HAProxy the head also has an actor of the other class, for answers while there is no
    replica. It proves nothing, least of all while HAProxy's own actor is started again (ray.serve's
    proxy_state.py, `_start_fallback_proxy_if_needed`).
    """
    for class_name, with_haproxy in (("HAProxyManager", True), ("ProxyActor", False)):
        # The State API takes filters as three parallel lists (ray.util.state, ListApiOptions).
        found = optional(
            "/api/v0/actors",
            filter_keys="class_name",
            filter_predicates="=",
            filter_values=class_name,
        )
        for row in _listed(found):
            if row.get("state") == "ALIVE" and _FALLBACK not in str(row.get("name")):
                return with_haproxy
    return None


def _listed(data: dict[str, Any]) -> list[dict[str, Any]]:
    """What the State API lists."""
    return rows(table(data.get("result")).get("result"))
