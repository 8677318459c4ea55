"""Facts about a running cluster, for the conditions of the subject `ray`.

Only what the dashboard's REST API tells: `/api/version`, `/api/cluster_status`, and the State API
(`/api/v0/...`, what `ray list` and `ray status` use).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from controller.errors import Stalled, Transient

if TYPE_CHECKING:
    from controller.model import JSON
    from controller.serve.dashboard import Dashboard

_FALLBACK: Final = "-fallback-"
"""In the name of the proxy that stands behind HAProxy: `SERVE_PROXY_ACTOR-fallback-<node>`."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What was found; None where the cluster does not say."""

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


def inspect(dashboard: Dashboard) -> Cluster:
    """Ask the head what it is.

    Raises:
        Waiting, Transient, Stalled: as the dashboard client does for `/api/version`; what else
            cannot be had is None.
    """
    version = dashboard.get("/api/version")
    if not isinstance(version.get("ray_version"), str):
        raise Stalled(
            "DashboardUnexpected",
            "what answers at ray.dashboard_url does not say a Ray version; set ray.dashboard_url",
        )
    total, free = _cpus(_data(dashboard, "/api/cluster_status"))
    return Cluster(
        session=str(version.get("session_name") or ""),
        ray=version["ray_version"],
        python=_data(dashboard, "/api/v0/cluster_metadata").get("pythonVersion"),
        cpus=total,
        free_cpus=free,
        haproxy=_haproxy(dashboard),
    )


def _data(dashboard: Dashboard, path: str, **params: str) -> dict[str, Any]:
    """The answer's `data`; empty when this part of the dashboard has nothing to say."""
    try:
        data = dashboard.get(path, params or None).get("data")
    except (Transient, Stalled):
        return {}  # each is a module of its own in the dashboard, and nothing depends on it
    return data if isinstance(data, dict) else {}


def _cpus(data: dict[str, JSON]) -> tuple[float | None, float | None]:
    try:
        used, total = data["clusterStatus"]["loadMetricsReport"]["usage"]["CPU"]
    except (KeyError, TypeError, ValueError):
        return None, None
    return float(total), max(0.0, float(total) - float(used))


def _haproxy(dashboard: Dashboard) -> bool | None:
    """By the actors that are the proxies: Serve starts one class with HAProxy and one without.

    With HAProxy the head has one of the other class as well, which answers only when no replica
    does: it says nothing, least of all while HAProxy's own actor is started again (ray.serve's
    proxy_state.py, `_start_fallback_proxy_if_needed`).
    """

    def alive(class_name: str) -> bool:
        # The State API takes filters as three parallel lists (ray.util.state, ListApiOptions).
        data = _data(
            dashboard,
            "/api/v0/actors",
            filter_keys="class_name",
            filter_predicates="=",
            filter_values=class_name,
        )
        rows = (data.get("result") or {}).get("result") or ()
        return any(
            row.get("state") == "ALIVE" and _FALLBACK not in str(row.get("name")) for row in rows
        )

    if alive("HAProxyManager"):
        return True
    return False if alive("ProxyActor") else None
