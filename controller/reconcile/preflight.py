"""Whether Ray, its interpreter and this program fit together: each misfit is a condition with its
cure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

from controller.model import Condition
from controller.rayhead import haproxy
from controller.serve.cluster import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.cache.environments.base import Base
    from controller.errors import WheelwayError
    from controller.serve.cluster import Cluster

TESTED = (Version("2.60"), Version("2.61"))
"""Tested with Ray from the first version up to, not including, the second."""


BLOCKING = frozenset(
    {"WheelwayMissing", "WheelwayVersionDiffers", "RayVersionDiffers", "PythonDiffers"}
)
"""With any of these every start would fail through no fault of a release, so nothing is staged."""


def misfits(
    cluster: Cluster,
    base: Base,
    own_version: str,
    *,
    longest_request: float = haproxy.LONGEST_REQUEST,
) -> list[Condition]:
    """Conditions for what does not fit together: the head (`cluster`), the interpreter of replicas
    (`base`) and this program (`own_version`). `longest_request` is in seconds.
    """
    found = [*_of_the_interpreter(cluster, base, own_version)]
    if not _tested(cluster.ray):
        why = f"wheelway was tested with Ray {TESTED[0]} up to {TESTED[1]}, this is {cluster.ray}"
        found.append(Condition("ray", "RayUntested", why))
    if cluster.haproxy is False:
        why = (
            "Serve's own Python proxy is the ingress: several times slower. Start the head with "
            "RAY_SERVE_ENABLE_HA_PROXY=1 RAY_SERVE_THROUGHPUT_OPTIMIZED=1 in its environment"
        )
        found.append(Condition("ray", "SlowIngress", why))
    elif cluster.hard_stop is not None and cluster.hard_stop < longest_request:
        stop = haproxy.hard_stop(longest_request)
        why = (
            f"requests may last {longest_request:g} s, and this head's ingress ends those longer "
            f"than {cluster.hard_stop:g} s whenever a release goes live. Start the head with "
            f"`wheelway ray-head --longest-request {longest_request:g}`, or with "
            f"{haproxy.HARD_STOP}={stop} in its environment and "
            f"--labels={haproxy.LABEL}={stop}; or lower `longest_request` of [serve]"
        )
        found.append(Condition("ray", "LongRequestsCut", why))
    if cluster.free_cpus is not None and cluster.free_cpus <= 0:
        why = (
            f"all {cluster.cpus:g} CPUs of the cluster are reserved: new releases will wait. A "
            "replica takes one unless it says otherwise: lower num_cpus of pipelines that idle, "
            "retire versions (keep), start the head with a larger --num-cpus, or add a node"
        )
        found.append(Condition("ray", "NoFreeCpus", why))
    return found


def _of_the_interpreter(cluster: Cluster, base: Base, own_version: str) -> Iterator[Condition]:
    """What keeps replicas from running at all."""
    python = base.python
    if base.wheelway_version is None and "wheelway" not in base.importable:
        why = (
            f"`wheelway` cannot be imported by {python}, on which replicas run: "
            f"`{python} -m pip install wheelway=={own_version}`"
        )
        yield Condition("ray", "WheelwayMissing", why)
    elif base.wheelway_version not in {None, own_version}:
        why = (
            f"replicas would run wheelway {base.wheelway_version}, the daemon is {own_version}: "
            f"`{python} -m pip install wheelway=={own_version}`, then restart the daemon"
        )
        yield Condition("ray", "WheelwayVersionDiffers", why)
    if base.ray_version is not None and base.ray_version != cluster.ray:
        why = (
            f"the head runs Ray {cluster.ray}, {python} has Ray {base.ray_version}: set ray.python "
            "to the interpreter that the head was started with"
        )
        yield Condition("ray", "RayVersionDiffers", why)
    if cluster.python is not None and cluster.python != base.version:
        why = (
            f"the head runs on Python {cluster.python}, {python} is Python {base.version}: set "
            "ray.python to the interpreter that the head was started with"
        )
        yield Condition("ray", "PythonDiffers", why)


def _tested(ray: str) -> bool:
    try:
        return TESTED[0] <= Version(ray) < TESTED[1]
    except ValueError:  # InvalidVersion, and numbers of thousands of digits
        return False


def head_unknown(error: WheelwayError, *, known: bool) -> Condition:
    """That the dashboard does not say what head it is, though it may serve all the rest."""
    then = (
        "what it said before still counts"
        if known
        else "nothing new is started, as it may be another one than before, on which none can start"
    )
    why = f"what head this is cannot be asked (GET {VERSION}): {error.message}; {then}"
    return Condition("ray", "HeadUnknown", why, ok=known)
