"""What an observed application's state means for its release."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from controller.observed import ApplicationStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.observed import Application

_MARKER = re.compile(r"wheelway-failure\[(\w+)\] ([^\n]*)")
"""What the host puts in front of its own report of a failed start."""

DIGEST_MISMATCH = "DigestMismatch"
"""A replica's reason for a tree that is not as published: no fault of the release."""

_UNSCHEDULED = "to be scheduled"
"""In the deployment's message after RAY_SERVE_SLOW_STARTUP_WARNING_S (30 s); before that Serve's
report does not tell a replica that waits for resources from one that loads."""

_FIGURES = re.compile(
    r"required for each replica: (?P<required>\{.*?\}), "
    r"total resources available: (?P<free>\{.*?\})"
)
_ENDED = re.compile(
    r"\bActorDied|\bActorUnschedulable|\bThe actor (?:died|is dead)\b"
    r"|\bthe replica's process died\b"
)
"""How Ray, or `serve.application`, says that a process ended; exceptions of pipelines that merely
mention such a word do not match."""
_UNCHECKED = re.compile(r"\bA replica of the new version failed its health check\b")
"""All that Serve says of replicas that took a new config and then ended, or were ended by it as
they did not answer."""
_SICK = re.compile(r"The deployments \[(.*)\] are UNHEALTHY\.")
_UNWELL = "A replica's health check failed. This deployment will be UNHEALTHY until"
"""These two are all that Serve says of an application that lost a replica."""
_NAME = re.compile(r"'([^']*)'")
_TAIL_LINES = 30


class Health(Enum):
    """The four things that matter to a rollout."""

    STARTING = auto()
    SHORT = auto()
    """No process was started yet, for want of resources: nobody's fault, no deadline."""
    READY = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A state with its reason; `log_tail` is what the failing replica said."""

    health: Health
    reason: str
    message: str
    log_tail: str = ""


def failed_start(application: Application) -> Diagnosis | None:
    """Why a replica did not start, while Serve starts another."""
    said = application.failed_start
    return _failure(said, unhealthy=False) if said else None


def doubts_its_files(application: Application) -> bool:
    """Whether a replica found other files than were published."""
    marked = _MARKER.search(application.message)
    return marked is not None and marked[1] == DIGEST_MISMATCH


def briefly(message: str) -> str:
    """A cause in a line: the reason and what the host says, or else its first line."""
    if marked := _MARKER.search(message):
        return f"{marked[1]}: {marked[2].strip()}"
    if _UNSCHEDULED in message:
        return _needs(message)
    return next(iter(message.strip().splitlines()), "")


def diagnose(application: Application) -> Diagnosis:
    """How an application does, by what Serve reports."""
    status = application.status
    if status is ApplicationStatus.RUNNING:
        return Diagnosis(Health.READY, "Running", "every replica has passed its examples")
    if status in {ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY}:
        return _failed(application)
    if application.building:
        return Diagnosis(Health.STARTING, "Building", "Serve builds the application")
    if _UNSCHEDULED in application.message:
        waiting = [part.name for part in application.parts if _UNSCHEDULED in part.message]
        return _unscheduled(application.message, waiting)
    return Diagnosis(Health.STARTING, "Starting", _starting(application))


def _starting(application: Application) -> str:
    """What goes on, as far as Serve tells of more than one deployment."""
    if failed := failed_start(application):
        return (
            f"a replica failed to start ({failed.reason}: {failed.message}); Serve starts another"
        )
    parts = [part for part in application.parts if not part.inline]
    coming = [part.name for part in parts if not part.running]
    if not coming:
        return "a replica imports, loads and runs the examples"
    return f"replicas import, load and run the examples, of the parts {', '.join(coming)} too"


def _unscheduled(message: str, parts: Sequence[str]) -> Diagnosis:
    """`parts` are those that wait for room, if it is not the pipeline itself."""
    whose = f" of the part {', '.join(parts)}" if parts else ""
    if _has_room(message):
        return Diagnosis(
            Health.SHORT,
            "SlowToSchedule",
            f"the cluster has room for a replica{whose}, yet its process does not start: the node "
            "is busy, or no single node has all of what it needs. Serve says: "
            f"{_needs(message)}",
        )
    inline = "let parts run `inline`, " if parts else ""
    return Diagnosis(
        Health.SHORT,
        "InsufficientResources",
        f"no node has room for a replica{whose}: {inline}lower `num_cpus`, or `keep` fewer "
        "versions, under [[pipelines]]; take away what is not needed (active = false), or give Ray "
        f"more CPUs (`--num-cpus`). Serve says: {_needs(message)}",
    )


def _has_room(message: str) -> bool:
    """Whether all nodes together have what one replica needs, by the figures in the message."""
    figures = _FIGURES.search(message)
    if figures is None:
        return False
    try:
        required, free = json.loads(figures["required"]), json.loads(figures["free"])
    except ValueError:  # Serve writes them otherwise than it did
        return False
    return all(free.get(name, 0) >= amount for name, amount in required.items())


def _needs(message: str) -> str:
    """The part of Serve's message that has the figures."""
    found = re.search(r"Resources required for each replica:.*", message)
    return found[0] if found else " ".join(message.split())


_LOST = (
    "its replica is gone and Serve starts no other, though there is room. If that lasts for "
    "minutes, Serve has lost track of it: end the head's process `ray::ServeController`; it starts "
    "again by itself and places what is missing, and all that serves goes on."
)
"""Seen when Serve's controller raises in each of its loops over another application."""


def _failed(application: Application) -> Diagnosis:
    text = application.message
    unhealthy = application.status is ApplicationStatus.UNHEALTHY
    found = _failure(text, unhealthy=unhealthy)
    sick = _SICK.search(text)
    if found.reason != "Unhealthy" or sick is None or found.message.startswith(_LOST):
        return found
    said = (line for line in text.splitlines() if not (_SICK.match(line) or _UNWELL in line))
    return replace(found, message=next(said, "") or _replaced(application, sick[1]))


def _replaced(application: Application, sick: str) -> str:
    """That Serve replaces replicas of the deployments that are `sick`, and how many are left."""
    left = {part.name: part.running for part in application.parts if not part.inline}
    own = [replica.state for replica in application.replicas].count("RUNNING")
    told = []
    for name in _NAME.findall(sick):
        whose = f" of the part {name!r}" if name in left else ""
        running = left.get(name, own)
        others = "1 other goes on" if running == 1 else f"{running} others go on"
        meanwhile = others if running else "no other runs: requests wait for it, or fail"
        told.append(
            f"a replica{whose} ended, or did not answer Serve's health checks; Serve starts "
            f"another; meanwhile {meanwhile}"
        )
    return "; ".join(told)


def _failure(text: str, *, unhealthy: bool) -> Diagnosis:
    tail = "\n".join(text.splitlines()[-_TAIL_LINES:])
    if marked := _MARKER.search(text):
        return Diagnosis(Health.FAILED, marked[1], marked[2].strip(), tail)
    if _ENDED.search(text):
        return Diagnosis(
            Health.FAILED,
            "ReplicaDied",
            "the replica's process ended while it started: the pipeline left by os._exit, crashed "
            "in native code, or was killed for memory. What it wrote last may be in one of its "
            "node's `worker-*.err` (`ray logs cluster 'worker-*.err'` lists the head's)",
            tail,
        )
    if _UNCHECKED.search(text):
        return Diagnosis(
            Health.FAILED,
            "ReplicaDied",
            "the replica's process ended after it took the new config, or did not answer Serve's "
            "health check in time (`health_check_timeout`), so that Serve ended it: the pipeline "
            "left by os._exit, crashed in native code, was killed for memory, or held the event "
            "loop. Serve tells no more; its log may (`wheelway logs NAME VERSION`)",
            tail,
        )
    why = text.strip().splitlines()[0] if text.strip() else "Serve gives no cause"
    if unhealthy and _UNSCHEDULED in text and _has_room(text):
        why = f"{_LOST} Serve says: {_needs(text)}"
    return Diagnosis(Health.FAILED, "Unhealthy" if unhealthy else "DeployFailed", why, tail)
